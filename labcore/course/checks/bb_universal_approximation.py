"""Checks of notebook BB: universal approximation (the book, appendix B)."""

import numpy as np

from labcore.blocks.approx import bin_function, bin_means, sigmoid
from labcore.course.checking import EXACT, Wrong, band, register

Rng = np.random.Generator
Array = np.ndarray


# BB.1: one bin of two sigmoids


def bump(x: Array, centre: float, width: float, slope: float) -> Array:
    """Reference of BB.1: a step up at the left edge, a step down at the right one."""
    return bin_function(x, centre, width, slope=slope)


def _draw_bin(rng: Rng) -> tuple[Array, float, float, float]:
    centre, width = float(rng.uniform(1, 3)), float(rng.uniform(0.5, 2))
    return np.linspace(0, 4, 41), centre, width, float(rng.uniform(3, 20))


register(
    "BB.1",
    reference=bump,
    cases=(_draw_bin, (np.linspace(-1, 1, 9), 0.0, 1.0, 10.0)),
    wrong=(
        Wrong(
            "edges at centre minus and plus the width",
            lambda x, centre, width, slope: bin_function(x, centre, 2 * width, slope=slope),
            "this bump is twice too wide: its edges are HALF a width from the centre",
        ),
        Wrong(
            "steps turned round",
            lambda x, centre, width, slope: -bin_function(x, centre, width, slope=slope),
            "this is a pit: take the left step (up) minus the right one",
        ),
        Wrong(
            "slope on x alone",
            lambda x, centre, width, slope: (
                sigmoid(slope * x - (centre - width / 2))
                - sigmoid(slope * x - (centre + width / 2))
            ),
            "the slope multiplies the whole distance x − edge, or the edge moves when it grows",
        ),
    ),
)


# BB.2: heights and centres


def centres_and_heights(g: object, m: int, lo: float, hi: float) -> tuple[Array, Array]:
    """Reference of BB.2: middles of m bins, and the mean of g over each."""
    width = (hi - lo) / m
    return lo + (np.arange(m) + 0.5) * width, bin_means(g, m, lo=lo, hi=hi)  # type: ignore[arg-type]


def _shifted(offset: float, mean: bool = True) -> object:
    def wrong(g: object, m: int, lo: float, hi: float) -> tuple[Array, Array]:
        right, heights = centres_and_heights(g, m, lo, hi)
        centres = right + offset * (hi - lo) / m
        return centres, heights if mean else np.asarray(g(right))  # type: ignore[operator]

    return wrong


def _cubic(rng: Rng) -> dict[str, object]:
    a = rng.normal(size=4)
    return {"g": lambda x: np.polyval(a, x), "m": int(rng.integers(3, 7)), "lo": -1.0, "hi": 2.0}


register(
    "BB.2",
    reference=centres_and_heights,
    cases=(_cubic, {"g": np.sin, "m": 4, "lo": 0.0, "hi": 8.0}),
    tolerance=band(5e-3),
    wrong=(
        Wrong(
            "printed centres",
            _shifted(0.5),
            "i · Δ is the RIGHT edge of bin i; the centre is half a width before it",
        ),
        Wrong(
            "left edges",
            _shifted(-0.5),
            "these are the left edges; the centre is half a width after them",
        ),
        Wrong(
            "value at the centre",
            _shifted(0.0, mean=False),
            "the value at the middle is near the best height, the MEAN over the bin is it: average "
            "g over many points of each bin",
        ),
    ),
)


# BB.3: how many bins


def bins_needed(error_now: float, bins_now: int, wanted: float) -> int:
    """Reference of BB.3: the error is proportional to 1/m²."""
    return int(np.ceil(bins_now * np.sqrt(error_now / wanted) - 1e-9))


def _draw_errors(rng: Rng) -> tuple[float, int, float]:
    error = float(rng.uniform(0.001, 0.1))
    return error, int(rng.integers(5, 30)), error / float(rng.uniform(5, 60))


register(
    "BB.3",
    reference=bins_needed,
    cases=((0.01, 10, 0.0001), _draw_errors),
    tolerance=EXACT,
    wrong=(
        Wrong(
            "error like 1/m",
            lambda error_now, bins_now, wanted: int(np.ceil(bins_now * error_now / wanted - 1e-9)),
            "this holds for an error that falls like 1/m; the SQUARED error falls like 1/m²",
        ),
        Wrong(
            "exponential",
            lambda error_now, bins_now, wanted: int(
                np.ceil(bins_now * np.log(error_now / wanted) - 1e-9)
            ),
            "look at the line on log-log axes: it is straight, so the law is a power, not an "
            "exponential",
        ),
    ),
)
