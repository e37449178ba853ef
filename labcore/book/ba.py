"""Appendix A: divergences of two bells, forward and reverse fits of a sample with two humps."""

import numpy as np
from jaxtyping import Float

from labcore.blocks.prob import gaussian_pdf, kl_gaussian, mc_mean, mle_gaussian
from labcore.book.numbers import Findings, Size, number
from labcore.runs import Progress, Table

SECONDS = 1
GRID = np.linspace(-14, 14, 2801)
DRAWS = (10, 30, 100, 300, 1000, 3000, 10000)
SMALL_SAMPLE, REPEATS = 5, 20000


def two_humps(apart: float, x: Float[np.ndarray, " n"] = GRID) -> Float[np.ndarray, " n"]:
    """Density of two normal laws of deviation 1, their means ``apart`` apart, in equal shares."""
    return (gaussian_pdf(x, -apart / 2, 1.0) + gaussian_pdf(x, apart / 2, 1.0)) / 2


def divergences(
    p: Float[np.ndarray, " n"], q: Float[np.ndarray, " n"], step: float
) -> tuple[float, float]:
    """KL(p ‖ q) and KL(q ‖ p) of two densities on one grid, in nats."""
    p, q = np.maximum(p, 1e-300), np.maximum(q, 1e-300)
    ratio = np.log(p) - np.log(q)
    return float((p * ratio).sum() * step), float((-q * ratio).sum() * step)


def best_fits(apart: float) -> tuple[tuple[float, float], tuple[float, float]]:
    """(mean, deviation) of the best single bell: forward by its moments, reverse by search."""
    p, step = two_humps(apart), float(GRID[1] - GRID[0])
    forward = (0.0, float(np.sqrt((p * GRID**2).sum() * step)))
    candidates = [
        (m, s) for m in np.linspace(0, apart / 2, 9) for s in np.geomspace(0.7, forward[1], 13)
    ]
    costs = [divergences(p, gaussian_pdf(GRID, m, s), step)[1] for m, s in candidates]
    mean, deviation = candidates[int(np.argmin(costs))]
    return forward, (float(mean), float(deviation))


def measure(config: Size, progress: Progress) -> Findings:
    """Exact divergences, the error of Monte-Carlo means, and Bessel's factor."""
    rng = np.random.default_rng(config.seed)
    repeats = 50 if config.small else 400
    rows: Table = []
    for place, n in enumerate(DRAWS):
        progress(place, len(DRAWS), f"{n} draws")
        means = [mc_mean(np.square, rng.standard_normal, n).mean for _ in range(repeats)]
        rows.append({"n": n, "error": float(np.sqrt(np.mean((np.array(means) - 1.0) ** 2)))})
    slope = np.polyfit(np.log(DRAWS), np.log([row["error"] for row in rows]), 1)[0]
    samples = rng.standard_normal((REPEATS, SMALL_SAMPLE))
    ratio = np.array([mle_gaussian(x)[1] for x in samples]).mean()
    numbers: Table = [
        number("KL(N(0,1) ‖ N(1,2²)) (nats)", kl_gaussian(0, 1, 1, 2), 0.443147, 1e-6),
        number("KL(N(1,2²) ‖ N(0,1)) (nats)", kl_gaussian(1, 2, 0, 1), 1.306853, 1e-6),
        number("slope of the Monte-Carlo error, log-log", slope, -0.5, 0.05,
               sample=f"{repeats} means of each of {len(DRAWS)} sizes"),
        number("mean of the most likely variance, n = 5", float(ratio), 0.8, 0.02,
               sample=f"{REPEATS} samples of variance 1"),
    ]  # fmt: skip
    return Findings(tables={"numbers": numbers, "monte_carlo": rows})
