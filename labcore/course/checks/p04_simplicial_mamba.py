"""Checks of notebook P04: sequences of cells and the scan that reads them (arXiv 2409.12033)."""

from collections.abc import Callable
from typing import Any

import numpy as np

from labcore.blocks.selective import combine_counts
from labcore.course.checking import EXACT, Wrong, register
from labcore.topology.complexes import clique_complex

Rng = np.random.Generator
Array = np.ndarray


def _ranks(rng: Rng, n: int = 12) -> dict[int, Array]:
    """Simplices of each rank from 1 on of a random clique complex with triangles."""
    while True:
        upper = np.triu(rng.random((n, n)) < 0.45, 1)
        made = clique_complex(np.argwhere(upper).T, n, max_dim=3)
        if made.dim >= 2:
            return {k: made.simplices(k) for k in range(1, made.dim + 1)}


FIXED = {1: np.array([[0, 1], [0, 2], [0, 3], [1, 2], [3, 4]]), 2: np.array([[0, 1, 2]])}


def _membership(simplices: Array, n: int) -> Array:
    s = np.zeros((n, len(simplices)))
    s[simplices.T, np.arange(len(simplices))] = 1
    return s


# P04.1: the token operator


def token_operator(simplices: Array, n: int) -> Array:
    """Reference of P04.1: ``P = S S^T``, (n, n)."""
    s = _membership(simplices, n)
    return s @ s.T


def _draw_operator(rng: Rng) -> tuple[Array, int]:
    found = _ranks(rng)
    return found[int(rng.integers(1, 3))], 14


register(
    "P04.1",
    reference=token_operator,
    cases=((FIXED[1], 5), (FIXED[2], 5), _draw_operator),
    tolerance=EXACT,
    wrong=(
        Wrong(
            "no diagonal",
            lambda simplices, n: token_operator(simplices, n) * (1 - np.eye(n)),
            "a node is in its own cells too: the diagonal counts them",
        ),
        Wrong(
            "only whether",
            lambda simplices, n: (token_operator(simplices, n) > 0).astype(float),
            "entries are counts: two nodes may share several triangles",
        ),
        Wrong(
            "cells by cells",
            lambda simplices, n: _membership(simplices, n).T @ _membership(simplices, n),
            "that is S^T S, cells by cells; a node's token needs nodes by nodes",
        ),
    ),
)


# P04.2: the sequence of every node


def node_sequences(x: Array, simplices: dict[int, Array]) -> Array:
    """Reference of P04.2: (n, ranks + 1, d), highest rank first, the node itself last."""
    tokens = [token_operator(simplices[k], len(x)) @ x for k in sorted(simplices, reverse=True)]
    return np.stack([*tokens, x], axis=1)


def _means(x: Array, simplices: dict[int, Array]) -> Array:
    tokens = []
    for k in sorted(simplices, reverse=True):
        p = token_operator(simplices[k], len(x))
        tokens.append(p @ x / np.maximum(p.sum(1), 1)[:, None])
    return np.stack([*tokens, x], axis=1)


def _turned(x: Array, simplices: dict[int, Array]) -> Array:
    found = node_sequences(x, simplices)
    return np.concatenate([found[:, -2::-1], found[:, -1:]], axis=1)


def _draw_sequences(rng: Rng) -> tuple[Array, dict[int, Array]]:
    return rng.standard_normal((12, 3)), _ranks(rng)


def _zero_where_alone(answer: Any, rng: Rng) -> str | None:
    """A node in no simplex keeps only its own token."""
    found = np.asarray(answer(rng.standard_normal((6, 2)), {1: np.array([[0, 1]])}))
    if not found[5, 0].any() and found[5, 1].any():
        return None
    return "node 5 is in no edge: its first token is zero, its last is its own feature"


register(
    "P04.2",
    reference=node_sequences,
    cases=((np.arange(10.0).reshape(5, 2), FIXED), _draw_sequences),
    properties=(_zero_where_alone,),
    points=2,
    wrong=(
        Wrong(
            "edges first",
            _turned,
            "the highest rank comes FIRST, so that the scan ends near the node",
        ),
        Wrong(
            "itself first",
            lambda x, simplices: np.roll(node_sequences(x, simplices), 1, axis=1),
            "the node itself is the LAST token: there the scan has seen all cells",
        ),
        Wrong(
            "means",
            _means,
            "the paper adds: do not divide by the size or the number of cells",
        ),
        Wrong(
            "without itself",
            lambda x, simplices: node_sequences(x, simplices)[:, :-1],
            "one token is missing: the node's own feature, as the last one",
        ),
    ),
)


# P04.3: the selective scan


def selective_scan(u: Array, delta: Array, A: Array, B: Array, C: Array) -> Array:
    """Reference of P04.3: one sequence, (t, e), by the recurrence."""
    return _scan(u, delta, A, B, C)


def _scan(
    u: Array,
    delta: Array,
    A: Array,
    B: Array,
    C: Array,
    *,
    write: Callable[[Any, Array], Any] = lambda d, a: d[:, None],
    early: bool = False,
    sign: float = 1.0,
) -> Array:
    h, out = np.zeros_like(A), []
    for t in range(len(u)):
        before = h
        w = write(delta[t], A)
        h = np.exp(sign * delta[t][:, None] * A) * h + w * B[t][None] * u[t][:, None]
        out.append((before if early else h) @ C[t])
    return np.stack(out)


def _draw_scan(rng: Rng) -> tuple[Array, ...]:
    t, e, n = int(rng.integers(3, 7)), 3, 4
    return (
        rng.standard_normal((t, e)),
        rng.uniform(0.1, 1.0, (t, e)),
        -rng.uniform(0.2, 2.0, (e, n)),
        rng.standard_normal((t, n)),
        rng.standard_normal((t, n)),
    )


register(
    "P04.3",
    reference=selective_scan,
    cases=(
        (
            np.array([[1.0], [0.0], [0.0]]),
            np.full((3, 1), 0.5),
            np.array([[-1.0]]),
            np.ones((3, 1)),
            np.ones((3, 1)),
        ),
        _draw_scan,
    ),
    points=2,
    wrong=(
        Wrong(
            "step left out",
            lambda u, delta, A, B, C: _scan(u, delta, A, B, C, write=lambda d, a: 1.0),
            "what is written is multiplied by the step: delta B u, not B u",
        ),
        Wrong(
            "read before written",
            lambda u, delta, A, B, C: _scan(u, delta, A, B, C, early=True),
            "read the state AFTER this token was written into it",
        ),
        Wrong(
            "growing state",
            lambda u, delta, A, B, C: _scan(u, delta, A, B, C, sign=-1.0),
            "A is negative already: the decay is exp(delta A), below one",
        ),
        Wrong(
            "zero-order hold",
            lambda u, delta, A, B, C: _scan(
                u, delta, A, B, C, write=lambda d, a: np.expm1(d[:, None] * a) / a
            ),
            "that is the zero-order hold; here, as in public code, the weight is delta itself",
        ),
    ),
)


# P04.4: how much work a parallel scan does


def combinations(length: int) -> tuple[int, int, int]:
    """Reference of P04.4: combines of the loop, of Hillis-Steele and of Blelloch's tree."""
    found = combine_counts(length)
    return tuple(found[k][0] for k in ("sequential", "hillis-steele", "blelloch"))  # type: ignore[return-value]


def _full_rounds(length: int) -> tuple[int, int, int]:
    one, _, tree = combinations(length)
    return one, length * (length - 1).bit_length(), tree


def _up_only(length: int) -> tuple[int, int, int]:
    one, two, tree = combinations(length)
    return one, two, tree // 2


register(
    "P04.4",
    reference=combinations,
    cases=((4,), (8,), lambda rng: (2 ** int(rng.integers(3, 11)),)),
    tolerance=EXACT,
    wrong=(
        Wrong(
            "every position every round",
            _full_rounds,
            "in round i the first 2^i positions are finished: only L - 2^i combine",
        ),
        Wrong(
            "up sweep only",
            _up_only,
            "Blelloch's tree goes up AND down: L - 1 combines each way",
        ),
        Wrong(
            "one too many",
            lambda length: (length, *combinations(length)[1:]),
            "the first token has nothing before it: the loop combines L - 1 times",
        ),
    ),
)


# P04.5: two directions


def both_directions(forward: Any, backward: Any, x: Array) -> Array:
    """Reference of P04.5: forward reading plus backward reading, both in the order of x (t, d)."""
    return np.asarray(forward(x) + backward(x[::-1])[::-1])


def _sums(x: Array) -> Array:
    return np.cumsum(x, axis=0)


def _fading(x: Array) -> Array:
    out, h = [], np.zeros(x.shape[1])
    for row in x:
        h = 0.5 * h + row
        out.append(h)
    return np.stack(out)


register(
    "P04.5",
    reference=both_directions,
    cases=(
        (_sums, _fading, np.array([[1.0], [2.0], [4.0]])),
        lambda rng: (_fading, _sums, rng.standard_normal((5, 2))),
    ),
    wrong=(
        Wrong(
            "as published",
            lambda forward, backward, x: forward(x) + forward(x)[::-1],
            "the backward block is never used: this is the slip of the published code",
        ),
        Wrong(
            "not turned back",
            lambda forward, backward, x: forward(x) + backward(x[::-1]),
            "turn the backward outputs round again, so that both sums are about the same token",
        ),
        Wrong(
            "never turned",
            lambda forward, backward, x: forward(x) + backward(x),
            "the backward block must read from the last token on: turn x round first",
        ),
    ),
)


# P04.6: counts that the layer norm hides


def with_counts(x: Array, simplices: dict[int, Array]) -> Array:
    """Reference of P04.6: x and, for each rank ascending, how many cells hold the node."""
    counts = [np.bincount(simplices[k].ravel(), minlength=len(x)) for k in sorted(simplices)]
    return np.column_stack([x, *counts]).astype(np.float64)


def _row_sums(x: Array, simplices: dict[int, Array]) -> Array:
    sums = [token_operator(simplices[k], len(x)).sum(1) for k in sorted(simplices)]
    return np.column_stack([x, *sums])


register(
    "P04.6",
    reference=with_counts,
    cases=((np.ones((5, 2)), FIXED), lambda rng: (np.ones((12, 1)), _ranks(rng))),
    wrong=(
        Wrong(
            "row sums",
            _row_sums,
            "a row of P_r sums to (r + 1) times the count: take the diagonal",
        ),
        Wrong(
            "presence",
            lambda x, simplices: np.column_stack(
                [x, (with_counts(x, simplices)[:, x.shape[1] :] > 0)]
            ),
            "whether there is a cell is what the model knows already: give the number",
        ),
        Wrong(
            "counts alone",
            lambda x, simplices: with_counts(x, simplices)[:, x.shape[1] :],
            "keep the node's own features in front",
        ),
    ),
)
