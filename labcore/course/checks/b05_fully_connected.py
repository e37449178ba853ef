"""Checks of notebook B05: fully-connected models (the book, chapter 5)."""

from typing import Any

import numpy as np

from labcore.course.checking import EXACT, Wrong, register

Rng = np.random.Generator
Array = np.ndarray


# B05.1: two linear layers are one


def collapse(W1: Array, b1: Array, W2: Array, b2: Array) -> tuple[Array, Array]:
    """Reference of B05.1: W and b with xW + b = (x W1 + b1) W2 + b2."""
    return W1 @ W2, b1 @ W2 + b2


def _draw_layers(rng: Rng) -> tuple[Array, Array, Array, Array]:
    n = int(rng.integers(3, 5))
    return rng.normal(size=(n, n)), rng.normal(size=n), rng.normal(size=(n, n)), rng.normal(size=n)


register(
    "B05.1",
    reference=collapse,
    cases=(_draw_layers,),
    wrong=(
        Wrong(
            "order turned round",
            lambda W1, b1, W2, b2: (W2 @ W1, b1 @ W2 + b2),
            "rows go through W1 first: x W1 W2; square matrices hide the mistake from the shapes",
        ),
        Wrong(
            "biases added",
            lambda W1, b1, W2, b2: (W1 @ W2, b1 + b2),
            "the first bias goes through the second layer too",
        ),
        Wrong(
            "first bias lost",
            lambda W1, b1, W2, b2: (W1 @ W2, b2),
            "put x = 0 in: what comes out is not b2 alone",
        ),
    ),
)


# B05.2: mini-batch gradients of one epoch


def epoch_gradient(gradients: Array, sizes: Array) -> Array:
    """Reference of B05.2: full gradient from the means over batches of different sizes."""
    return sizes @ gradients / sizes.sum()


def _draw_batches(rng: Rng) -> tuple[Array, Array]:
    return rng.normal(size=(4, 3)), np.array([8, 8, 8, int(rng.integers(1, 5))])


register(
    "B05.2",
    reference=epoch_gradient,
    cases=((np.array([[1.0], [3.0]]), np.array([4, 4])), _draw_batches),
    wrong=(
        Wrong(
            "unweighted mean",
            lambda gradients, sizes: gradients.mean(axis=0),
            "the last, shorter batch counts too much: weigh each mean by its number of rows",
        ),
        Wrong(
            "sum",
            lambda gradients, sizes: sizes @ gradients,
            "this is the gradient of the SUM of the losses: divide by the number of rows",
        ),
        Wrong(
            "last batch dropped",
            lambda gradients, sizes: (sizes[:-1] @ gradients[:-1]) / sizes[:-1].sum(),
            "the rows of the last batch belong to the epoch as well",
        ),
    ),
)


# B05.3: parameters


def parameters(sizes: tuple[int, ...]) -> int:
    """Reference of B05.3: (c + 1) c' for each layer."""
    return sum((a + 1) * b for a, b in zip(sizes[:-1], sizes[1:], strict=True))


register(
    "B05.3",
    reference=parameters,
    cases=(((784, 128, 10),), lambda rng: (tuple(int(n) for n in rng.integers(2, 90, size=4)),)),
    tolerance=EXACT,
    wrong=(
        Wrong(
            "biases forgotten",
            lambda sizes: sum(a * b for a, b in zip(sizes[:-1], sizes[1:], strict=True)),
            "each output has a bias: one number more than inputs",
        ),
        Wrong(
            "bias per input",
            lambda sizes: sum(a * (b + 1) for a, b in zip(sizes[:-1], sizes[1:], strict=True)),
            "biases belong to the OUTPUTS of a layer: (c + 1) c', not c (c' + 1)",
        ),
        Wrong(
            "first layer only",
            lambda sizes: (sizes[0] + 1) * sizes[1],
            "go through all pairs of neighbours",
        ),
    ),
)


# B05.4: SwiGLU


def _silu(s: Array) -> Array:
    return s / (1 + np.exp(-s))


def swiglu(x: Array, W: Array, V: Array, out: Array) -> Array:
    """Reference of B05.4: (silu(x W) ⊙ x V) out."""
    return (_silu(x @ W) * (x @ V)) @ out


def _draw_gate(rng: Rng) -> tuple[Array, Array, Array, Array]:
    return tuple(rng.normal(size=s) for s in ((5, 3), (3, 4), (3, 4), (4, 3)))  # type: ignore[return-value]


register(
    "B05.4",
    reference=swiglu,
    cases=(_draw_gate,),
    wrong=(
        Wrong(
            "sigmoid gate",
            lambda x, W, V, out: ((1 / (1 + np.exp(-(x @ W)))) * (x @ V)) @ out,
            "this is GLU: SwiGLU's gate is s σ(s), not σ(s)",
        ),
        Wrong(
            "gate on the other half",
            lambda x, W, V, out: ((x @ W) * _silu(x @ V)) @ out,
            "W makes the gate, V the values: exchange them",
        ),
        Wrong(
            "sum instead of product",
            lambda x, W, V, out: (_silu(x @ W) + x @ V) @ out,
            "a gate multiplies: each value is let through as far as its gate is open",
        ),
    ),
)


# B05.5: dead units


def dead_units(X: Array, W: Array, b: Array) -> Array:
    """Reference of B05.5: indices of units that are zero on every row."""
    return np.flatnonzero((X @ W + b <= 0).all(axis=0))


def _draw_units(rng: Rng) -> tuple[Array, Array, Array]:
    b = rng.normal(size=8)
    b[[1, 5]] -= 50.0
    W = rng.normal(size=(4, 8))
    X = rng.normal(size=(60, 4))
    X[0] = -X[1]  # so that every living unit is off somewhere
    return X, W, b


def _needs_order(answer: Any, X: Array, W: Array, b: Array) -> Array:
    return np.sort(np.asarray(answer(X, W, b)))


register(
    "B05.5",
    reference=dead_units,
    cases=(_draw_units,),
    use=_needs_order,
    tolerance=EXACT,
    wrong=(
        Wrong(
            "off somewhere",
            lambda X, W, b: np.flatnonzero((X @ W + b <= 0).any(axis=0)),
            "every unit is off on SOME row, that is its job: dead means off on ALL rows",
        ),
        Wrong(
            "living units",
            lambda X, W, b: np.flatnonzero((X @ W + b > 0).any(axis=0)),
            "these are the living ones",
        ),
        Wrong(
            "bias forgotten",
            lambda X, W, b: np.flatnonzero((X @ W <= 0).all(axis=0)),
            "a very negative bias is what kills most units: add b before you look",
        ),
    ),
)
