"""Data sets of the benchmark, all offline: from packages, from one pinned asset, or generated.

Those that need files of the user or torch-geometric are in :mod:`.data_files`.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import networkx as nx
import numpy as np

from labcore.topology.data_files import from_torch_geometric, planetoid, torch_geometric, tu_source
from labcore.topology.graphs import as_graph
from labcore.topology.lift_points import knn_graph
from labcore.topology.source import Source, folds, one_hot, split
from labcore.topology.surfaces import ORIENTABLE, disjoint_union, surfaces

# Communities of the karate club by modularity, as used since arXiv 1609.02907.
KARATE = "1111333101311100310101002200200200"
NAMES = ("sphere", "torus", "projective plane", "Klein bottle")


def karate() -> Source:
    """Zachary's karate club, 34 nodes, 4 communities; features name the node. 30 % train."""
    graph = as_graph(nx.karate_club_graph())
    y = np.array([int(c) for c in KARATE])
    return Source("karate", "node", graph, np.eye(graph.n, dtype=np.float32), y, train=0.3)


def digits(n: int = 1797, k: int = 6, train: float = 0.05) -> Source:
    """Handwritten digits (scikit-learn's), each joined to its k nearest; equal ones by index."""
    images, labels = _digits()
    x = (images[:n] / 16).astype(np.float32)
    graph = knn_graph(x.astype(np.float64), None, k=k)
    name = "digits" if n == 1797 else f"digits-{n}"
    return Source(name, "node", graph, x, labels[:n], train=train)


def _digits() -> tuple[np.ndarray, np.ndarray]:
    """Images (1797, 64) and labels: from scikit-learn if it is here, else from the asset."""
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        from labcore.assets import fetch

        table = np.loadtxt(fetch("digits-photos")["digits.csv.gz"], delimiter=",")
        return table[:, :-1], table[:, -1].astype(np.int64)
    found = load_digits()
    return found.data, found.target.astype(np.int64)


def mutag() -> Source:
    """188 molecules, mutagenic or not; a node is an atom, features say which of 7 elements."""
    from labcore.assets import fetch

    paths = fetch("tu-graphs")
    files = ("A", "graph_indicator", "graph_labels", "node_labels")
    return tu_source({part: Path(paths[f"MUTAG_{part}.txt"]) for part in files}, "MUTAG")


def surface_names(n: int = 400, *, features: str = "constant", seed: int = 0) -> Source:
    """Random triangulations of four surfaces; the label is which."""
    return _surfaces("surfaces", n, NAMES, features, seed)


def torus_or_klein(n: int = 400, *, features: str = "constant", seed: int = 0) -> Source:
    """Torus or Klein bottle: orientable or not, with exactly equal counts of cells."""
    return _surfaces("torus-or-klein", n, ("torus", "Klein bottle"), features, seed)


def _surfaces(name: str, n: int, names: tuple[str, ...], features: str, seed: int) -> Source:
    parts, y = surfaces(n, names, seed=seed)
    whole, batch = disjoint_union(parts)
    x = np.ones((whole.n, 8), dtype=np.float32)
    if features == "random":
        x = np.random.default_rng(seed).standard_normal((whole.n, 8)).astype(np.float32)
    elif features != "constant":
        raise ValueError(f"features must be constant or random, got {features!r}")
    assert all(known in ORIENTABLE for known in names)
    return Source(name, "graph", whole, x, y, batch)


def block_model(n: int = 200, classes: int = 4, seed: int = 0) -> Source:
    """A stochastic block model with noisy features, 10 % train."""
    sizes = [n // classes] * classes
    p = np.full((classes, classes), 0.5 / (n / classes)) + np.eye(classes) * 8 / (n / classes)
    graph = as_graph(nx.stochastic_block_model(sizes, p.tolist(), seed=seed))
    y = np.repeat(np.arange(classes), n // classes)
    noise = np.random.default_rng(seed).standard_normal((graph.n, 16))
    x = noise.astype(np.float32)
    x[:, :classes] += one_hot(y) * 0.8
    return Source("blocks", "node", graph, x, y, train=0.1)


DATA: dict[str, Callable[[], Source]] = {
    "karate": karate,
    "digits": digits,
    "digits-600": lambda: digits(600, train=0.1),
    "mutag": mutag,
    "surfaces": surface_names,
    "surfaces-random": lambda: replace(surface_names(features="random"), name="surfaces-random"),
    "torus-or-klein": torus_or_klein,
    "blocks": block_model,
    "cora": lambda: planetoid("cora"),
    "citeseer": lambda: planetoid("citeseer"),
}


def load(name: str) -> Source:
    """A data set by name; ``pyg:KarateClub`` or ``pyg:TUDataset/PROTEINS`` from torch-geometric.

    Raises:
        ValueError: an unknown name.
    """
    if name.startswith("pyg:"):
        return torch_geometric(name.removeprefix("pyg:"))
    if name not in DATA:
        raise ValueError(f"unknown data set {name!r}: there are {', '.join(DATA)}, and pyg:NAME")
    return DATA[name]()


__all__ = [
    "DATA", "Source", "block_model", "digits", "folds", "from_torch_geometric", "karate", "load",
    "mutag", "planetoid", "split", "surface_names", "torus_or_klein",
]  # fmt: skip
