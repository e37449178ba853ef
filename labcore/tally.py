"""From one row a trial to means with their spread: what every topic does with its tables."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

Rows = Sequence[Mapping[str, Any]]
Row = TypeVar("Row", bound=Mapping[str, Any])


@dataclass(frozen=True)
class Spread:
    """Mean of ``n`` trials, their standard deviation, the mean's standard error, the extremes."""

    mean: float
    sd: float
    error: float
    low: float
    high: float
    n: int


def spread(values: Sequence[float]) -> Spread:
    """Mean and spread; of a single trial the deviation and the error are NaN, not zero.

    Raises:
        ValueError: no values.

    >>> found = spread([1.0, 3.0])
    >>> found.mean, found.error, found.n
    (2.0, 1.0, 2)
    """
    if not len(values):
        raise ValueError("no trials to average: the table has no row for what was asked")
    array = np.asarray(values, dtype=np.float64)
    sd = float(array.std(ddof=1)) if array.size > 1 else math.nan
    return Spread(
        mean=float(array.mean()),
        sd=sd,
        error=sd / math.sqrt(array.size),
        low=float(array.min()),
        high=float(array.max()),
        n=array.size,
    )


def pick(rows: Sequence[Row], **wanted: Any) -> list[Row]:
    """The rows whose columns equal the wanted values.

    >>> pick([{"a": 1, "b": 2}, {"a": 2, "b": 3}], a=2)
    [{'a': 2, 'b': 3}]
    """
    return [row for row in rows if all(row.get(k) == v for k, v in wanted.items())]


def distinct(rows: Rows, column: str) -> list[Any]:
    """The values of a column, each once, in order of appearance."""
    return list(dict.fromkeys(row[column] for row in rows))


def over(rows: Rows, column: str, **wanted: Any) -> Spread:
    """Mean and spread of a column over the rows picked.

    Raises:
        ValueError: no row is picked.
    """
    return spread([float(row[column]) for row in pick(rows, **wanted)])
