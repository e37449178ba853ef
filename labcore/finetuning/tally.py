"""From one row a run to means with their spread over seeds."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Spread:
    """Mean, standard deviation and number of runs; the deviation of a single run is NaN."""

    mean: float
    deviation: float
    n: int

    @property
    def error(self) -> float:
        """Standard error of the mean."""
        return self.deviation / math.sqrt(self.n)


def spread(values: Sequence[float]) -> Spread:
    """Mean and spread.

    Raises:
        ValueError: no values.

    >>> spread([1.0, 3.0]).mean
    2.0
    """
    if not len(values):
        raise ValueError("no runs to average: the table has no row for what was asked")
    array = np.asarray(values, dtype=np.float64)
    deviation = array.std(ddof=1) if array.size > 1 else math.nan
    return Spread(float(array.mean()), float(deviation), array.size)


def pick(rows: Rows, **wanted: Any) -> list[Mapping[str, Any]]:
    """The rows whose columns equal the wanted values.

    >>> pick([{"a": 1, "b": 2}, {"a": 2, "b": 3}], a=2)
    [{'a': 2, 'b': 3}]
    """
    return [row for row in rows if all(row.get(k) == v for k, v in wanted.items())]


def distinct(rows: Rows, column: str) -> list[Any]:
    """The values of a column, each once, in order of appearance."""
    return list(dict.fromkeys(row[column] for row in rows))


def over_runs(rows: Rows, column: str, **wanted: Any) -> Spread:
    """Mean and spread of a column over the rows picked."""
    return spread([float(row[column]) for row in pick(rows, **wanted)])


def paired(rows: Rows, ours: str, theirs: str, column: str = "accuracy", **wanted: Any) -> Spread:
    """Difference of two strategies over the seeds that both have.

    Raises:
        ValueError: they share no seed.
    """
    a = {row["seed"]: float(row[column]) for row in pick(rows, strategy=ours, **wanted)}
    b = {row["seed"]: float(row[column]) for row in pick(rows, strategy=theirs, **wanted)}
    return spread([a[seed] - b[seed] for seed in a if seed in b])
