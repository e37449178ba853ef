"""Graphs at the door: any usual form in, one clean form out, with a note of what was left out.

An edge is a row ``(u, v)`` with ``u < v``; rows are distinct and in lexicographic order. Self-loops
and repeated edges are dropped and counted; a directed graph is made symmetric with a warning;
isolated nodes stay.
"""

import csv
import io
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from scipy import sparse

MAX_NODES = 5_000_000


@dataclass(frozen=True)
class Graph:
    """A simple undirected graph, with features and labels where there are some.

    Attributes:
        n: Number of nodes.
        edges: Rows ``(u, v)``, ``u < v``, distinct, lexicographic, (m, 2).
        x: Node features (n, d), or None.
        y: Labels of the nodes (n,) or of the parts (parts,), or None.
        names: What the nodes are called, or empty.
        dropped: Counts of what the input held and the graph does not: ``self_loops``,
            ``duplicates``, ``directed`` (edges given in one direction of a directed input).
    """

    n: int
    edges: np.ndarray
    x: np.ndarray | None = None
    y: np.ndarray | None = None
    names: tuple[str, ...] = ()
    dropped: Mapping[str, int] = field(default_factory=dict)

    @property
    def m(self) -> int:
        """Number of edges."""
        return len(self.edges)

    def adjacency(self) -> sparse.csr_array:
        """The 0/1 adjacency matrix (n, n), int32."""
        u, v = self.edges.T
        ones = np.ones(2 * self.m, dtype=np.int32)
        rows, columns = np.concatenate([u, v]), np.concatenate([v, u])
        return sparse.csr_array((ones, (rows, columns)), shape=(self.n, self.n))

    def degrees(self) -> np.ndarray:
        """Neighbours of each node (n,)."""
        return np.bincount(self.edges.ravel(), minlength=self.n)

    def relabelled(self, order: np.ndarray) -> "Graph":
        """The same graph with node ``order[i]`` called i."""
        place = np.empty(self.n, dtype=np.int64)
        place[order] = np.arange(self.n)
        edges = _sorted_edges(place[self.edges], self.n)[0]
        at_nodes = self.y is not None and len(self.y) == self.n
        return replace(
            self,
            edges=edges,
            x=None if self.x is None else self.x[order],
            y=self.y[order] if at_nodes and self.y is not None else self.y,
            names=tuple(self.names[i] for i in order) if self.names else (),
        )


def as_graph(data: Any, n: int | None = None, *, x: Any = None, y: Any = None) -> Graph:
    """A clean graph from what people have.

    Args:
        data: A :class:`Graph`, a networkx graph, a square scipy matrix, an edge index ``(2, e)``,
            rows ``(e, 2)`` in a list, or an object with ``edge_index`` (torch-geometric's Data).
        n: Number of nodes; default: the largest number named, plus one.
        x: Node features (n, d).
        y: Labels.

    Raises:
        TypeError: a form that is not known.
        ValueError: a node number that is negative or not below ``n``, feature rows that are not
            n, features that are not finite.

    >>> as_graph([(0, 1), (1, 0), (2, 2), (1, 2)]).edges.tolist()
    [[0, 1], [1, 2]]
    """
    if isinstance(data, Graph):
        graph = data
    elif hasattr(data, "edge_index"):
        x = x if x is not None else getattr(data, "x", None)
        y = y if y is not None else getattr(data, "y", None)
        n = n if n is not None else getattr(data, "num_nodes", None)
        graph = _from_pairs(_pairs(data.edge_index), n)
    elif hasattr(data, "adj") and hasattr(data, "is_directed"):
        graph = _from_networkx(data)
    elif sparse.issparse(data):
        graph = _from_matrix(data)
    else:
        graph = _from_pairs(_pairs(data), n)
    return _dressed(graph, x, y)


def _dressed(graph: Graph, x: Any, y: Any) -> Graph:
    """With features and labels, checked."""
    if x is not None:
        x = np.asarray(x, dtype=np.float32)
        if x.ndim != 2 or len(x) != graph.n:
            raise ValueError(f"x has shape {x.shape}, the graph has {graph.n} nodes: give (n, d)")
        if not np.isfinite(x).all():
            raise ValueError("x holds NaN or infinite values: replace or remove them")
        graph = replace(graph, x=x)
    if y is not None:
        y = np.asarray(y)
        if y.dtype.kind not in "iub":
            raise ValueError(f"labels must be whole numbers for classification, got {y.dtype}")
        graph = replace(graph, y=y.astype(np.int64).reshape(-1))
    return graph


def _pairs(data: Any) -> np.ndarray:
    if isinstance(data, (list, tuple)) and data and isinstance(data[0], (list, tuple)):
        listed = True
    else:
        listed = False
    try:
        pairs = np.asarray(data)
    except ValueError as error:
        raise TypeError(f"edges must be pairs of node numbers: {error}") from None
    if pairs.size == 0:
        return np.zeros((0, 2), dtype=np.int64)
    if pairs.dtype.kind not in "iu":
        raise TypeError(
            f"cannot read a graph from {type(data).__name__} of {pairs.dtype}: give a networkx "
            "graph, a scipy matrix, an edge index (2, e) of integers or a list of pairs"
        )
    if pairs.ndim != 2 or 2 not in pairs.shape:
        raise ValueError(f"edges have shape {pairs.shape}: give an index (2, e) or rows (e, 2)")
    rows = pairs if (listed and pairs.shape[1] == 2) or pairs.shape[0] != 2 else pairs.T
    return rows.astype(np.int64)


def _from_pairs(pairs: np.ndarray, n: int | None, *, directed: bool = False) -> Graph:
    size = int(pairs.max()) + 1 if len(pairs) else 0
    n = size if n is None else int(n)
    if n < 0 or n > MAX_NODES:
        raise ValueError(f"n must be 0..{MAX_NODES}, got {n}")
    if len(pairs) and (int(pairs.min()) < 0 or size > n):
        bad = int(pairs.min()) if int(pairs.min()) < 0 else size - 1
        raise ValueError(f"an edge names node {bad}, allowed are 0..{n - 1}: correct the edge or n")
    loops = pairs[:, 0] == pairs[:, 1] if len(pairs) else np.zeros(0, dtype=bool)
    edges, once, both = _sorted_edges(pairs[~loops], n)
    one_way = once if (directed or (both and once)) else 0
    if one_way:
        warnings.warn(
            f"directed input: {one_way} of {len(edges)} edges go one way only; made symmetric",
            stacklevel=3,
        )
    kept = len(edges)
    dropped = {
        "self_loops": int(loops.sum()),
        "duplicates": int((~loops).sum()) - kept,
        "directed": int(one_way),
    }
    return Graph(n, edges, dropped=dropped)


def _sorted_edges(pairs: np.ndarray, n: int) -> tuple[np.ndarray, int, int]:
    """Distinct rows u < v in order; how many came in one direction only, and in both."""
    if not len(pairs):
        return np.zeros((0, 2), dtype=np.int64), 0, 0
    low, high = pairs.min(axis=1), pairs.max(axis=1)
    key = low * n + high
    ways = np.unique(key * 2 + (pairs[:, 0] > pairs[:, 1]))
    unique, count = np.unique(ways // 2, return_counts=True)
    edges = np.column_stack([unique // n, unique % n])
    return edges, int((count == 1).sum()), int((count == 2).sum())


def _from_networkx(data: Any) -> Graph:
    nodes = list(data.nodes)
    place = {node: i for i, node in enumerate(nodes)}
    pairs = np.array([(place[u], place[v]) for u, v in data.edges()], dtype=np.int64)
    graph = _from_pairs(pairs.reshape(-1, 2), len(nodes), directed=bool(data.is_directed()))
    return replace(graph, names=tuple(str(node) for node in nodes))


def _from_matrix(data: Any) -> Graph:
    if data.shape[0] != data.shape[1]:
        raise ValueError(f"an adjacency matrix is square, got {data.shape}")
    found = sparse.coo_array(data)
    pairs = np.column_stack([found.row, found.col]).astype(np.int64)
    return _from_pairs(pairs, int(data.shape[0]))


def read_edge_list(text: str, *, max_edges: int = 200_000) -> Graph:
    """A graph from a text: one edge a line, two names apart by commas, tabs or blanks.

    Lines that begin with ``#`` or ``%`` and further columns (weights) are skipped; a first line
    ``source,target`` too.

    Raises:
        ValueError: a line with one name only, no edge at all, or more than ``max_edges`` lines.

    >>> read_edge_list("ann bob\\nbob,cid").names
    ('ann', 'bob', 'cid')
    """
    place: dict[str, int] = {}
    pairs: list[tuple[int, int]] = []
    for number, row in enumerate(_rows(text), start=1):
        if len(row) < 2:
            raise ValueError(f"line {number}: {row[0]!r} is one name, an edge has two")
        if not pairs and {row[0].lower(), row[1].lower()} <= {"source", "target", "from", "to"}:
            continue
        pairs.append((place.setdefault(row[0], len(place)), place.setdefault(row[1], len(place))))
        if len(pairs) > max_edges:
            raise ValueError(f"more than {max_edges} edges: give a part of the graph")
    if not pairs:
        raise ValueError("no edge in the text: give one edge a line, two names apart by a comma")
    graph = _from_pairs(np.array(pairs, dtype=np.int64), len(place))
    return replace(graph, names=tuple(place))


def _rows(text: str) -> Iterable[list[str]]:
    for line in text.splitlines():
        if not line.strip() or line.lstrip()[0] in "#%":
            continue
        mark = next((c for c in ("\t", ",", ";") if c in line), None)
        cells = next(csv.reader(io.StringIO(line), delimiter=mark)) if mark else line.split()
        if kept := [cell.strip() for cell in cells if cell.strip()]:
            yield kept
