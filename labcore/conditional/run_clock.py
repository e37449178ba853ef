"""What saved FLOPs are worth on a clock: experts and tokens, against their whole networks.

Batch 64, one thread, weights at random: what is timed does not depend on them. Exits, where it
does, are timed on the trained networks in :mod:`.run_exits`.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from labcore.blocks.vit import VisionTransformer, ViTConfig
from labcore.conditional.arms import ARMS, BY_NAME, build, network_cost
from labcore.conditional.run_tokens import runs
from labcore.conditional.settings import Tokens
from labcore.conditional.timing import BATCH
from labcore.conditional.timing import clock as race
from labcore.conditional.vision import Halting, LearnedSelection
from labcore.parts import Findings

ROUNDS = 8
Tick = Callable[[], None]


def clock(settings: Tokens, *, tick: Tick, rounds: int = ROUNDS) -> Findings:
    """Time ratio of every arm that is not the yardstick, and of every method at every amount.

    Args:
        settings: The methods' amounts.
        tick: Called between two races.
        rounds: Batches of a race, the first of which warms up.
    """
    found = Findings()
    _experts(found, tick, rounds)
    _tokens(found, settings, tick, rounds)
    return found


def _experts(found: Findings, tick: Tick, rounds: int) -> None:
    pictures = _noise(28)
    yardstick = BY_NAME["dense, equal parameters"]
    dense = build(yardstick, 20, 0).eval()
    for arm in ARMS:
        if arm == yardstick:
            continue
        tick()
        took = race(build(arm, 20, 0).eval(), dense, [pictures] * rounds)
        found.add("clock", arm=arm.name, flops_ratio=network_cost(arm).ratio,
                  time_ratio=took.ratio, ms=1e3 * took.ours, whole_ms=1e3 * took.whole,
                  batch=BATCH)  # fmt: skip


def _tokens(found: Findings, settings: Tokens, tick: Tick, rounds: int) -> None:
    config = ViTConfig(image_size=49, hidden_size=64, depth=4, mlp_ratio=2.0, num_classes=10)
    generator, pictures = torch.Generator().manual_seed(0), _noise(49)
    base = VisionTransformer(config, generator=generator).eval()
    selector, halting = LearnedSelection(base, generator=generator).eval(), Halting(base).eval()
    for method, amount, run in runs(settings, base, selector, halting, 0):
        tick()
        took = race(run, base, [pictures] * rounds)
        found.add("token_clock", method=method, amount=amount, time_ratio=took.ratio, batch=BATCH)


def _noise(side: int) -> Tensor:
    return torch.randn(BATCH, 1, side, side, generator=torch.Generator().manual_seed(0))
