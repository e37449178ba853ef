"""Chapter 2: the landscape of the book's practice page, its minimum, and how fast one may walk.

f(x) = sin x₁ cos x₂ + sin(x₁/2) cos(x₂/2) over [0, 10]².
"""

import numpy as np
from jaxtyping import Float

from labcore.blocks.optim import gradient_descent, numeric_hessian, stability_limit
from labcore.book.numbers import Findings, Size, number
from labcore.runs import Progress, Table

SECONDS = 3
MOMENTA = (0.0, 0.5, 0.9)
START, LR, STEPS = (5.0, 5.0), 0.1, 100


def practice(x: Float[np.ndarray, "*n 2"]) -> Float[np.ndarray, "*n"]:
    """The landscape at points (..., 2)."""
    a, b = x[..., 0], x[..., 1]
    return np.asarray(np.sin(a) * np.cos(b) + np.sin(a / 2) * np.cos(b / 2))


def practice_gradient(x: Float[np.ndarray, "*n 2"]) -> Float[np.ndarray, "*n 2"]:
    """Its gradient (..., 2); each inner derivative of x/2 is a factor ½."""
    a, b = x[..., 0], x[..., 1]
    by_a = np.cos(a) * np.cos(b) + np.cos(a / 2) * np.cos(b / 2) / 2
    by_b = -np.sin(a) * np.sin(b) - np.sin(a / 2) * np.sin(b / 2) / 2
    return np.stack([by_a, by_b], axis=-1)


def value(x: Float[np.ndarray, " 2"]) -> float:
    """The landscape at one point, as a number."""
    return float(practice(x))


def minimum() -> Float[np.ndarray, " 2"]:
    """The lowest point of [0, 10]²: best point of a fine grid, then 400 careful steps."""
    axis = np.linspace(0, 10, 401)
    grid = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1)
    start = grid.reshape(-1, 2)[practice(grid).argmin()]
    return gradient_descent(value, start, lr=0.5, steps=400, grad=practice_gradient).x[-1]


def measure(config: Size, progress: Progress) -> Findings:
    """Minimum, curvature, and the largest stable step found by trying."""
    lowest = minimum()
    hessian = numeric_hessian(practice_gradient, lowest)
    curvature = np.linalg.eigvalsh(hessian)
    walk = gradient_descent(value, np.array(START), lr=LR, steps=STEPS, grad=practice_gradient)
    numbers: Table = [
        number("x₁ of the lowest point", lowest[0], 4.41133, 1e-5, sample="[0, 10]²"),
        number("x₂ of the lowest point", lowest[1], 2 * np.pi, 1e-6, sample="[0, 10]²"),
        number("lowest value", value(lowest), -1.760173, 1e-6, sample="[0, 10]²"),
        number("smaller curvature there", curvature[0], 1.15631, 1e-5),
        number("larger curvature there", curvature[1], 1.15631, 1e-5),
        number("x₁ after 100 steps of 0.1 from (5, 5)", walk.x[-1, 0], 4.4113, 1e-4),
        number("x₂ after 100 steps of 0.1 from (5, 5)", walk.x[-1, 1], 6.2832, 1e-4),
    ]
    rows: Table = []
    for place, momentum in enumerate(MOMENTA):
        progress(place, len(MOMENTA), f"momentum {momentum:g}")
        limit = stability_limit(hessian, momentum=momentum)
        halvings, steps = (6, 1000) if config.small else (12, 4000)
        tried = largest_stable(lowest, momentum, limit, halvings=halvings, steps=steps)
        rows.append({"momentum": momentum, "limit": limit, "measured": tried})
        numbers.append(
            number(f"largest stable step found, momentum {momentum:g}", tried, limit, 0.01 * limit,
                   sample=f"bisection, {steps} steps each")
        )  # fmt: skip
    return Findings(tables={"numbers": numbers, "limits": rows})


def largest_stable(
    lowest: Float[np.ndarray, " 2"], momentum: float, near: float, *, halvings: int, steps: int
) -> float:
    """Largest step that still returns to the minimum from 1e-6 beside it, by bisection."""
    low, high = 0.8 * near, 1.2 * near
    for _ in range(halvings):
        middle = (low + high) / 2
        walk = gradient_descent(value, lowest + 1e-6, lr=middle, steps=steps, momentum=momentum,
                                grad=practice_gradient)  # fmt: skip
        stays = np.linalg.norm(walk.x[-1] - lowest) < 1e-6
        low, high = (middle, high) if stays else (low, middle)
    return (low + high) / 2
