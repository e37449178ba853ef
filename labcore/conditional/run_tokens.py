"""Experiment 4: selection, merging and halting on cluttered canvases, at equal FLOPs."""

import copy
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from labcore.blocks.vit import VisionTransformer, ViTConfig
from labcore.conditional.cost import Cost
from labcore.conditional.data import Pictures, canvases, to_bytes
from labcore.conditional.halting import ponder_loss
from labcore.conditional.selection import keep_ratio_loss
from labcore.conditional.settings import Tokens
from labcore.conditional.training import accuracy, train
from labcore.conditional.vision import (
    METHODS,
    Halting,
    LearnedSelection,
    Sparse,
    full_flops,
    run_reduced,
)
from labcore.parts import Findings

RHO = 0.5  # share of the patches that the learned selector is trained to keep at each stage
PONDER = 0.05
SHOWN = 8
Tick = Callable[[], None]
Run = Callable[[Tensor], Sparse]


def tokens(settings: Tokens, seed: int, *, keep: bool, tick: Tick) -> Findings:
    """Train a base network, fine-tune a selector and a halting copy, and run all methods."""
    data = canvases("train", settings.train, seed)
    test = canvases("test", settings.test, 1000 + seed)
    config = ViTConfig(image_size=49, hidden_size=64, depth=4, mlp_ratio=2.0, num_classes=10)
    base = VisionTransformer(config, generator=torch.Generator().manual_seed(seed))

    def fit(loss: Callable[[Tensor, Tensor], Tensor], model: torch.nn.Module, epochs: float,
            rate: float) -> None:  # fmt: skip
        train(list(model.parameters()), loss, data, epochs=epochs, seed=seed, rate=rate,
              after=lambda step: tick())  # fmt: skip

    fit(lambda x, y: F.cross_entropy(base(x), y), base, settings.epochs, 2e-3)
    generator = torch.Generator().manual_seed(seed)
    selector = LearnedSelection(copy.deepcopy(base), generator=generator)
    targets = [RHO ** (i + 1) for i in range(len(selector.stages))]

    def select(x: Tensor, y: Tensor) -> Tensor:
        run = selector.masked(x, generator)
        return F.cross_entropy(run.logits, y) + 2 * keep_ratio_loss(run.keeps, targets)

    fit(select, selector, settings.tune_epochs, 1e-3)
    halting = Halting(copy.deepcopy(base))

    def halt(x: Tensor, y: Tensor) -> Tensor:
        run = halting(x)
        assert run.depth is not None
        assert run.remainder is not None
        return F.cross_entropy(run.logits, y) + PONDER * ponder_loss(run.depth, run.remainder)

    fit(halt, halting, settings.tune_epochs, 1e-3)
    found, whole = Findings(), full_flops(base)
    facts: dict[str, Any] = {"seed": seed, "test": len(test), "train": len(data)}
    found.add("token_base", **facts, accuracy=accuracy(base, test), flops=whole,
              chance=float(np.bincount(test.labels).max() / len(test)),
              ink=_ink_share(test))  # fmt: skip
    for method, amount, run in runs(settings, base, selector, halting, seed):
        tick()
        found.add("tokens", **facts, method=method, amount=amount, **_measure(run, test))
    if keep:
        _keep(found, base, selector, halting, test, seed)
    return found


def runs(
    settings: Tokens, base: VisionTransformer, selector: LearnedSelection, halting: Halting,
    seed: int,
) -> Iterator[tuple[str, float, Run]]:  # fmt: skip
    """Every method at every amount; 1.0 and 0.0 close the curves at the whole network."""
    for method in METHODS:
        amounts = settings.merged if method == "merging" else settings.keep_ratios
        for amount in amounts:
            generator = torch.Generator().manual_seed(seed)

            def reduced(x: Tensor, m: str = method, a: float = amount,
                        g: torch.Generator = generator) -> Sparse:  # fmt: skip
                return run_reduced(base, x, m, a, generator=g)

            yield method, amount, reduced
    for amount in settings.keep_ratios:
        yield "learned", amount, lambda x, a=amount: selector.packed(x, a)
    for shift in settings.shifts:
        yield "halting", shift, lambda x, s=shift: halting(x, s)


@torch.no_grad()
def _measure(run: Run, test: Pictures) -> dict[str, float]:
    """Accuracy, cost, and how well the surviving patches match the digit's."""
    right, cost, kept = 0, Cost(0, 0), []
    for start in range(0, len(test), 500):
        part = test.part(start, start + 500)
        out = run(part.images)
        right += int((out.logits.argmax(-1) == part.labels).sum())
        cost += Cost(out.cost.executed * len(part), out.cost.total * len(part))
        kept.append(out.kept > 0)
    mask, ink = torch.cat(kept), test.ink
    assert ink is not None
    hits = (mask & ink).sum()
    return {
        "accuracy": right / len(test),
        "ratio": cost.ratio,
        "precision": float(hits / mask.sum().clamp_min(1)),
        "recall": float(hits / ink.sum()),
        "kept": float(mask.float().mean()),
    }


def _ink_share(test: Pictures) -> float:
    assert test.ink is not None
    return float(test.ink.float().mean())


@torch.no_grad()
def _keep(
    found: Findings, base: VisionTransformer, selector: LearnedSelection, halting: Halting,
    test: Pictures, seed: int,
) -> None:  # fmt: skip
    """Some canvases with what each method keeps of them."""
    few, arrays = test.part(0, SHOWN), found.arrays
    arrays["canvas/images"] = to_bytes(few.images)
    arrays["canvas/labels"] = few.labels.numpy().astype(np.int8)
    for amount in (0.3, 0.5, 0.7):
        generator = torch.Generator().manual_seed(seed)
        for method in METHODS[:2]:
            out = run_reduced(base, few.images, method, amount, generator=generator)
            arrays[f"canvas/{method}/{amount}"] = (out.kept > 0).numpy()
        arrays[f"canvas/learned/{amount}"] = (selector.packed(few.images, amount).kept > 0).numpy()
    for r in (0.1, 0.2, 0.3):
        source = run_reduced(base, few.images, "merging", r).source
        assert source is not None
        arrays[f"canvas/merging/{r}"] = source[:, 1:].numpy().astype(np.int8)
    for shift in (0.0, 1.0, 2.0):
        depth = halting(few.images, shift).depth
        assert depth is not None
        arrays[f"canvas/halting/{shift}"] = depth[:, 1:].numpy().astype(np.int8)
