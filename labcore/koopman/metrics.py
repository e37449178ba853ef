"""Scores of an explanation against the truth, and how far arbitrary signs move them."""

import warnings
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int, Num, Shaped
from scipy.stats import mannwhitneyu, rankdata

from labcore.koopman.relevance import detect
from labcore.koopman.sindy import Aggregate, edge_sindy


def auc(score: Num[np.ndarray, " n"], truth: Bool[np.ndarray, " n"]) -> float:
    """Area under the ROC curve; ties count half; NaN, with a warning, when one class is missing.

    >>> auc(np.array([0.1, 0.4, 0.3]), np.array([False, True, True]))
    1.0
    """
    hits = int(truth.sum())
    if hits in (0, len(truth)):
        warnings.warn("truth holds one class only: the AUC is not defined", stacklevel=2)
        return float("nan")
    ranks = rankdata(score)[truth].sum()
    return float((ranks - hits * (hits + 1) / 2) / (hits * (len(truth) - hits)))


def f1(found: Bool[np.ndarray, " t"], truth: Bool[np.ndarray, " t"]) -> float:
    """2 hits / (found + true); 0 when nothing was found.

    Raises:
        ValueError: the truth has no positive.

    >>> f1(np.ones(4, bool), np.array([True, False, False, False]))
    0.4
    """
    if not truth.any():
        raise ValueError("the truth holds no positive: skip this graph")
    return float(2 * (found & truth).sum() / (found.sum() + truth.sum()))


def dilate(truth: Bool[np.ndarray, " t"], window: int) -> Bool[np.ndarray, " w"]:
    """Whether a true step lies in each stretch of ``window`` steps: t - window + 1 of them."""
    return np.convolve(truth, np.ones(window), "valid") > 0


def cut(signal: Shaped[np.ndarray, " t"], window: int) -> Shaped[np.ndarray, " w"]:
    """The middle of a signal, as long as a dilated truth.

    >>> len(cut(np.zeros(12), 6)), len(cut(np.zeros(12), 5))
    (7, 8)
    """
    start = window // 2
    return signal[start : start + len(signal) - window + 1]


def time_f1(
    w: Float[np.ndarray, " t"],
    truth: Shaped[np.ndarray, " s"],
    threshold: float | Literal["mad"] | None = 0.4,
    window: int = 6,
) -> float:
    """F1 of the detected steps against the dilated truth.

    Args:
        w: Relevance of each step, or already of each window (then it is not cut).
        truth: Weight of each step; positive means true.
        threshold: See :func:`~labcore.koopman.relevance.detect`.
        window: Steps of the dilation; 1 for none.

    Raises:
        ValueError: no true step, another length of ``w``, a window out of range.
    """
    if not 1 <= window <= len(truth):
        raise ValueError(f"window={window} must be 1..{len(truth)} steps")
    wide = dilate(truth > 0, window)
    if len(w) not in (len(truth), len(wide)):
        raise ValueError(f"w has {len(w)} steps: {len(truth)} or, of windows, {len(wide)}")
    inner = cut(w, window) if len(w) == len(truth) else w
    return f1(detect(inner, threshold), wide)


def always_f1(truth: Shaped[np.ndarray, " t"], window: int = 6) -> float:
    """F1 of detecting every step: 2 b / (1 + b) with b the share of true windows."""
    wide = dilate(truth > 0, window)
    return f1(np.ones(len(wide), dtype=bool), wide)


@dataclass(frozen=True)
class RankTest:
    """Mann-Whitney, one-sided: p, and the rank-biserial effect 2 AUC - 1."""

    p: float
    effect: float


def mann_whitney(w: Float[np.ndarray, " t"], truth: Shaped[np.ndarray, " t"]) -> RankTest:
    """Are true steps more relevant than the others of this graph? Single steps, no windows.

    Raises:
        ValueError: all steps are true, or none.
    """
    true = truth > 0
    if true.all() or not true.any():
        raise ValueError("a rank test wants true steps and others")
    found = mannwhitneyu(w[true], w[~true], alternative="greater")
    return RankTest(float(found.pvalue), 2 * auc(w, true) - 1)


def sign_flips(
    Z: Float[np.ndarray, "n t k"],
    edges: Int[np.ndarray, "e 2"],
    truth: Bool[np.ndarray, " e"],
    *,
    degree: int = 2,
    aggregate: Aggregate = "frobenius",
    flips: int = 8,
    rng: np.random.Generator,
) -> Float[np.ndarray, " f"]:
    """Edge AUC when axes of the embedding change sign at random, which means nothing.

    Raises:
        ValueError: no flips; as :func:`~labcore.koopman.sindy.edge_sindy`.
    """
    if flips < 1:
        raise ValueError(f"flips={flips} must be at least 1")
    signs = rng.choice([-1.0, 1.0], size=(flips, Z.shape[2]))
    return np.array(
        [auc(edge_sindy(Z * s, edges, degree, aggregate=aggregate), truth) for s in signs]
    )


def sign_flip_range(
    Z: Float[np.ndarray, "n t k"],
    edges: Int[np.ndarray, "e 2"],
    truth: Bool[np.ndarray, " e"],
    *,
    degree: int = 2,
    aggregate: Aggregate = "frobenius",
    flips: int = 8,
    rng: np.random.Generator,
) -> tuple[float, float]:
    """Lowest and highest of :func:`sign_flips`."""
    scores = sign_flips(Z, edges, truth, degree=degree, aggregate=aggregate, flips=flips, rng=rng)
    return float(scores.min()), float(scores.max())
