"""The matrices that models read, by name; only those that a model asks for are made.

A family gives one matrix (graphs, hypergraphs) or one a rank (``family + k``). Laplacians are
divided by a bound on their eigenvalues, incidences and neighbourhoods by their row sums.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from labcore.topology.chains import ChainComplex, as_torch
from labcore.topology.families import CombinatorialComplex, Hypergraph
from labcore.topology.graphs import Graph


def matrices(held: Any, families: Iterable[str], *, signed: bool = False) -> dict[str, Tensor]:
    """The matrices of a complex.

    Args:
        held: A graph, hypergraph, chain complex or combinatorial complex.
        families: Names, as ``gcn``, ``to_edges``, ``up``, ``below``, ``lower``.
        signed: Orientations count: signed boundaries and Laplacians.

    Raises:
        ValueError: a family that this complex does not have.
    """
    made: dict[str, Any] = {}
    for family in families:
        made |= dict(_family(held, family, signed))
    return {
        name: torch.from_numpy(found) if isinstance(found, np.ndarray) else as_torch(found)
        for name, found in made.items()
    }


def _family(held: Any, family: str, signed: bool) -> Mapping[str, Any]:
    if family == "lower":  # from the cells of every rank down to their nodes
        return {f"lower{k}": rows(held.membership(k)) for k in range(1, held.dim + 1)}
    if isinstance(held, Graph):
        return {family: _of_graph(held, family)}
    if isinstance(held, Hypergraph):
        return {family: _of_hypergraph(held, family)}
    found = {}
    for k in range(held.dim + 1):
        if isinstance(held, ChainComplex):
            one = _of_chain(held, family, k, signed)
        else:
            one = _of_cells(held, family, k)
        if one is not None:
            found[f"{family}{k}"] = one
    return found


def _of_graph(graph: Graph, family: str) -> Any:
    a = graph.adjacency().astype(np.float64)
    if family == "adj":
        return a
    with_self = sparse.csr_array(a + sparse.eye_array(graph.n))
    if family == "edges":
        return np.stack(with_self.nonzero()).astype(np.int64)
    if family == "gcn":
        d = np.asarray(with_self.sum(axis=1)).ravel() ** -0.5
        root = sparse.dia_array((d[None], [0]), shape=a.shape)
        return root @ with_self @ root
    raise ValueError(f"a graph has adj, edges and gcn, not {family!r}")


def _of_hypergraph(held: Hypergraph, family: str) -> Any:
    h = held.incidence().astype(np.float64)
    if family == "hgnn":
        return held.convolution()
    if family in ("to_edges", "to_nodes"):
        return rows(h.T if family == "to_edges" else h)
    if family == "uni":  # D_v^-1/2 H D_e^-1/2, D_e the mean degree of a hyperedge's nodes
        degree = np.asarray(h.sum(axis=1)).ravel()
        mean = np.asarray(rows(h.T) @ degree).ravel()
        left, right = _inverse(degree) ** 0.5, _inverse(mean) ** 0.5
        scaled = sparse.dia_array((left[None], [0]), shape=(len(left),) * 2) @ h
        return scaled @ sparse.dia_array((right[None], [0]), shape=(len(right),) * 2)
    raise ValueError(f"a hypergraph has hgnn, to_edges, to_nodes and uni, not {family!r}")


def _of_chain(held: ChainComplex, family: str, k: int, signed: bool) -> Any:
    mode: Any = "signed" if signed else "unsigned_incidence"
    up, down = k < held.dim, k > 0
    if family in ("up", "down", "hodge"):
        there = {"up": up, "down": down, "hodge": True}[family]
        return bounded(held.laplacian(k, family, mode=mode)) if there else None  # type: ignore[arg-type]
    if family in ("pairs_up", "pairs_down"):
        if not (up if family == "pairs_up" else down):
            return None
        near = held.adjacency(k) if family == "pairs_up" else held.coadjacency(k)
        return np.stack((near + sparse.eye_array(near.shape[0])).nonzero()).astype(np.int64)
    if family == "adjacent":
        return rows(held.adjacency(k)) if up else None
    if family == "coadjacent":
        return rows(held.coadjacency(k)) if down else None
    if family == "below":
        return rows(held.boundary(k, signed=signed).T) if down else None
    if family == "above":
        return rows(held.boundary(k + 1, signed=signed)) if up else None
    raise ValueError(f"a complex has no matrices {family!r}")


def _of_cells(held: CombinatorialComplex, family: str, k: int) -> Any:
    up, down = k < held.dim, k > 0
    if family == "up":
        return rows(held.adjacency(k, k + 1)) if up else None
    if family == "down":
        return rows(held.adjacency(k, k - 1)) if down else None
    if family == "below":
        return rows(held.incidence(k - 1, k).T) if down else None
    if family == "above":
        return rows(held.incidence(k, k + 1)) if up else None
    raise ValueError(f"a combinatorial complex has up, down, below and above, not {family!r}")


def bounded(matrix: Any) -> sparse.csr_array:
    """A Laplacian divided by its largest absolute row sum, a bound on its eigenvalues."""
    return sparse.csr_array(matrix / max(float(abs(matrix).sum(axis=1).max()), 1.0))


def rows(matrix: Any) -> sparse.csr_array:
    """Rows divided by their absolute sums; signs stay, empty rows too."""
    total = np.asarray(abs(sparse.csr_array(matrix)).sum(axis=1), dtype=np.float64).ravel()
    scale = sparse.dia_array((_inverse(total)[None], [0]), shape=(len(total),) * 2)
    return sparse.csr_array(scale @ matrix)


def _inverse(d: np.ndarray) -> np.ndarray:
    return np.divide(1.0, d, out=np.zeros_like(d), where=d > 0)
