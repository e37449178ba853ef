"""Cell complexes of rank 2: a graph with polygons glued on its cycles; and which cycles to take.

A cycle basis is not canonical: ``networkx.cycle_basis`` gives other rings when the nodes are named
otherwise, and may glue two rings of a molecule into one long false ring. The *minimum* basis
(Horton, SIAM J. Comput. 1987) has the shortest total length; its ring lengths are the same for
every naming of the nodes.
"""

from collections import deque
from collections.abc import Sequence
from typing import Any, Literal

import networkx as nx
import numpy as np
from scipy import sparse

from labcore.topology.chains import ChainComplex
from labcore.topology.graphs import Graph, as_graph

BASES = ("minimum", "fundamental", "chordless")
MAX_CANDIDATES = 400_000


class CellComplex(ChainComplex):
    """A graph with 2-cells, each a cycle of nodes.

    Args:
        n: Number of nodes.
        edges: Rows of two nodes.
        cells: Cycles as sequences of nodes, the last joined to the first.

    Raises:
        ValueError: a cycle with fewer than three nodes, with a node twice, or along a missing edge.

    >>> CellComplex(4, [(0, 1), (1, 2), (2, 3), (0, 3)], [(0, 1, 2, 3)]).betti()
    (1, 0, 0)
    """

    def __init__(self, n: int, edges: Any, cells: Sequence[Sequence[int]] = ()) -> None:
        super().__init__()
        graph = as_graph(list(map(list, edges)) if not isinstance(edges, np.ndarray) else edges, n)
        self._edges = graph.edges
        self.cells = [tuple(int(v) for v in cell) for cell in cells]
        self._n = n
        place = {tuple(edge): i for i, edge in enumerate(self._edges.tolist())}
        self._sides: list[list[tuple[int, int]]] = []
        for cell in self.cells:
            if len(cell) < 3 or len(set(cell)) < len(cell):
                raise ValueError(f"cell {cell}: a cycle has at least three nodes, each once")
            sides = []
            for u, v in zip(cell, (*cell[1:], cell[0]), strict=True):
                edge = (min(u, v), max(u, v))
                if edge not in place:
                    raise ValueError(f"cell {cell} runs along {edge}, which is no edge: add it")
                sides.append((place[edge], 1 if u < v else -1))
            self._sides.append(sides)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Nodes, edges, polygons; ranks at the end that are empty are left out."""
        whole = (self._n, len(self._edges), len(self.cells))
        return whole if whole[2] else (whole[:2] if whole[1] else whole[:1])

    def vertices(self, k: int) -> list[tuple[int, ...]]:
        """Nodes of each cell of rank k."""
        if k == 0:
            return [(v,) for v in range(self._n)]
        if k == 1:
            return [tuple(edge) for edge in self._edges.tolist()]
        return self.cells if k == 2 else []

    def simplices(self, k: int) -> np.ndarray:
        """Nodes (n, 1) or edges (m, 2); polygons have no common width.

        Raises:
            ValueError: rank 2.
        """
        if k > 1:
            raise ValueError("polygons differ in length: use vertices(2)")
        return np.array(self.vertices(k), dtype=np.int64).reshape(-1, k + 1)

    def _boundary(self, k: int) -> sparse.csc_array:
        if k == 1:
            m = len(self._edges)
            signs = np.tile(np.array([-1, 1], dtype=np.int32), m)
            parts = (signs, self._edges.ravel(), np.arange(m + 1) * 2)
            return sparse.csc_array(parts, shape=(self._n, m))
        entries = [(e, j, s) for j, sides in enumerate(self._sides) for e, s in sides]
        row, column, sign = np.array(entries, dtype=np.int64).T
        shape = (len(self._edges), len(self.cells))
        return sparse.csc_array((sign.astype(np.int32), (row, column)), shape=shape)


def cycle_lifting(
    data: Any,
    n: int | None = None,
    *,
    basis: Literal["minimum", "fundamental", "chordless"] = "minimum",
    max_cell_length: int = 18,
) -> CellComplex:
    """A graph with a polygon glued on every cycle of a basis.

    Args:
        data: Any graph.
        n: Number of nodes, if the input does not tell.
        basis: See :func:`cycle_basis`.
        max_cell_length: Longer cycles get no polygon.

    Raises:
        ValueError: as :func:`cycle_basis`.
    """
    graph = as_graph(data, n)
    return CellComplex(graph.n, graph.edges, cycle_basis(graph, basis, max_len=max_cell_length))


def cycle_basis(
    data: Any,
    kind: Literal["minimum", "fundamental", "chordless"] = "minimum",
    *,
    max_len: int = 18,
) -> list[tuple[int, ...]]:
    """Cycles of a graph, each from its least node on towards its lesser neighbour, sorted.

    Args:
        data: Any graph.
        kind: ``minimum`` (shortest total length, ties by sorted nodes), ``fundamental`` (of a
            spanning tree, as the peers do; depends on the naming of the nodes) or ``chordless``
            (all induced cycles, more than a basis).
        max_len: Longer cycles are left out, after the basis was chosen.

    Raises:
        ValueError: unknown kind, ``max_len`` below 3, or a graph too large for the minimum basis.

    >>> cycle_basis([(0, 1), (1, 2), (2, 3), (3, 0), (0, 2)])
    [(0, 1, 2), (0, 2, 3)]
    """
    if kind not in BASES:
        raise ValueError(f"kind must be one of {', '.join(BASES)}, got {kind!r}")
    if max_len < 3:
        raise ValueError(f"max_len must be 3 or more, got {max_len}")
    graph = as_graph(data)
    if kind == "minimum":
        found = _minimum(graph)
    else:
        plain = nx.Graph()
        plain.add_nodes_from(range(graph.n))
        plain.add_edges_from(graph.edges.tolist())
        found = (
            nx.cycle_basis(plain)
            if kind == "fundamental"
            else list(nx.chordless_cycles(plain, length_bound=max_len))
        )
    turned = {canonical(cycle) for cycle in found if len(cycle) <= max_len}
    return sorted(turned, key=lambda c: (len(c), sorted(c), c))


def canonical(cycle: Sequence[int]) -> tuple[int, ...]:
    """The same cycle from its least node on, towards the lesser of its two neighbours.

    >>> canonical([3, 1, 2])
    (1, 2, 3)
    """
    at = min(range(len(cycle)), key=lambda i: cycle[i])
    turned = [int(v) for v in (*cycle[at:], *cycle[:at])]
    if turned[-1] < turned[1]:
        turned = [turned[0], *turned[:0:-1]]
    return tuple(turned)


def _minimum(graph: Graph) -> list[list[int]]:
    """Horton: shortest paths to both ends of every edge, then elimination over Z/2."""
    near: list[list[int]] = [[] for _ in range(graph.n)]
    place: dict[tuple[int, int], int] = {}
    for i, (u, v) in enumerate(graph.edges.tolist()):
        near[u].append(v)
        near[v].append(u)
        place[u, v] = place[v, u] = i
    found: list[list[int]] = []
    for part in _blocks(graph):
        wanted = part.number_of_edges() - part.number_of_nodes() + 1
        if wanted < 1:
            continue
        size = part.number_of_nodes() * part.number_of_edges()
        if size > MAX_CANDIDATES:
            raise ValueError(
                f"a minimum basis of this graph has {size:,} candidate cycles, at most "
                f"{MAX_CANDIDATES:,} are tried: use basis='fundamental' or thin the graph"
            )
        found += _independent(_candidates(part, near), place, wanted)
    return found


def _blocks(graph: Graph) -> list[nx.Graph]:
    """Biconnected parts: no cycle leaves one, so each has its own basis."""
    plain = nx.Graph(graph.edges.tolist())
    return [plain.subgraph(nodes) for nodes in nx.biconnected_components(plain) if len(nodes) > 2]


def _candidates(part: nx.Graph, near: list[list[int]]) -> list[list[int]]:
    inside = set(part)
    cycles: dict[frozenset[tuple[int, int]], list[int]] = {}
    for root in sorted(inside):
        path = {root: [root]}
        line = deque([root])
        while line:
            u = line.popleft()
            for v in near[u]:
                if v in inside and v not in path:
                    path[v] = [*path[u], v]
                    line.append(v)
        for u, v in part.edges:
            if set(path[u]) & set(path[v]) == {root} and path[u][-2:] != [v, u] != path[v][-2:]:
                cycle = [*path[u], *path[v][:0:-1]]
                if len(cycle) > 2:
                    cycles.setdefault(frozenset(_sides(cycle)), cycle)
    return sorted(cycles.values(), key=lambda c: (len(c), sorted(c), canonical(c)))


def _sides(cycle: list[int]) -> list[tuple[int, int]]:
    pairs = zip(cycle, (*cycle[1:], cycle[0]), strict=True)
    return [(min(p), max(p)) for p in pairs]


def _independent(
    cycles: list[list[int]], place: dict[tuple[int, int], int], wanted: int
) -> list[list[int]]:
    """The first cycles that are no sum of earlier ones; a cycle is a bit an edge."""
    pivots: dict[int, int] = {}
    chosen: list[list[int]] = []
    for cycle in cycles:
        bits = 0
        for side in _sides(cycle):
            bits ^= 1 << place[side]
        while bits and (top := bits.bit_length()) in pivots:
            bits ^= pivots[top]
        if bits:
            pivots[bits.bit_length()] = bits
            chosen.append(cycle)
            if len(chosen) == wanted:
                break
    return chosen
