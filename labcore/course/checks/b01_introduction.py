"""Checks of notebook B01: introduction (the book, chapter 1)."""

from typing import Any

import numpy as np

from labcore.course.checking import EXACT, Wrong, band, register

Rng = np.random.Generator
Array = np.ndarray

# B01.1: shapes

SHAPES = {
    "a + b": (4, 4),  # (4, 1) + (4,)
    "images.mean(0)": (28, 28),  # (60, 28, 28)
    "images[:, None] * w": (60, 5, 28, 28),  # w (5, 28, 28)
    "x @ W": (60, 10),  # (60, 784) @ (784, 10)
    "x.sum(1, keepdims=True)": (60, 1),
    "A[index]": (3, 34),  # A (34, 34), index (3,)
}

register(
    "B01.1",
    reference=SHAPES,
    tolerance=EXACT,
    wrong=(
        Wrong(
            "broadcasting forgotten",
            SHAPES | {"a + b": (4, 1)},
            "shapes line up on the RIGHT: (4, 1) and (4) become (4, 1) and (1, 4), and both "
            "stretch",
        ),
        Wrong(
            "axis not kept",
            SHAPES | {"x.sum(1, keepdims=True)": (60,)},
            "keepdims leaves an axis of length 1 where the sum was taken",
        ),
        Wrong(
            "mean over the pixels",
            SHAPES | {"images.mean(0)": (60,)},
            "mean(0) averages over axis 0, the pictures: one mean picture is left",
        ),
        Wrong(
            "columns taken",
            SHAPES | {"A[index]": (34, 3)},
            "one index array picks along the FIRST axis: three rows",
        ),
    ),
)


# B01.2: the exponent


def exponent(sizes: Array, errors: Array) -> float:
    """Reference of B01.2: slope of a line on logarithms of both."""
    return float(np.polyfit(np.log(sizes), np.log(errors), 1)[0])


def _draw_law(rng: Rng) -> tuple[Array, Array]:
    sizes = np.array([100.0, 300, 1000, 3000, 10000])
    power = -float(rng.uniform(0.2, 0.6))
    return sizes, 3 * sizes**power * np.exp(0.03 * rng.normal(size=5))


register(
    "B01.2",
    reference=exponent,
    cases=(
        (
            np.array([100.0, 300, 1000, 3000, 10000]),
            np.array([0.382, 0.245, 0.159, 0.115, 0.098]),
        ),
        _draw_law,
    ),
    tolerance=band(0.03),
    wrong=(
        Wrong(
            "linear axes",
            lambda sizes, errors: float(np.polyfit(sizes, errors, 1)[0]),
            "this is the slope on linear axes: a power law is a line on LOGARITHMS of both",
        ),
        Wrong(
            "sign lost",
            lambda sizes, errors: -exponent(sizes, errors),
            "the error falls, so the exponent is negative",
        ),
        Wrong(
            "one logarithm",
            lambda sizes, errors: float(np.polyfit(np.log(sizes), errors, 1)[0]),
            "take the logarithm of the errors too",
        ),
        Wrong(
            "axes exchanged",
            lambda sizes, errors: 1 / exponent(sizes, errors),
            "errors over sizes, not sizes over errors",
        ),
    ),
)


# B01.3: which resource is missing?


def bottleneck(now: float, more_data: float, more_steps: float) -> str:
    """Reference of B01.3: the resource that cuts the error most, or "neither" below 5 percent."""
    gains = {"data": 1 - more_data / now, "steps": 1 - more_steps / now}
    best = max(gains, key=gains.__getitem__)
    return best if gains[best] >= 0.05 else "neither"


def _draw_runs(rng: Rng) -> dict[str, Any]:
    now = float(rng.uniform(0.05, 0.1))
    factors = rng.permutation([0.94, 0.5])
    return {"now": now, "more_data": now * factors[0], "more_steps": now * factors[1]}


register(
    "B01.3",
    reference=bottleneck,
    cases=(
        {"now": 0.096, "more_data": 0.09, "more_steps": 0.06},
        {"now": 0.2, "more_data": 0.12, "more_steps": 0.198},
        {"now": 0.5, "more_data": 0.49, "more_steps": 0.48},
        _draw_runs,
    ),
    tolerance=EXACT,
    wrong=(
        Wrong(
            "the larger error wins",
            lambda now, more_data, more_steps: "data" if more_data > more_steps else "steps",
            "the missing resource is the one that HELPS: the smaller error",
        ),
        Wrong(
            "noise believed",
            lambda now, more_data, more_steps: "data" if more_data < more_steps else "steps",
            "if neither cuts the error by a twentieth of itself, say 'neither'",
        ),
        Wrong(
            "five points instead of five percent",
            lambda now, more_data, more_steps: (
                "neither"
                if now - min(more_data, more_steps) < 0.05
                else ("data" if more_data < more_steps else "steps")
            ),
            "relative to the error now: 0.096 to 0.06 is a cut by more than a third",
        ),
    ),
)
