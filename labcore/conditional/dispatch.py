"""Four ways to run the experts, one result: dense, loop, sorted, batched.

``dense`` runs every expert on every token (the public code of several papers): no saving. ``loop``
gathers each expert's tokens in turn. ``sorted`` sorts the assignments once and multiplies
contiguous pieces. ``batched`` pads every expert to the longest group and needs two batched
products; it wins when experts are many and small, and wastes work when the load is uneven.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from labcore.conditional.routers import Routing

DISPATCHERS = ("auto", "batched", "sorted", "loop", "dense")
CALL_FLOPS = 2.5e6  # FLOPs that fit in the time of one expert's calls, measured on one core
COPY_SHARE = 0.25  # cost of copying a row into the padded buffer, as a share of its FLOPs


class Experts(nn.Module):
    """E MLPs of one size, their weights stacked: (E, D, H), (E, H, D).

    Args:
        num_experts: E.
        hidden_size: D.
        intermediate_size: H.
        generator: For the initial weights.
    """

    def __init__(
        self,
        num_experts: int,
        hidden_size: int,
        intermediate_size: int,
        *,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        if min(num_experts, hidden_size, intermediate_size) < 1:
            raise ValueError(
                f"sizes must be at least 1, got {num_experts}, {hidden_size}, {intermediate_size}"
            )
        self.w1 = nn.Parameter(torch.empty(num_experts, hidden_size, intermediate_size))
        self.b1 = nn.Parameter(torch.zeros(num_experts, intermediate_size))
        self.w2 = nn.Parameter(torch.empty(num_experts, intermediate_size, hidden_size))
        self.b2 = nn.Parameter(torch.zeros(num_experts, hidden_size))
        nn.init.normal_(self.w1, std=hidden_size**-0.5, generator=generator)
        nn.init.normal_(self.w2, std=intermediate_size**-0.5, generator=generator)

    def forward(self, x: Float[Tensor, "e c d"]) -> Float[Tensor, "e c d"]:
        """Expert e on row e, all at once."""
        h = F.gelu(torch.baddbmm(self.b1[:, None], x, self.w1))
        return torch.baddbmm(self.b2[:, None], h, self.w2)

    def pieces(self) -> list[tuple[Tensor, ...]]:
        """Weights of each expert; unbound once, so that backward stacks them once."""
        stacked = (self.w1, self.b1, self.w2, self.b2)
        return list(zip(*(w.unbind(0) for w in stacked), strict=True))


def run_expert(x: Float[Tensor, "n d"], piece: tuple[Tensor, ...]) -> Float[Tensor, "n d"]:
    """One expert on some tokens."""
    w1, b1, w2, b2 = piece
    return torch.addmm(b2, F.gelu(torch.addmm(b1, x, w1)), w2)


def dispatch(
    x: Float[Tensor, "t d"], routing: Routing, experts: Experts, how: str = "auto"
) -> Float[Tensor, "t d"]:
    """sum over the choices of a token of weight · expert(token).

    Args:
        x: Tokens.
        routing: Who goes where.
        experts: What runs.
        how: "dense", "loop", "sorted", "batched", or "auto", which looks at the counts.

    Raises:
        ValueError: unknown ``how``.
    """
    if how not in DISPATCHERS:
        raise ValueError(f"unknown dispatch {how!r}: choose from {', '.join(DISPATCHERS)}")
    if how == "dense":
        return _dense(x, routing, experts)
    if how == "loop":
        return _loop(x, routing, experts)
    plan = _Plan(routing)
    if how == "auto":
        how = choose(plan.counts, x.shape[1], experts.w1.shape[2])
    run = _batched if how == "batched" else _sorted
    return run(x, plan, experts)


def choose(counts: Int[Tensor, " e"], hidden_size: int, intermediate_size: int) -> str:
    """ "batched" for many small groups, "sorted" for few large or uneven ones.

    Padding costs matrix products and copies of the padded rows, pieces cost a call an expert: per
    expert, wasted FLOPs plus a share of the useful ones are compared with a call's worth.
    """
    most, mean = int(counts.max()), float(counts.sum()) / len(counts)
    flops = 4.0 * hidden_size * intermediate_size  # of one row
    padded = (most - mean) * flops + COPY_SHARE * mean * flops
    return "batched" if most and padded < CALL_FLOPS else "sorted"


class _Plan:
    """The kept assignments, sorted by expert."""

    def __init__(self, routing: Routing) -> None:
        tokens, k = routing.index.shape
        self.num_experts = routing.probs.shape[1]
        expert, weight = routing.index.reshape(-1), routing.weights.reshape(-1)
        token = torch.arange(tokens, device=expert.device)[:, None].expand(-1, k).reshape(-1)
        if bool(routing.dropped.any()):
            kept = (~routing.dropped.reshape(-1)).nonzero()[:, 0]
            expert, weight, token = expert[kept], weight.index_select(0, kept), token[kept]
        order = expert.argsort(stable=True)
        self.expert, self.token = expert[order], token[order]
        self.weight = weight.index_select(0, order)
        self.counts = torch.bincount(expert, minlength=self.num_experts)


def _dense(x: Tensor, routing: Routing, experts: Experts) -> Tensor:
    gates, y = routing.gates, torch.zeros_like(x)
    for e, piece in enumerate(experts.pieces()):
        y = y + gates[:, e : e + 1] * run_expert(x, piece)
    return y


def _loop(x: Tensor, routing: Routing, experts: Experts) -> Tensor:
    y, kept = torch.zeros_like(x), ~routing.dropped
    for e, piece in enumerate(experts.pieces()):
        token, choice = ((routing.index == e) & kept).nonzero(as_tuple=True)
        out = run_expert(x[token], piece) * routing.weights[token, choice, None]
        y = y.index_add(0, token, out)
    return y


def _sorted(x: Tensor, plan: _Plan, experts: Experts) -> Tensor:
    groups = x.index_select(0, plan.token).split(plan.counts.tolist())
    pieces = experts.pieces()
    out = [run_expert(g, p) for g, p in zip(groups, pieces, strict=True) if len(g)]
    y = torch.zeros_like(x)
    if not out:
        return y + 0 * sum(w.sum() for w in experts.parameters())
    return y.index_add(0, plan.token, torch.cat(out) * plan.weight[:, None])


def _batched(x: Tensor, plan: _Plan, experts: Experts) -> Tensor:
    size = int(plan.counts.max())
    start = plan.counts.cumsum(0) - plan.counts
    place = torch.arange(len(plan.expert), device=x.device) - start[plan.expert]
    slot = plan.expert * size + place  # (a,)
    buffer = x.new_zeros(plan.num_experts * size, x.shape[1])
    buffer = buffer.index_copy(0, slot, x.index_select(0, plan.token))
    out = experts(buffer.view(plan.num_experts, size, -1)).view(-1, x.shape[1])
    y = out.index_select(0, slot) * plan.weight[:, None]
    return torch.zeros_like(x).index_add(0, plan.token, y)
