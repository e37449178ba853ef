"""What a data set is, and how it is divided."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from labcore.topology.graphs import Graph


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


def one_hot(labels: np.ndarray) -> np.ndarray:
    """(n, classes) of whole numbers from 0 on."""
    return np.eye(int(labels.max()) + 1, dtype=np.float32)[labels]


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
