"""What the saved FLOPs save on a clock: CPU time of whole and reduced runs, taking turns."""

import statistics
import time
from collections.abc import Callable

import numpy as np
import torch

from labcore.assets.fetching import fetch
from labcore.blocks.vit import VisionTransformer, ViTConfig
from labcore.conditional.arms import BY_NAME, build, network_cost
from labcore.conditional.exits import EarlyExitNet, ExitRule
from labcore.conditional.parts import Findings
from labcore.conditional.photo import square
from labcore.conditional.vision import LearnedSelection, full_flops, run_reduced
from labcore.runtime import limit_threads

BATCH, ROUNDS = 64, 15
Work = Callable[[], object]


def clock(tick: Callable[[], None], rounds: int = ROUNDS) -> Findings:
    """Time ratios of all families, batch 64, one thread, weights at random."""
    limit_threads(1)  # a second thread on a busy machine would be timed instead
    found = Findings()
    generator = torch.Generator().manual_seed(0)
    config = ViTConfig(image_size=49, hidden_size=64, depth=4, mlp_ratio=2.0, num_classes=10)
    canvas = VisionTransformer(config, generator=generator).eval()
    x = torch.randn(BATCH, 1, 49, 49, generator=generator)
    selector = LearnedSelection(canvas).eval()

    def all_tokens() -> object:
        return canvas(x)

    whole = full_flops(canvas)
    for method, amount in (
        ("class attention", 0.5), ("class attention, fused", 0.5), ("merging", 0.25),
    ):  # fmt: skip
        tick()
        ratio = run_reduced(canvas, x, method, amount).flops / whole

        def reduced(m: str = method, a: float = amount) -> object:
            return run_reduced(canvas, x, m, a)

        _row(found, "tokens", f"{method} {amount:g}", ratio, reduced, all_tokens, rounds)
    ratio = selector.packed(x, 0.5).flops / whole
    _row(found, "tokens", "learned 0.5", ratio, lambda: selector.packed(x, 0.5), all_tokens, rounds)
    small = torch.randn(BATCH, 1, 28, 28, generator=generator)
    wide = BY_NAME["dense, equal parameters"]
    dense = build(wide, 20, 0).eval()
    for name in ("top-1, balanced", "top-2, balanced", "expert choice", "soft"):
        tick()
        model = build(BY_NAME[name], 20, 0).eval()
        ratio = network_cost(BY_NAME[name]).ratio
        _row(found, "experts", name, ratio, lambda m=model: m(small), lambda: dense(small), rounds)
    _exits(found, small, rounds)
    return found


def _exits(found: Findings, x: torch.Tensor, rounds: int) -> None:
    config = ViTConfig(hidden_size=64, depth=6, mlp_ratio=2.0)
    torch.manual_seed(0)  # the heads' own initialisation draws from the global state
    trunk = VisionTransformer(config, generator=torch.Generator().manual_seed(0))
    net = EarlyExitNet.with_linear_heads(trunk, 10).eval()
    with torch.no_grad():
        sure = net(x).softmax(-1).amax(-1)
    rule = ExitRule("confidence", tuple(sure.median(1).values.tolist()[:-1]) + (0.0,))
    ratio = net.predict(x, rule)[2].ratio
    _row(found, "exits", "half leave at each head", ratio, lambda: net.predict(x, rule),
         lambda: net(x), rounds)  # fmt: skip


@torch.no_grad()
def _row(
    found: Findings, family: str, setting: str, ratio: float, ours: Work, whole: Work, rounds: int
) -> None:
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        for work, kept in zip((ours, whole), times, strict=True):
            start = time.process_time()
            work()
            kept.append(time.process_time() - start)
    seconds = [statistics.median(kept[2:] or kept) for kept in times]
    found.add("clock", family=family, setting=setting, flops_ratio=ratio,
              time_ratio=seconds[0] / seconds[1], ms=1e3 * seconds[0], whole_ms=1e3 * seconds[1],
              batch=BATCH)  # fmt: skip


def photograph(tick: Callable[[], None]) -> Findings:
    """The photograph of the merge map, cut to a square: china.jpg of the scikit-learn archive."""
    from PIL import Image

    tick()
    with Image.open(fetch("digits-photos")["china.jpg"]) as picture:
        image = np.array(picture.convert("RGB"))
    return Findings(arrays={"photo": square(image)})
