"""Universal approximation in one dimension, by bins (the book, appendix B)."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float

Array = Float[np.ndarray, "..."]


def sigmoid(s: Array) -> Array:
    """1 / (1 + exp(−s)), without overflow."""
    return np.asarray(np.exp(-np.logaddexp(0.0, -np.asarray(s, dtype=np.float64))))


def bin_function(x: Array, centre: float, width: float, *, slope: float = 1e4) -> Array:
    """A bump of height 1: σ(w(x − (s − Δ/2))) − σ(w(x − (s + Δ/2))), s the centre, Δ the width.

    Raises:
        ValueError: width or slope not positive.

    >>> bin_function(np.array([0.0, 1.0]), 0.0, 0.5).round(3)
    array([1., 0.])
    """
    if not (width > 0 and slope > 0):
        raise ValueError(f"width and slope must be > 0, got {width} and {slope}")
    x = np.asarray(x, dtype=np.float64)
    left, right = centre - width / 2, centre + width / 2
    return np.asarray(sigmoid(slope * (x - left)) - sigmoid(slope * (x - right)))


def bin_means(
    g: Callable[[Array], Array], m: int, *, lo: float, hi: float, inside: int = 200
) -> Float[np.ndarray, " m"]:
    """Mean of ``g`` over each of m equal bins, from ``inside`` points a bin (midpoint rule)."""
    width = (hi - lo) / m
    offsets = (np.arange(inside) + 0.5) / inside
    points = lo + (np.arange(m)[:, None] + offsets) * width  # (m, inside)
    return np.asarray(g(points), dtype=np.float64).mean(axis=1)


def bin_network(
    g: Callable[[Array], Array], m: int, *, lo: float, hi: float, slope: float = 1e4
) -> Callable[[Array], Array]:
    """A network of 2m sigmoid units that copies ``g`` on [lo, hi] by m bins side by side.

    f(x) = Σ_i h_i bin_i(x) with centres s_i = lo + (i − ½) Δ, Δ = (hi − lo)/m, i = 1..m, and h_i
    the mean of g over bin i. Its squared error falls like 1/m² for smooth g. (Appendix B prints
    centres i/m; at the middle of the bins the error is several times smaller.)

    Args:
        g: What to copy.
        m: Number of bins.
        lo: Left end.
        hi: Right end.
        slope: w of the sigmoids; steep steps need a large one.

    Raises:
        ValueError: m < 1, an empty interval, or a slope that is not positive.
    """
    if m < 1:
        raise ValueError(f"m must be >= 1, got {m}")
    if not lo < hi:
        raise ValueError(f"lo < hi is wanted, got {lo} and {hi}")
    if not slope > 0:
        raise ValueError(f"slope must be > 0, got {slope}")
    width = (hi - lo) / m
    heights = bin_means(g, m, lo=lo, hi=hi)
    edges = lo + np.arange(m + 1) * width

    def network(x: Array) -> Array:
        steps = sigmoid(slope * (np.asarray(x, dtype=np.float64)[..., None] - edges))
        return np.asarray((steps[..., :-1] - steps[..., 1:]) @ heights)

    return network
