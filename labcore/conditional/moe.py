"""Mixtures of experts: a sparse MLP in place of a dense one, and the soft, fully mixed variant.

Sources: Shazeer et al., arXiv 1701.06538; Fedus et al., arXiv 2101.03961; Puigcerver et al., arXiv
2308.00951 (soft); Komatsuzaki et al., arXiv 2212.05055 (upcycling).
"""

import warnings
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from labcore.conditional.balance import (
    importance_loss,
    load_balancing_loss,
    load_loss,
    router_z_loss,
)
from labcore.conditional.cost import Cost
from labcore.conditional.dispatch import DISPATCHERS, dispatch
from labcore.conditional.experts import Experts
from labcore.conditional.routers import (
    ExpertChoiceRouter,
    NoisyTopKRouter,
    Routing,
    TopKRouter,
    check_sizes,
)

RouterName = Literal["top_k", "noisy", "expert_choice"]
_ROUTERS = ("top_k", "noisy", "expert_choice")


class MoELayer(nn.Module):
    """y_t = sum over the chosen experts of g_te f_e(x_t), in place of a transformer's MLP.

    Args:
        hidden_size: D.
        intermediate_size: Width of one expert.
        num_experts: E.
        top_k: Experts a token; of "expert_choice" the mean number.
        router: "top_k", "noisy" or "expert_choice".
        capacity_factor: At most ceil(c k T / E) tokens an expert; None drops nothing.
        dispatch: "auto", "batched", "sorted", "loop" or "dense": one result, other times.
        shared_expert: One more expert of the same size that sees every token.
        gated: SwiGLU experts without biases, as in Mixtral.
        renormalize: See :class:`TopKRouter`.
        causal: Say True in a decoder: expert choice then warns, because it looks ahead.
        generator: For the initial weights.

    Raises:
        ValueError: k outside 1..E, a capacity factor that is not positive, unknown names.
    """

    def __init__(
        self,
        hidden_size: int,
        intermediate_size: int,
        num_experts: int,
        top_k: int = 2,
        *,
        router: RouterName = "top_k",
        capacity_factor: float | None = None,
        dispatch: str = "auto",
        shared_expert: bool = False,
        gated: bool = False,
        renormalize: bool | None = None,
        causal: bool = False,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        check_sizes(num_experts, top_k, capacity_factor)
        if router not in _ROUTERS:
            raise ValueError(f"unknown router {router!r}: choose from {', '.join(_ROUTERS)}")
        if dispatch not in DISPATCHERS:
            raise ValueError(f"unknown dispatch {dispatch!r}: choose from {', '.join(DISPATCHERS)}")
        self.hidden_size, self.intermediate_size = hidden_size, intermediate_size
        self.num_experts, self.top_k, self.dispatch = num_experts, top_k, dispatch
        self.router: nn.Module
        if router == "expert_choice":
            if causal:
                warnings.warn(
                    "expert choice looks at later tokens: a decoder trained with it leaks the "
                    "future; use top_k there",
                    stacklevel=2,
                )
            factor = float(top_k) if capacity_factor is None else capacity_factor * top_k
            self.router = ExpertChoiceRouter(hidden_size, num_experts, factor, generator=generator)
        else:
            kind = TopKRouter if router == "top_k" else NoisyTopKRouter
            options: dict[str, Any] = {"capacity_factor": capacity_factor, "generator": generator}
            self.router = kind(hidden_size, num_experts, top_k, renormalize=renormalize, **options)
        sizes: dict[str, Any] = {
            "hidden_size": hidden_size, "intermediate_size": intermediate_size,
            "gated": gated, "generator": generator,
        }  # fmt: skip
        self.experts = Experts(num_experts, **sizes)
        self.shared = Experts(1, **sizes) if shared_expert else None
        self.last_routing: Routing | None = None
        self.last_mask: Tensor | None = None

    @classmethod
    def from_dense(
        cls, mlp: nn.Module, num_experts: int, top_k: int = 2, **options: Any
    ) -> "MoELayer":
        """Upcycling: every expert starts as a copy of a trained MLP with ``fc1``, GELU, ``fc2``.

        With renormalised gates (the default for k > 1) the output is the MLP's own at the start.

        Raises:
            TypeError: the MLP has no linear ``fc1`` and ``fc2``.
        """
        first, second = getattr(mlp, "fc1", None), getattr(mlp, "fc2", None)
        if not (isinstance(first, nn.Linear) and isinstance(second, nn.Linear)):
            raise TypeError(f"{type(mlp).__name__} has no linear fc1 and fc2 to copy")
        options = {"renormalize": True, **options}
        layer = cls(first.in_features, first.out_features, num_experts, top_k, **options)
        with torch.no_grad():
            for ours, linear in ((layer.experts.w1, first), (layer.experts.w2, second)):
                ours.copy_(linear.weight.T.expand_as(ours))
            for bias, linear in ((layer.experts.b1, first), (layer.experts.b2, second)):
                assert bias is not None  # experts of an MLP are not gated
                bias.copy_(_bias(linear).expand_as(bias))
        return layer.to(first.weight)

    @classmethod
    def from_pretrained(cls, folder: Path | str, layer: int = 0) -> "MoELayer":
        """One layer of a Mixtral, OLMoE or Qwen3-MoE checkpoint; see :mod:`.pretrained`."""
        from labcore.conditional.pretrained import read_layer

        return read_layer(folder, layer)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """(b, n, d) or (t, d) in, the same shape out; rows that ``mask`` calls padding give 0.

        Raises:
            ValueError: another width, or a mask that is not one entry a token.
        """
        if x.ndim not in (2, 3) or x.shape[-1] != self.hidden_size:
            raise ValueError(
                f"x must be (b, n, {self.hidden_size}) or (t, {self.hidden_size}), "
                f"got {tuple(x.shape)}"
            )
        if mask is not None and mask.shape != x.shape[:-1]:
            raise ValueError(
                f"mask has shape {tuple(mask.shape)}, {tuple(x.shape[:-1])} is wanted: "
                "one entry a token"
            )
        flat, real = x.reshape(-1, self.hidden_size), None if mask is None else mask.reshape(-1)
        routing = self.router(flat, real)
        self.last_routing, self.last_mask = routing, real
        y = dispatch(flat, routing, self.experts, self.dispatch)
        if self.shared is not None:
            always = self.shared(flat[None])[0]
            y = y + (always if real is None else always * (real != 0)[:, None])
        return y.view_as(x)

    def auxiliary_loss(self, balance: float = 1e-2, z: float = 1e-3) -> Tensor:
        """balance · L_bal + z · L_z of the last input.

        Expert choice needs the z-loss alone. A noisy router is balanced by its own two losses,
        importance and load (the latter while it draws noise), each weighed by ``balance``.

        Raises:
            RuntimeError: nothing has been routed yet.
        """
        routing, mask = self._last(), self.last_mask
        loss = z * router_z_loss(routing.logits, mask)
        if isinstance(self.router, ExpertChoiceRouter):
            return loss
        if routing.clean is None or routing.scale is None:
            return loss + balance * load_balancing_loss(routing.probs, routing.index, mask)
        even = importance_loss(routing.gates, mask)
        if self.router.training:
            noise = (routing.clean, routing.logits, routing.scale)
            even = even + load_loss(*noise, self.top_k, mask)
        return loss + balance * even

    def drop_rate(self) -> float:
        """Share of the last input's real choices that found no place (under expert choice: share
        of the tokens that no expert took).
        """
        routing = self._last()
        real = (
            torch.ones(len(routing.index), dtype=torch.bool)
            if self.last_mask is None
            else (self.last_mask != 0)
        )
        dropped = routing.dropped[real]
        if isinstance(self.router, ExpertChoiceRouter):
            dropped = dropped.all(1)
        return float(dropped.float().mean())

    def cost(self) -> Cost:
        """FLOPs of the last input, against all experts on all tokens."""
        routing = self._last()
        tokens, ran = len(routing.index), int(routing.counts.sum())
        router = 2.0 * tokens * self.hidden_size * self.num_experts
        always = router + (0.0 if self.shared is None else self.shared.flops(tokens))
        whole = self.experts.flops(tokens * self.num_experts)
        return Cost(always + self.experts.flops(ran), always + whole)

    def _last(self) -> Routing:
        if self.last_routing is None:
            raise RuntimeError("nothing has been routed yet: call the layer first")
        return self.last_routing


class SoftMoE(nn.Module):
    """Slots instead of choices: each slot is a mean of all tokens, each token a mean of all slots.

    Args:
        hidden_size: D.
        num_experts: E.
        slots_per_expert: S; the experts process E · S vectors, whatever the number of tokens.
        intermediate_size: Width of one expert; 4 D by default.
        generator: For the initial weights.

    Raises:
        ValueError: a size below 1.
    """

    def __init__(
        self,
        hidden_size: int,
        num_experts: int,
        slots_per_expert: int = 1,
        *,
        intermediate_size: int | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        if slots_per_expert < 1:
            raise ValueError(f"slots_per_expert must be at least 1, got {slots_per_expert}")
        self.num_experts, self.slots = num_experts, slots_per_expert
        width = 4 * hidden_size if intermediate_size is None else intermediate_size
        self.experts = Experts(num_experts, hidden_size, width, generator=generator)
        self.phi = nn.Parameter(torch.empty(hidden_size, num_experts * slots_per_expert))
        nn.init.normal_(self.phi, std=hidden_size**-0.5, generator=generator)
        self.last_mix: tuple[Tensor, Tensor] | None = None

    def cost(self, tokens: int) -> Cost:
        """FLOPs for one sequence: mixing (3 products) and slots, against all experts on all tokens.

        >>> SoftMoE(8, num_experts=4, slots_per_expert=2).cost(16).ratio
        0.21875
        """
        slots = self.num_experts * self.slots
        mixing = 3 * 2.0 * tokens * slots * self.phi.shape[0]
        whole = self.experts.flops(tokens * self.num_experts)
        return Cost(mixing + self.experts.flops(slots), whole)

    def forward(self, x: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
        """Tokens in, tokens out; ``last_mix`` keeps dispatch and combine weights (b, n, e·s).

        Raises:
            ValueError: another number of axes or another width.
        """
        if x.ndim != 3 or x.shape[-1] != len(self.phi):
            raise ValueError(f"x must be (b, n, {len(self.phi)}), got {tuple(x.shape)}")
        b, _, d = x.shape
        logits = x @ self.phi  # (b, n, e·s)
        into, back = logits.softmax(1), logits.softmax(2)
        self.last_mix = into.detach(), back.detach()
        slots = into.transpose(1, 2) @ x  # (b, e·s, d)
        grouped = slots.view(b, self.num_experts, self.slots, d).transpose(0, 1)
        out = self.experts(grouped.reshape(self.num_experts, b * self.slots, d))
        out = out.view(self.num_experts, b, self.slots, d).transpose(0, 1).reshape(b, -1, d)
        return back @ out


def _bias(layer: nn.Linear) -> Tensor:
    return layer.bias if layer.bias is not None else layer.weight.new_zeros(layer.out_features)
