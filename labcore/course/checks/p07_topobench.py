"""Checks of notebook P07: liftings, their matrices, and a fair comparison (arXiv 2406.06642)."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from labcore.course.checking import EXACT, Wrong, register
from labcore.topology.complexes import SimplicialComplex, clique_complex

Rng = np.random.Generator
Array = np.ndarray


def _random(rng: Rng, n: int = 10, p: float = 0.45, dim: int = 3) -> SimplicialComplex:
    """A clique complex that has triangles."""
    while True:
        upper = np.triu(rng.random((n, n)) < p, 1)
        made = clique_complex(np.argwhere(upper).T, n, max_dim=dim)
        if made.dim >= 2:
            return made


def _boundaries(held: SimplicialComplex) -> list[Array]:
    return [held.boundary(k).toarray() for k in range(1, held.dim + 1)]


# P07.1: counting cliques


def clique_counts(adjacency: Array, max_dim: int) -> tuple[int, ...]:
    """Reference of P07.1: simplices of each rank 0..max_dim of the clique complex."""
    made = clique_complex(np.argwhere(np.triu(adjacency, 1)).T, len(adjacency), max_dim=max_dim)
    return tuple(made.size(k) for k in range(max_dim + 1))


def _maximal(adjacency: Array, max_dim: int) -> tuple[int, ...]:
    import networkx as nx

    sizes = [len(c) - 1 for c in nx.find_cliques(nx.from_numpy_array(adjacency))]
    return tuple(sum(s == k for s in sizes) for k in range(max_dim + 1))


def _ordered(adjacency: Array, max_dim: int) -> tuple[int, ...]:
    factor = np.cumprod([1, *range(2, max_dim + 2)])
    counts = clique_counts(adjacency, max_dim)
    return tuple(int(c * f) for c, f in zip(counts, factor, strict=True))


def _draw_graph(rng: Rng) -> tuple[Array, int]:
    upper = np.triu((rng.random((9, 9)) < 0.5).astype(int), 1)
    return upper + upper.T, int(rng.integers(2, 5))


COMPLETE = 1 - np.eye(5, dtype=int)
register(
    "P07.1",
    reference=clique_counts,
    cases=((COMPLETE, 3), _draw_graph),
    tolerance=EXACT,
    wrong=(
        Wrong(
            "maximal cliques only",
            _maximal,
            "every clique counts, also those inside larger ones: faces belong to the complex",
        ),
        Wrong(
            "each order counted",
            _ordered,
            "a triangle is one simplex, not six: take nodes in ascending order",
        ),
        Wrong(
            "rank as number of nodes",
            lambda adjacency, max_dim: clique_counts(adjacency, max_dim)[1:],
            "rank k has k + 1 nodes, and rank 0 are the nodes themselves",
        ),
    ),
)


# P07.2: holes from ranks of matrices


def betti_numbers(boundaries: Sequence[Array]) -> tuple[int, ...]:
    """Reference of P07.2: from B_1, B_2, ...: ``n_k - rank B_k - rank B_{k+1}``."""
    sizes = [boundaries[0].shape[0], *(b.shape[1] for b in boundaries)]
    ranks = [0, *(int(np.linalg.matrix_rank(b)) for b in boundaries), 0]
    return tuple(n - ranks[k] - ranks[k + 1] for k, n in enumerate(sizes))


def _kernels(boundaries: Sequence[Array]) -> tuple[int, ...]:
    sizes = [boundaries[0].shape[0], *(b.shape[1] for b in boundaries)]
    ranks = [0, *(int(np.linalg.matrix_rank(b)) for b in boundaries)]
    return tuple(n - r for n, r in zip(sizes, ranks, strict=True))


register(
    "P07.2",
    reference=betti_numbers,
    cases=(
        (_boundaries(SimplicialComplex.from_facets([(0, 1), (1, 2), (0, 2)])),),
        (_boundaries(SimplicialComplex.from_facets([(0, 1, 2), (2, 3), (3, 4), (2, 4)])),),
        lambda rng: (_boundaries(_random(rng)),),
    ),
    tolerance=EXACT,
    points=2,
    wrong=(
        Wrong(
            "kernels only",
            _kernels,
            "a loop that a triangle fills is no hole: subtract the rank of the NEXT matrix too",
        ),
        Wrong(
            "unsigned matrices",
            lambda boundaries: betti_numbers([abs(b) for b in boundaries]),
            "keep the signs: without them B_1 B_2 is not zero and ranks mean nothing",
        ),
        Wrong(
            "one short",
            lambda boundaries: betti_numbers(boundaries)[:-1],
            "there is a number for every rank, from nodes to the highest cells",
        ),
    ),
)


# P07.3: an edge turned round


def turned(b1: Array, b2: Array, edge: int) -> tuple[Array, Array]:
    """Reference of P07.3: both matrices after one edge is oriented the other way."""
    first, second = b1.copy(), b2.copy()
    first[:, edge] *= -1
    second[edge] *= -1
    return first, second


def _draw_turn(rng: Rng) -> tuple[Array, Array, int]:
    held = _random(rng, 8, 0.6)
    b1, b2 = _boundaries(held)[:2]
    return b1, b2, int(rng.choice(np.flatnonzero(abs(b2).sum(1))))


def _spectrum_stays(answer: Any, rng: Rng) -> str | None:
    b1, b2, edge = _draw_turn(rng)
    new1, new2 = (np.asarray(b) for b in answer(b1.copy(), b2.copy(), edge))
    if (new1 @ new2).any():
        return "B_1 B_2 is no longer zero: an edge is a column of B_1 AND a row of B_2"
    old, new = (
        np.linalg.eigvalsh(p.T @ p + q @ q.T) for p, q in ((b1, b2), (new1, new2))
    )  # fmt: skip
    return None if np.allclose(old, new) else "the spectrum of L_1 changed; it must not"


register(
    "P07.3",
    reference=turned,
    cases=(_draw_turn,),
    properties=(_spectrum_stays,),
    tolerance=EXACT,
    wrong=(
        Wrong(
            "B_1 only",
            lambda b1, b2, edge: (turned(b1, b2, edge)[0], b2),
            "the triangles around the edge see it turned too: negate its row in B_2",
        ),
        Wrong(
            "B_2 only",
            lambda b1, b2, edge: (b1, turned(b1, b2, edge)[1]),
            "the edge's own ends change places too: negate its column in B_1",
        ),
        Wrong(
            "everything",
            lambda b1, b2, edge: (-b1, -b2),
            "one edge only: the others keep their direction",
        ),
    ),
)


# P07.4: features of cells


def projected_sum(x: Array, boundaries: Sequence[Array]) -> list[Array]:
    """Reference of P07.4: features of ranks 0, 1, ..., each the sum over its faces."""
    found = [x]
    for b in boundaries:
        found.append(abs(b).T @ found[-1])
    return found


def _signed_sum(x: Array, boundaries: Sequence[Array]) -> list[Array]:
    found = [x]
    for b in boundaries:
        found.append(b.T @ found[-1])
    return found


def _mean_of_faces(x: Array, boundaries: Sequence[Array]) -> list[Array]:
    found = [x]
    for k, b in enumerate(boundaries):
        found.append(abs(b).T @ found[-1] / (k + 2))
    return found


def _from_nodes(x: Array, boundaries: Sequence[Array]) -> list[Array]:
    factor, out = 1.0, []
    for k, value in enumerate(projected_sum(x, boundaries)):
        factor *= max(k, 1)
        out.append(value / factor)
    return out


def _draw_features(rng: Rng) -> tuple[Array, list[Array]]:
    held = _random(rng)
    return rng.standard_normal((held.n, 2)), _boundaries(held)


register(
    "P07.4",
    reference=projected_sum,
    cases=(
        (np.ones((4, 1)), _boundaries(SimplicialComplex.from_facets([(0, 1, 2, 3)]))),
        _draw_features,
    ),
    wrong=(
        Wrong(
            "with signs",
            _signed_sum,
            "add, do not subtract: the absolute value of the boundary matrix",
        ),
        Wrong(
            "straight from the nodes",
            _from_nodes,
            "chain it: a triangle adds its EDGES, so each of its nodes comes in twice",
        ),
        Wrong("means", _mean_of_faces, "the sum of the faces is asked for, not their mean"),
    ),
)


# P07.5: a Laplacian in which nothing cancels


def unsigned_laplacian(b1: Array, b2: Array) -> Array:
    """Reference of P07.5: ``|B_1|^T |B_1| + |B_2| |B_2|^T``."""
    down, up = abs(b1), abs(b2)
    return np.asarray(down.T @ down + up @ up.T)


def _draw_pair(rng: Rng) -> tuple[Array, Array]:
    b1, b2 = _boundaries(_random(rng))[:2]
    return b1, b2


register(
    "P07.5",
    reference=unsigned_laplacian,
    cases=(
        tuple(_boundaries(SimplicialComplex.from_facets([(0, 1, 2)]))),
        _draw_pair,
    ),
    tolerance=EXACT,
    wrong=(
        Wrong(
            "absolute value at the end",
            lambda b1, b2: abs(b1.T @ b1 + b2 @ b2.T),
            "in a filled triangle the two parts have cancelled by then: take |B| first",
        ),
        Wrong(
            "signed",
            lambda b1, b2: b1.T @ b1 + b2 @ b2.T,
            "this is the Hodge Laplacian with its signs; the question is the one without",
        ),
        Wrong(
            "lower part only",
            lambda b1, b2: abs(b1).T @ abs(b1),
            "edges are also neighbours through a triangle: add |B_2| |B_2|^T",
        ),
    ),
)


# P07.6: a fair comparison

Scores = Mapping[int, float]


def judge(ours: Scores, theirs: Scores) -> tuple[float, float, str]:
    """Reference of P07.6: mean difference over shared seeds, its standard error, and a verdict."""
    return _judged(ours, theirs, 2.0)


def _judged(
    ours: Scores, theirs: Scores, errors: float, *, ddof: int = 1, paired: bool = True
) -> tuple[float, float, str]:
    seeds = sorted(set(ours) & set(theirs))
    a, b = (np.array([side[s] for s in seeds]) for side in (ours, theirs))
    if paired:
        error = (a - b).std(ddof=ddof) / np.sqrt(len(seeds))
    else:
        error = np.sqrt((a.var(ddof=1) + b.var(ddof=1)) / len(seeds))
    mean = float((a - b).mean())
    if mean > errors * error:
        return mean, float(error), "better"
    return mean, float(error), "worse" if mean < -errors * error else "tie"


def _draw_scores(rng: Rng) -> tuple[dict[int, float], dict[int, float]]:
    base, gap = rng.normal(0.7, 0.05, 6), rng.normal(0.02, 0.01, 6)
    ours = {s: float(base[s] + gap[s]) for s in range(6)}
    return ours, {s: float(base[s]) for s in range(6)}


register(
    "P07.6",
    reference=judge,
    cases=(
        ({0: 0.8, 1: 0.9, 2: 0.7}, {0: 0.7, 1: 0.75, 2: 0.68}),
        ({0: 0.5, 1: 0.7, 2: 0.6, 3: 0.9}, {0: 0.6, 1: 0.65, 2: 0.61, 7: 0.1}),
        _draw_scores,
    ),
    points=2,
    wrong=(
        Wrong(
            "unpaired",
            lambda ours, theirs: _judged(ours, theirs, 2.0, paired=False),
            "the splits are shared: take differences first, then their spread",
        ),
        Wrong(
            "divided by n",
            lambda ours, theirs: _judged(ours, theirs, 2.0, ddof=0),
            "with so few seeds the spread is underestimated: ddof=1",
        ),
        Wrong(
            "standard deviation",
            lambda ours, theirs: (
                judge(ours, theirs)[0],
                judge(ours, theirs)[1] * len(set(ours) & set(theirs)) ** 0.5,
                judge(ours, theirs)[2],
            ),
            "the error of a MEAN is the standard deviation over the root of the number of seeds",
        ),
    ),
)
