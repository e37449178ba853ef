"""Checks of notebook P03: lengths, integrate-and-fire, runs, and shares (arXiv 2409.17044)."""

from typing import Any

import numpy as np

from labcore.course.checking import EXACT, Wrong, register

Rng = np.random.Generator
TABLE = np.array(
    [
        [[30, 28, 45, 41, 27], [29, 27, 47, 40, 28]],
        [[22, 20, 26, 30, 21], [21, 21, 27, 31, 19]],
    ],
    dtype=float,
)  # encoder, language model, adapter

# P03.1: how many positions


def positions(frames: int, window: int) -> tuple[int, int]:
    """Reference of P03.1: after two convolutions of stride 2, and after windows."""
    half = (frames - 1) // 2 + 1
    return (half - 1) // 2 + 1, -(-frames // window)


def _draw_lengths(rng: Rng) -> tuple[int, int]:
    return int(rng.integers(1, 400)) * 4 + 1, int(rng.integers(3, 20)) * 2


register(
    "P03.1",
    reference=positions,
    cases=((98, 17), (1500, 17), (1, 17), _draw_lengths),
    tolerance=EXACT,
    wrong=(
        Wrong(
            "rounds down",
            lambda frames, window: (frames // 4, frames // window),
            "the last part window gives a position too, and so does the last odd frame: round up",
        ),
        Wrong(
            "one convolution",
            lambda frames, window: ((frames - 1) // 2 + 1, -(-frames // window)),
            "there are two convolutions: apply the length rule twice",
        ),
        Wrong(
            "the other order",
            lambda frames, window: positions(frames, window)[::-1],
            "first the convolutions, then the windows",
        ),
    ),
)

# P03.2: integrate and fire


def integrate_and_fire(frames: Any, alpha: Any) -> Any:
    """Reference of P03.2: outputs (n, d) at threshold 1; what is left over is dropped."""
    ends = np.cumsum(alpha)
    n = int(np.floor(ends[-1] + 1e-9))
    starts = ends - alpha
    k = np.arange(n)
    upper = np.minimum(ends[:, None], k + 1)
    return np.clip(upper - np.maximum(starts[:, None], k), 0, None).T @ frames


def _whole_frames(frames: Any, alpha: Any) -> Any:
    """A crossing frame goes wholly to the output that it closes."""
    held, total, out = np.zeros(frames.shape[1]), 0.0, []
    for frame, weight in zip(frames, alpha, strict=True):
        held, total = held + weight * frame, total + weight
        if total >= 1:
            out.append(held)
            held, total = np.zeros(frames.shape[1]), total - 1
    return np.array(out)


def _with_tail(frames: Any, alpha: Any) -> Any:
    whole = integrate_and_fire(frames, alpha)
    ends = np.cumsum(alpha)
    rest = np.clip(ends - np.maximum(ends - alpha, len(whole)), 0, None)
    return np.concatenate([whole, (rest @ frames)[None]])


def _carry_lost(frames: Any, alpha: Any) -> Any:
    """After a firing the sum starts at zero again: the rest of the frame is lost."""
    held, total, out = np.zeros(frames.shape[1]), 0.0, []
    for frame, weight in zip(frames, alpha, strict=True):
        part = min(weight, 1 - total)
        held, total = held + part * frame, total + part
        if total >= 1 - 1e-12:
            out.append(held)
            held, total = np.zeros(frames.shape[1]), 0.0
    return np.array(out)


def _draw_cif(rng: Rng) -> tuple[Any, Any]:
    alpha = rng.uniform(0.35, 0.95, size=9)
    alpha *= (5 + rng.uniform(0.2, 0.45)) / alpha.sum()  # never at the edge of firing
    return rng.standard_normal((9, 3)), alpha


register(
    "P03.2",
    reference=integrate_and_fire,
    cases=(
        (np.arange(1.0, 6)[:, None], np.array([0.4, 0.8, 0.3, 0.7, 0.2])),
        _draw_cif,
    ),
    wrong=(
        Wrong(
            "whole frames",
            _whole_frames,
            "a frame that crosses the threshold is cut in two: only what is missing to 1 closes "
            "the output, the rest opens the next",
        ),
        Wrong("the tail", _with_tail, "what is left at the end has not fired: drop it here"),
        Wrong(
            "starts again at zero",
            _carry_lost,
            "the second part of the crossing frame is lost: it opens the next output",
        ),
    ),
    points=2,
)

# P03.3: the weights that make windows


def window_weights(frames: int, window: int) -> Any:
    """Reference of P03.3: constant weights that make CIF average windows."""
    return np.full(frames, 1 / window)


register(
    "P03.3",
    reference=window_weights,
    cases=((12, 4), lambda rng: (int(rng.integers(5, 30)), int(rng.integers(2, 5)))),
    wrong=(
        Wrong("all ones", lambda frames, window: np.ones(frames),
              "with weight 1 every frame fires by itself: that is Base"),
        Wrong("one firing in all", lambda frames, window: np.full(frames, 1 / frames),
              "these sum to 1 over the clip; they must sum to 1 over a window"),
    ),
)  # fmt: skip

# P03.4: runs of a symbol


def average_runs(frames: Any, symbols: Any) -> Any:
    """Reference of P03.4: the mean frame of each run of equal symbols."""
    edges = [0, *(np.flatnonzero(np.diff(symbols)) + 1), len(symbols)]
    return np.array([frames[a:b].mean(axis=0) for a, b in zip(edges[:-1], edges[1:], strict=True)])


def _no_blanks(frames: Any, symbols: Any) -> Any:
    edges = [0, *(np.flatnonzero(np.diff(symbols)) + 1), len(symbols)]
    pairs = zip(edges[:-1], edges[1:], strict=True)
    return np.array([frames[a:b].mean(axis=0) for a, b in pairs if symbols[a] != 0])


def _draw_runs(rng: Rng) -> tuple[Any, Any]:
    symbols = np.repeat([0, 3, 0, 5, 3, 0], rng.integers(1, 4, size=6))
    return rng.standard_normal((len(symbols), 3)), symbols


register(
    "P03.4",
    reference=average_runs,
    cases=((np.array([[1.0], [2], [4], [8], [16]]), np.array([7, 0, 0, 7, 7])), _draw_runs),
    wrong=(
        Wrong("no blanks", _no_blanks,
              "the study keeps the runs of blanks (symbol 0): they give positions too"),
        Wrong(
            "one a symbol",
            lambda frames, symbols: np.array(
                [frames[symbols == s].mean(axis=0) for s in dict.fromkeys(symbols.tolist())]
            ),
            "a symbol that comes again later starts a new run: only neighbours are averaged",
        ),
        Wrong(
            "first frame of a run",
            lambda frames, symbols: frames[[0, *(np.flatnonzero(np.diff(symbols)) + 1)]],
            "average the frames of the run, not only its first",
        ),
    ),
    points=2,
)  # fmt: skip

# P03.5: the share of a factor


def main_share(scores: Any, axis: int) -> float:
    """Reference of P03.5: share of the variance that one factor explains by itself."""
    others = tuple(a for a in range(scores.ndim) if a != axis)
    means = scores.mean(axis=others)
    count = scores.size / len(means)
    total = ((scores - scores.mean()) ** 2).sum()
    return float(count * ((means - scores.mean()) ** 2).sum() / total)


def _scaled(scale: Any) -> Any:
    def wrong(scores: Any, axis: int) -> float:
        return main_share(scores, axis) * scale(scores, axis)

    return wrong


register(
    "P03.5",
    reference=main_share,
    cases=(
        (TABLE, 0),
        (TABLE, 2),
        lambda rng: (rng.standard_normal((2, 3, 4)), int(rng.integers(0, 3))),
    ),
    wrong=(
        Wrong(
            "not counted",
            _scaled(lambda scores, axis: scores.shape[axis] / scores.size),
            "each level's mean stands for many cells: multiply its square by their number",
        ),
        Wrong(
            "not divided",
            _scaled(lambda scores, axis: ((scores - scores.mean()) ** 2).sum()),
            "this is the sum of squares: a share is that over the total",
        ),
    ),
)

# P03.6: two ways to say what matters

register(
    "P03.6",
    reference={"by share": "adapter", "by gap to the second best": "encoder"},
    tolerance=EXACT,
    wrong=(
        Wrong(
            "encoder both",
            lambda: {"by share": "encoder", "by gap to the second best": "encoder"},
            "compute the shares: 540.8 and 638.5 of 1296",
        ),
        Wrong(
            "adapter both",
            lambda: {"by share": "adapter", "by gap to the second best": "adapter"},
            "the best adapter is hardly ahead of the second best: 19 against 20",
        ),
    ),
)

# P03.7: what shuffling the frames does

KINDS = ("base", "conv", "cif", "ctc", "wlq")
ONLY_BASE = {kind: kind == "base" for kind in KINDS}

register(
    "P03.7",
    reference=ONLY_BASE,
    tolerance=EXACT,
    wrong=(
        Wrong(
            "none",
            lambda: dict.fromkeys(KINDS, False),
            "attention without positions does not see the order: what else does Base have?",
        ),
        Wrong(
            "ctc too",
            lambda: ONLY_BASE | {"ctc": True},
            "each frame keeps its symbol, but its neighbours change: the runs fall apart",
        ),
        Wrong(
            "cif too",
            lambda: ONLY_BASE | {"cif": True},
            "a weight of CIF comes from a convolution over three frames: it changes",
        ),
        Wrong(
            "wlq too",
            lambda: ONLY_BASE | {"wlq": True},
            "a window of the clock holds other frames after shuffling",
        ),
    ),
)
