"""Which edges carry the dynamics: ridge regression on products of neighbouring states.

The article's edge relevance (Guerra, Scardapane, Bianchi, arXiv 2410.13469) regresses all next
node states on the states, their powers and their products over edges; an edge's coefficients say
how much it matters. There are thousands of columns and some fifty samples, so the work is done in
the space of samples: with Θ the library, C = Θ^T (Θ Θ^T + α I)^-1 Y, and what an edge needs of C
follows without forming it.
"""

import warnings
from collections.abc import Iterator, Sequence
from itertools import combinations_with_replacement
from typing import Literal

import numpy as np
from jaxtyping import Float, Int

Aggregate = Literal["frobenius", "signed_sum"]
CACHED = 100_000  # numbers of one product that are made at once


def graph_library(
    Z: Float[np.ndarray, "n t k"], edges: Int[np.ndarray, "e 2"], degree: int = 2
) -> tuple[Float[np.ndarray, "own t k"], Float[np.ndarray, "terms e t k"]]:
    """Own powers z_i, z_i² (z_i³) of each node, and the products over each edge.

    Degree 2 has one product an edge, z_i z_j; degree 3 also z_i² z_j and z_i z_j². Products are
    taken feature axis by feature axis.

    Raises:
        ValueError: degree not 2 or 3, no edges, an index outside the nodes, fewer than 3 steps,
            or NaN in the states.
    """
    _check_library(Z, edges, degree)
    a, b = Z[edges[:, 0]], Z[edges[:, 1]]
    own = np.concatenate([Z, Z * Z] if degree == 2 else [Z, Z * Z, Z * Z * Z])
    products = [a * b] if degree == 2 else [a * b, a * a * b, a * b * b]
    return own, np.stack(products)


def _check_library(Z: np.ndarray, edges: np.ndarray, degree: int) -> None:
    if degree not in (2, 3):
        raise ValueError(f"degree={degree}: 2 or 3")
    if not len(edges):
        raise ValueError("edges is empty: there is nothing to rank")
    if edges.min() < 0 or edges.max() >= len(Z):
        raise ValueError(f"edges name node {int(edges.max())}, the states have {len(Z)} nodes")
    if Z.shape[1] < 3:
        raise ValueError(f"Z has {Z.shape[1]} steps: at least 3 are needed")
    if not np.isfinite(Z).all():
        place = tuple(int(i) for i in np.argwhere(~np.isfinite(Z))[0])
        raise ValueError(f"Z holds {Z[place]} at (node, step, axis) {place}")


def edge_sindy(
    Z: Float[np.ndarray, "n t k"],
    edges: Int[np.ndarray, "e 2"],
    degree: int = 2,
    alpha: float = 1.0,
    aggregate: Aggregate = "frobenius",
    solver: Literal["dual", "full"] = "dual",
) -> Float[np.ndarray, " e"]:
    """Relevance of each edge for the next states.

    ``"signed_sum"`` is the published code: coefficients summed with their sign, absolute value,
    sum over target nodes. It changes when an axis of the embedding changes sign, which is an
    arbitrary choice. ``"frobenius"``, the norm of the edge's block of coefficients, does not.

    Raises:
        ValueError: as :func:`graph_library`; ``alpha`` not positive; unknown names.
    """
    if alpha <= 0:
        raise ValueError(f"alpha={alpha} must be positive: there are more columns than samples")
    if aggregate not in ("frobenius", "signed_sum") or solver not in ("dual", "full"):
        raise ValueError(f"aggregate={aggregate!r}, solver={solver!r}: not known")
    _check_library(Z, edges, degree)
    if solver == "dual":
        return _dual(Z, edges, degree, alpha, aggregate)
    own, products = graph_library(Z, edges, degree)
    return _full(own[:, :-1], products[:, :, :-1], Z[:, 1:], alpha, aggregate)


def _rows(blocks: np.ndarray) -> np.ndarray:
    """(..., t, k) as a matrix with one row a step."""
    return np.moveaxis(blocks, -2, 0).reshape(blocks.shape[-2], -1)


def _dual(
    Z: np.ndarray, edges: np.ndarray, degree: int, alpha: float, aggregate: str
) -> np.ndarray:
    """With time first a step is one row of the library as it lies in memory."""
    by_step = np.ascontiguousarray(Z.transpose(1, 0, 2))
    z, target = by_step[:-1], by_step[1:]
    steps, _, k = z.shape
    ones = np.ones(k, dtype=z.dtype)
    flat = z.reshape(steps, -1)
    kernel = alpha * np.eye(steps, dtype=z.dtype)
    own = np.ones_like(flat)
    for _ in range(degree):
        own = own * flat  # the next power; ** is slower than all the rest
        kernel += own @ own.T
    sums = np.empty((steps, len(edges)), dtype=z.dtype)
    for part, products in _products(z, edges, degree):
        for product in products:
            rows = product.reshape(steps, -1)
            kernel += rows @ rows.T
        sums[:, part] = sum(product @ ones for product in products)
    if aggregate == "signed_sum":  # sums are linear, so sum before solving
        return np.abs(sums.T @ np.linalg.solve(kernel, target @ ones)).sum(axis=1)
    half = np.linalg.solve(kernel, target.reshape(steps, -1))
    middle = half @ half.T  # M = G^-1 Y Y^T G^-1
    squares = np.zeros(len(edges), dtype=z.dtype)
    for part, products in _products(z, edges, degree):
        for product in products:
            rows = product.reshape(steps, -1)
            squares[part] += np.einsum("tx,tx->x", rows, middle @ rows).reshape(-1, k) @ ones
    return np.sqrt(np.clip(squares, 0, None))


def _products(
    z: np.ndarray, edges: np.ndarray, degree: int
) -> Iterator[tuple[slice, list[np.ndarray]]]:
    """Products (t, e, k) over some edges after the other: as many as a processor's cache holds."""
    size = max(1, CACHED // (z.shape[0] * z.shape[2]))
    for start in range(0, len(edges), size):
        part = slice(start, start + size)
        a, b = z[:, edges[part, 0]], z[:, edges[part, 1]]
        both = a * b
        if degree == 2:
            yield part, [both]
        else:
            a *= both
            b *= both
            yield part, [both, a, b]


def _full(
    own: np.ndarray, products: np.ndarray, target: np.ndarray, alpha: float, aggregate: str
) -> np.ndarray:
    """The plain version: every coefficient first."""
    theta = np.concatenate([_rows(own), _rows(products)], axis=1)
    kernel = theta @ theta.T + alpha * np.eye(len(theta), dtype=theta.dtype)
    coefficients = theta.T @ np.linalg.solve(kernel, _rows(target))
    terms, e, _, k = products.shape
    block = coefficients[_rows(own).shape[1] :].reshape(terms, e, k, len(target), k)
    if aggregate == "signed_sum":
        return np.abs(block.sum(axis=(0, 2, 4))).sum(axis=1)
    return np.sqrt((block**2).sum(axis=(0, 2, 3, 4)))


def stlsq(
    theta: Float[np.ndarray, "s p"],
    target: Float[np.ndarray, "s q"],
    threshold: float,
    alpha: float = 0.05,
    max_iter: int = 20,
) -> Float[np.ndarray, "q p"]:
    """Sequentially thresholded least squares (Brunton, Proctor, Kutz, 2016), on the Gram matrix.

    Ridge on the active terms, drop those below the threshold, repeat; least squares on what stays.
    The data are read once; every iteration works on terms by terms.

    Raises:
        ValueError: a negative threshold or alpha, or different numbers of samples.

    Warns:
        UserWarning: the threshold removed every term of every target.
    """
    if threshold < 0 or alpha < 0:
        raise ValueError(f"threshold={threshold} and alpha={alpha} must not be negative")
    if len(theta) != len(target):
        raise ValueError(f"theta has {len(theta)} samples, target {len(target)}")
    gram, right = theta.T @ theta, theta.T @ target
    out = np.zeros((target.shape[1], theta.shape[1]), dtype=theta.dtype)
    for row, b in zip(out, right.T, strict=True):
        row[:] = _one_target(gram, b, threshold, alpha, max_iter)
    if not out.any():
        warnings.warn(f"threshold={threshold} removed every term: lower it", stacklevel=2)
    return out


def _one_target(
    gram: np.ndarray, b: np.ndarray, threshold: float, alpha: float, max_iter: int
) -> np.ndarray:
    active = np.arange(len(b))
    for _ in range(max_iter):
        if not len(active):
            break
        part = gram[np.ix_(active, active)] + alpha * np.eye(len(active))
        kept = active[np.abs(np.linalg.solve(part, b[active])) >= threshold]
        if len(kept) == len(active):
            break
        active = kept
    row = np.zeros(len(b))
    if len(active):
        row[active] = np.linalg.lstsq(gram[np.ix_(active, active)], b[active], rcond=None)[0]
    return row


def polynomial_library(
    X: Float[np.ndarray, "s v"], degree: int, names: Sequence[str] | None = None
) -> tuple[Float[np.ndarray, "s p"], tuple[str, ...]]:
    """All monomials of the columns up to ``degree``, the constant first, and what they are called.

    Raises:
        ValueError: a degree below 1, NaN in ``X``, or another number of names than columns.

    >>> polynomial_library(np.array([[2.0, 3.0]]), 2, ("x", "y"))
    (array([[1., 2., 3., 4., 6., 9.]]), ('1', 'x', 'y', 'x x', 'x y', 'y y'))
    """
    called = tuple(names) if names is not None else tuple(f"x{i}" for i in range(X.shape[1]))
    if degree < 1 or len(called) != X.shape[1]:
        raise ValueError(f"degree={degree} must be 1 or more, {len(called)} names for {X.shape[1]}")
    if not np.isfinite(X).all():
        place = tuple(int(i) for i in np.argwhere(~np.isfinite(X))[0])
        raise ValueError(f"X holds {X[place]} at (sample, variable) {place}")
    columns, terms = [np.ones(len(X), dtype=X.dtype)], ["1"]
    for power in range(1, degree + 1):
        for chosen in combinations_with_replacement(range(X.shape[1]), power):
            columns.append(X[:, chosen].prod(axis=1))
            terms.append(" ".join(called[i] for i in chosen))
    return np.stack(columns, axis=1), tuple(terms)
