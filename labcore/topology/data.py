"""Data sets of the benchmark, all offline: from packages, from one pinned asset, or generated.

Planetoid's text files (``ind.cora.*``) are read where the user has them and says so in
``LABCORE_DATA``; torch-geometric's data sets and graphs go in by :func:`from_torch_geometric`.
"""

import io
import os
import pickle
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
from scipy import sparse

from labcore.topology.complexes import SimplicialComplex
from labcore.topology.graphs import Graph, as_graph
from labcore.topology.lift_points import knn_graph
from labcore.topology.surfaces import ORIENTABLE, disjoint_union, surfaces

# Communities of the karate club by modularity, as used since arXiv 1609.02907.
KARATE = "1111333101311100310101002200200200"
NAMES = ("sphere", "torus", "projective plane", "Klein bottle")


@dataclass(frozen=True)
class Source:
    """A data set, ready to be lifted.

    Attributes:
        name: Its name.
        level: ``node`` or ``graph``: what carries a label.
        complex: A :class:`Graph` or a :class:`SimplicialComplex`; many graphs stand side by side.
        x: Node features (n, d).
        y: Labels of nodes or of graphs.
        batch: Graph of each node, or None.
        train: Share of the labelled items that train; validation and test halve the rest.
    """

    name: str
    level: str
    complex: Any
    x: np.ndarray
    y: np.ndarray
    batch: np.ndarray | None = None
    train: float = 0.5

    @property
    def classes(self) -> int:
        """Number of classes."""
        return int(self.y.max()) + 1

    @property
    def domain(self) -> str:
        """``graph`` or ``simplicial``."""
        return "graph" if isinstance(self.complex, Graph) else "simplicial"


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
    return _tu({part: Path(paths[f"MUTAG_{part}.txt"]) for part in files}, "MUTAG")


def read_tu(folder: str | Path, name: str) -> Source:
    """A data set in the layout of the TU collection (graph classification, node labels).

    Raises:
        FileNotFoundError: a file is missing.
    """
    base = Path(folder)
    files = ("A", "graph_indicator", "graph_labels", "node_labels")
    return _tu({part: base / f"{name}_{part}.txt" for part in files}, name)


def _tu(files: dict[str, Path], name: str) -> Source:
    def numbers(part: str) -> np.ndarray:
        text = files[part].read_text(encoding="utf-8")
        return np.array(text.replace(",", " ").split(), dtype=np.int64)

    batch = numbers("graph_indicator") - 1
    graph = as_graph((numbers("A").reshape(-1, 2) - 1).T, len(batch))
    y = np.unique(numbers("graph_labels"), return_inverse=True)[1]
    atoms = np.unique(numbers("node_labels"), return_inverse=True)[1]
    return Source(name, "graph", graph, _one_hot(atoms), y, batch)


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
    x[:, :classes] += _one_hot(y) * 0.8
    return Source("blocks", "node", graph, x, y, train=0.1)


def planetoid(name: str, folder: str | Path | None = None) -> Source:
    """Cora, Citeseer or PubMed from the files ``ind.<name>.*`` that the user has.

    The files are pickles of numpy and scipy arrays; everything else in them is refused.

    Args:
        name: ``cora``, ``citeseer`` or ``pubmed``.
        folder: Where they are; default: the environment variable ``LABCORE_DATA``.

    Raises:
        FileNotFoundError: no folder is named, or a file is missing.
    """
    base = Path(folder or os.environ.get("LABCORE_DATA", ""))
    if not (base / f"ind.{name}.graph").exists():
        raise FileNotFoundError(
            f"no ind.{name}.graph in {base or 'LABCORE_DATA'}: set LABCORE_DATA to the folder of "
            "Planetoid's files"
        )
    parts = {k: _unpickled(base / f"ind.{name}.{k}") for k in ("allx", "ally", "tx", "ty", "graph")}
    test = np.array((base / f"ind.{name}.test.index").read_text().split(), dtype=np.int64)
    n = len(parts["graph"])
    x = np.zeros((n, parts["allx"].shape[1]), dtype=np.float32)
    y = np.zeros(n, dtype=np.int64)
    known = parts["allx"].shape[0]
    x[:known], y[:known] = parts["allx"].toarray(), parts["ally"].argmax(axis=1)
    x[test], y[test] = parts["tx"].toarray(), parts["ty"].argmax(axis=1)
    pairs = [(u, v) for u, near in parts["graph"].items() for v in near]
    pairs += [(v, u) for u, v in pairs]
    return Source(name, "node", as_graph(np.array(pairs).T, n), x, y)


class _Arrays(pickle.Unpickler):
    """Only what these files hold: numpy arrays, scipy matrices, dicts."""

    def find_class(self, module: str, name: str) -> Any:
        if module.split(".")[0] == "numpy" and name in ("ndarray", "dtype", "_reconstruct"):
            return super().find_class(module.replace("numpy.core", "numpy._core"), name)
        if module.startswith("scipy.sparse") and name == "csr_matrix":
            return sparse.csr_matrix
        if (module, name) == ("collections", "defaultdict"):
            return super().find_class(module, name)
        if module in ("__builtin__", "builtins") and name == "list":
            return list
        raise pickle.UnpicklingError(f"{module}.{name} is not allowed in these files")


def _unpickled(path: Path) -> Any:
    return _Arrays(io.BytesIO(path.read_bytes()), encoding="latin1").load()


def from_torch_geometric(data: Any, name: str = "given", train: float = 0.5) -> Source:
    """A torch-geometric ``Data`` (labels at nodes) or a data set of many (labels at graphs).

    Raises:
        ValueError: no features or no labels.
    """
    if not isinstance(data, (list, tuple)) and not hasattr(data, "_data"):  # one Data, no data set
        graph = as_graph(data)
        if graph.x is None or graph.y is None:
            raise ValueError("the graph has no features or no labels: give x (n, d) and y (n,)")
        return Source(name, "node", graph, graph.x, graph.y, train=train)
    graphs = [as_graph(one) for one in data]
    shift = np.cumsum([0, *(g.n for g in graphs)])
    pairs = np.concatenate([g.edges + s for g, s in zip(graphs, shift, strict=False)])
    whole = as_graph(pairs.T if len(pairs) != 2 else pairs.tolist(), int(shift[-1]))
    if any(g.x is None or g.y is None for g in graphs):
        raise ValueError("a graph has no features or no label: give x and y")
    x = np.concatenate([g.x for g in graphs if g.x is not None])
    y = np.array([int(g.y[0]) for g in graphs if g.y is not None])
    batch = np.repeat(np.arange(len(graphs)), [g.n for g in graphs])
    return Source(name, "graph", whole, x, y, batch, train)


def own_graph(graph: Graph, x: Any = None, y: Any = None) -> Source:
    """A graph of one's own; without features each node gets its degree and a constant."""
    if x is None:
        degree = graph.degrees().astype(np.float32)
        x = np.stack([np.ones_like(degree), np.log1p(degree)], axis=1)
    y = np.zeros(graph.n, dtype=np.int64) if y is None else np.asarray(y)
    return Source("own", "node", replace(graph, x=None), np.asarray(x, np.float32), y)


def _one_hot(labels: np.ndarray) -> np.ndarray:
    return np.eye(int(labels.max()) + 1, dtype=np.float32)[labels]


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
    """A data set by name.

    Raises:
        ValueError: an unknown name.
    """
    if name not in DATA:
        raise ValueError(f"unknown data set {name!r}: there are {', '.join(DATA)}")
    return DATA[name]()


def split(source: Source, seed: int) -> dict[str, np.ndarray]:
    """Random train, validation and test items, class by class; they share nothing.

    Raises:
        ValueError: a part would be empty.
    """
    rng = np.random.default_rng([seed, 7])
    parts: dict[str, list[np.ndarray]] = {"train": [], "val": [], "test": []}
    for label in range(source.classes):
        mine = rng.permutation(np.flatnonzero(source.y == label))
        first = max(1, round(source.train * len(mine)))
        middle = first + (len(mine) - first) // 2
        for name, part in zip(parts, np.split(mine, [first, middle]), strict=True):
            parts[name].append(part)
    found = {name: np.sort(np.concatenate(rows)) for name, rows in parts.items()}
    if empty := [name for name, rows in found.items() if not len(rows)]:
        raise ValueError(f"the {empty[0]} part is empty: {len(source.y)} labels are too few")
    return found


def folds(count: int, k: int, seed: int) -> Iterable[dict[str, np.ndarray]]:
    """k-fold splits: fold i is the test part, fold i + 1 the validation part, the rest trains.

    Raises:
        ValueError: k below 3 or above the number of items.
    """
    if not 3 <= k <= count:
        raise ValueError(f"k must be 3..{count} (items), got {k}")
    parts = np.array_split(np.random.default_rng(seed).permutation(count), k)
    for i in range(k):
        j = (i + 1) % k
        rest = np.concatenate([p for m, p in enumerate(parts) if m not in (i, j)])
        yield {"train": np.sort(rest), "val": np.sort(parts[j]), "test": np.sort(parts[i])}


__all__ = ["DATA", "Source", "SimplicialComplex", "folds", "from_torch_geometric", "load", "split"]
