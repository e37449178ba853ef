"""What page and notebooks look at: a small graph, lifted, its matrices, and a node's sequence."""

import time
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import networkx as nx
import numpy as np
import torch

from labcore.topology.cells import cycle_basis
from labcore.topology.chains import ChainComplex
from labcore.topology.graphs import Graph, as_graph, read_edge_list
from labcore.topology.liftings import TopoData, lift, parameters
from labcore.topology.sequences import NodeSequencer, rank_operators

GRAPHS = ("karate", "florentine", "les miserables", "davis", "petersen", "torus")
LIFTS = (
    "simplicial/clique",
    "simplicial/dowker",
    "simplicial/line",
    "cell/cycle",
    "hypergraph/khop",
    "hypergraph/mapper",
)
MATRICES = ("boundary", "hodge", "up", "down", "adjacency")
MODES = ("signed", "abs_after", "unsigned_incidence")
ORDERS = ("descending", "ascending", "shuffled")
MAX_NODES = 300
MAX_CELLS = 200_000  # of one rank, in a lifting that the page makes
MOST_DRAWN, MOST_EXACT, MOST_ENTRIES = 4000, 6000, 60_000


@dataclass(frozen=True)
class View:
    """A lifted graph as plain arrays, ready to be drawn."""

    places: np.ndarray
    edges: list[tuple[int, ...]]
    cells: list[tuple[int, ...]]
    names: tuple[str, ...]
    sizes: tuple[int, ...]
    betti: tuple[int, ...]
    euler: int | None
    spectra: dict[int, np.ndarray]
    harmonic: np.ndarray | None
    dropped: dict[str, int]
    milliseconds: float
    kilobytes: float

    @property
    def nodes(self) -> int:
        """How many nodes there are."""
        return len(self.places)

    def nearest(self, node: int) -> int:
        """The node, or the last one if there are fewer."""
        return min(node, self.nodes - 1)

    @property
    def facts(self) -> str:
        """Counts, holes and cost in one line."""
        parts = [f"Cells by rank: **{' / '.join(map(str, self.sizes))}**"]
        if self.betti:
            parts.append(f"Betti numbers **{', '.join(map(str, self.betti))}**")
        if self.euler is not None:
            parts.append(f"Euler characteristic **{self.euler}**")
        parts.append(f"lifted in {self.milliseconds:.1f} ms, matrices {self.kilobytes:.0f} kB")
        left = ", ".join(f"{v} {k.replace('_', ' ')}" for k, v in self.dropped.items() if v)
        return "; ".join([*parts, *([f"dropped or mended: {left}"] if left else [])]) + "."


@dataclass(frozen=True)
class Tokens:
    """The sequence that a node reads: (t, d), and what each token is called."""

    values: np.ndarray
    ranks: tuple[int, ...]
    names: tuple[str, ...]
    node: int


def small_graph(name: str, *, relabel: int = 0, text: str = "") -> Graph:
    """One of the graphs that the page opens with, or one's own; renamed by a seed (0 does not).

    Args:
        name: A key of GRAPHS.
        relabel: Seed of the renaming.
        text: An edge list, which is read instead if it is not empty.

    Raises:
        ValueError: unknown name, a text that is no edge list, or more nodes than can be drawn.
    """
    makers: dict[str, Any] = {
        "karate": nx.karate_club_graph,
        "florentine": nx.florentine_families_graph,
        "les miserables": nx.les_miserables_graph,
        "davis": nx.davis_southern_women_graph,
        "petersen": nx.petersen_graph,
        "torus": lambda: nx.grid_2d_graph(5, 5, periodic=True),
    }
    if not text and name not in makers:
        raise ValueError(f"graph must be one of {', '.join(makers)}, got {name!r}")
    graph = read_edge_list(text) if text else as_graph(makers[name]())
    if graph.n > MAX_NODES:
        raise ValueError(
            f"the page draws at most {MAX_NODES} nodes, the graph has {graph.n}: give a part of it"
        )
    if relabel:
        graph = graph.relabelled(np.random.default_rng(relabel).permutation(graph.n))
    return graph


@lru_cache(maxsize=16)
def lifted_small(
    name: str, lifting: str, max_dim: int, relabel: int = 0, basis: str = "minimum", text: str = ""
) -> tuple[Graph, TopoData]:
    """A small graph and its lifting; the last ones are kept, and nobody changes them.

    Raises:
        ValueError: as :func:`small_graph`, or what the lifting refuses.
    """
    graph = small_graph(name, relabel=relabel, text=text)
    given = {"max_dim": max_dim, "max_simplices": MAX_CELLS, "basis": basis}
    known = parameters("graph", lifting)
    return graph, lift(graph, lifting, **{k: v for k, v in given.items() if k in known})


def view(
    name: str, lifting: str, max_dim: int, relabel: int = 0, basis: str = "minimum", text: str = ""
) -> View:
    """Lift a small graph and gather what the figures need.

    Raises:
        ValueError: as :func:`lifted_small`.
    """
    start = time.process_time()
    graph, topo = lifted_small(name, lifting, max_dim, relabel, basis, text)
    seconds = time.process_time() - start
    held = topo.complex
    chain = isinstance(held, ChainComplex)
    places = _layout(graph, held.n)
    values, vectors = _spectra(held) if chain else ({}, None)
    return View(
        places=places,
        edges=held.vertices(1) if topo.domain != "hypergraph" else _plain(graph),
        cells=_cells(topo, places)[:MOST_DRAWN],
        names=graph.names if held.n == graph.n else (),
        sizes=topo.sizes,
        betti=held.betti() if chain and sum(held.sizes) <= MOST_EXACT else (),
        euler=held.euler() if chain else None,
        spectra=values,
        harmonic=vectors,
        dropped=dict(graph.dropped),
        milliseconds=1e3 * seconds,
        kilobytes=rank_operators(held).nbytes / 1024,
    )


def node_tokens(
    name: str,
    lifting: str,
    max_dim: int,
    node: int,
    *,
    relabel: int = 0,
    basis: str = "minimum",
    text: str = "",
    order: str = "descending",
) -> Tokens:
    """The sequence of one node, from twelve random features a node (seed 0).

    Args:
        node: The last one is taken if there are fewer.
        order: Of the ranks: ``descending``, ``ascending`` or ``shuffled`` (seed 0).

    Raises:
        ValueError: unknown order, a negative node, or as :func:`lifted_small`.
    """
    if order not in ORDERS:
        raise ValueError(f"order must be one of {', '.join(ORDERS)}, got {order!r}")
    if node < 0:
        raise ValueError(f"a node is 0 or more, got {node}")
    held = lifted_small(name, lifting, max_dim, relabel, basis, text)[1].complex
    operators = rank_operators(held)
    x = np.random.default_rng(0).standard_normal((held.n, 12)).astype(np.float32)
    node = min(node, held.n - 1)
    plain = "ascending" if order == "ascending" else "descending"
    tokens = NodeSequencer(operators, order=plain)(torch.from_numpy(x)).numpy()[node]
    ranks = operators.ranks[::-1] if order == "ascending" else operators.ranks
    if order == "shuffled":
        turn = np.random.default_rng(0).permutation(len(ranks))
        tokens = tokens[[*turn, len(ranks)]]
        ranks = tuple(ranks[i] for i in turn)
    return Tokens(tokens, ranks, (*(f"rank {r}" for r in ranks), "itself"), node)


def matrix_of(
    name: str,
    lifting: str,
    max_dim: int,
    kind: str,
    rank: int,
    mode: Literal["signed", "abs_after", "unsigned_incidence"],
    *,
    relabel: int = 0,
    basis: str = "minimum",
    text: str = "",
) -> np.ndarray | None:
    """A matrix of a lifted graph; None where it is empty or too large to draw.

    Raises:
        ValueError: unknown kind, or as :func:`lifted_small`.
    """
    if kind not in MATRICES:
        raise ValueError(f"matrix must be one of {', '.join(MATRICES)}, got {kind!r}")
    held = lifted_small(name, lifting, max_dim, relabel, basis, text)[1].complex
    if not isinstance(held, ChainComplex):
        found = held.incidence() if kind == "boundary" else held.adjacency()
    elif kind == "boundary":
        found = held.boundary(max(rank, 1), signed=mode == "signed")
    elif kind == "adjacency":
        found = held.adjacency(rank)
    else:
        found = held.laplacian(rank, kind, mode=mode)  # type: ignore[arg-type]
    rows, columns = found.shape
    return found.toarray() if 0 < rows * columns <= MOST_ENTRIES else None


def matrix_labels(kind: str, rank: int, mode: str) -> dict[str, str]:
    """Title and axes of a matrix of :func:`matrix_of`."""
    of = max(rank, 1) if kind == "boundary" else rank
    return {
        "name": f"{kind} of rank {of}, {mode}",
        "rows": f"cell of rank {of - 1 if kind == 'boundary' else of}",
        "columns": f"cell of rank {of}",
    }


def ring_lengths(name: str, relabel: int = 0) -> dict[str, list[int]]:
    """Lengths of the cycles of two bases of a small graph, its nodes renamed by a seed."""
    graph = small_graph(name, relabel=relabel)
    return {
        "fundamental": [len(c) for c in cycle_basis(graph, "fundamental", max_len=graph.n)],
        "minimum": [len(c) for c in cycle_basis(graph, "minimum", max_len=graph.n)],
    }


def gallery(name: str, relabel: int = 0) -> list[tuple[str, View]]:
    """One graph in all liftings of LIFTS."""
    return [(lifting, view(name, lifting, 2, relabel)) for lifting in LIFTS]


def _plain(graph: Graph) -> list[tuple[int, ...]]:
    return [tuple(e) for e in graph.edges.tolist()]


def _layout(graph: Graph, n: int) -> np.ndarray:
    """Places of the nodes; where the nodes are the edges of the graph, their middles."""
    plain = nx.Graph(graph.edges.tolist())
    plain.add_nodes_from(range(graph.n))
    found = nx.spring_layout(plain, seed=1, iterations=80)
    places = np.array([found[v] for v in range(graph.n)])
    return places if n == graph.n else places[graph.edges].mean(axis=1)


def _cells(topo: TopoData, places: np.ndarray) -> list[tuple[int, ...]]:
    if topo.domain == "hypergraph":  # drawn as the outline of its nodes
        return [_around(c, places) for c in topo.complex.vertices(1) if len(c) > 2]
    return list(topo.complex.vertices(2)) if topo.complex.dim >= 2 else []


def _around(cell: tuple[int, ...], places: np.ndarray) -> tuple[int, ...]:
    middle = places[list(cell)].mean(axis=0)
    turn = np.arctan2(*(places[list(cell)] - middle).T)
    return tuple(int(cell[i]) for i in np.argsort(turn))


def _spectra(held: ChainComplex) -> tuple[dict[int, np.ndarray], np.ndarray | None]:
    """Eigenvalues of each small rank; and an edge flow in the kernel, if there is one."""
    values, flow = {}, None
    for k in range(held.dim + 1):
        if 0 < held.size(k) <= 500:
            values[k], vectors = np.linalg.eigh(held.laplacian(k).toarray().astype(float))
            if k == 1 and values[1][0] < 1e-8:
                flow = vectors[:, 0]
    return values, flow
