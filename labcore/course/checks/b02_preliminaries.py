"""Checks of notebook B02: tensors, gradients, descent (the book, chapter 2)."""

from typing import Any

import numpy as np

from labcore.blocks.optim import gradient_descent, stability_limit
from labcore.course.checking import Wrong, band, register

Rng = np.random.Generator
Array = np.ndarray


def _f(x: Array) -> Array:
    a, b = x[..., 0], x[..., 1]
    return np.sin(a) * np.cos(b) + np.sin(a / 2) * np.cos(b / 2)


def _gradient(x: Array, inner: float = 0.5) -> Array:
    a, b = x[..., 0], x[..., 1]
    by_a = np.cos(a) * np.cos(b) + inner * np.cos(a / 2) * np.cos(b / 2)
    by_b = -np.sin(a) * np.sin(b) - inner * np.sin(a / 2) * np.sin(b / 2)
    return np.stack([by_a, by_b], axis=-1)


def _points(rng: Rng) -> tuple[Array]:
    return (rng.uniform(0, 10, size=(int(rng.integers(3, 8)), 2)),)


# B02.1: the gradient by hand


register(
    "B02.1",
    reference=lambda x: (_f(x), _gradient(x)),
    cases=(_points, (np.array([[1.0, 2.0]]),)),
    points=2,
    wrong=(
        Wrong(
            "missing one half",
            lambda x: (_f(x), _gradient(x, inner=1.0)),
            "the chain rule: the inner derivative of sin(x/2) is ½",
        ),
        Wrong(
            "first row only",
            lambda x: (_f(x)[:1], _gradient(x)[:1]),
            "every ROW of x is a point: n values and n gradients are wanted",
        ),
        Wrong(
            "sign of the second entry",
            lambda x: (_f(x), _gradient(x) * np.array([1.0, -1.0])),
            "the derivative of cos is −sin",
        ),
    ),
)


# B02.2: the walk


def walk(gradient: Any, start: Array, lr: float, momentum: float, steps: int) -> Array:
    """Reference of B02.2: all points of the walk, the start included."""
    found = gradient_descent(
        lambda x: 0.0, start, lr=lr, steps=steps, momentum=momentum, grad=gradient
    )
    return found.x


def _uphill(gradient: Any, start: Array, lr: float, momentum: float, steps: int) -> Array:
    return walk(lambda x: -gradient(x), start, lr, momentum, steps)


def _averaging(gradient: Any, start: Array, lr: float, momentum: float, steps: int) -> Array:
    return walk(gradient, start, lr * (1 - momentum), momentum, steps)


def _ignoring(gradient: Any, start: Array, lr: float, momentum: float, steps: int) -> Array:
    return walk(gradient, start, lr, 0.0, steps)


def _draw_walk(rng: Rng) -> dict[str, Any]:
    return {"gradient": _gradient, "start": rng.uniform(2, 8, size=2), "lr": 0.1,
            "momentum": 0.5, "steps": 12}  # fmt: skip


register(
    "B02.2",
    reference=walk,
    cases=(
        {
            "gradient": _gradient,
            "start": np.array([5.0, 5.0]),
            "lr": 0.1,
            "momentum": 0.0,
            "steps": 100,
        },
        _draw_walk,
    ),  # fmt: skip
    points=2,
    wrong=(
        Wrong("uphill", _uphill, "you climb: the step is MINUS lr times the gradient"),
        Wrong(
            "momentum ignored",
            _ignoring,
            "right without momentum: the velocity keeps a share μ of its last value",
        ),
        Wrong(
            "averaged gradient",
            _averaging,
            "the gradient enters the velocity with the factor lr, not lr (1 − μ): v ← μ v − lr ∇f",
        ),
    ),
)


# B02.3: the largest stable step


def _limit(hessian: Array, momentum: float) -> float:
    return stability_limit(hessian, momentum=momentum)


def _draw_hessian(rng: Rng) -> tuple[Array, float]:
    turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    values = np.array([0.3, 1.0, float(rng.uniform(2, 5))])
    matrix = turn @ np.diag(values) @ turn.T
    return (matrix + matrix.T) / 2, 0.5


register(
    "B02.3",
    reference=_limit,
    cases=((np.diag([1.15631, 1.15631]), 0.0), _draw_hessian),
    tolerance=band(0.003),
    wrong=(
        Wrong(
            "1/λ",
            lambda hessian, momentum: _limit(hessian, momentum) / 2,
            "1/λ is the step that arrives at once; the walk still returns up to TWICE that",
        ),
        Wrong(
            "smallest curvature",
            lambda hessian, momentum: 2 * (1 + momentum) / float(np.linalg.eigvalsh(hessian)[0]),
            "the STEEPEST direction is the first to break: take the largest eigenvalue",
        ),
        Wrong(
            "momentum forgotten",
            lambda hessian, momentum: _limit(hessian, 0.0),
            "with momentum μ the limit grows by the factor 1 + μ",
        ),
        Wrong(
            "trace",
            lambda hessian, momentum: 2 * (1 + momentum) / float(np.trace(hessian)),
            "the trace adds all curvatures; only the largest eigenvalue decides",
        ),
    ),
)


# B02.4: einsum


def _use_patterns(answer: Any, a: Array, b: Array, m: Array) -> dict[str, Array]:
    return {
        "batched product": np.einsum(answer["batched product"], a, b),
        "generalised dot product": np.asarray(np.einsum(answer["generalised dot product"], a, a)),
        "trace": np.asarray(np.einsum(answer["trace"], m)),
    }


def _draw_arrays(rng: Rng) -> tuple[Array, Array, Array]:
    return rng.normal(size=(3, 4, 4)), rng.normal(size=(3, 4, 4)), rng.normal(size=(4, 4))


RIGHT = {"batched product": "bij,bjk->bik", "generalised dot product": "bij,bij->", "trace": "ii->"}

register(
    "B02.4",
    reference=RIGHT,
    cases=(_draw_arrays,),
    use=_use_patterns,
    wrong=(
        Wrong(
            "summed over the batch",
            RIGHT | {"batched product": "bij,bjk->ik"},
            "b must appear after the arrow, or the matrices of the batch are added up",
        ),
        Wrong(
            "second matrix transposed",
            RIGHT | {"batched product": "bij,bkj->bik"},
            "the summed index is the LAST of the first and the FIRST matrix axis of the second",
        ),
        Wrong(
            "diagonal instead of trace",
            RIGHT | {"trace": "ii->i"},
            "an index after the arrow is kept: this is the diagonal, not its sum",
        ),
        Wrong(
            "matrix of dot products",
            RIGHT | {"generalised dot product": "bij,bij->b"},
            "the dot product of two tensors is ONE number: no index survives",
        ),
    ),
)


# B02.5: directional derivative


def directional(gradient: Array, u: Array) -> float:
    """Reference of B02.5: derivative along the direction of u."""
    return float(gradient @ u / np.linalg.norm(u))


def _draw_direction(rng: Rng) -> tuple[Array, Array]:
    return rng.normal(size=3), 3 * rng.normal(size=3)


register(
    "B02.5",
    reference=directional,
    cases=((np.array([1.0, 2.0]), np.array([3.0, 4.0])), _draw_direction),
    wrong=(
        Wrong(
            "length of u counted",
            lambda gradient, u: float(gradient @ u),
            "a direction has length 1: divide by ‖u‖, or a longer arrow makes a steeper hill",
        ),
        Wrong(
            "steepest slope",
            lambda gradient, u: float(np.linalg.norm(gradient)),
            "this is the slope along the gradient itself, whatever u is",
        ),
    ),
)
