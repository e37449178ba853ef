"""An ALaST step against a plain ALaST step, full fine-tuning and LoRA, on one clock.

The plain step is the public code's, written from its description in
``labcore/finetuning/reference.py``: explicit attention, a clone of the input, a Python number a
layer, full sort and advanced indexing, one graph through all layers. It gets the same budgets and
the same layers, and must give the same loss and gradients before anything is timed. LoRA is peft's,
where it is installed. L = 12, D = 192, 3 heads, K = 9, budgets 0.9, float32; CPU seconds, medians,
the sides taking turns; saved bytes are exact counts, means over the layers drawn.
"""

import copy
import statistics
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from labcore.blocks.cost import saved_activation_bytes
from labcore.blocks.vit import VisionTransformer, ViTConfig
from labcore.finetuning.alast import ALaST
from labcore.finetuning.budgets import ALaSTConfig
from labcore.finetuning.reference import PlainALaST
from labcore.finetuning.strategies import with_lora
from labcore.runs import Progress, silent
from labcore.runtime import limit_threads

DEPTH, TRAINED, BUDGET = 12, 9, 0.9
WARM_UP = 2
Row = dict[str, Any]
Step = Callable[[bool, tuple[int, ...]], int]
# (patch size, batch): 50 and 197 tokens
SIZES = {50: (28, 4, 16), 197: (56, 4, 4)}
TIME_GOALS = {("full", 50): 1.7, ("full", 197): 1.7, ("plain", 50): 1.25, ("plain", 197): 1.1}
BYTE_GOALS = {("full", 50): 2.0, ("full", 197): 2.0, ("plain", 50): 1.2, ("plain", 197): 1.1}
PEERS = {
    "plain": ("plain ALaST step (its rule, written anew)", "arXiv 2408.08670"),
    "full": ("full fine-tuning, fused attention", torch.__version__),
    "lora": ("LoRA, rank 16 on qkv and proj", "peft"),
}


def rows(progress: Progress | None = None, quick: bool = False) -> list[Row]:
    """Every race, one row each."""
    limit_threads(1)
    report = progress or silent
    table: list[Row] = []
    for done, tokens in enumerate(SIZES):
        table += race(tokens, 7 if quick else 15)
        report(done + 1, len(SIZES), f"{tokens} tokens")
    return table


def race(tokens: int, rounds: int) -> list[Row]:
    """All sides at one length: times in turns, then bytes."""
    image, patch, batch = SIZES[tokens]
    config = ViTConfig(
        image_size=image, patch_size=patch, hidden_size=192, depth=DEPTH, num_heads=3,
        mlp_ratio=4.0, num_classes=10,
    )  # fmt: skip
    model = VisionTransformer(config, generator=torch.Generator().manual_seed(0)).train()
    g = torch.Generator().manual_seed(1)
    data = (
        torch.randn(batch, 1, image, image, generator=g),
        torch.randint(10, (batch,), generator=g),
    )
    agreement = compare(model, data)
    sides = {
        "ours": ours(copy.deepcopy(model), data),
        "plain": plain(copy.deepcopy(model), data),
        "full": full(copy.deepcopy(model), data),
    }
    with suppress(ImportError):
        sides["lora"] = full(with_lora(copy.deepcopy(model)), data)
    drawn = [draw(turn) for turn in range(rounds + WARM_UP)]
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for turn, layers in enumerate(drawn):
        for name, step in sides.items():
            begin = time.process_time()
            step(False, layers)
            if turn >= WARM_UP:
                seconds[name].append(time.process_time() - begin)
    saved = {n: statistics.mean(s(True, la) for la in drawn) for n, s in sides.items()}
    return table_of(tokens, seconds, saved, agreement)


def table_of(
    tokens: int, seconds: dict[str, list[float]], saved: dict[str, float], agreement: str
) -> list[Row]:
    """Time and bytes against each peer."""
    table = []
    for name in seconds:
        if name == "ours":
            continue
        agreed = agreement if name == "plain" else "not asked"
        times = statistics.median(seconds["ours"]), statistics.median(seconds[name])
        table.append(row(f"step, {tokens} tokens", name, *times, TIME_GOALS, tokens, agreed))
        held = saved["ours"] / 1e6, saved[name] / 1e6
        title = f"step, {tokens} tokens: saved for backward (MB, not s)"
        table.append(row(title, name, *held, BYTE_GOALS, tokens, agreed))
    return table


def draw(turn: int) -> tuple[int, ...]:
    """The layers of a step, the same for both kinds of ALaST."""
    g = torch.Generator().manual_seed(turn)
    return tuple(sorted(torch.randperm(DEPTH, generator=g)[:TRAINED].tolist()))


def settings() -> ALaSTConfig:
    """Budgets that stay at 0.9."""
    return ALaSTConfig(TRAINED, rule="difference", budget_lr=0.0, init_budget=BUDGET)


def optimizer_of(model: torch.nn.Module) -> torch.optim.Optimizer:
    """The same fused AdamW for every side."""
    asked = [p for p in model.parameters() if p.requires_grad]
    return torch.optim.AdamW(asked, lr=1e-4, fused=True)


def ours(model: torch.nn.Module, data: tuple[Tensor, Tensor]) -> Step:
    """Our step."""
    wrapped, optimizer = ALaST(model, settings()), optimizer_of(model)

    def step(measure: bool, layers: tuple[int, ...]) -> int:
        report = wrapped.step(F.cross_entropy, data, optimizer, layers=layers, measure=measure)
        return report.saved_bytes or 0

    return step


def plain(model: torch.nn.Module, data: tuple[Tensor, Tensor]) -> Step:
    """The public code's step."""
    wrapped, optimizer = PlainALaST(model, [BUDGET] * DEPTH), optimizer_of(model)

    def step(measure: bool, layers: tuple[int, ...]) -> int:
        wrapped.freeze_all_but(layers)
        return _learn(wrapped, model, optimizer, data, measure)

    return step


def full(model: torch.nn.Module, data: tuple[Tensor, Tensor]) -> Step:
    """All that asks for gradients, all tokens."""
    optimizer = optimizer_of(model)

    def step(measure: bool, layers: tuple[int, ...]) -> int:
        return _learn(model, model, optimizer, data, measure)

    return step


def _learn(
    run: Any,
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    data: tuple[Tensor, Tensor],
    measure: bool,
) -> int:
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


def compare(model: torch.nn.Module, data: tuple[Tensor, Tensor]) -> str:
    """Loss and gradients of one pass on both sides."""
    layers, (mine, theirs) = draw(99), (copy.deepcopy(model), copy.deepcopy(model))
    wrapped = ALaST(mine, settings())
    wrapped._layers = layers
    other = PlainALaST(theirs, [BUDGET] * DEPTH)
    other.freeze_all_but(layers)
    with wrapped.only_drawn():
        losses = (
            F.cross_entropy(wrapped(data[0]), data[1]),
            F.cross_entropy(other(data[0]), data[1]),
        )
        for loss in losses:
            loss.backward()
    worst = 0.0
    for ours_p, theirs_p in zip(mine.parameters(), theirs.parameters(), strict=True):
        if (ours_p.grad is None) != (theirs_p.grad is None):
            raise RuntimeError("the two sides train different parameters")
        if ours_p.grad is not None and theirs_p.grad is not None:
            scale = float(theirs_p.grad.abs().max()) + 1e-8
            worst = max(worst, float((ours_p.grad - theirs_p.grad).abs().max()) / scale)
    if worst > 1e-3:
        raise RuntimeError(f"gradients differ by {worst:.1e} of their size")
    return f"loss to {abs(losses[0].item() - losses[1].item()):.0e}, gradients to {worst:.0e}"


def row(
    name: str,
    peer: str,
    ours_s: float,
    peer_s: float,
    goals: dict[tuple[str, int], float],
    tokens: int,
    agreement: str,
) -> Row:
    """One line of the table; the ratio says how many times cheaper ours is."""
    named, version = PEERS[peer]
    return {
        "name": name,
        "work": "finetuning",
        "peer": named,
        "peer_version": version,
        "ours_s": ours_s,
        "peer_s": peer_s,
        "ratio": peer_s / ours_s,
        "goal": goals.get((peer, tokens)),
        "agreement": agreement,
        "threads": torch.get_num_threads(),
    }
