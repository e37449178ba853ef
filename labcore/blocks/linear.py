"""Linear models (the book, chapter 4): least squares, softmax, logistic regression.

Everything runs on numpy in float64, so that these chapters need no torch.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Num, Shaped

Array = Float[np.ndarray, "..."]


def least_squares(
    X: Num[np.ndarray, "n d"], y: Num[np.ndarray, " m"], *, ridge: float = 0.0
) -> Float[np.ndarray, " d"]:
    """Weights w that minimise ½‖y − Xw‖² + ½λ‖w‖² (the book, 4.1).

    With λ > 0 they solve (XᵀX + λI) w = Xᵀy. With λ = 0 and columns that depend on each other, the
    shortest of the minimisers. A mean loss (1/n)‖·‖² has the matrix XᵀX + (nλ/2) I instead.

    Args:
        X: Inputs (n, d). For a bias, give a column of ones; it is penalised like the others.
        y: Targets (n,).
        ridge: λ, in squared units of X.

    Raises:
        ValueError: shapes do not fit, a value that is not finite, or λ is negative.

    >>> least_squares(np.array([[1.0], [2.0]]), np.array([2.0, 4.0]))
    array([2.])
    """
    X, y = as_floats(X, "X"), as_floats(y, "y")
    if X.ndim != 2 or y.shape != X.shape[:1] or not len(X):
        raise ValueError(f"X must be (n, d) and y (n,) with n > 0, got {X.shape} and {y.shape}")
    for name, values in (("X", X), ("y", y)):
        if not np.isfinite(values).all():
            raise ValueError(
                f"{name} must be finite, {(~np.isfinite(values)).sum()} entries are not"
            )
    if not ridge >= 0:
        raise ValueError(f"ridge must be >= 0, got {ridge}")
    if ridge == 0:
        return np.linalg.lstsq(X, y, rcond=None)[0]
    return np.linalg.solve(X.T @ X + ridge * np.eye(X.shape[1]), X.T @ y)


def logsumexp(z: Array, dim: int = -1) -> Any:
    """log Σ exp z along an axis, without overflow: the largest entry is taken out first (4.3).

    >>> round(float(logsumexp(np.array([1000.0, 1000.0]))), 4)
    1000.6931
    """
    z = as_floats(z, "z")
    top = z.max(axis=dim, keepdims=True)
    top = np.where(np.isfinite(top), top, 0.0)
    with np.errstate(divide="ignore"):  # a row of -inf has the sum 0
        whole = top + np.log(np.exp(z - top).sum(axis=dim, keepdims=True))
    return np.squeeze(whole, axis=dim)


def softmax(z: Array, *, temperature: float = 1.0, dim: int = -1) -> Array:
    """exp(z/τ) over its sum along an axis (the book, 4.2); any size of z.

    Args:
        z: Logits, any shape.
        temperature: τ > 0; small makes it sharp, large makes it flat.
        dim: The axis that sums to 1.

    Raises:
        ValueError: the temperature is not positive.

    >>> softmax(np.array([0.0, 0.0]))
    array([0.5, 0.5])
    """
    if not temperature > 0:
        raise ValueError(f"temperature must be > 0, got {temperature}")
    z = as_floats(z, "z") / temperature
    powers = np.exp(z - z.max(axis=dim, keepdims=True))
    return powers / powers.sum(axis=dim, keepdims=True)


@dataclass(frozen=True)
class History:
    """Of each step, before its update: mean loss (nats), accuracy on the training rows."""

    loss: Float[np.ndarray, " t"]
    accuracy: Float[np.ndarray, " t"]


def fit_logistic(
    X: Num[np.ndarray, "n d"],
    y: Int[np.ndarray, " m"],
    *,
    classes: int,
    lr: float,
    steps: int,
    ridge: float = 0.0,
) -> tuple[Float[np.ndarray, "d c"], Float[np.ndarray, " c"], History]:
    """Softmax regression by full-batch gradient descent from zeros (the book, 4.2).

    The loss is the mean cross-entropy plus ½λ‖W‖²; the bias is not penalised.

    Args:
        X: Inputs (n, d).
        y: Classes (n,), 0 to ``classes`` − 1.
        classes: C.
        lr: Step size.
        steps: Number of updates.
        ridge: λ.

    Returns:
        W (d, C), b (C,), and the history.

    Raises:
        ValueError: targets out of range, shapes that do not fit, lr or steps not positive.
    """
    X = as_floats(X, "X")
    y = check_targets(y, classes, len(X))
    if not (lr > 0 and steps >= 1 and ridge >= 0):
        raise ValueError(f"lr > 0, steps >= 1, ridge >= 0 are wanted, got {lr}, {steps}, {ridge}")
    W, b = np.zeros((X.shape[1], classes)), np.zeros(classes)
    wanted = np.eye(classes)[y]
    loss, accuracy = np.empty(steps), np.empty(steps)
    for t in range(steps):
        logits = X @ W + b  # (n, c)
        probs = softmax(logits)
        row = logsumexp(logits) - logits[np.arange(len(y)), y]
        loss[t] = row.mean() + ridge * (W**2).sum() / 2
        accuracy[t] = (logits.argmax(axis=1) == y).mean()
        error = (probs - wanted) / len(y)  # gradient of the mean loss by the logits
        W = W - lr * (X.T @ error + ridge * W)
        b = b - lr * error.sum(axis=0)
    return W, b, History(loss, accuracy)


def as_floats(values: Any, name: str) -> Array:
    """Numbers as a float64 array.

    Raises:
        ValueError: they are not numbers.
    """
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must hold numbers, got {type(values).__name__}") from error


def check_targets(y: Shaped[np.ndarray, " n"], classes: int, rows: int) -> Int[np.ndarray, " n"]:
    """Classes as integers.

    Raises:
        ValueError: there are not ``rows`` of them, or one is not in 0..classes − 1.
    """
    y = np.asarray(y)
    if y.shape != (rows,) or y.dtype.kind not in "iu":
        raise ValueError(f"y must hold {rows} whole numbers, got {y.dtype} of shape {y.shape}")
    if rows and not (y.min() >= 0 and y.max() < classes):
        raise ValueError(f"y must be in 0..{classes - 1}, got {y.min()} to {y.max()}")
    return y
