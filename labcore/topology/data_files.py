"""Data sets in files of the user, and those of torch-geometric.

Planetoid's text files (``ind.cora.*``) are read where the user has them and says so in
``LABCORE_DATA``; ``load("pyg:TUDataset/PROTEINS")`` asks torch-geometric, which fetches what it
does not have. TopoBench's data sets are such ones, or graphs for :func:`from_torch_geometric`.
"""

import io
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

from labcore.topology.graphs import as_graph
from labcore.topology.source import Source, one_hot


def readtu_source(folder: str | Path, name: str) -> Source:
    """A data set in the layout of the TU collection (graph classification, node labels).

    Raises:
        FileNotFoundError: a file is missing.
    """
    base = Path(folder)
    files = ("A", "graph_indicator", "graph_labels", "node_labels")
    return tu_source({part: base / f"{name}_{part}.txt" for part in files}, name)


def tu_source(files: dict[str, Path], name: str) -> Source:
    """From the four text files of a TU data set."""

    def numbers(part: str) -> np.ndarray:
        text = files[part].read_text(encoding="utf-8")
        return np.array(text.replace(",", " ").split(), dtype=np.int64)

    batch = numbers("graph_indicator") - 1
    graph = as_graph((numbers("A").reshape(-1, 2) - 1).T, len(batch))
    y = np.unique(numbers("graph_labels"), return_inverse=True)[1]
    atoms = np.unique(numbers("node_labels"), return_inverse=True)[1]
    return Source(name, "graph", graph, one_hot(atoms), y, batch)


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


def torch_geometric(name: str) -> Source:
    """A data set of torch-geometric, fetched by it if it is not there.

    Args:
        name: Its class, and its name after a slash, as ``KarateClub`` or ``Planetoid/Cora``.

    Raises:
        ValueError: torch-geometric is not installed or has no such class.
    """
    try:
        from torch_geometric import datasets
    except ImportError:
        raise ValueError(f"pyg:{name} needs torch-geometric: pip install torch-geometric") from None
    from labcore.assets.store import cache_root

    kind, _, part = name.partition("/")
    maker = getattr(datasets, kind, None)
    if maker is None:
        raise ValueError(f"torch-geometric has no data set {kind!r}")
    folder = str(cache_root() / "torch-geometric" / kind)
    held = maker(folder, part) if part else maker()
    return from_torch_geometric(held[0] if len(held) == 1 else held, name)
