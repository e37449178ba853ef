"""Reader of the article's data sets: the ``*_ct1`` text files, in the TU layout.

Oettershagen, Kriege, Morris, Mutzel, SDM 2020, arXiv 1911.05496. A contact with attribute t is in
bin t - 1; a node whose label turns 1 at time a is infected from bin a on (so ``gap=2`` in
:mod:`.truth`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float32, Int, UInt8

from labcore.koopman.simulate import NEVER, flags


@dataclass(frozen=True)
class TemporalGraph:
    """One graph: contacts as rows (bin, u, v), first infected bin of each node, class."""

    contacts: Int[np.ndarray, "c 3"]
    infected_at: Int[np.ndarray, " n"]
    label: int
    steps: int

    def adjacency(self) -> UInt8[np.ndarray, "t n n"]:
        """Contacts of u and v in each bin, symmetric."""
        n = len(self.infected_at)
        A = np.zeros((self.steps, n, n), dtype=np.uint8)
        t, u, v = self.contacts.T
        np.add.at(A, (t, u, v), 1)
        return A

    def features(self) -> Int[np.ndarray, "t n"]:
        """1 from the bin on in which a node is infected."""
        return flags(self.infected_at, self.steps)


def read_temporal_tu(
    folder: str | Path, name: str, steps: int | None = None
) -> list[TemporalGraph]:
    """All graphs of ``folder/name_*.txt``; graphs keep their own number of nodes.

    Args:
        folder: Where the files are.
        name: Data set, as ``"infectious_ct1"``.
        steps: Bins of every graph; default: up to the last contact or infection of the set.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a contact time below 1 or beyond ``steps``.
    """
    base = Path(folder)
    pairs = _numbers(base / f"{name}_A.txt").reshape(-1, 2) - 1
    time = _numbers(base / f"{name}_edge_attributes.txt") - 1
    graph_of = _numbers(base / f"{name}_graph_indicator.txt") - 1
    labels = _numbers(base / f"{name}_graph_labels.txt")
    first = [_first_infected(line) for line in _lines(base / f"{name}_node_labels.txt")]
    steps = max(int(time.max()), *first) + 1 if steps is None else steps
    if time.min() < 0 or time.max() >= steps:
        raise ValueError(f"contact times must be 1..{steps}, the files hold {int(time.max()) + 1}")
    starts = np.searchsorted(graph_of, np.arange(len(labels) + 1))
    owner = graph_of[pairs[:, 0]]
    graphs = []
    for g, label in enumerate(labels):
        mine = owner == g
        rows = np.column_stack([time[mine], pairs[mine] - starts[g]])
        infected_at = np.array(first[starts[g] : starts[g + 1]])
        graphs.append(TemporalGraph(rows, infected_at, int(label), steps))
    return graphs


def pad_graphs(
    graphs: Sequence[TemporalGraph],
) -> tuple[Float32[np.ndarray, "b t n"], UInt8[np.ndarray, "b t n n"], Bool[np.ndarray, "b n"]]:
    """Flags, contacts and mask of graphs with different numbers of nodes, as one batch.

    Nodes beyond a graph's own are False in the mask; they have no contacts and are never infected.

    Raises:
        ValueError: no graphs, or graphs of different numbers of steps.
    """
    if len({g.steps for g in graphs}) != 1:
        raise ValueError(f"{len(graphs)} graphs must have one number of steps")
    n, steps = max(len(g.infected_at) for g in graphs), graphs[0].steps
    x = np.zeros((len(graphs), steps, n), dtype=np.float32)
    A = np.zeros((len(graphs), steps, n, n), dtype=np.uint8)
    mask = np.zeros((len(graphs), n), dtype=bool)
    for i, g in enumerate(graphs):
        own = len(g.infected_at)
        x[i, :, :own], A[i, :, :own, :own], mask[i, :own] = g.features(), g.adjacency(), True
    return x, A, mask


def _lines(path: Path) -> list[str]:
    return [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def _numbers(path: Path) -> np.ndarray:
    return np.array(" ".join(_lines(path)).replace(",", " ").split(), dtype=np.int64)


def _first_infected(line: str) -> int:
    values = [int(v) for v in line.replace(",", " ").split()]
    times = [t for t, label in zip(values[::2], values[1::2], strict=True) if label == 1]
    return min(times, default=NEVER)
