"""Hypergraphs and combinatorial complexes: cells without the rule that faces must be there."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import sparse

from labcore.topology.chains import pattern


class Hypergraph:
    """Nodes and sets of nodes.

    Args:
        n: Number of nodes.
        hyperedges: Sets of nodes; empty ones are refused, repeated ones stay.

    Raises:
        ValueError: an empty hyperedge, or a node outside 0..n - 1.

    >>> Hypergraph(3, [[0, 1, 2], [1, 2]]).incidence().toarray().tolist()
    [[1, 0], [1, 1], [1, 1]]
    """

    def __init__(self, n: int, hyperedges: Sequence[Sequence[int]]) -> None:
        self.n = n
        self.hyperedges = [tuple(sorted({int(v) for v in edge})) for edge in hyperedges]
        for edge in self.hyperedges:
            if not edge:
                raise ValueError("a hyperedge is empty: remove it")
            if edge[0] < 0 or edge[-1] >= n:
                raise ValueError(f"hyperedge {edge} leaves 0..{n - 1}")

    @property
    def sizes(self) -> tuple[int, int]:
        """Nodes and hyperedges."""
        return self.n, len(self.hyperedges)

    @property
    def dim(self) -> int:
        """1: hyperedges are the only rank above nodes."""
        return 1

    def vertices(self, k: int) -> list[tuple[int, ...]]:
        """Nodes of each node (k = 0) or hyperedge (k = 1)."""
        return [(v,) for v in range(self.n)] if k == 0 else self.hyperedges

    def incidence(self) -> sparse.csr_array:
        """H (n, hyperedges), 1 where the node is in the hyperedge."""
        return _incidence(self.n, self.hyperedges)

    def membership(self, k: int) -> sparse.csr_array:
        """The incidence for k = 1, the identity for k = 0."""
        return _incidence(self.n, self.vertices(k))

    def adjacency(self) -> sparse.csr_array:
        """Who shares a hyperedge with whom, 0/1."""
        h = self.incidence()
        return pattern(h @ h.T)

    def convolution(self) -> sparse.csr_array:
        """``D_v^-1/2 H D_e^-1 H^T D_v^-1/2`` (HGNN, arXiv 1809.09401, unit weights)."""
        h = self.incidence().astype(np.float64)
        return sparse.csr_array(
            _inverse(h.sum(axis=1), 0.5)
            @ h
            @ _inverse(h.sum(axis=0), 1.0)
            @ h.T
            @ _inverse(h.sum(axis=1), 0.5)
        )


class CombinatorialComplex:
    """Cells with ranks, of which only this is asked: a cell inside another has no higher rank.

    Args:
        n: Number of nodes, the cells of rank 0.
        cells: For each rank from 1 on, sets of nodes.

    Raises:
        ValueError: a cell inside another of lower rank, an empty one, or a node outside 0..n - 1.

    >>> CombinatorialComplex(3, {1: [(0, 1)], 2: [(0, 1, 2)]}).incidence(1, 2).toarray().tolist()
    [[1]]
    """

    def __init__(self, n: int, cells: Mapping[int, Sequence[Sequence[int]]]) -> None:
        self.n = n
        self.cells = {
            rank: Hypergraph(n, list(cells[rank])).hyperedges for rank in sorted(cells) if rank > 0
        }
        ranks = sorted(self.cells)
        for low in ranks:
            for high in (r for r in ranks if r > low):
                inside = self.incidence(high, low)
                if inside.nnz:
                    row = sparse.coo_array(inside)
                    a, b = self.cells[high][int(row.row[0])], self.cells[low][int(row.col[0])]
                    if a != b:
                        raise ValueError(
                            f"cell {a} of rank {high} is inside {b} of rank {low}: ranks must grow "
                            "with cells"
                        )

    @property
    def sizes(self) -> tuple[int, ...]:
        """Number of cells of each rank from 0 to the highest."""
        return (self.n, *(len(self.cells.get(r, ())) for r in range(1, self.dim + 1)))

    @property
    def dim(self) -> int:
        """Highest rank."""
        return max(self.cells, default=0)

    def vertices(self, k: int) -> list[tuple[int, ...]]:
        """Nodes of each cell of rank k."""
        return [(v,) for v in range(self.n)] if k == 0 else list(self.cells.get(k, ()))

    def membership(self, k: int) -> sparse.csr_array:
        """(n, n_k), 1 where the node is in the cell."""
        return _incidence(self.n, self.vertices(k))

    def incidence(self, low: int, high: int) -> sparse.csr_array:
        """(n_low, n_high), 1 where the cell of rank low is a subset of the cell of rank high."""
        a, b = self.membership(low), self.membership(high)
        shared = sparse.coo_array(a.T @ b)
        size = np.array([len(c) for c in self.vertices(low)])
        keep = shared.data == size[shared.row] if len(shared.data) else np.zeros(0, dtype=bool)
        parts = (np.ones(int(keep.sum()), np.int32), (shared.row[keep], shared.col[keep]))
        return sparse.csr_array(parts, shape=(a.shape[1], b.shape[1]))

    def adjacency(self, k: int, via: int) -> sparse.csr_array:
        """Which cells of rank k share a cell of rank ``via`` above or below, 0/1."""
        if via > k:
            b = self.incidence(k, via)
            return pattern(b @ b.T)
        b = self.incidence(via, k)
        return pattern(b.T @ b)


def _incidence(n: int, sets: Sequence[Sequence[int]]) -> sparse.csr_array:
    counts = np.array([len(s) for s in sets], dtype=np.int64)
    flat = np.array([v for s in sets for v in s], dtype=np.int64)
    column = np.repeat(np.arange(len(sets)), counts) if len(sets) else np.zeros(0, np.int64)
    parts = (np.ones(len(flat), dtype=np.int32), (flat, column))
    return sparse.csr_array(parts, shape=(n, len(sets)))


def _inverse(degrees: Any, power: float) -> sparse.dia_array:
    d = np.asarray(degrees, dtype=np.float64).ravel()
    safe = np.divide(1.0, d, out=np.zeros_like(d), where=d > 0) ** power
    return sparse.dia_array((safe[None], [0]), shape=(len(d), len(d)))
