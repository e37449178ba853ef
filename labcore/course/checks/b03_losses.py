"""Checks of notebook B03: datasets and losses (the book, chapter 3)."""

from typing import Any

import numpy as np

from labcore.blocks.linear import least_squares
from labcore.blocks.losses import gaussian_nll, huber
from labcore.blocks.prob import mle_gaussian
from labcore.course.checking import Wrong, band, register

Rng = np.random.Generator
Array = np.ndarray


# B03.1: best constants


def best_constants(y: Array) -> tuple[float, float]:
    """Reference of B03.1: what the mean squared and the mean absolute error ask for."""
    return float(y.mean()), float(np.median(y))


def _draw_skewed(rng: Rng) -> tuple[Array]:
    return (rng.exponential(size=2 * int(rng.integers(5, 20)) + 1) * 10,)


register(
    "B03.1",
    reference=best_constants,
    cases=((np.array([1.0, 2.0, 9.0]),), _draw_skewed),
    tolerance=band(0.05),
    wrong=(
        Wrong(
            "exchanged",
            lambda y: best_constants(y)[::-1],
            "the other way round: the squared loss asks for the first number, it feels far values",
        ),
        Wrong(
            "the mean twice",
            lambda y: (float(y.mean()), float(y.mean())),
            "the slope of |y − m| is ±1: it vanishes where as many values lie above as below",
        ),
        Wrong(
            "middle of the range",
            lambda y: (float(y.mean()), float((y.min() + y.max()) / 2)),
            "this minimises the LARGEST error, not the mean absolute one",
        ),
    ),
)


# B03.2: a likelihood with a learned variance


def fit_normal(y: Array) -> tuple[float, float, float]:
    """Reference of B03.2: most likely mean and variance, and the loss there."""
    mean, variance = mle_gaussian(y)
    return mean, variance, gaussian_nll(y, mean, variance)


def _with(y: Array, variance: float) -> tuple[float, float, float]:
    return float(y.mean()), variance, gaussian_nll(y, float(y.mean()), variance)


register(
    "B03.2",
    reference=fit_normal,
    cases=((np.array([1.0, 2.0, 4.0]),), lambda rng: (rng.normal(3, 2, size=9),)),
    wrong=(
        Wrong(
            "divided by n − 1",
            lambda y: _with(y, float(y.var(ddof=1))),
            "this is the unbiased variance; the MOST LIKELY one divides by n",
        ),
        Wrong(
            "deviation instead of variance",
            lambda y: _with(y, float(y.std())),
            "this is σ; the variance is its square, in the loss too",
        ),
        Wrong(
            "without the constant",
            lambda y: (*fit_normal(y)[:2], fit_normal(y)[2] - 0.5 * np.log(2 * np.pi)),
            "½ log 2π is missing: without it this is no likelihood, only something with the same "
            "minimum",
        ),
    ),
)


# B03.3: the model that remembers


def risks(x: Array, y: Array, new_x: Array, new_y: Array, default: float) -> tuple[float, float]:
    """Reference of B03.3: squared risk on the rows that were learned, and on new ones."""
    known = dict(zip(x.tolist(), y.tolist(), strict=True))

    def risk(a: Array, b: Array) -> float:
        said = np.array([known.get(value, default) for value in a.tolist()])
        return float(((b - said) ** 2).mean())

    return risk(x, y), risk(new_x, new_y)


def _tested_on_train(
    x: Array, y: Array, new_x: Array, new_y: Array, default: float
) -> tuple[float, float]:
    return risks(x, y, x, y, default)


def _constant(
    x: Array, y: Array, new_x: Array, new_y: Array, default: float
) -> tuple[float, float]:
    return float(((y - default) ** 2).mean()), float(((new_y - default) ** 2).mean())


def _draw_tables(rng: Rng) -> tuple[Array, Array, Array, Array, float]:
    x = rng.permutation(100)[:30].astype(float)
    new_x = np.concatenate([x[:3], 100 + np.arange(9.0)])  # three rows are known already
    return x, rng.normal(size=30), new_x, rng.normal(size=12), 0.5


register(
    "B03.3",
    reference=risks,
    cases=(_draw_tables,),
    wrong=(
        Wrong(
            "tested on the training rows",
            _tested_on_train,
            "the second risk is zero because the rows were learned by heart: use new_x and new_y",
        ),
        Wrong(
            "the default always",
            _constant,
            "rows that were seen must be looked up; the default is for the others",
        ),
    ),
)


# B03.4: a prior is a penalty


def map_weights(X: Array, y: Array, noise: float, prior: float) -> Array:
    """Reference of B03.4: ridge with λ = σ²/τ²."""
    return least_squares(X, y, ridge=noise**2 / prior**2)


def _draw_prior(rng: Rng) -> dict[str, Any]:
    n = int(rng.integers(10, 20))
    return {"X": rng.normal(size=(n, 3)), "y": rng.normal(size=n),
            "noise": float(rng.uniform(1.5, 3)), "prior": float(rng.uniform(0.4, 0.8))}  # fmt: skip


register(
    "B03.4",
    reference=map_weights,
    cases=(_draw_prior,),
    wrong=(
        Wrong(
            "turned round",
            lambda X, y, noise, prior: map_weights(X, y, prior, noise),
            "a NARROW prior (small τ) must pull harder: λ grows when τ shrinks",
        ),
        Wrong(
            "not squared",
            lambda X, y, noise, prior: least_squares(X, y, ridge=noise / prior),
            "both are standard deviations: the exponents hold their squares",
        ),
        Wrong(
            "noise forgotten",
            lambda X, y, noise, prior: least_squares(X, y, ridge=1 / prior**2),
            "multiply the whole negative logarithm by σ² and see what is left before ‖w‖²",
        ),
        Wrong(
            "no prior",
            lambda X, y, noise, prior: least_squares(X, y),
            "this is maximum likelihood: the prior adds ‖w‖²/(2τ²) to the negative logarithm",
        ),
    ),
)


# B03.5: Huber's loss and its slope


def huber_and_slope(e: Array, delta: float) -> tuple[Array, Array]:
    """Reference of B03.5: Huber's loss and its derivative by the error."""
    return huber(e, delta=delta), np.clip(e, -delta, delta)


def _jump(e: Array, delta: float) -> tuple[Array, Array]:
    loss = np.where(np.abs(e) <= delta, e**2 / 2, delta * np.abs(e))
    return loss, np.clip(e, -delta, delta)


def _unit(e: Array, delta: float) -> tuple[Array, Array]:
    return huber_and_slope(e, 1.0)


def _no_sign(e: Array, delta: float) -> tuple[Array, Array]:
    return huber(e, delta=delta), np.minimum(np.abs(e), delta)


register(
    "B03.5",
    reference=huber_and_slope,
    cases=((np.array([-3.0, -0.5, 0.0, 1.5, 4.0]), 2.0), lambda rng: (3 * rng.normal(size=9), 1.5)),
    wrong=(
        Wrong(
            "a jump at δ",
            _jump,
            "the line must continue the parabola: at |e| = δ both are ½ δ², so subtract ½ δ",
        ),
        Wrong("δ fixed at 1", _unit, "δ is an argument: the book's figure uses 1.5, its formula 1"),
        Wrong(
            "slope without sign",
            _no_sign,
            "for negative errors the slope is negative: it is e cut to [−δ, δ]",
        ),
    ),
)
