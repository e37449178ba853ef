"""Routers of a mixture of experts: which experts see which token, and with what weight.

All three give a :class:`Routing` in one layout, (tokens, choices), so that one set of dispatchers
serves them. Tokens choose experts (:class:`TopKRouter`, :class:`NoisyTopKRouter`) or experts choose
tokens (:class:`ExpertChoiceRouter`, Zhou et al., arXiv 2202.09368).
"""

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from labcore.conditional.balance import token_mask


@dataclass(frozen=True)
class Routing:
    """Who goes where.

    Attributes:
        weights: Gate weight of each choice (t, k).
        index: Expert of each choice (t, k).
        probs: Softmax of the router over all experts (t, e).
        logits: What the choice was made on, noise included (t, e).
        dropped: Choices that are not carried out (t, k): over capacity, or of padding.
        clean, scale: Logits without noise and the noise's standard deviation, of noisy routers.
    """

    weights: Float[Tensor, "t k"]
    index: Int[Tensor, "t k"]
    probs: Float[Tensor, "t e"]
    logits: Float[Tensor, "t e"]
    dropped: Bool[Tensor, "t k"]
    clean: Tensor | None = None
    scale: Tensor | None = None

    @property
    def counts(self) -> Int[Tensor, " e"]:
        """Tokens that each expert really gets."""
        return torch.bincount(self.index[~self.dropped], minlength=self.probs.shape[1])

    @property
    def gates(self) -> Float[Tensor, "t e"]:
        """Weight of every expert for every token, 0 where it does not run."""
        kept = self.weights * ~self.dropped
        return torch.zeros_like(self.probs).scatter_add(1, self.index, kept)


class TopKRouter(nn.Module):
    """Every token takes the k experts with the largest logits x W.

    Args:
        hidden_size: D.
        num_experts: E.
        top_k: k, from 1 to E.
        renormalize: Divide the k probabilities by their sum (Mixtral), or leave them (Switch). By
            default True for k > 1: with k = 1 every weight would be 1, and the router get no
            gradient.
        capacity_factor: At most ceil(c k T / E) tokens an expert; the others are dropped. None
            drops nothing.
        drop_by: Who goes first when an expert is full: earlier "position" or higher "probability".
        generator: For the initial weights.

    Raises:
        ValueError: k outside 1..E, a capacity factor that is not positive, an unknown ``drop_by``.
    """

    def __init__(
        self,
        hidden_size: int,
        num_experts: int,
        top_k: int = 2,
        *,
        renormalize: bool | None = None,
        capacity_factor: float | None = None,
        drop_by: Literal["position", "probability"] = "position",
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        check_sizes(num_experts, top_k, capacity_factor)
        if drop_by not in ("position", "probability"):
            raise ValueError(f'drop_by must be "position" or "probability", got {drop_by!r}')
        self.num_experts, self.top_k = num_experts, top_k
        self.renormalize = top_k > 1 if renormalize is None else renormalize
        self.capacity_factor, self.drop_by = capacity_factor, drop_by
        self.weight = nn.Parameter(torch.empty(num_experts, hidden_size))
        nn.init.normal_(self.weight, std=hidden_size**-0.5, generator=generator)

    def forward(self, x: Float[Tensor, "t d"], mask: Tensor | None = None) -> Routing:
        """Route tokens; ``mask`` (t,) is True for real ones."""
        return self.route(F.linear(x, self.weight), mask)

    def route(self, logits: Float[Tensor, "t e"], mask: Tensor | None = None) -> Routing:
        """Route by given logits.

        Raises:
            ValueError: NaN logits (the first such token is named), or a mask of another shape.
        """
        check_logits(logits)
        probs = logits.softmax(-1)
        index = _largest(logits, self.top_k)
        weights = probs.gather(1, index)
        if self.renormalize:
            weights = weights / weights.sum(-1, keepdim=True)
        real = token_mask(mask, len(logits), probs) > 0
        return self._limited(weights, index, probs, logits, real)

    def _limited(
        self, weights: Tensor, index: Tensor, probs: Tensor, logits: Tensor, real: Tensor
    ) -> Routing:
        dropped = (~real)[:, None].expand_as(index).clone()
        if self.capacity_factor is not None:
            limit = capacity(self.capacity_factor, self.top_k, int(real.sum()), self.num_experts)
            rank = probs.gather(1, index) if self.drop_by == "probability" else None
            dropped |= over_capacity(index, ~dropped, self.num_experts, limit, rank)
        return Routing(weights, index, probs, logits, dropped)


class NoisyTopKRouter(TopKRouter):
    """Top k of x W + N(0, 1) · softplus(x W_noise) in training (Shazeer et al., 1701.06538).

    The weights are a softmax over the k logits that are kept. Without noise (in ``eval``) it equals
    the plain router with renormalising. With k = 1 only the load loss teaches the router.
    """

    def __init__(self, hidden_size: int, num_experts: int, top_k: int = 2, **options: Any) -> None:
        super().__init__(hidden_size, num_experts, top_k, **{**options, "renormalize": True})
        self.noise = nn.Parameter(torch.zeros(num_experts, hidden_size))
        self.generator: torch.Generator | None = None

    def forward(self, x: Float[Tensor, "t d"], mask: Tensor | None = None) -> Routing:
        """Route tokens, with noise while training; draws from ``self.generator``."""
        clean, scale = F.linear(x, self.weight), F.softplus(F.linear(x, self.noise))
        noisy = clean
        if self.training:
            noisy = clean + scale * torch.empty_like(clean).normal_(generator=self.generator)
        found = self.route(noisy, mask)
        parts = (found.weights, found.index, clean.softmax(-1), noisy, found.dropped)
        return Routing(*parts, clean=clean, scale=scale)


class ExpertChoiceRouter(nn.Module):
    """Every expert takes the C = ceil(c T / E) tokens with the largest probability.

    Balance is perfect and needs no loss; some tokens get no expert, others many. A token's fate
    depends on the tokens after it, so a decoder must not use it. Choices come as (t, E): choice e
    of a token is expert e, dropped unless that expert took it.

    Args:
        hidden_size: D.
        num_experts: E.
        capacity_factor: c, the mean number of experts a token.
        generator: For the initial weights.

    Raises:
        ValueError: fewer than one expert, or c that is not positive.
    """

    def __init__(
        self,
        hidden_size: int,
        num_experts: int,
        capacity_factor: float = 2.0,
        *,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        check_sizes(num_experts, 1, capacity_factor)
        self.num_experts, self.capacity_factor = num_experts, capacity_factor
        self.weight = nn.Parameter(torch.empty(num_experts, hidden_size))
        nn.init.normal_(self.weight, std=hidden_size**-0.5, generator=generator)

    def forward(self, x: Float[Tensor, "t d"], mask: Tensor | None = None) -> Routing:
        """Route tokens; ``mask`` (t,) is True for real ones."""
        return self.route(F.linear(x, self.weight), mask)

    def route(self, logits: Float[Tensor, "t e"], mask: Tensor | None = None) -> Routing:
        """Route by given logits.

        Raises:
            ValueError: NaN logits, or a mask of another shape.
        """
        check_logits(logits)
        probs = logits.softmax(-1)
        real = token_mask(mask, len(logits), probs) > 0
        tokens = int(real.sum())
        size = min(capacity(self.capacity_factor, 1, tokens, self.num_experts), tokens)
        ranked = probs.masked_fill(~real[:, None], -1.0)
        taken = ranked.topk(size, dim=0).indices  # (C, e)
        dropped = torch.ones_like(probs, dtype=torch.bool).scatter(0, taken, False)
        index = torch.arange(self.num_experts, device=logits.device).expand_as(probs)
        return Routing(probs, index, probs, logits, dropped)


def capacity(factor: float, top_k: int, tokens: int, num_experts: int) -> int:
    """Places an expert has: ceil(c k T / E).

    >>> capacity(1.25, 2, 10, 4)
    7
    """
    return math.ceil(factor * top_k * tokens / num_experts - 1e-9)


def over_capacity(
    index: Int[Tensor, "t k"],
    valid: Bool[Tensor, "t k"],
    num_experts: int,
    limit: int,
    rank: Tensor | None = None,
) -> Bool[Tensor, "t k"]:
    """Which choices come after their expert is full.

    Args:
        index: Expert of each choice.
        valid: Choices that count; the others take no place.
        num_experts: E.
        limit: Places an expert.
        rank: Who goes first: larger values; by default the earlier token.
    """
    expert = torch.where(valid, index, num_experts).reshape(-1)
    first = torch.arange(len(expert), device=index.device)
    if rank is not None:
        first = rank.reshape(-1).argsort(descending=True, stable=True)
    order = first[expert[first].argsort(stable=True)]
    counts = torch.bincount(expert, minlength=num_experts + 1)
    start = counts.cumsum(0) - counts
    place = torch.arange(len(expert), device=index.device) - start[expert[order]]
    over = torch.empty_like(place, dtype=torch.bool)
    over[order] = place >= limit
    return over.view_as(index) & valid


def check_sizes(num_experts: int, top_k: int, capacity_factor: float | None) -> None:
    """Raise ``ValueError`` for sizes that no router can have."""
    if num_experts < 1:
        raise ValueError(f"num_experts must be at least 1, got {num_experts}")
    if not 1 <= top_k <= num_experts:
        raise ValueError(f"top_k must lie in 1..{num_experts} (the experts), got {top_k}")
    if capacity_factor is not None and not capacity_factor > 0:
        raise ValueError(f"capacity_factor must be > 0 (1.25 is usual), got {capacity_factor}")


def check_logits(logits: Float[Tensor, "t e"]) -> None:
    """Raise ``ValueError`` when a router's logit is NaN or +inf, naming the first such token."""
    bad = ~(logits < torch.inf)
    if bad.any():
        token = int(bad.any(-1).nonzero()[0, 0])
        what = "NaN" if torch.isnan(logits[token]).any() else "infinite"
        raise ValueError(
            f"router logits of token {token} are {what}: look for a diverged or empty input row"
        )


def _largest(logits: Float[Tensor, "t e"], k: int) -> Int[Tensor, "t k"]:
    return logits.topk(k, dim=-1).indices
