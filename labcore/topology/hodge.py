"""Flows on edges: gradient, curl and what circles around holes.

``f = B_1^T p + B_2 w + h``: the three parts are orthogonal, ``h`` is in the kernel of the Hodge
Laplacian, and that kernel has one dimension a hole.
"""

from typing import NamedTuple

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import lsqr
from scipy.spatial import Delaunay

from labcore.topology.chains import ChainComplex
from labcore.topology.complexes import SimplicialComplex

EXACT = 900  # edges up to which the parts are found by dense least squares


class Hodge(NamedTuple):
    """The three parts of a flow (m,), and the potentials on nodes (n,) and 2-cells (n_2,)."""

    gradient: np.ndarray
    curl: np.ndarray
    harmonic: np.ndarray
    node_potential: np.ndarray
    cell_potential: np.ndarray


def hodge_decompose(complex_: ChainComplex, flow: np.ndarray) -> Hodge:
    """Split an edge flow.

    Raises:
        ValueError: a flow that has not one finite number an edge.

    >>> K = SimplicialComplex.from_facets([(0, 1), (1, 2), (0, 2)])
    >>> hodge_decompose(K, np.array([1.0, -1.0, 1.0])).harmonic.round(6).tolist()
    [1.0, -1.0, 1.0]
    """
    flow = np.asarray(flow, dtype=np.float64)
    if flow.shape != (complex_.size(1),) or not np.isfinite(flow).all():
        raise ValueError(
            f"the flow has shape {flow.shape}, the complex has {complex_.size(1)} edges: give one "
            "finite number an edge"
        )
    up = complex_.boundary(1).T.astype(np.float64)
    around = complex_.boundary(2).astype(np.float64)
    p, w = _least(up, flow), _least(around, flow)
    gradient, curl = up @ p, around @ w
    return Hodge(gradient, curl, flow - gradient - curl, p, w)


def _least(matrix: sparse.sparray, target: np.ndarray) -> np.ndarray:
    if 0 in matrix.shape:
        return np.zeros(matrix.shape[1])
    if matrix.shape[0] <= EXACT:
        return np.asarray(np.linalg.lstsq(matrix.toarray(), target, rcond=None)[0])
    return np.asarray(lsqr(matrix, target, atol=1e-14, btol=1e-14, iter_lim=20_000)[0])


def holed_square(
    n: int = 200, *, seed: int = 0, holes: int = 2
) -> tuple[SimplicialComplex, np.ndarray]:
    """A triangulated unit square with round holes, and the places of its nodes (n, 2).

    Raises:
        ValueError: fewer than 30 nodes, or holes other than 0, 1 or 2.
    """
    if n < 30 or holes not in (0, 1, 2):
        raise ValueError(f"give 30 nodes or more and 0 to 2 holes, got {n} and {holes}")
    rng = np.random.default_rng(seed)
    points = rng.uniform(size=(3 * n, 2))
    centres = np.array([[0.3, 0.68], [0.7, 0.32]])[:holes]
    for centre in centres:
        points = points[np.linalg.norm(points - centre, axis=1) > 0.17]
    chosen = [0]
    far = np.linalg.norm(points - points[0], axis=1)
    while len(chosen) < min(n, len(points)):  # farthest points: even spacing
        chosen.append(int(far.argmax()))
        far = np.minimum(far, np.linalg.norm(points - points[chosen[-1]], axis=1))
    places = points[chosen]
    facets = Delaunay(places).simplices
    middle = places[facets].mean(axis=1)
    keep = np.ones(len(facets), dtype=bool)
    for centre in centres:
        keep &= np.linalg.norm(middle - centre, axis=1) > 0.15
    return SimplicialComplex.from_facets(facets[keep].tolist(), len(places)), places


def mixed_flow(complex_: SimplicialComplex, places: np.ndarray) -> np.ndarray:
    """A flow with all three parts: a slope, eddies, and a stream around each hole."""
    u, v = complex_.simplices(1).T
    step, middle = places[v] - places[u], (places[u] + places[v]) / 2
    slope = step @ np.array([0.6, 0.3])
    eddy = np.sin(2 * np.pi * middle[:, 0]) * step[:, 1] * 0.8
    around = np.zeros(len(u))
    for centre, sign in (((0.3, 0.68), 1.0), ((0.7, 0.32), -1.0)):
        r = middle - np.array(centre)
        turn = np.stack([-r[:, 1], r[:, 0]], axis=1) / (r**2).sum(axis=1)[:, None]
        around += sign * (turn * step).sum(axis=1) * 0.12
    return slope + eddy + around
