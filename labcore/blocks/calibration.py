"""Whether probabilities can be believed (the book, 4.3): reliability, temperature, sets, costs."""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from labcore.blocks.linear import as_floats, check_targets, logsumexp


@dataclass(frozen=True)
class Bins:
    """Predictions grouped by confidence; an empty bin has NaN for both means.

    Attributes:
        confidence: Mean largest probability in each bin (bins,).
        accuracy: Share that was right (bins,).
        count: Rows in each bin (bins,).
    """

    confidence: Float[np.ndarray, " bins"]
    accuracy: Float[np.ndarray, " bins"]
    count: Int[np.ndarray, " bins"]


def reliability(
    probs: Float[np.ndarray, "n c"], y: Int[np.ndarray, " m"], *, bins: int = 10
) -> Bins:
    """Confidence and accuracy in equal bins of the largest probability (the book, 4.3).

    Bin i holds confidences in [i/bins, (i+1)/bins); 1.0 belongs to the last one.

    Args:
        probs: Probabilities (n, C), rows sum to 1.
        y: Classes (n,).
        bins: Number of bins.

    Raises:
        ValueError: ``bins`` < 1, rows that are no probabilities, targets out of range.
    """
    if bins < 1:
        raise ValueError(f"bins must be >= 1, got {bins}")
    probs = _check_probs(probs)
    y = check_targets(y, probs.shape[1], len(probs))
    top, right = probs.max(axis=1), probs.argmax(axis=1) == y
    index = np.minimum((top * bins).astype(np.int64), bins - 1)
    count = np.bincount(index, minlength=bins)
    with np.errstate(invalid="ignore"):
        confidence = np.bincount(index, top, minlength=bins) / count
        accuracy = np.bincount(index, right, minlength=bins) / count
    return Bins(confidence, accuracy, count)


def ece(probs: Float[np.ndarray, "n c"], y: Int[np.ndarray, " m"], *, bins: int = 10) -> float:
    """Expected calibration error Σ (n_i/n) |accuracy_i − confidence_i| (the book, 4.3).

    Raises:
        ValueError: as :func:`reliability`.

    >>> ece(np.array([[0.8, 0.2], [0.8, 0.2]]), np.array([0, 1]))
    0.30000000000000004
    """
    found = reliability(probs, y, bins=bins)
    there = found.count > 0
    gap = np.abs(found.accuracy - found.confidence)[there]
    return float(found.count[there] @ gap / max(found.count.sum(), 1))


def fit_temperature(logits: Float[np.ndarray, "n c"], y: Int[np.ndarray, " m"]) -> float:
    """The temperature τ at which softmax(z/τ) has the smallest cross-entropy.

    The loss is convex in 1/τ; golden-section search over τ from 1/100 to 100. Fit it on held-out
    rows, never on those that are reported.

    Raises:
        ValueError: shapes do not fit, or targets are out of range.
    """
    z = as_floats(logits, "logits")
    if z.ndim != 2 or not len(z):
        raise ValueError(f"logits must be (n, c) with n > 0, got {z.shape}")
    y = check_targets(y, z.shape[1], len(z))

    def loss(sharpness: float) -> float:
        scaled = z * sharpness
        return float((logsumexp(scaled) - scaled[np.arange(len(y)), y]).mean())

    low, high, golden = 0.01, 100.0, (math.sqrt(5) - 1) / 2
    for _ in range(80):
        left, right = high - golden * (high - low), low + golden * (high - low)
        low, high = (low, right) if loss(left) <= loss(right) else (left, high)
    return 2 / (low + high)


def conformal_threshold(p_true: Float[np.ndarray, " n"], *, alpha: float) -> float:
    """γ such that {j : p_j ≥ γ} holds the true class in at least 1 − α of new rows (4.3).

    The largest such γ: the k-th smallest calibration score with k = ⌊α(n+1)⌋, and 0 when k = 0.

    Args:
        p_true: Probability of the true class of each calibration row (n,).
        alpha: Share of misses that is allowed, in (0, 1).

    Raises:
        ValueError: α outside (0, 1), or no rows.

    >>> conformal_threshold(np.array([0.9, 0.2, 0.7, 0.6]), alpha=0.4)
    0.6
    """
    p = as_floats(p_true, "p_true").ravel()
    if not 0 < alpha < 1:
        raise ValueError(f"alpha must be in (0, 1), got {alpha}")
    if not len(p):
        raise ValueError("p_true is empty: give at least one calibration row")
    k = math.floor(alpha * (len(p) + 1) + 1e-9)
    return float(np.sort(p)[k - 1]) if k else 0.0


def predict_sets(probs: Float[np.ndarray, "n c"], gamma: float) -> Bool[np.ndarray, "n c"]:
    """Which classes are in each row's set: probability at least γ. A set may be empty."""
    return _check_probs(probs) >= gamma


def min_cost_class(
    probs: Float[np.ndarray, "n c"], cost: Float[np.ndarray, "k e"]
) -> Int[np.ndarray, " n"]:
    """The decision i with the smallest expected cost Σ_j C_ij p_j (the book, 4.3).

    Args:
        probs: Probabilities (n, C).
        cost: cost[i, j] is paid for deciding i when j is true (K, C).

    Raises:
        ValueError: the widths differ.
    """
    probs, table = _check_probs(probs), as_floats(cost, "cost")
    if table.ndim != 2 or table.shape[1] != probs.shape[1]:
        raise ValueError(f"cost must be (k, {probs.shape[1]}), got {table.shape}")
    return (probs @ table.T).argmin(axis=1)


def _check_probs(probs: Float[np.ndarray, "n c"]) -> Float[np.ndarray, "n c"]:
    p = as_floats(probs, "probs")
    if p.ndim != 2:
        raise ValueError(f"probs must be (n, c), got {p.shape}")
    if p.size and (p.min() < -1e-9 or abs(p.sum(axis=1) - 1).max() > 1e-4):
        raise ValueError(
            f"rows of probs must sum to 1, got sums {p.sum(axis=1).min():.4g} to "
            f"{p.sum(axis=1).max():.4g} and a smallest entry of {p.min():.4g}"
        )
    return p
