"""Liftings of a point cloud: to simplices and to hyperedges."""

import numpy as np
from scipy.spatial import Delaunay, cKDTree

from labcore.topology.cliques import MAX_SIMPLICES, TooManySimplices
from labcore.topology.complexes import SimplicialComplex, clique_complex
from labcore.topology.families import Hypergraph
from labcore.topology.graphs import Graph, as_graph
from labcore.topology.lift_graph import nearest
from labcore.topology.liftings import register_lifting

Features = np.ndarray | None


@register_lifting("points", "graph", "knn")
def knn_graph(points: np.ndarray, x: Features, *, k: int = 6) -> Graph:
    """Each point joined to its k nearest; equal distances in order of index."""
    found = nearest(points, k)
    pairs = np.column_stack([np.repeat(np.arange(len(points)), k), found.ravel()])
    low, high = np.sort(pairs, axis=1).T
    return as_graph(np.unique(np.stack([low, high]), axis=1), len(points), x=points)


@register_lifting("points", "simplicial", "rips")
def rips_points(
    points: np.ndarray,
    x: Features,
    *,
    threshold: float = 1.0,
    max_dim: int = 2,
    max_simplices: int = MAX_SIMPLICES,
) -> SimplicialComplex:
    """Points whose pairwise distances are all at most ``threshold``."""
    tree = cKDTree(points)
    count = (int(tree.count_neighbors(tree, threshold)) - len(points)) // 2
    if count > max_simplices:
        raise TooManySimplices(
            f"{count:,} pairs of points are within {threshold}, {max_simplices:,} are allowed: "
            "lower the threshold, take fewer points, or raise max_simplices"
        )
    pairs = tree.query_pairs(threshold, output_type="ndarray").astype(np.int64).reshape(-1, 2)
    near = Graph(len(points), pairs[np.lexsort(pairs.T[::-1])])
    return clique_complex(near, max_dim=max_dim, max_simplices=max_simplices)


@register_lifting("points", "simplicial", "delaunay")
def delaunay(points: np.ndarray, x: Features) -> SimplicialComplex:
    """The Delaunay triangulation with all faces."""
    facets = Delaunay(np.asarray(points, dtype=np.float64)).simplices
    return SimplicialComplex.from_facets(facets.tolist(), len(points))


@register_lifting("points", "simplicial", "alpha")
def alpha(points: np.ndarray, x: Features, *, radius: float = 1.0) -> SimplicialComplex:
    """Delaunay simplices with a circumscribed ball of at most ``radius``, and all edges of at most
    twice that length among their faces.
    """
    cloud = np.asarray(points, dtype=np.float64)
    whole = delaunay(cloud, x)
    top = whole.simplices(whole.dim)
    kept = top[_circumradius(cloud[top]) <= radius]
    edges = whole.simplices(1)
    length = np.linalg.norm(cloud[edges[:, 0]] - cloud[edges[:, 1]], axis=1)
    short = edges[length <= 2 * radius]
    return SimplicialComplex.from_facets([*kept.tolist(), *short.tolist()], len(cloud))


@register_lifting("points", "hypergraph", "voronoi")
def voronoi(points: np.ndarray, x: Features, *, centres: int = 10, seed: int = 0) -> Hypergraph:
    """Farthest-point centres; each hyperedge is the points nearest to one of them."""
    if not 1 <= centres <= len(points):
        raise ValueError(f"centres must be 1..{len(points)}, got {centres}")
    cloud = np.asarray(points, dtype=np.float64)
    chosen = [int(np.random.default_rng(seed).integers(len(cloud)))]
    far = np.linalg.norm(cloud - cloud[chosen[0]], axis=1)
    while len(chosen) < centres:
        chosen.append(int(far.argmax()))
        far = np.minimum(far, np.linalg.norm(cloud - cloud[chosen[-1]], axis=1))
    owner = cKDTree(cloud[chosen]).query(cloud)[1]
    sets = [np.flatnonzero(owner == c).tolist() for c in range(centres)]
    return Hypergraph(len(cloud), [s for s in sets if s])


def _circumradius(corners: np.ndarray) -> np.ndarray:
    """Radius of the ball through the corners of each simplex, (s,) from (s, d + 1, d)."""
    edges = corners[:, 1:] - corners[:, :1]
    right = 0.5 * (edges**2).sum(-1)
    singular = np.abs(np.linalg.det(edges)) < 1e-14
    safe = np.where(singular[:, None, None], np.eye(edges.shape[-1]), edges)
    centre = np.linalg.solve(safe, right[..., None])[..., 0]
    return np.where(singular, np.inf, np.linalg.norm(centre, axis=-1))
