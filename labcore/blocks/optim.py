"""Gradient descent with momentum, as it walks (the book, section 2.3), on numpy arrays."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

Vector = Float[np.ndarray, " d"]


@dataclass(frozen=True)
class Trajectory:
    """Where a walk went.

    Attributes:
        x: Points (T+1, d), the start included.
        f: Values (T+1,).
        grad_norm: Euclidean norm of the gradient at each point (T+1,).
        message: Empty, or why the walk ended before its last step.
    """

    x: Float[np.ndarray, "t d"]
    f: Float[np.ndarray, " t"]
    grad_norm: Float[np.ndarray, " t"]
    message: str = ""


def gradient_descent(
    f: Callable[[Vector], float],
    x0: Vector,
    *,
    lr: float,
    steps: int,
    momentum: float = 0.0,
    grad: Callable[[Vector], Vector] | None = None,
) -> Trajectory:
    """Walk along v ← μ v − η ∇f(x), x ← x + v (the book, 2.3; heavy ball).

    Args:
        f: What to make small.
        x0: Where to start (d,).
        lr: Step size η > 0.
        steps: Number of steps T.
        momentum: μ in [0, 1); 0 is plain gradient descent.
        grad: Gradient of ``f``; central differences when None.

    Returns:
        All points visited. A value or gradient that is not finite ends the walk with a message;
        what came before is returned.

    Raises:
        ValueError: lr, steps or momentum out of range, a start that is not finite, or a value or
            gradient there that is not.

    >>> walk = gradient_descent(lambda x: float(x @ x), np.array([1.0]), lr=0.25, steps=2)
    >>> walk.x[:, 0].round(9).tolist()
    [1.0, 0.5, 0.25]
    """
    x = np.asarray(x0, dtype=np.float64)
    if x.ndim != 1 or not np.isfinite(x).all():
        raise ValueError(f"x0 must be a finite vector, got shape {x.shape}: {x}")
    if not lr > 0 or steps < 0:
        raise ValueError(f"lr > 0 and steps >= 0 are wanted, got lr={lr}, steps={steps}")
    if not 0 <= momentum < 1:
        raise ValueError(f"momentum must be in [0, 1), got {momentum}")
    slope = grad or (lambda point: numeric_gradient(f, point))
    points, values, gradients, message = [x], [float(f(x))], [np.asarray(slope(x))], ""
    if not (np.isfinite(values[0]) and np.isfinite(gradients[0]).all()):
        raise ValueError(f"the value or gradient at x0 is not finite: start elsewhere than {x}")
    velocity = np.zeros_like(x)
    with np.errstate(over="ignore", invalid="ignore"):
        for step in range(1, steps + 1):
            velocity = momentum * velocity - lr * gradients[-1]
            x = x + velocity
            value, gradient = float(f(x)), np.asarray(slope(x))
            if not (np.isfinite(value) and np.isfinite(gradient).all()):
                message = f"step {step}: the value or gradient is no longer finite; lower lr={lr}"
                break
            points.append(x)
            values.append(value)
            gradients.append(gradient)
    return Trajectory(
        np.array(points), np.array(values), np.linalg.norm(np.array(gradients), axis=1), message
    )


def numeric_gradient(f: Callable[[Vector], float], x: Vector, *, step: float = 1e-6) -> Vector:
    """Central differences, one coordinate at a time; error of order step².

    >>> numeric_gradient(lambda x: float(x[0] ** 2), np.array([3.0])).round(6)
    array([6.])
    """
    x = np.asarray(x, dtype=np.float64)
    moves = step * np.eye(len(x))
    return np.array([(f(x + move) - f(x - move)) / (2 * step) for move in moves])


def numeric_hessian(
    grad: Callable[[Vector], Vector], x: Vector, *, step: float = 1e-5
) -> Float[np.ndarray, "d d"]:
    """Symmetric matrix of second derivatives, by central differences of the gradient."""
    moves = step * np.eye(len(x))
    rows = np.array([(grad(x + move) - grad(x - move)) / (2 * step) for move in moves])
    return (rows + rows.T) / 2


def stability_limit(hessian: Float[np.ndarray, "d d"], *, momentum: float = 0.0) -> float:
    """Largest step size that does not leave a minimum: 2 (1 + μ) / λ_max (2.3).

    Raises:
        ValueError: there is no positive curvature, or momentum is outside [0, 1).

    >>> stability_limit(np.diag([1.0, 4.0]))
    0.5
    """
    if not 0 <= momentum < 1:
        raise ValueError(f"momentum must be in [0, 1), got {momentum}")
    top = float(np.linalg.eigvalsh(hessian)[-1])
    if top <= 0:
        raise ValueError(f"the largest curvature is {top:.4g}: this is no minimum")
    return 2 * (1 + momentum) / top
