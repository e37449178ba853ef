"""Checks of notebook B04: linear models (the book, chapter 4)."""

import math
from typing import Any

import numpy as np

from labcore.blocks.calibration import conformal_threshold, predict_sets, reliability
from labcore.blocks.linear import least_squares, logsumexp, softmax
from labcore.course.checking import Wrong, register

Rng = np.random.Generator
Array = np.ndarray


# B04.1: a cross-entropy that does not overflow


def mean_cross_entropy(logits: Array, y: Array) -> float:
    """Reference of B04.1: mean of log Σ exp z − z_y over the rows."""
    return float((logsumexp(logits) - logits[np.arange(len(y)), y]).mean())


def _overflowing(logits: Array, y: Array) -> float:
    with np.errstate(all="ignore"):
        p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        return float(-np.log(p[np.arange(len(y)), y]).mean())


def _over_columns(logits: Array, y: Array) -> float:
    shifted = logits - logits.max()
    with np.errstate(all="ignore"):
        z = shifted[np.arange(len(y)), y] - np.log(np.exp(shifted).sum())
    return float(-z.mean())


def _draw_logits(rng: Rng) -> tuple[Array, Array]:
    n, classes = int(rng.integers(3, 9)), int(rng.integers(3, 6))
    return rng.normal(size=(n, classes)), rng.integers(0, classes, size=n)


register(
    "B04.1",
    reference=mean_cross_entropy,
    cases=(
        _draw_logits,
        (np.array([[1000.0, -1000.0, 0.0], [0.0, 1000.0, -1000.0]]), np.array([0, 2])),
    ),
    wrong=(
        Wrong(
            "overflow",
            _overflowing,
            "exp(1000) is infinite: subtract each row's largest logit before the exponential",
        ),
        Wrong(
            "sum instead of mean",
            lambda logits, y: mean_cross_entropy(logits, y) * len(y),
            "this is the sum over the rows: divide by their number, or the step size depends on it",
        ),
        Wrong(
            "one sum for all rows",
            _over_columns,
            "each row has its own denominator: sum the exponentials over the classes only",
        ),
    ),
)


# B04.2: the training loop


def train(X: Array, y: Array, classes: int, lr: float, steps: int) -> tuple[Array, Array]:
    """Reference of B04.2: softmax regression from zeros."""
    W, b = np.zeros((X.shape[1], classes)), np.zeros(classes)
    for _ in range(steps):
        error = (softmax(X @ W + b) - np.eye(classes)[y]) / len(y)
        W, b = W - lr * X.T @ error, b - lr * error.sum(axis=0)
    return W, b


def _uncleared(X: Array, y: Array, classes: int, lr: float, steps: int) -> tuple[Array, Array]:
    W, b = np.zeros((X.shape[1], classes)), np.zeros(classes)
    dW, db = np.zeros_like(W), np.zeros_like(b)
    for _ in range(steps):
        error = (softmax(X @ W + b) - np.eye(classes)[y]) / len(y)
        dW, db = dW + X.T @ error, db + error.sum(axis=0)
        W, b = W - lr * dW, b - lr * db
    return W, b


def _summed(X: Array, y: Array, classes: int, lr: float, steps: int) -> tuple[Array, Array]:
    return train(X, y, classes, lr * len(y), steps)


def _no_bias(X: Array, y: Array, classes: int, lr: float, steps: int) -> tuple[Array, Array]:
    W = np.zeros((X.shape[1], classes))
    for _ in range(steps):
        W = W - lr * X.T @ (softmax(X @ W) - np.eye(classes)[y]) / len(y)
    return W, np.zeros(classes)


def _draw_training(rng: Rng) -> dict[str, Any]:
    n = int(rng.integers(20, 40))
    X = rng.normal(size=(n, 4))
    y = rng.integers(0, 3, size=n)
    y[: n // 2] = 0
    return {"X": X, "y": y, "classes": 3, "lr": 0.3, "steps": 5}


def _first_step_too(rng: Rng) -> dict[str, Any]:
    return {**_draw_training(rng), "steps": 1}


register(
    "B04.2",
    reference=train,
    cases=(_first_step_too, _draw_training),
    points=2,
    wrong=(
        Wrong(
            "uncleared gradients",
            _uncleared,
            "the first step is right and the second is not: a gradient from the step before is "
            "still in the sum; start each step from a fresh one",
        ),
        Wrong(
            "summed gradient",
            _summed,
            "the loss is a MEAN over the rows: divide the gradient by n",
        ),
        Wrong(
            "bias left out",
            _no_bias,
            "b is a parameter too: its gradient is the sum of the errors",
        ),
    ),
)


# B04.3: ridge


def ridge_of_mean_loss(X: Array, y: Array, lam: float) -> Array:
    """Reference of B04.3: minimiser of (1/n)‖y − Xw‖² + ½λ‖w‖²."""
    return least_squares(X, y, ridge=lam * len(y) / 2)


def _gradient_vanishes(answer: Any, rng: Rng) -> str | None:
    X, y, lam = _draw_ridge(rng)
    w = np.asarray(answer(X, y, lam))
    gradient = 2 * X.T @ (X @ w - y) / len(y) + lam * w
    if np.abs(gradient).max() < 1e-8:
        return None
    return f"the gradient of the loss at your w is {np.abs(gradient).max():.2g}, not 0"


def _draw_ridge(rng: Rng) -> tuple[Array, Array, float]:
    n = int(rng.integers(12, 30))
    return rng.normal(size=(n, 4)), rng.normal(size=n), float(rng.uniform(0.5, 3))


register(
    "B04.3",
    reference=ridge_of_mean_loss,
    cases=(_draw_ridge,),
    properties=(_gradient_vanishes,),
    wrong=(
        Wrong(
            "scaling of the sum loss",
            lambda X, y, lam: least_squares(X, y, ridge=lam),
            "XᵀX + λI belongs to the loss ½‖y − Xw‖² + ½λ‖w‖²; here the first term is a mean",
        ),
        Wrong(
            "λ times n",
            lambda X, y, lam: least_squares(X, y, ridge=lam * len(y)),
            "a factor two is lost: the gradient of ½λ‖w‖² is λw, that of the mean has a 2 in front",
        ),
        Wrong(
            "no ridge",
            lambda X, y, lam: least_squares(X, y),
            "the penalty is missing: add it to the diagonal of XᵀX",
        ),
    ),
)


# B04.4: expected calibration error


def _gaps(confidence: Array, right: Array, bins: int) -> tuple[Array, Array]:
    """Signed gap (accuracy − confidence) and count of each bin, NaN where a bin is empty."""
    c = np.asarray(confidence, dtype=float)
    probs = np.column_stack([c, 1 - c])  # two classes: the first one was chosen
    found = reliability(probs, np.where(right, 0, 1), bins=bins)
    return found.accuracy - found.confidence, found.count


def calibration_error(confidence: Array, right: Array, bins: int) -> float:
    """Reference of B04.4: bins weighted by how many rows they hold."""
    gap, count = _gaps(confidence, right, bins)
    return float(np.nansum(np.abs(gap) * count) / count.sum())


def _unweighted(confidence: Array, right: Array, bins: int) -> float:
    gap, _ = _gaps(confidence, right, bins)
    return float(np.nanmean(np.abs(gap)))


def _signed(confidence: Array, right: Array, bins: int) -> float:
    gap, count = _gaps(confidence, right, bins)
    return float(np.nansum(gap * count) / count.sum())


def _last_lost(confidence: Array, right: Array, bins: int) -> float:
    inside = confidence < 1
    gap, count = _gaps(confidence[inside], right[inside], bins)
    return float(np.nansum(np.abs(gap) * count) / len(confidence))


def _draw_predictions(rng: Rng) -> tuple[Array, Array, int]:
    n = int(rng.integers(40, 80))
    confidence = rng.uniform(0.5, 1, size=n)
    confidence[0] = 1.0
    right = rng.uniform(size=n) < confidence - 0.25 * (confidence > 0.75)
    right[0] = False  # sure and wrong: the last bin must not lose it
    return confidence, right, 8


TABLE = (
    np.array([0.55, 0.6, 0.7, 0.8, 0.8, 0.9, 0.95, 1.0]),
    np.array([True, False, True, True, False, True, True, False]),
    4,
)

register(
    "B04.4",
    reference=calibration_error,
    cases=(TABLE, _draw_predictions),
    wrong=(
        Wrong(
            "bins unweighted",
            _unweighted,
            "a bin with one row counts as much as one with fifty: weigh each by its share of rows",
        ),
        Wrong(
            "signed gap",
            _signed,
            "boasting in one bin must not pay for modesty in another: take the gap's absolute "
            "value",
        ),
        Wrong(
            "confidence 1.0 lost",
            _last_lost,
            "⌊1.0 · bins⌋ is one past the last bin: put a confidence of exactly 1 in the last one",
        ),
    ),
)


# B04.5: conformal sets


def _kth(p: Array, k: int) -> float:
    return float(np.sort(p)[min(max(k, 1), len(p)) - 1])


def _draw_scores(rng: Rng) -> tuple[Array, float]:
    n = 10 * int(rng.integers(9, 20))  # α n and α (n + 1) have different whole parts
    return rng.beta(4, 1, size=n - 1), 0.1


def _covers(answer: Any, rng: Rng) -> str | None:
    z = rng.normal(size=(6000, 5)) * 2
    y = np.array([rng.choice(5, p=row) for row in softmax(z)])
    p = softmax(z)
    gamma = float(answer(p[np.arange(3000), y[:3000]], 0.1))
    sets = predict_sets(p[3000:], gamma)
    share = sets[np.arange(3000), y[3000:]].mean()
    if abs(share - 0.9) <= 0.03:
        return None
    return f"sets at your threshold hold the true class in {share:.1%} of new rows; 90 % is wanted"


register(
    "B04.5",
    reference=lambda p_true, alpha: conformal_threshold(p_true, alpha=alpha),
    cases=(_draw_scores, (np.array([0.3, 0.8, 0.6, 0.9]), 0.1)),
    properties=(_covers,),
    points=2,
    wrong=(
        Wrong(
            "quantile from the top",
            lambda p_true, alpha: _kth(p_true, math.floor((1 - alpha) * (len(p_true) + 1))),
            "at this threshold only a share α is covered: the threshold is a LOW score, so that "
            "nearly all true classes are above it",
        ),
        Wrong(
            "the new row not counted",
            lambda p_true, alpha: _kth(p_true, math.floor(alpha * len(p_true))),
            "the row to come is one of n + 1 that could stand anywhere: k = ⌊α(n + 1)⌋",
        ),
        Wrong(
            "smallest score",
            lambda p_true, alpha: float(np.min(p_true)),
            "this covers everything that was seen, but it is not the LARGEST threshold that "
            "reaches 1 − α",
        ),
    ),
)
