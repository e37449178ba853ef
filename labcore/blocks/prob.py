"""Probability (the book, appendix A): divergences of Gaussians, Monte Carlo, maximum likelihood."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Num

Array = Float[np.ndarray, "..."]


def kl_gaussian(m1: float, s1: float, m2: float, s2: float) -> float:
    """KL(N(m1, s1²) ‖ N(m2, s2²)) in nats; s are standard deviations (appendix A).

    log(s2/s1) + (s1² + (m1 − m2)²) / (2 s2²) − ½. It is not symmetric.

    Raises:
        ValueError: a deviation is not positive.

    >>> round(kl_gaussian(0, 1, 1, 2), 6), round(kl_gaussian(1, 2, 0, 1), 6)
    (0.443147, 1.306853)
    """
    if not (s1 > 0 and s2 > 0):
        raise ValueError(f"standard deviations must be > 0, got {s1} and {s2}")
    return math.log(s2 / s1) + (s1**2 + (m1 - m2) ** 2) / (2 * s2**2) - 0.5


@dataclass(frozen=True)
class Estimate:
    """A Monte-Carlo mean, its standard error, and on how many draws."""

    mean: float
    error: float
    n: int


def mc_mean(f: Callable[[Array], Array], sampler: Callable[[int], Array], n: int) -> Estimate:
    """Mean of f over n draws; the standard error falls like n^(−1/2) (appendix A).

    Args:
        f: Function of an array of draws, one value each.
        sampler: Gives that many draws.
        n: How many, at least 2.

    Raises:
        ValueError: n < 2, or ``f`` gives another number of values.
    """
    if n < 2:
        raise ValueError(f"n must be >= 2 for an error to exist, got {n}")
    values = np.asarray(f(sampler(n)), dtype=np.float64)
    if values.shape != (n,):
        raise ValueError(f"f must give one value a draw, ({n},), got {values.shape}")
    return Estimate(float(values.mean()), float(values.std(ddof=1) / math.sqrt(n)), n)


def mle_gaussian(x: Num[np.ndarray, " n"], *, unbiased: bool = False) -> tuple[float, float]:
    """Mean and variance of a normal law fitted to x (appendix A).

    The most likely variance divides by n and is too small by (n − 1)/n on average; ``unbiased``
    divides by n − 1 (Bessel).

    Raises:
        ValueError: fewer than two values.
    """
    x = np.asarray(x, dtype=np.float64).ravel()
    if len(x) < 2:
        raise ValueError(f"x must hold at least two values, got {len(x)}")
    return float(x.mean()), float(x.var(ddof=1 if unbiased else 0))


def gaussian_pdf(x: Array, mean: float, deviation: float) -> Array:
    """Density of N(mean, deviation²).

    Raises:
        ValueError: the deviation is not positive.
    """
    if not deviation > 0:
        raise ValueError(f"deviation must be > 0, got {deviation}")
    z = (np.asarray(x, dtype=np.float64) - mean) / deviation
    return np.asarray(np.exp(-(z**2) / 2) / (deviation * math.sqrt(2 * math.pi)))
