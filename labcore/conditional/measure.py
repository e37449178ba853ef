"""Mutual information, means with their spread, and accuracy at equal cost."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Spread:
    """Mean, standard error of the mean, smallest and largest of ``n`` seeds."""

    mean: float
    error: float
    low: float
    high: float
    n: int


def spread(values: Sequence[float]) -> Spread:
    """Mean and spread; the standard error of a single seed is NaN, not zero.

    Raises:
        ValueError: no values.

    >>> spread([1.0, 3.0])
    Spread(mean=2.0, error=1.0, low=1.0, high=3.0, n=2)
    """
    if not len(values):
        raise ValueError("no values to average: the table has no row for what was asked")
    array = np.asarray(values, dtype=np.float64)
    error = float(array.std(ddof=1)) / math.sqrt(array.size) if array.size > 1 else math.nan
    low, high = float(array.min()), float(array.max())
    return Spread(float(array.mean()), error, low, high, array.size)


def pick(rows: Rows, **wanted: Any) -> list[Mapping[str, Any]]:
    """The rows whose columns equal the wanted values.

    >>> pick([{"a": 1, "b": 2}, {"a": 2, "b": 3}], a=2)
    [{'a': 2, 'b': 3}]
    """
    return [row for row in rows if all(row.get(k) == v for k, v in wanted.items())]


def distinct(rows: Rows, column: str) -> list[Any]:
    """The values of a column, each once, in order of appearance."""
    return list(dict.fromkeys(row[column] for row in rows))


def over_seeds(rows: Rows, column: str, **wanted: Any) -> Spread:
    """Mean and spread of a column over the rows picked."""
    return spread([float(row[column]) for row in pick(rows, **wanted)])


def paired(ours: Rows, theirs: Rows, column: str = "accuracy") -> Spread:
    """Mean difference ours − theirs over seeds that both have.

    Raises:
        ValueError: the two have not the same seeds, once each.
    """
    a, b = ({row["seed"]: float(row[column]) for row in rows} for rows in (ours, theirs))
    if a.keys() != b.keys() or len(a) != len(ours) or len(b) != len(theirs):
        raise ValueError("the two must have been measured once for each of the same seeds")
    return spread([a[seed] - b[seed] for seed in a])


def mutual_information(counts: np.ndarray) -> float:
    """Mutual information in bits of a table of counts (rows, columns); 0 for an empty one.

    >>> mutual_information(np.array([[5, 0], [0, 5]]))
    1.0
    """
    total = counts.sum()
    if not total:
        return 0.0
    p = counts / total
    expected = p.sum(1, keepdims=True) * p.sum(0, keepdims=True)
    there = p > 0
    return float((p[there] * np.log2(p[there] / expected[there])).sum())


def at_cost(rows: Rows, ratio: float, column: str = "accuracy") -> float:
    """A column at a cost ratio, by straight lines between measured points of one curve.

    NaN outside of the measured costs: nothing is guessed.

    >>> curve = [{"ratio": 0.2, "accuracy": 0.5}, {"ratio": 0.6, "accuracy": 0.9}]
    >>> round(at_cost(curve, 0.4), 6)
    0.7
    """
    points = sorted((float(row["ratio"]), float(row[column])) for row in rows)
    if not points or not points[0][0] <= ratio <= points[-1][0]:
        return math.nan
    x, y = zip(*points, strict=True)
    return float(np.interp(ratio, x, y))
