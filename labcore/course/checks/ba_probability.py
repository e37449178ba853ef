"""Checks of notebook BA: probability (the book, appendix A)."""

import math
from typing import Any

import numpy as np

from labcore.blocks.prob import gaussian_pdf, kl_gaussian
from labcore.course.checking import Wrong, band, register

Rng = np.random.Generator
Array = np.ndarray


# BA.1: divergence of two bells


def _draw_bells(rng: Rng) -> tuple[float, float, float, float]:
    m = rng.normal(size=2)
    return float(m[0]), float(rng.uniform(0.5, 1)), float(m[1]), float(rng.uniform(1.5, 3))


register(
    "BA.1",
    reference=lambda m1, s1, m2, s2: kl_gaussian(m1, s1, m2, s2),
    cases=((0.0, 1.0, 1.0, 2.0), _draw_bells),
    wrong=(
        Wrong(
            "the other direction",
            lambda m1, s1, m2, s2: kl_gaussian(m2, s2, m1, s1),
            "this is KL(second ‖ first): the expectation is over the FIRST law",
        ),
        Wrong(
            "variances forgotten to square",
            lambda m1, s1, m2, s2: math.log(s2 / s1) + (s1 + (m1 - m2) ** 2) / (2 * s2) - 0.5,
            "s is a standard deviation: square it in the fraction",
        ),
        Wrong(
            "in bits",
            lambda m1, s1, m2, s2: kl_gaussian(m1, s1, m2, s2) / math.log(2),
            "this is in bits; the natural logarithm gives nats",
        ),
    ),
)


# BA.2: the best single bell, forward


def moments(x: Array, p: Array) -> tuple[float, float]:
    """Reference of BA.2: mean and deviation of a density on a grid."""
    w = p / p.sum()
    mean = float(w @ x)
    return mean, float(np.sqrt(w @ (x - mean) ** 2))


def _peak(x: Array, p: Array) -> tuple[float, float]:
    place = int(p.argmax())
    return float(x[place]), float(1 / (p[place] / p.sum() / (x[1] - x[0]) * math.sqrt(2 * math.pi)))


def _draw_humps(rng: Rng) -> tuple[Array, Array]:
    x = np.linspace(-12, 12, 1201)
    share, apart = float(rng.uniform(0.55, 0.8)), float(rng.uniform(3, 6))
    p = share * gaussian_pdf(x, -apart / 2, 1.0) + (1 - share) * gaussian_pdf(x, apart / 2, 1.0)
    return x, p


register(
    "BA.2",
    reference=moments,
    cases=(_draw_humps,),
    tolerance=band(1e-3),
    wrong=(
        Wrong(
            "the higher hump",
            _peak,
            "this bell sits on one hump, as the REVERSE divergence likes it; forward means: same "
            "mean and same variance as p",
        ),
        Wrong(
            "variance returned",
            lambda x, p: (moments(x, p)[0], moments(x, p)[1] ** 2),
            "the second number is the variance: take its square root",
        ),
        Wrong(
            "grid unweighted",
            lambda x, p: (float(x.mean()), float(x.std())),
            "these are mean and deviation of the GRID: weigh each point by p",
        ),
    ),
)


# BA.3: Monte Carlo with its error


def mean_and_error(values: Array) -> tuple[float, float]:
    """Reference of BA.3: mean and its standard error."""
    return float(values.mean()), float(values.std(ddof=1) / math.sqrt(len(values)))


register(
    "BA.3",
    reference=mean_and_error,
    cases=((np.array([1.0, 2.0, 4.0]),), lambda rng: (rng.normal(size=int(rng.integers(5, 40))),)),
    wrong=(
        Wrong(
            "spread of the values",
            lambda values: (float(values.mean()), float(values.std(ddof=1))),
            "this is how far VALUES are from their mean; the mean of n of them is √n times better",
        ),
        Wrong(
            "divided by n",
            lambda values: (float(values.mean()), float(values.std(ddof=1) / len(values))),
            "variances of independent draws add, so the deviation of the mean falls like 1/√n",
        ),
        Wrong(
            "most likely deviation",
            lambda values: (float(values.mean()), float(values.std() / math.sqrt(len(values)))),
            "the mean was fitted to the same values: divide by n − 1 inside (ddof=1)",
        ),
    ),
)


# BA.4: draws for a wanted precision


def draws_needed(error_now: float, n_now: int, wanted: float) -> int:
    """Reference of BA.4: the error falls like n^(−1/2)."""
    return math.ceil(n_now * (error_now / wanted) ** 2 - 1e-9)


def _draw_precision(rng: Rng) -> dict[str, Any]:
    error = float(rng.uniform(0.01, 0.5))
    return {"error_now": error, "n_now": int(rng.integers(50, 500)), "wanted": error / 3.7}


register(
    "BA.4",
    reference=draws_needed,
    cases=((0.1, 100, 0.01), _draw_precision),
    wrong=(
        Wrong(
            "error like 1/n",
            lambda error_now, n_now, wanted: math.ceil(n_now * error_now / wanted - 1e-9),
            "ten times the draws are only √10 times the precision",
        ),
        Wrong(
            "root turned round",
            lambda error_now, n_now, wanted: math.ceil(
                n_now * math.sqrt(error_now / wanted) - 1e-9
            ),
            "the error is proportional to 1/√n; solve for n, and the ratio of errors is SQUARED",
        ),
    ),
)
