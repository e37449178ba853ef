"""What a loss asks for (the book, chapter 3): losses, likelihoods, and a model that only remembers.

Everything runs on numpy in float64. The first three are functions of an error e = y − ŷ.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Int, Num, Shaped

from labcore.blocks.linear import as_floats, check_targets, logsumexp

Array = Float[np.ndarray, "..."]


def squared(e: Num[np.ndarray, "..."]) -> Array:
    """½ e²: the negative log-likelihood of normal noise of variance 1, up to a constant (3.2)."""
    return np.asarray(as_floats(e, "e") ** 2 / 2)


def absolute(e: Num[np.ndarray, "..."]) -> Array:
    """|e|: that of Laplace noise of scale 1, up to a constant (3.2)."""
    return np.asarray(np.abs(as_floats(e, "e")))


def huber(e: Num[np.ndarray, "..."], *, delta: float) -> Array:
    """½ e² up to |e| = δ, then the straight line δ (|e| − ½ δ) that continues it (4.1).

    Raises:
        ValueError: δ is not positive.

    >>> huber(np.array([0.5, 3.0]), delta=1.0)
    array([0.125, 2.5  ])
    """
    if not delta > 0:
        raise ValueError(f"delta must be > 0, got {delta}")
    size = absolute(e)
    return np.where(size <= delta, size**2 / 2, delta * (size - delta / 2))


def hinge(margin: Num[np.ndarray, "..."]) -> Array:
    """max(0, 1 − m) of the margin m = y ŷ with y = ±1 (3.2)."""
    return np.asarray(np.maximum(0.0, 1.0 - as_floats(margin, "margin")))


def cross_entropy(logits: Num[np.ndarray, "b c"], y: Int[np.ndarray, " n"]) -> float:
    """Mean of log Σ exp z − z_y over the rows, in nats; any size of logit (4.2).

    Raises:
        ValueError: logits that are not (B, C), or targets out of range.
    """
    z = as_floats(logits, "logits")
    if z.ndim != 2 or not z.size:
        raise ValueError(f"logits must be (B, C), not empty, got {z.shape}")
    y = check_targets(y, z.shape[1], len(z))
    return float((logsumexp(z) - z[np.arange(len(y)), y]).mean())


def gaussian_nll(
    y: Num[np.ndarray, " n"], mean: Num[np.ndarray, "..."] | float, variance: float
) -> float:
    """Mean of −log N(y; μ, σ²) = ½ (log 2πσ² + (y − μ)²/σ²), in nats (3.2).

    Raises:
        ValueError: the variance is not positive.
    """
    if not variance > 0:
        raise ValueError(f"variance must be > 0, got {variance}")
    error = as_floats(y, "y") - mean
    return float(0.5 * (np.log(2 * np.pi * variance) + (error**2).mean() / variance))


def lookup_table(
    X: Shaped[np.ndarray, "n d"], y: Shaped[np.ndarray, " k"], default: float
) -> Callable[[Shaped[np.ndarray, "m d"]], Shaped[np.ndarray, " m"]]:
    """The model that remembers its training rows and says ``default`` to all others (3.2).

    Of rows that are equal, the last one counts.

    Raises:
        ValueError: the number of rows and of targets differ.
    """
    X, y = np.asarray(X), np.asarray(y)
    if X.ndim != 2 or y.shape != (len(X),):
        raise ValueError(f"X must be (n, d) and y (n,), got {X.shape} and {y.shape}")
    known = {row.tobytes(): value for row, value in zip(X, y, strict=True)}

    def predict(rows: Shaped[np.ndarray, "m d"]) -> Shaped[np.ndarray, " m"]:
        asked = np.asarray(rows, dtype=X.dtype)
        return np.array([known.get(row.tobytes(), default) for row in asked])

    return predict


def minimise_location(
    loss: Callable[[Array], Array], values: Num[np.ndarray, " n"], *, grid: int = 4001
) -> float:
    """The number m with the smallest mean loss(y − m): the constant fit of a loss.

    A grid over the range of the values, then golden-section search around its best point; exact for
    convex losses up to a millionth of the range.
    """
    y = as_floats(values, "values")
    low, high = float(y.min()), float(y.max())
    if low == high:
        return low
    candidates = np.linspace(low, high, grid)
    risk = np.array([loss(y - m).mean() for m in candidates])
    best = int(risk.argmin())
    left, right = candidates[max(best - 1, 0)], candidates[min(best + 1, grid - 1)]
    golden = (np.sqrt(5) - 1) / 2
    for _ in range(40):
        a, b = right - golden * (right - left), left + golden * (right - left)
        if loss(y - a).mean() <= loss(y - b).mean():
            right = b
        else:
            left = a
    return float((left + right) / 2)
