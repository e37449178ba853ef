"""Liftings of a graph: to simplices, to polygons, to hyperedges.

Each function takes the complex and its node features (or None) and keyword parameters with
defaults; names and rules are those of the topological deep learning literature (arXiv 2406.06642,
section on liftings), written anew.
"""

from itertools import combinations
from math import comb
from typing import Literal

import networkx as nx
import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import shortest_path
from scipy.spatial import cKDTree

from labcore.topology.cells import CellComplex, cycle_lifting
from labcore.topology.cliques import MAX_SIMPLICES, TooManySimplices
from labcore.topology.complexes import SimplicialComplex, clique_complex
from labcore.topology.families import Hypergraph
from labcore.topology.graphs import Graph
from labcore.topology.liftings import register_lifting

Features = np.ndarray | None
MAX_DENSE = 6000  # nodes of a graph whose distances or kernels may be a dense matrix


@register_lifting("graph", "graph", "identity")
def identity(graph: Graph, x: Features) -> Graph:
    """The graph as it is."""
    return graph


@register_lifting("graph", "simplicial", "clique")
def clique(
    graph: Graph, x: Features, *, max_dim: int = 2, max_simplices: int = MAX_SIMPLICES
) -> SimplicialComplex:
    """Every clique becomes a simplex."""
    return clique_complex(graph, max_dim=max_dim, max_simplices=max_simplices)


@register_lifting("graph", "simplicial", "khop")
def khop_simplices(
    graph: Graph,
    x: Features,
    *,
    hops: int = 1,
    max_dim: int = 2,
    max_k_simplices: int = 5000,
    max_simplices: int = MAX_SIMPLICES,
    seed: int = 0,
) -> SimplicialComplex:
    """All subsets with at most ``max_dim + 1`` nodes of every closed k-hop ball.

    A rank with more than ``max_k_simplices`` keeps a sample of that size, and what its simplices
    need as faces; more than ``max_simplices`` subsets to draw from are refused.
    """
    limits = (max_k_simplices, max_simplices)
    return _from_sets(_balls(graph, hops), graph.n, max_dim, limits, seed)


@register_lifting("graph", "simplicial", "dowker")
def dowker(
    graph: Graph,
    x: Features,
    *,
    max_dim: int = 2,
    max_k_simplices: int = 5000,
    max_simplices: int = MAX_SIMPLICES,
    seed: int = 0,
) -> SimplicialComplex:
    """Nodes that have a neighbour in common span a simplex (the neighbourhood complex)."""
    a = graph.adjacency()
    sets = [a.indices[a.indptr[v] : a.indptr[v + 1]].tolist() for v in range(graph.n)]
    return _from_sets(sets, graph.n, max_dim, (max_k_simplices, max_simplices), seed)


@register_lifting("graph", "simplicial", "line")
def line(
    graph: Graph, x: Features, *, max_dim: int = 2, max_simplices: int = MAX_SIMPLICES
) -> SimplicialComplex:
    """The clique complex of the line graph: its nodes are the edges of the graph."""
    degrees = graph.degrees()
    pairs_of_edges = int((degrees * (degrees - 1) // 2).sum())
    if pairs_of_edges > max_simplices:
        raise TooManySimplices(
            f"the line graph has {pairs_of_edges:,} edges, {max_simplices:,} are allowed: thin the "
            "graph, or raise max_simplices"
        )
    b = sparse.coo_array(
        (
            np.ones(2 * graph.m, dtype=np.int32),
            (graph.edges.ravel(), np.repeat(np.arange(graph.m), 2)),
        ),
        shape=(graph.n, graph.m),
    ).tocsr()
    meets = sparse.coo_array(b.T @ b)
    upper = meets.row < meets.col
    pairs = np.column_stack([meets.row[upper], meets.col[upper]]).astype(np.int64)
    met = Graph(graph.m, pairs[np.lexsort(pairs.T[::-1])])
    return clique_complex(met, max_dim=max_dim, max_simplices=max_simplices)


@register_lifting("graph", "simplicial", "rips")
def rips(
    graph: Graph,
    x: Features,
    *,
    threshold: float = 2.0,
    max_dim: int = 2,
    max_simplices: int = MAX_SIMPLICES,
) -> SimplicialComplex:
    """Vietoris-Rips on shortest paths: nodes within ``threshold`` steps of each other."""
    near = _distances(graph)
    pairs = np.argwhere(np.triu(near <= threshold, 1)).astype(np.int64)
    return clique_complex(Graph(graph.n, pairs), max_dim=max_dim, max_simplices=max_simplices)


@register_lifting("graph", "cell", "cycle")
def cycle(
    graph: Graph,
    x: Features,
    *,
    basis: Literal["minimum", "fundamental", "chordless"] = "minimum",
    max_cell_length: int = 18,
) -> CellComplex:
    """A polygon on every cycle of a basis."""
    return cycle_lifting(graph, basis=basis, max_cell_length=max_cell_length)


@register_lifting("graph", "hypergraph", "khop")
def khop(graph: Graph, x: Features, *, k: int = 1) -> Hypergraph:
    """One hyperedge a node: its closed k-hop ball."""
    return Hypergraph(graph.n, _balls(graph, k))


@register_lifting("graph", "hypergraph", "knn")
def knn(graph: Graph, x: Features, *, k: int = 3, loop: bool = True) -> Hypergraph:
    """One hyperedge a node: itself (if ``loop``) and its k nearest nodes by features."""
    points = _wanted(x, "knn")
    if not 1 <= k < len(points):
        raise ValueError(f"k must be 1..{len(points) - 1}, got {k}")
    found = nearest(points, k)
    sets = [([v] if loop else []) + row.tolist() for v, row in enumerate(found)]
    return Hypergraph(graph.n, sets)


@register_lifting("graph", "hypergraph", "kernel")
def kernel(graph: Graph, x: Features, *, t: float = 1.0, fraction: float = 0.05) -> Hypergraph:
    """One hyperedge a node: whom it is close to by heat kernel times feature kernel.

    The heat kernel is ``exp(-t L)``, the feature kernel ``exp(-|x_u - x_v|^2 / median)``; each
    row keeps its largest ``fraction``, and the node itself.
    """
    _small(graph)
    if not 0 < fraction <= 1:
        raise ValueError(f"fraction must be in (0, 1], got {fraction}")
    lap = np.diag(graph.degrees().astype(float)) - graph.adjacency().toarray()
    values, vectors = np.linalg.eigh(lap)
    heat = (vectors * np.exp(-t * values)) @ vectors.T
    if x is not None:
        square = ((x[:, None] - x[None]) ** 2).sum(-1) if graph.n <= 800 else _squares(x)
        middle = np.median(square[square > 0]) if (square > 0).any() else 1.0
        heat = heat * np.exp(-square / middle)
    most = max(1, round(fraction * graph.n))
    best = np.argsort(-heat, axis=1, kind="stable")[:, :most]
    return Hypergraph(graph.n, [sorted({v, *row.tolist()}) for v, row in enumerate(best)])


@register_lifting("graph", "hypergraph", "mapper")
def mapper(graph: Graph, x: Features, *, resolution: int = 10, gain: float = 0.3) -> Hypergraph:
    """Mapper: cut a lens into overlapping intervals, take connected parts of each preimage.

    The lens is the second eigenvector of the Laplacian (the first that is not constant on a
    connected graph), its sign fixed by its largest entry.
    """
    _small(graph)
    if resolution < 1 or not 0 <= gain < 1:
        raise ValueError(f"resolution >= 1 and 0 <= gain < 1, got {resolution} and {gain}")
    lens = fiedler(graph)
    low, high = float(lens.min()), float(lens.max())
    step = (high - low) / resolution or 1.0
    plain = nx.Graph(graph.edges.tolist())
    plain.add_nodes_from(range(graph.n))
    sets = []
    for i in range(resolution):
        begin, end = low + (i - gain / 2) * step, low + (i + 1 + gain / 2) * step
        inside = np.flatnonzero((lens >= begin - 1e-12) & (lens <= end + 1e-12)).tolist()
        sets += [sorted(part) for part in nx.connected_components(plain.subgraph(inside))]
    return Hypergraph(graph.n, sorted(sets))


@register_lifting("graph", "hypergraph", "modularity")
def modularity(graph: Graph, x: Features, *, k: int = 3) -> Hypergraph:
    """Communities of largest modularity (greedy), each with the k nearest outsiders by features."""
    plain = nx.Graph(graph.edges.tolist())
    plain.add_nodes_from(range(graph.n))
    groups = nx.community.greedy_modularity_communities(plain) if graph.m else [{v} for v in plain]
    sets = []
    for group in groups:
        inside = sorted(group)
        if x is not None and k > 0:
            centre = x[inside].mean(axis=0)
            outside = np.setdiff1d(np.arange(graph.n), inside)
            far = ((x[outside] - centre) ** 2).sum(axis=1)
            inside = inside + outside[np.argsort(far, kind="stable")[:k]].tolist()
        sets.append(sorted(inside))
    return Hypergraph(graph.n, sorted(sets))


def fiedler(graph: Graph) -> np.ndarray:
    """Second eigenvector of the Laplacian, (n,), its largest entry positive."""
    lap = np.diag(graph.degrees().astype(float)) - graph.adjacency().toarray()
    vector = np.linalg.eigh(lap)[1][:, min(1, graph.n - 1)]
    vector = np.round(vector, 12)
    return vector * (1.0 if vector[np.argmax(np.abs(vector))] >= 0 else -1.0)


def nearest(points: np.ndarray, k: int) -> np.ndarray:
    """The k nearest other points of each, (n, k); equal distances in order of index."""
    spare = min(len(points), k + 9)
    far, at = cKDTree(points).query(points, k=spare)
    rows = []
    for v in range(len(points)):
        order = sorted(
            (round(float(d), 9), int(i)) for d, i in zip(far[v], at[v], strict=True) if i != v
        )
        rows.append([i for _, i in order[:k]])
    return np.array(rows, dtype=np.int64)


def _balls(graph: Graph, hops: int) -> list[list[int]]:
    if hops < 1:
        raise ValueError(f"hops must be 1 or more, got {hops}")
    step = graph.adjacency() + sparse.eye_array(graph.n, dtype=np.int32, format="csr")
    reach = step
    for _ in range(hops - 1):
        reach = (reach @ step).tocsr()
        reach.data[:] = 1
    reach = sparse.csr_array(reach)
    reach.sort_indices()
    return [reach.indices[reach.indptr[v] : reach.indptr[v + 1]].tolist() for v in range(graph.n)]


def _from_sets(
    sets: list[list[int]], n: int, max_dim: int, limits: tuple[int, int], seed: int
) -> SimplicialComplex:
    """All small subsets of some sets, closed under faces; large ranks sampled.

    ``limits``: simplices of a rank that are kept, and subsets that may be drawn from.
    """
    if max_dim < 1:
        raise ValueError(f"max_dim must be 1 or more, got {max_dim}")
    most, allowed = limits
    for k in range(1, max_dim + 1):
        size = sum(comb(len(s), k + 1) for s in sets)
        if size > allowed:
            raise TooManySimplices(
                f"the sets hold up to {size:,} subsets of rank {k}, {allowed:,} are allowed: lower "
                "hops or max_dim, thin the graph, or raise max_simplices"
            )
    rng = np.random.default_rng(seed)
    rows: list[np.ndarray] = []
    need: np.ndarray | None = None
    for k in range(max_dim, 0, -1):
        found = sorted({c for s in sets for c in combinations(s, k + 1)})
        own = np.array(found, dtype=np.int64).reshape(-1, k + 1)
        if len(own) > most:
            own = own[np.sort(rng.choice(len(own), most, replace=False))]
        if need is not None and len(need):
            own = np.unique(np.concatenate([own, need]), axis=0)
        below = [np.delete(own, j, axis=1) for j in range(k + 1)]
        need = np.unique(np.concatenate(below), axis=0) if k > 1 else None
        rows.append(own)
    return SimplicialComplex(rows[::-1], n)


def _distances(graph: Graph) -> np.ndarray:
    _small(graph)
    return np.asarray(shortest_path(graph.adjacency().astype(float), unweighted=True))


def _squares(x: np.ndarray) -> np.ndarray:
    norms = (x**2).sum(axis=1)
    return np.maximum(norms[:, None] + norms[None] - 2 * x @ x.T, 0)


def _small(graph: Graph) -> None:
    if graph.n > MAX_DENSE:
        raise ValueError(
            f"this lifting needs a dense {graph.n} x {graph.n} matrix, allowed are {MAX_DENSE} "
            "nodes: take another lifting or a part of the graph"
        )


def _wanted(x: Features, name: str) -> np.ndarray:
    if x is None:
        raise ValueError(f"{name} needs node features: give x=..., (n, d)")
    return x
