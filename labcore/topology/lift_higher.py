"""Liftings of complexes and hypergraphs to combinatorial complexes."""

from itertools import combinations

import numpy as np

from labcore.topology.complexes import SimplicialComplex
from labcore.topology.families import CombinatorialComplex, Hypergraph
from labcore.topology.liftings import register_lifting

Features = np.ndarray | None


@register_lifting("simplicial", "combinatorial", "coface")
def coface(complex_: SimplicialComplex, x: Features) -> CombinatorialComplex:
    """Simplices keep their ranks; each k-simplex (k >= 1) with cofaces adds their union one above.

    The union of all (k+1)-simplices around a simplex is a cell of rank ``dim + 1``: who lives near
    the same simplex meets there.
    """
    cells: dict[int, list[tuple[int, ...]]] = {
        k: complex_.vertices(k) for k in range(1, complex_.dim + 1)
    }
    unions = set()
    for k in range(1, complex_.dim):
        b = complex_.boundary(k + 1, signed=False).tocsr()
        above = complex_.simplices(k + 1)
        for row in range(b.shape[0]):
            around = b.indices[b.indptr[row] : b.indptr[row + 1]]
            if len(around) > 1:
                unions.add(tuple(np.unique(above[around]).tolist()))
    if unions:
        cells[complex_.dim + 1] = sorted(unions)
    return CombinatorialComplex(complex_.n, cells)


@register_lifting("hypergraph", "combinatorial", "faces")
def faces(hypergraph: Hypergraph, x: Features) -> CombinatorialComplex:
    """Every pair inside a hyperedge is a cell of rank 1, the hyperedges of more nodes of rank 2."""
    pairs = sorted({p for e in hypergraph.hyperedges for p in combinations(e, 2)})
    large = sorted({e for e in hypergraph.hyperedges if len(e) > 2})
    return CombinatorialComplex(hypergraph.n, {1: pairs, 2: large} if large else {1: pairs})
