"""What page and notebooks look at: a small graph, lifted, with a node's sequence and its scan."""

from dataclasses import dataclass
from typing import Any

import networkx as nx
import numpy as np
import torch

from labcore.topology.chains import ChainComplex
from labcore.topology.graphs import Graph, as_graph, read_edge_list
from labcore.topology.liftings import TopoData, lift, parameters
from labcore.topology.sequences import rank_operators

GRAPHS = ("karate", "florentine", "les miserables", "davis", "petersen", "torus")
LIFTS = (
    "simplicial/clique",
    "simplicial/dowker",
    "simplicial/line",
    "cell/cycle",
    "hypergraph/khop",
    "hypergraph/mapper",
)
MAX_NODES = 300
MOST_DRAWN, MOST_CELLS = 4000, 6000


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
    tokens: np.ndarray
    ranks: tuple[int, ...]
    spectra: dict[int, np.ndarray]
    boundaries: dict[int, np.ndarray]
    dropped: dict[str, int]
    nodes: int

    @property
    def last(self) -> int:
        """The highest node number."""
        return self.nodes - 1

    @property
    def token_names(self) -> list[str]:
        """What each token of the sequence is."""
        return [*(f"rank {r}" for r in self.ranks), "itself"]

    def boundary(self, k: int) -> tuple[np.ndarray, dict[str, str]] | None:
        """A boundary matrix and its labels; None where it is empty or too large to draw."""
        if k not in self.boundaries:
            return None
        labels = {"name": f"B{k}", "rows": f"cell of rank {k - 1}", "columns": f"cell of rank {k}"}
        return self.boundaries[k], labels

    @property
    def facts(self) -> str:
        """Counts and holes in one line."""
        parts = [f"cells by rank {' / '.join(map(str, self.sizes))}"]
        if self.euler is not None:
            if self.betti:
                parts.append(f"Betti numbers {', '.join(map(str, self.betti))}")
            parts.append(f"Euler characteristic {self.euler}")
        left = ", ".join(f"{v} {k.replace('_', ' ')}" for k, v in self.dropped.items() if v)
        return "; ".join([*parts, *([f"dropped: {left}"] if left else [])]) + "."


def small_graph(name: str, *, relabel: int = 0) -> Graph:
    """One of the graphs that the page opens with, its nodes renamed by a seed (0 does not).

    Raises:
        ValueError: unknown name.
    """
    makers: dict[str, Any] = {
        "karate": nx.karate_club_graph,
        "florentine": nx.florentine_families_graph,
        "les miserables": nx.les_miserables_graph,
        "davis": nx.davis_southern_women_graph,
        "petersen": nx.petersen_graph,
        "torus": lambda: nx.grid_2d_graph(5, 5, periodic=True),
    }
    if name not in makers:
        raise ValueError(f"graph must be one of {', '.join(makers)}, got {name!r}")
    graph = as_graph(makers[name]())
    if relabel:
        graph = graph.relabelled(np.random.default_rng(relabel).permutation(graph.n))
    return graph


def view_of(graph: Graph, lifting: str, node: int = 0, *, max_dim: int = 3, **options: Any) -> View:
    """Lift a graph and gather what the figures need; tokens of random features.

    Raises:
        ValueError: more than 300 nodes, or what the lifting refuses.
    """
    if graph.n > MAX_NODES or not graph.n:
        raise ValueError(f"the page draws 1 to {MAX_NODES} nodes, the graph has {graph.n}")
    known = parameters("graph", lifting)
    if node < 0:
        raise ValueError(f"a node is 0 or more, got {node}")
    given = {"max_dim": max_dim, "max_simplices": 20_000, **options}
    topo = lift(graph, lifting, **{k: v for k, v in given.items() if k in known})
    held = topo.complex
    node = min(node, held.n - 1)
    places = _layout(graph, held.n)
    operators = rank_operators(held)
    x = _features(held.n)
    tokens = operators.apply(torch.from_numpy(x)).numpy()[node]
    chain = isinstance(held, ChainComplex)
    return View(
        places=places,
        edges=held.vertices(1) if topo.domain != "hypergraph" else _plain(graph),
        cells=_cells(topo, places)[:MOST_DRAWN],
        names=graph.names if held.n == graph.n else (),
        sizes=topo.sizes,
        betti=held.betti() if chain and sum(held.sizes) <= MOST_CELLS else (),
        euler=held.euler() if chain else None,
        tokens=tokens,
        ranks=operators.ranks,
        spectra=_spectra(held) if chain else {},
        boundaries=_boundaries(held) if chain else {1: held.incidence().toarray()},
        dropped=dict(graph.dropped),
        nodes=held.n,
    )


def named_view(name: str, lifting: str, node: int, max_dim: int, relabel: int, basis: str) -> View:
    """:func:`view_of` for a graph by name: plain values in, arrays out."""
    options = {"basis": basis} if lifting == "cell/cycle" else {}
    return view_of(small_graph(name, relabel=relabel), lifting, node, max_dim=max_dim, **options)


def own_view(text: str, lifting: str, node: int, max_dim: int) -> View:
    """:func:`view_of` for an edge list of one's own."""
    return view_of(read_edge_list(text), lifting, node, max_dim=max_dim)


def _features(n: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((n, 12)).astype(np.float32)


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


def _spectra(held: ChainComplex) -> dict[int, np.ndarray]:
    return {
        k: np.linalg.eigvalsh(held.laplacian(k).toarray().astype(float))
        for k in range(held.dim + 1)
        if 0 < held.size(k) <= 600
    }


def _boundaries(held: ChainComplex) -> dict[int, np.ndarray]:
    return {
        k: held.boundary(k).toarray()
        for k in range(1, held.dim + 1)
        if held.size(k) * held.size(k - 1) <= 40_000
    }


def scan_matrix(tokens: np.ndarray, *, scale: float, mode: str, seed: int = 0) -> np.ndarray:
    """Hidden attention of a fresh Mamba block on one sequence, mean size over channels, (t, t).

    ``M[t, s] = C_t (prod of exp(delta A) from s + 1 to t) delta_s B_s``.

    Args:
        tokens: (t, d).
        scale: Multiplies every step: large steps forget more.
        mode: ``forward``, ``backward``, ``both`` or ``as published``.
        seed: Of the block's weights.

    Raises:
        ValueError: unknown mode.
    """
    from labcore.blocks.mamba import MambaBlock

    if mode not in ("forward", "backward", "both", "as published"):
        raise ValueError(f"mode must be forward, backward, both or as published, got {mode!r}")
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        ahead, back = MambaBlock(tokens.shape[1]), MambaBlock(tokens.shape[1])
        x = torch.nn.functional.layer_norm(torch.from_numpy(tokens), tokens.shape[1:])
        forward = _attention(ahead, x, scale)
        if mode == "forward":
            return forward.abs().mean(-1).numpy()
        if mode == "as published":
            return (forward + forward.flip(0)).abs().mean(-1).numpy()
        other = _attention(back, x.flip(0), scale).flip(0, 1)
        return (other if mode == "backward" else forward + other).abs().mean(-1).numpy()


def _attention(block: Any, x: torch.Tensor, scale: float) -> torch.Tensor:
    """(t, s, channels) of one direction."""
    _, delta, write, read = (part[0] for part in block.inner(x[None]))
    delta = delta * scale
    rates = -torch.exp(block.A_log)
    reach = torch.cumsum(delta[..., None] * rates, 0)  # (t, e, n)
    t = len(x)
    out = torch.zeros(t, t, delta.shape[1])
    for i in range(t):
        for j in range(i + 1):
            decay = torch.exp(reach[i] - reach[j])
            out[i, j] = (read[i] * decay * write[j]).sum(-1) * delta[j]
    return out
