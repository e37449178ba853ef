"""An ALaST step against a plain ALaST step, full fine-tuning, LoRA and half measures, on one clock.

The plain step is the public code's, written from its description in
``labcore/finetuning/reference.py``: explicit attention, a clone of every block's input, a Python
number a layer, full sort and advanced indexing, one graph through all layers. It gets the same
budgets and the same layers, and must give the same loss and gradients before anything is timed.

Two things make ours quicker, and the table keeps them apart. One is the method's: fewer FLOPs, by
the factor beside the agreement, and fewer bytes. The other is the library that multiplies large
matrices (:mod:`labcore.blocks.fast_linear`); ours uses oneDNN's wherever torch has it, torch's
layers use what torch was built with. Rows "with our matrix product" give it to the other side too:
what is left there is the method alone, and on a machine whose two libraries are equally fast the
rows above them would say the same. The process keeps the memory it frees
(:func:`labcore.runtime.keep_freed_memory`), for all sides: otherwise new pages take a tenth to a
fifth of a step, and more of a step that frees more.

LoRA is peft's, rank 16 on query, key, value and output, once ``lab bench --setup-peers peft`` has
installed it. L = 12, K = 9, budgets 0.9, float32; D = 192 and 3 heads, or as wide as the real
model, D = 384 and 6 heads; CPU seconds, medians, the sides taking turns; saved bytes are exact
counts, means over five draws.
"""

import copy
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from bench import peers
from labcore.blocks.cost import ViTSpec, kept_tokens, saved_activation_bytes, training_flops
from labcore.blocks.fast_linear import fast_linears
from labcore.blocks.vit import VisionTransformer, ViTConfig
from labcore.finetuning.alast import ALaST
from labcore.finetuning.budgets import ALaSTConfig
from labcore.finetuning.reference import PlainALaST
from labcore.finetuning.strategies import with_lora
from labcore.runs import Progress, silent
from labcore.runtime import keep_freed_memory, limit_threads

DEPTH, TRAINED, BUDGET = 12, 9, 0.9
WARM_UP = 2
Row = dict[str, Any]
Layers = tuple[int, ...]
Data = tuple[Tensor, Tensor]
Step = Callable[[Layers, bool], int]
PAPER = "paper: 1.3x time, 2x memory"


@dataclass(frozen=True)
class Size:
    """What is trained: pictures of ``image`` pixels, patches of 4, one class token."""

    name: str
    image: int
    batch: int
    width: int = 192
    heads: int = 3
    few: bool = False  # only the sides that have a goal, and those with equal products

    @property
    def tokens(self) -> int:
        """With the class token."""
        return 1 + (self.image // 4) ** 2


SIZES = (
    Size("50 tokens", 28, 16),
    Size("197 tokens", 56, 4),
    Size("50 tokens, width 384", 28, 8, width=384, heads=6, few=True),
)


@dataclass(frozen=True)
class Side:
    """What an ALaST step is compared with.

    Attributes:
        name: As in the table.
        version: Of the peer, or what it is.
        make: Model and data to its step.
        goals: Tokens -> wanted ratio of CPU time and of saved bytes.
        few: Whether it runs at every size.
        agreement: Whether it must give ours' loss and gradients.
    """

    name: str
    version: str
    make: Callable[[nn.Module, Data], Step]
    goals: dict[int, tuple[float, float]]
    agreement: bool = False
    few: bool = False


def rows(progress: Progress | None = None, quick: bool = False) -> list[Row]:
    """Every race, one row for time and one for bytes."""
    limit_threads(1)
    keep_freed_memory()
    report = progress or silent
    table: list[Row] = []
    for done, size in enumerate(SIZES):
        table += race(size, 5 if quick else 11)
        report(done + 1, len(SIZES), size.name)
    return table


def sides() -> list[Side]:
    """Everybody but us; LoRA where peft is installed."""
    step, everything, mine = "plain ALaST step", "full fine-tuning", "ours, our matrix product"
    found = [
        Side(f"{step} (its rule, written anew)", "arXiv 2408.08670", plain,
             {50: (1.25, 1.2), 197: (1.1, 1.1)}, agreement=True, few=True),
        Side(f"{step}, with our matrix product", "arXiv 2408.08670", quick_products(plain), {},
             few=True),
        Side(f"{everything}, fused attention", PAPER, full, {50: (1.7, 2.0), 197: (1.7, 2.0)},
             few=True),
        Side(f"{everything}, with our matrix product", PAPER, quick_products(full), {}, few=True),
        Side(f"{everything}, explicit attention", PAPER, explicit, {}),
        Side("last 9 layers, all tokens", mine, quick_products(last), {}),
        Side("random 9 layers, all tokens", mine, quick_products(freezing), {}),
        Side("tokens only, all layers trained", mine, tokens_only, {}),
    ]  # fmt: skip
    if peers.is_ready("peft"):
        found.append(Side("LoRA", f"peft {peers.use('peft')}", lora, {}))
    return found


def race(size: Size, rounds: int) -> list[Row]:
    """All sides at one size: times in turns, then bytes."""
    config = ViTConfig(
        image_size=size.image, patch_size=4, hidden_size=size.width, depth=DEPTH,
        num_heads=size.heads, mlp_ratio=4.0, num_classes=10,
    )  # fmt: skip
    model = VisionTransformer(config, generator=torch.Generator().manual_seed(0)).train()
    g = torch.Generator().manual_seed(1)
    data = (
        torch.randn(size.batch, 1, size.image, size.image, generator=g),
        torch.randint(10, (size.batch,), generator=g),
    )
    others = [side for side in sides() if side.few or not size.few]
    steps = [side.make(copy.deepcopy(model), data) for side in others]
    mine = ours(copy.deepcopy(model), data)
    drawn = [draw(turn) for turn in range(rounds + WARM_UP)]
    agreement = f"{compare(model, data)}; {plain_flops(size, drawn):.2f} x the FLOPs"
    seconds = timed([mine, *steps], drawn)
    saved = [
        statistics.mean(step(layers, True) for layers in drawn[:5]) / 1e6 for step in (mine, *steps)
    ]
    table = []
    for number, side in enumerate(others):
        agreed = agreement if side.agreement else "same model and pictures"
        goals = side.goals.get(size.tokens, (None, None))
        for what, costs, goal in (("", seconds, goals[0]), (": MB saved", saved, goals[1])):
            title = f"step, {size.name}{what}"
            table.append(row(title, side, costs[0], costs[number + 1], goal, agreed))
    return table


def timed(steps: list[Step], drawn: list[Layers]) -> list[float]:
    """Median CPU seconds of each side; every round all sides train the same layers."""
    seen: list[list[float]] = [[] for _ in steps]
    for turn, layers in enumerate(drawn):
        for step, times in zip(steps, seen, strict=True):
            begin = time.process_time()
            step(layers, False)
            if turn >= WARM_UP:
                times.append(time.process_time() - begin)
    return [statistics.median(times) for times in seen]


def plain_flops(size: Size, drawn: list[Layers]) -> float:
    """FLOPs of the plain step over ours, equal layers and tokens, by the formula."""
    spec = ViTSpec(DEPTH, size.width, size.tokens)
    entering = kept_tokens([BUDGET] * DEPTH, size.tokens - 1)
    leaving = [*entering[1:], 1]
    theirs = sum(training_flops(spec, entering, s, freeze_embedding=False).total for s in drawn)
    return theirs / sum(training_flops(spec, entering, s, tokens_out=leaving).total for s in drawn)


def draw(turn: int) -> Layers:
    """The layers of a step, the same for all that draw layers."""
    g = torch.Generator().manual_seed(turn)
    return tuple(sorted(torch.randperm(DEPTH, generator=g)[:TRAINED].tolist()))


def settings() -> ALaSTConfig:
    """Budgets that stay at 0.9."""
    return ALaSTConfig(TRAINED, rule="difference", budget_lr=0.0, init_budget=BUDGET)


def optimizer_of(model: nn.Module) -> torch.optim.Optimizer:
    """The same fused AdamW for every side."""
    asked = [p for p in model.parameters() if p.requires_grad]
    return torch.optim.AdamW(asked, lr=1e-4, fused=True)


def quick_products(make: Callable[[nn.Module, Data], Step]) -> Callable[[nn.Module, Data], Step]:
    """A side that multiplies large matrices as ours does."""

    def made(model: nn.Module, data: Data) -> Step:
        step = make(model, data)

        def run(layers: Layers, measure: bool) -> int:
            with fast_linears():
                return step(layers, measure)

        return run

    return made


def ours(model: nn.Module, data: Data) -> Step:
    """Our step."""
    wrapped, optimizer = ALaST(model, settings()), optimizer_of(model)

    def step(layers: Layers, measure: bool) -> int:
        report = wrapped.step(F.cross_entropy, data, optimizer, layers=layers, measure=measure)
        return report.saved_bytes or 0

    return step


def tokens_only(model: nn.Module, data: Data) -> Step:
    """Our step, no layer frozen."""
    step = ours(model, data)
    return lambda layers, measure: step(tuple(range(DEPTH)), measure)


def plain(model: nn.Module, data: Data) -> Step:
    """The public code's step."""
    wrapped, optimizer = PlainALaST(model, [BUDGET] * DEPTH), optimizer_of(model)

    def step(layers: Layers, measure: bool) -> int:
        wrapped.freeze_all_but(layers)
        return learn(wrapped, model, optimizer, data, measure)

    return step


def freezing(model: nn.Module, data: Data) -> Step:
    """The model as it is; the layers that are not drawn do not ask for gradients."""
    freeze, optimizer = PlainALaST(model, [1.0] * DEPTH).freeze_all_but, optimizer_of(model)

    def step(layers: Layers, measure: bool) -> int:
        freeze(layers)
        return learn(model, model, optimizer, data, measure)

    return step


def last(model: nn.Module, data: Data) -> Step:
    """Always the last nine."""
    step = freezing(model, data)
    return lambda layers, measure: step(tuple(range(DEPTH - TRAINED, DEPTH)), measure)


def full(model: nn.Module, data: Data) -> Step:
    """All that asks for gradients, all tokens."""
    optimizer = optimizer_of(model)
    return lambda layers, measure: learn(model, model, optimizer, data, measure)


def explicit(model: nn.Module, data: Data) -> Step:
    """The same with attention matrices that are stored."""
    step = full(model, data)

    def unfused(layers: Layers, measure: bool) -> int:
        with sdpa_kernel(SDPBackend.MATH):
            return step(layers, measure)

    return unfused


def lora(model: nn.Module, data: Data) -> Step:
    """peft's adapters."""
    return full(with_lora(model), data)


def learn(
    run: Any, model: nn.Module, optimizer: torch.optim.Optimizer, data: Data, measure: bool
) -> int:
    """Forward, backward and step; the bytes saved for backward, if they are counted."""
    optimizer.zero_grad(set_to_none=True)
    if measure:
        with saved_activation_bytes(model) as saved:
            loss = F.cross_entropy(run(data[0]), data[1])
        total = saved.total
    else:
        loss, total = F.cross_entropy(run(data[0]), data[1]), 0
    loss.backward()
    optimizer.step()
    loss.item()
    return total


def compare(model: nn.Module, data: Data) -> str:
    """Loss and gradients of one pass, ours and the plain step's.

    Raises:
        RuntimeError: they differ.
    """
    layers, (mine, theirs) = draw(99), (copy.deepcopy(model), copy.deepcopy(model))
    other = PlainALaST(theirs, [BUDGET] * DEPTH)
    other.freeze_all_but(layers)
    loss = F.cross_entropy(other(data[0]), data[1])
    loss.backward()
    report = ALaST(mine, settings()).step(F.cross_entropy, data, _Keeps(mine), layers=layers)
    worst = 0.0
    for one, two in zip(mine.parameters(), theirs.parameters(), strict=True):
        a, b = one.grad, two.grad
        if (a is None) != (b is None):
            raise RuntimeError("the two sides train different parameters")
        if a is not None and b is not None:
            worst = max(worst, float((a - b).abs().max() / (b.abs().max() + 1e-8)))
    gap = abs(report.loss - loss.item())
    if worst > 1e-3 or gap > 1e-5:
        raise RuntimeError(f"losses differ by {gap:.1e}, gradients by {worst:.1e} of their size")
    return f"loss to {gap:.0e}, gradients to {worst:.0e}"


class _Keeps(torch.optim.SGD):
    """Moves nothing and keeps the gradients, so that they can be compared."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model.parameters(), lr=0.0)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Nothing."""


def row(
    name: str, side: Side, our_cost: float, peer_cost: float, goal: float | None, agreement: str
) -> Row:
    """One line of the table; the ratio says how many times cheaper ours is."""
    return {
        "name": name,
        "work": "finetuning",
        "peer": side.name,
        "peer_version": side.version,
        "ours_s": our_cost,
        "peer_s": peer_cost,
        "ratio": peer_cost / our_cost,
        "goal": goal,
        "agreement": agreement,
        "threads": torch.get_num_threads(),
    }
