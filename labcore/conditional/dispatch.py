"""Four ways to run the experts, one result: dense, loop, sorted, batched.

``dense`` runs every expert on every token (the public code of several papers): no saving. ``loop``
gathers each expert's tokens in turn. ``sorted`` sorts the assignments once and multiplies
contiguous groups, without padding. ``batched`` pads every expert to the longest group and needs two
batched products; it wastes work when the load is uneven. "auto" takes ``sorted`` where torch has a
grouped product, which was never slower, and else looks at the counts.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from labcore.conditional.experts import Experts, has_grouped_kernel
from labcore.conditional.routers import Routing

DISPATCHERS = ("auto", "batched", "sorted", "loop", "dense")
CALL_FLOPS = 1.5e6  # FLOPs that fit in the time of one expert's calls, measured on one core
COPY_SHARE = 0.25  # cost of copying a row into the padded buffer, as a share of its FLOPs


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
        how = choose(plan.sizes, x, experts)
    run = _batched if how == "batched" else _sorted
    return run(x, plan, experts)


def choose(counts: list[int], x: Float[Tensor, "t d"], experts: Experts) -> str:
    """What "auto" takes: "sorted" where torch has a grouped product, else what the counts say.

    ``counts`` are the tokens of each expert, as plain numbers: looking at them costs microseconds,
    which counts where the experts themselves need less than a thousand.

    Without it, padding costs matrix products and copies of the padded rows, and groups cost a call
    an expert: wasted FLOPs plus a share of the useful ones are compared with a call's worth, so
    that many small groups are "batched", few large or uneven ones "sorted".
    """
    most, mean = max(counts), sum(counts) / len(counts)
    if not most or has_grouped_kernel(x, experts.w1):
        return "sorted"
    padded = experts.flops(most - mean) + COPY_SHARE * experts.flops(mean)
    return "batched" if padded < CALL_FLOPS else "sorted"


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
        self.sizes: list[int] = self.counts.tolist()


def _dense(x: Tensor, routing: Routing, experts: Experts) -> Tensor:
    gates, y = routing.gates, torch.zeros_like(x)
    for e, piece in enumerate(experts.pieces()):
        y = y + gates[:, e : e + 1] * experts.one(x, piece)
    return y


def _loop(x: Tensor, routing: Routing, experts: Experts) -> Tensor:
    y, kept = torch.zeros_like(x), ~routing.dropped
    for e, piece in enumerate(experts.pieces()):
        token, choice = ((routing.index == e) & kept).nonzero(as_tuple=True)
        out = experts.one(x[token], piece) * routing.weights[token, choice, None]
        y = y.index_add(0, token, out)
    return y


def _sorted(x: Tensor, plan: _Plan, experts: Experts) -> Tensor:
    rows = x.index_select(0, plan.token)
    y = experts.grouped(rows, plan.sizes) * plan.weight[:, None]
    return torch.zeros_like(x).index_add(0, plan.token, y)


def _batched(x: Tensor, plan: _Plan, experts: Experts) -> Tensor:
    size = max(plan.sizes)
    start = plan.counts.cumsum(0) - plan.counts
    place = torch.arange(len(plan.expert), device=x.device) - start[plan.expert]
    slot = plan.expert * size + place  # (a,)
    buffer = x.new_zeros(plan.num_experts * size, x.shape[1])
    buffer = buffer.index_copy(0, slot, x.index_select(0, plan.token))
    out = experts(buffer.view(plan.num_experts, size, -1)).view(-1, x.shape[1])
    y = out.index_select(0, slot) * plan.weight[:, None]
    return torch.zeros_like(x).index_add(0, plan.token, y)
