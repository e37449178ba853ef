"""Dispatchers, early exits and token merging against what people would use instead.

Peers. "dense" runs every expert on every token, as the public code of several papers. The loop over
experts is transformers' own Mixtral block, which gathers per expert and slices one stacked weight;
a list of separate MLPs, the older way, is written here, as is the merging procedure of the ToMe
reference (gather, scatter_reduce). Both sides get the same weights and inputs and must agree before
anything is timed. CPU seconds, forward + backward where gradients are wanted, medians, the sides
taking turns.
"""

import random
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from labcore.blocks.vit import VisionTransformer, ViTConfig
from labcore.conditional.cost import Cost
from labcore.conditional.dispatch import choose
from labcore.conditional.exits import EarlyExitNet, ExitRule
from labcore.conditional.matching import bipartite_soft_matching
from labcore.conditional.moe import MoELayer
from labcore.conditional.timing import BATCH
from labcore.runs import Progress, silent
from labcore.runtime import keep_freed_memory, limit_threads

Row = dict[str, Any]
SIZES = {  # tokens, experts, k, D, H
    "E = 8": (2048, 8, 2, 192, 768),
    "E = 32": (2048, 32, 2, 192, 768),
    "E = 64, small": (256, 64, 1, 64, 256),
}
GRID = (
    (64, 4, 1, 64, 128), (64, 8, 2, 64, 256), (256, 8, 2, 64, 128), (256, 16, 2, 128, 256),
    (256, 32, 1, 64, 256), (256, 64, 2, 64, 64), (512, 8, 1, 128, 512), (512, 16, 4, 64, 128),
    (1024, 8, 2, 128, 256), (1024, 32, 2, 64, 256), (1024, 64, 1, 64, 128), (2048, 4, 2, 128, 256),
)  # fmt: skip


class LoopOfModules(nn.Module):
    """Experts as separate MLPs, one gather and one index_add each."""

    def __init__(self, layer: MoELayer) -> None:
        super().__init__()
        self.layer = layer
        self.mlps = nn.ModuleList()
        for w1, b1, w2, b2 in layer.experts.pieces():
            mlp = nn.Sequential(nn.Linear(*w1.shape), nn.GELU(), nn.Linear(*w2.shape))
            with torch.no_grad():
                for linear, w, b in ((mlp[0], w1, b1), (mlp[2], w2, b2)):
                    linear.weight.copy_(w.T)
                    linear.bias.copy_(b)
            self.mlps.append(mlp)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens in, tokens out."""
        routing = self.layer.router(x)
        y = torch.zeros_like(x)
        for e, mlp in enumerate(self.mlps):
            token, choice = torch.where(routing.index == e)
            y.index_add_(0, token, mlp(x[token]) * routing.weights[token, choice, None])
        return y


def rows(progress: Progress | None = None, quick: bool = False) -> list[Row]:
    """Every race, one row each."""
    limit_threads(1)
    keep_freed_memory()  # for all sides: else new pages take a third of a call in unlucky runs
    report, rounds = progress or silent, 5 if quick else 15
    races: list[Callable[[], list[Row]]] = [
        lambda: [against_dense("E = 8", rounds)],
        lambda: [against_mixtral("E = 32", 1.5, rounds)],
        lambda: [against_mixtral("E = 64, small", 5.0, rounds)],
        lambda: [against_mixtral("E = 32", 1.0, rounds, "grouped_mm")],
        lambda: [against_mlps("E = 32", rounds), against_mlps("E = 64, small", rounds)],
        lambda: automatic(rounds),
        lambda: [exits(64, 2 * rounds), exits(64, 2 * rounds, refill=False)],
        lambda: [exits(64, rounds, side=56), exits(192, rounds)],
        lambda: [merging(2 * rounds)],
    ]
    table: list[Row] = []
    for done, race in enumerate(races):
        table += race()
        report(done + 1, len(races), "races")
    return table


def against_dense(name: str, rounds: int) -> Row:
    """Our dispatch against every expert on every token; the ideal is E / k."""
    layer, x = _layer(SIZES[name])
    gap = _same(_run(layer, x, "auto"), _run(layer, x, "dense"))
    times = _turns([partial(_run, layer, x, how) for how in ("auto", "dense")], rounds)
    _, experts, k, *_ = SIZES[name]
    return row(f"dispatch, {name}", "every expert on every token (written anew)", times,
               0.9 * experts / k, f"{gap}; ideal {experts / k:g}")  # fmt: skip


def against_mixtral(name: str, goal: float, rounds: int, how: str = "eager") -> Row:
    """Our dispatch of gated experts against transformers' Mixtral block.

    "eager" is its loop over experts; "grouped_mm" sorts tokens, as ours, and calls torch's kernel.
    """
    import transformers
    from transformers.models.mixtral import modeling_mixtral as mixtral

    _, experts, k, hidden, width = SIZES[name]
    config = transformers.MixtralConfig(
        hidden_size=hidden, intermediate_size=width, num_local_experts=experts,
        num_experts_per_tok=k, experts_implementation=how,
    )  # fmt: skip
    peer = mixtral.MixtralSparseMoeBlock(config)
    layer, x = _layer(SIZES[name], gated=True, renormalize=True)
    with torch.no_grad():
        peer.gate.weight.copy_(layer.router.weight)
        peer.experts.gate_up_proj.copy_(layer.experts.w1.transpose(1, 2))
        peer.experts.down_proj.copy_(layer.experts.w2.transpose(1, 2))
    batch = x[None]
    gap = _same(_step(layer, batch), _step(peer, batch))
    times = _turns([lambda: _step(layer, batch), lambda: _step(peer, batch)], rounds)
    made = row(f"dispatch, gated, {name}", f"transformers' Mixtral block, {how}", times, goal, gap)
    return made | {"peer_version": transformers.__version__}


def against_mlps(name: str, rounds: int) -> Row:
    """Our dispatch against a list of MLPs; not slower is wanted."""
    layer, x = _layer(SIZES[name])
    loop = LoopOfModules(layer)
    gap = _same(_step(layer, x), _step(loop, x))
    times = _turns([lambda: _step(layer, x), lambda: _step(loop, x)], rounds)
    return row(f"dispatch, {name}", "loop over a list of MLPs (written anew)", times, 1.0, gap)


def automatic(rounds: int) -> list[Row]:
    """The automatic choice against the best of three dispatchers, on twelve sizes."""
    table, ways = [], ("auto", "batched", "sorted", "loop")
    for size in GRID:
        layer, x = _layer(size)
        gap = _same(*(_run(layer, x, how) for how in ways))
        short = 256 * 128 * 512 // (len(x) * size[3] * size[4])  # small sizes need more looks
        sides = [partial(_run, layer, x, how) for how in ways]
        times = _turns(sides, rounds * max(3, min(12, short)))
        best = min(range(1, 4), key=lambda i: times[i])
        counts = layer.last_routing.counts  # type: ignore[union-attr]
        name = "automatic choice, T {} E {} k {} D {} H {}".format(*size)
        table.append(
            row(name, f"best of three: {ways[best]}", (times[0], times[best]), 1 / 1.05,
                f"{gap}; chose {choose(counts.tolist(), x, layer.experts)}")
        )  # fmt: skip
    return table


def exits(width: int, rounds: int, *, side: int = 28, refill: bool = True) -> Row:
    """Early exits of eight batches against all blocks; the goal is 85 % of the ratio of FLOPs.

    A third leaves at each head. Survivors of several batches come together, so that every block
    works on a batch of 64. A batch alone shrinks instead, and a block, a head and a decision take
    some thirty calls whatever they work on: the small network misses the goal then, and its row
    stays to be seen.
    """
    config = ViTConfig(image_size=side, hidden_size=width, depth=6, mlp_ratio=2.0)
    generator = torch.Generator().manual_seed(0)
    trunk = VisionTransformer(config, generator=generator)
    net = EarlyExitNet.with_linear_heads(trunk, 10, generator=generator).eval()
    stream = torch.randn(8 * BATCH, 1, side, side, generator=generator)
    batches = stream.split(BATCH)

    def ours() -> list[tuple[Tensor, Tensor, Cost]]:
        if refill:
            return [net.predict(stream, rule, batch=BATCH)]
        return [net.predict(x, rule) for x in batches]

    def peer() -> list[Tensor]:
        return [net(x) for x in batches]

    with torch.inference_mode():
        logits = torch.cat(peer(), 1)
        sure = logits.softmax(-1).amax(-1).quantile(0.65, dim=1).tolist()
        rule = ExitRule("confidence", (*sure[:-1], 0.0))
        answers = ours()
        said, layer = (torch.cat([a[part] for a in answers]) for part in (0, 1))  # type: ignore[misc]
        if not torch.equal(said, logits.argmax(-1).gather(0, layer[None])[0]):
            raise AssertionError("those who leave early answer otherwise than all heads")
        times = _turns([ours, peer], rounds)
    cost = sum((cost for *_, cost in answers), Cost(0, 0))
    name = f"early exits, batch {BATCH}, width {width}, {1 + config.num_patches} tokens"
    return row(
        name if refill else f"{name}, each batch alone", "all blocks and heads", times,
        0.85 / cost.ratio, f"same answers; the FLOPs say {1 / cost.ratio:.2f}",
    )  # fmt: skip


def merging(rounds: int) -> Row:
    """Bipartite matching and merging against the reference's procedure at equal r."""
    generator = torch.Generator().manual_seed(0)
    metric = torch.randn(16, 197, 64, generator=generator)
    x = torch.randn(16, 197, 384, generator=generator)
    size = torch.ones(16, 197, 1)

    def ours() -> Tensor:
        return bipartite_soft_matching(metric, 16).merge(x, size)[0]

    def peer() -> Tensor:
        return reference_merge(metric, x, size, 16)

    with torch.no_grad():
        gap = _same([ours()], [peer()])
        times = _turns([ours, peer], rounds)
    peer_name = "the ToMe reference's procedure (written anew)"
    return row("merging, 16 x 197 tokens, r 16", peer_name, times, 1.0, gap)


def reference_merge(metric: Tensor, x: Tensor, size: Tensor, r: int) -> Tensor:
    """Match, then merge x · size and size by scatter_reduce; the class token is protected."""
    metric = metric / metric.norm(dim=-1, keepdim=True)
    scores = metric[..., ::2, :] @ metric[..., 1::2, :].transpose(-1, -2)
    scores[..., 0, :] = -torch.inf
    node_max, node_idx = scores.max(dim=-1)
    edge = node_max.argsort(dim=-1, descending=True)[..., None]
    left = edge[..., r:, :].sort(dim=1)[0]
    source = edge[..., :r, :]
    target = node_idx[..., None].gather(dim=-2, index=source)

    def merge(values: Tensor) -> Tensor:
        a, b = values[..., ::2, :], values[..., 1::2, :]
        n, _, c = a.shape
        kept = a.gather(dim=-2, index=left.expand(n, -1, c))
        gone = a.gather(dim=-2, index=source.expand(n, r, c))
        b = b.scatter_reduce(-2, target.expand(n, r, c), gone, reduce="sum")
        return torch.cat([kept, b], dim=1)

    return merge(x * size) / merge(size)


def _layer(size: tuple[int, ...], **options: Any) -> tuple[MoELayer, Tensor]:
    tokens, experts, k, d, h = size
    generator = torch.Generator().manual_seed(0)
    layer = MoELayer(d, h, experts, k, generator=generator, **options)
    return layer, torch.randn(tokens, d, generator=generator)


def _run(layer: MoELayer, x: Tensor, how: str) -> list[Tensor]:
    layer.dispatch = how
    return _step(layer, x)


def _step(model: nn.Module, x: Tensor) -> list[Tensor]:
    """Forward and backward, gradients of all weights included; output and the input's gradient."""
    model.zero_grad()
    leaf = x.detach().requires_grad_()
    y = model(leaf)
    F.mse_loss(y, torch.zeros_like(y)).backward()
    assert leaf.grad is not None
    return [y.detach(), leaf.grad]


def _same(first: list[Tensor], *others: list[Tensor]) -> str:
    """The largest difference, relative to the largest value; more than 1e-4 is an error."""
    gap = max(
        float((a - b).abs().max() / b.abs().max())
        for other in others
        for a, b in zip(first, other, strict=True)
    )
    if not gap < 1e-4:
        raise AssertionError(f"the two sides differ by {gap:.1e}: nothing is timed")
    return f"{gap:.0e}"


def _turns(sides: Sequence[Callable[[], Any]], rounds: int) -> list[float]:
    """Median CPU seconds of each side, taking turns; the first two rounds warm up."""
    times: list[list[float]] = [[] for _ in sides]
    for turn in range(rounds + 2):
        for at in random.Random(turn).sample(range(len(sides)), len(sides)):  # no fixed neighbour
            start = time.process_time()
            sides[at]()
            if turn > 1:
                times[at].append(time.process_time() - start)
    return [statistics.median(kept) for kept in times]


def row(name: str, peer: str, times: Sequence[float], goal: float, agreement: str) -> Row:
    """One line of the table; the ratio says how many times cheaper ours (the first time) is."""
    ours_s, peer_s = times
    return {
        "name": name,
        "work": "conditional",
        "peer": peer,
        "peer_version": torch.__version__,
        "ours_s": ours_s,
        "peer_s": peer_s,
        "ratio": peer_s / ours_s,
        "goal": goal,
        "agreement": agreement,
        "threads": torch.get_num_threads(),
    }
