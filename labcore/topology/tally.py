"""From one row a run to means with their spread, and paired differences over the same splits."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Spread:
    """Mean, standard deviation and standard error of ``n`` values."""

    mean: float
    sd: float
    error: float
    n: int


def spread(values: Sequence[float]) -> Spread:
    """Mean and spread; of a single value the spread is NaN, not zero.

    Raises:
        ValueError: no values.

    >>> spread([1.0, 3.0]).mean
    2.0
    """
    if not len(values):
        raise ValueError("no runs to average: the table has no row for what was asked")
    array = np.asarray(values, dtype=np.float64)
    sd = float(array.std(ddof=1)) if array.size > 1 else math.nan
    return Spread(float(array.mean()), sd, sd / math.sqrt(array.size), array.size)


def pick(rows: Rows, **wanted: Any) -> list[Mapping[str, Any]]:
    """The rows whose columns equal the wanted values."""
    return [row for row in rows if all(row.get(k) == v for k, v in wanted.items())]


def distinct(rows: Rows, column: str) -> list[Any]:
    """The values of a column, each once, in order of appearance."""
    return list(dict.fromkeys(row[column] for row in rows))


def score(rows: Rows, data: str, label: str, column: str = "test") -> Spread:
    """Mean and spread over seeds of one row of the benchmark."""
    return spread([row[column] for row in pick(rows, data=data, label=label)])


def paired(rows: Rows, data: str, label: str, control: str) -> Spread:
    """Difference in test accuracy over the same splits, label minus control.

    Raises:
        ValueError: the two were not run on the same splits.
    """
    ours = {row["seed"]: row["test"] for row in pick(rows, data=data, label=label)}
    theirs = {row["seed"]: row["test"] for row in pick(rows, data=data, label=control)}
    if not ours or ours.keys() != theirs.keys():
        raise ValueError(f"{label!r} and {control!r} were not run on the same splits of {data}")
    return spread([ours[seed] - theirs[seed] for seed in ours])
