"""Simplicial complexes as sorted arrays.

The k-simplices are rows of an ``(n_k, k + 1)`` array, increasing inside a row, lexicographic down
the rows; that order is the orientation. A simplex is known by ``(prefix, last vertex)``, where the
prefix is an index one rank below; ``prefix * n + last`` is a sorted key, so that face indices of
all simplices of a rank are one binary search a dropped vertex and no number overflows.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Literal

import numpy as np
from scipy import sparse

from labcore.topology.chains import ChainComplex
from labcore.topology.cliques import MAX_SIMPLICES, Rank, cliques
from labcore.topology.graphs import as_graph


class SimplicialComplex(ChainComplex):
    """A family of simplices closed under faces.

    Args:
        simplices_by_dim: For each rank from 1 on (or from 0 on, if the first has one column) the
            vertices of its simplices, (n_k, k + 1). Rows may come in any order.
        n_nodes: Number of nodes; nodes in no simplex stay.

    Raises:
        ValueError: a vertex twice in a simplex, a vertex outside 0..n_nodes - 1, a simplex twice,
            or a missing face (up to three are named).

    >>> K = SimplicialComplex([[[0, 1], [0, 2], [1, 2]], [[0, 1, 2]]], 4)
    >>> K.sizes, K.betti(), K.euler()
    ((4, 3, 1), (2, 0, 0), 2)
    """

    def __init__(self, simplices_by_dim: Sequence[Any], n_nodes: int) -> None:
        super().__init__()
        rows = [np.asarray(r, dtype=np.int64) for r in simplices_by_dim]
        if rows and rows[0].ndim == 2 and rows[0].shape[1] == 1:
            rows = rows[1:]
        while rows and not len(rows[-1]):
            rows.pop()
        self._rows = [np.arange(n_nodes)[:, None]]
        self._ranks: list[Rank] = []
        self._faces: dict[int, np.ndarray] = {}
        for k, given in enumerate(rows, start=1):
            self._rows.append(_checked(given, k, n_nodes))
            self._ranks.append(self._linked(k))
        for k in range(2, self.dim + 1):
            self.faces(k)  # says which faces are missing

    @classmethod
    def _trusted(cls, rows: list[np.ndarray], ranks: list[Rank]) -> "SimplicialComplex":
        """From rows and prefixes that are known to be right."""
        made = cls.__new__(cls)
        ChainComplex.__init__(made)
        made._rows, made._ranks, made._faces = rows, ranks, {}
        return made

    @classmethod
    def from_facets(
        cls, facets: Iterable[Sequence[int]], n_nodes: int | None = None
    ) -> "SimplicialComplex":
        """The complex of some simplices with all their faces.

        >>> SimplicialComplex.from_facets([(0, 1, 2), (2, 3)]).sizes
        (4, 4, 1)
        """
        by_rank: dict[int, list[Sequence[int]]] = {}
        for facet in facets:
            by_rank.setdefault(len(facet) - 1, []).append(sorted(int(v) for v in facet))
        top = max(by_rank, default=0)
        rows: list[np.ndarray] = [np.zeros((0, top + 1), dtype=np.int64)]
        held = np.zeros((0, top + 1), dtype=np.int64)
        levels = []
        for k in range(top, 0, -1):
            below = [np.delete(held, j, axis=1) for j in range(held.shape[1])] if len(held) else []
            own = np.array(by_rank.get(k, []), dtype=np.int64).reshape(-1, k + 1)
            held = np.unique(np.concatenate([own, *below]), axis=0)
            levels.append(held)
        rows = levels[::-1]
        highest = max((int(r.max()) for r in rows if len(r)), default=-1)
        singles = max((int(f[0]) for f in by_rank.get(0, [])), default=-1)
        return cls(rows, n_nodes if n_nodes is not None else max(highest, singles) + 1)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Number of simplices of each rank."""
        return tuple(len(r) for r in self._rows)

    def simplices(self, k: int) -> np.ndarray:
        """Vertices of the k-simplices, (n_k, k + 1)."""
        return self._rows[k] if 0 <= k <= self.dim else np.zeros((0, k + 1), dtype=np.int64)

    def vertices(self, k: int) -> list[tuple[int, ...]]:
        """Vertices of each k-simplex, as tuples."""
        return [tuple(row) for row in self.simplices(k).tolist()]

    def _linked(self, k: int) -> Rank:
        """Prefix indices of rank k, searched for in rank k - 1."""
        rows = self._rows[k]
        at = rows[:, 0]
        for j in range(1, k):
            at = _search(self._keys(j), at * self.n + rows[:, j])
            if (at < 0).any():
                raise ValueError(_missing(rows[at < 0][:, : j + 1]))
        return Rank(at, rows[:, -1])

    def _keys(self, k: int) -> np.ndarray:
        rank = self._ranks[k - 1]
        return rank.prefix * self.n + rank.last

    def faces(self, k: int) -> np.ndarray:
        """Index of each face in rank k - 1, (n_k, k + 1): column j is the face without vertex j.

        Raises:
            ValueError: ``k`` below 1, or a face that is not in the complex.
        """
        if k < 1:
            raise ValueError(f"faces begin at rank 1 (edges), got {k}")
        if k > self.dim:
            return np.zeros((0, k + 1), dtype=np.int64)
        if k not in self._faces:
            rank = self._ranks[k - 1]
            found = np.empty((len(rank), k + 1), dtype=np.int64)
            found[:, k] = rank.prefix
            if k == 1:
                found[:, 0] = rank.last
            else:
                below, keys = self.faces(k - 1), self._keys(k - 1)
                for j in range(k):
                    at = _search(keys, below[rank.prefix, j] * self.n + rank.last)
                    if (at < 0).any():
                        raise ValueError(_missing(np.delete(self._rows[k][at < 0], j, axis=1)))
                    found[:, j] = at
            self._faces[k] = found
        return self._faces[k]

    def _boundary(self, k: int) -> sparse.csc_array:
        faces = self.faces(k)[:, ::-1]  # without the last vertex first: ascending rows
        signs = ((-1) ** np.arange(k, -1, -1)).astype(np.int32)
        count = len(faces)
        parts = (np.tile(signs, count), faces.ravel(), np.arange(count + 1) * (k + 1))
        return sparse.csc_array(parts, shape=(self.size(k - 1), count))

    def membership(self, k: int) -> sparse.csr_array:
        """S_k (n, n_k): 1 where the node is a vertex of the simplex."""
        key = ("S", k)
        if key not in self._kept:
            rows = self.simplices(k)
            ones = np.ones(rows.size, dtype=np.int32)
            parts = (ones, rows.ravel(), np.arange(len(rows) + 1) * (k + 1))
            self._kept[key] = sparse.csc_array(parts, shape=(self.n, len(rows))).tocsr()
        return self._kept[key]

    def subcomplex(self, nodes: Any) -> "SimplicialComplex":
        """The simplices whose vertices are all among ``nodes``, renumbered in ascending order.

        Raises:
            ValueError: a node outside the complex.
        """
        kept = np.unique(np.asarray(nodes, dtype=np.int64))
        if len(kept) and (kept[0] < 0 or kept[-1] >= self.n):
            raise ValueError(f"nodes {kept[0]}..{kept[-1]}: the complex has 0..{self.n - 1}")
        place = np.full(self.n, -1, dtype=np.int64)
        place[kept] = np.arange(len(kept))
        rows = [place[r] for r in self._rows[1:]]
        return SimplicialComplex([r[(r >= 0).all(axis=1)] for r in rows], len(kept))

    def to_toponetx(self) -> Any:
        """The same complex in TopoNetX.

        Raises:
            ImportError: it is not installed.
        """
        import toponetx

        made = toponetx.SimplicialComplex([[v] for v in range(self.n)])
        for k in range(1, self.dim + 1):
            made.add_simplices_from(self.simplices(k).tolist())
        return made

    @classmethod
    def from_toponetx(cls, other: Any) -> "SimplicialComplex":
        """From a TopoNetX simplicial complex whose nodes are whole numbers from 0 on."""
        rows = [
            np.array([sorted(s) for s in other.skeleton(k)], dtype=np.int64)
            for k in range(1, other.dim + 1)
        ]
        return cls(rows, len(other.skeleton(0)))


def _checked(given: np.ndarray, k: int, n: int) -> np.ndarray:
    if given.ndim != 2 or given.shape[1] != k + 1:
        raise ValueError(f"rank {k} has rows of {k + 1} vertices, got shape {given.shape}")
    if len(given) and (given.min() < 0 or given.max() >= n):
        bad = int(given.min()) if given.min() < 0 else int(given.max())
        raise ValueError(f"rank {k} names vertex {bad}, allowed are 0..{n - 1}")
    rows = np.sort(given, axis=1)
    if (twice := (rows[:, 1:] == rows[:, :-1]).any(axis=1)).any():
        raise ValueError(f"simplex {rows[twice][0].tolist()} has a vertex twice")
    ordered = rows[np.lexsort(rows.T[::-1])]
    if len(ordered) > 1 and (same := (ordered[1:] == ordered[:-1]).all(axis=1)).any():
        raise ValueError(f"simplex {ordered[1:][same][0].tolist()} is there twice")
    return ordered


def _search(keys: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Where each wanted key stands, or -1."""
    if not len(keys):
        return np.full(len(wanted), -1)
    at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[at] == wanted, at, -1)


def _missing(faces: np.ndarray) -> str:
    named = ", ".join(str(tuple(row)) for row in np.unique(faces, axis=0)[:3].tolist())
    return f"not closed under faces: {named} missing; add them, or use from_facets"


def clique_complex(
    data: Any,
    n: int | None = None,
    *,
    max_dim: int = 2,
    order: Literal["natural", "degree"] = "natural",
    max_simplices: int | None = None,
) -> SimplicialComplex:
    """Every clique of a graph with up to ``max_dim + 1`` nodes becomes a simplex.

    Args:
        data: Any graph that :func:`~labcore.topology.graphs.as_graph` reads.
        n: Number of nodes, if the input does not tell.
        max_dim: Largest rank.
        order: ``degree`` grows cliques from nodes of low degree on, cheaper where there are hubs;
            the result is the same.
        max_simplices: Most simplices in a rank; default 10 million.

    Raises:
        ValueError: a bad graph, ``max_dim`` below 1, or too many simplices.

    >>> import networkx as nx
    >>> clique_complex(nx.karate_club_graph(), max_dim=4).sizes
    (34, 78, 45, 11, 2)
    """
    graph, limit = as_graph(data, n), MAX_SIMPLICES if max_simplices is None else max_simplices
    if order == "natural":
        return SimplicialComplex._trusted(*cliques(graph, max_dim, max_simplices=limit))
    if order != "degree":
        raise ValueError(f"order must be natural or degree, got {order!r}")
    by_degree = np.argsort(graph.degrees(), kind="stable")
    rows, _ = cliques(graph.relabelled(by_degree), max_dim, max_simplices=limit)
    return SimplicialComplex([by_degree[r] for r in rows[1:]], graph.n)
