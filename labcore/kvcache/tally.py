"""From one row a trial to means with their spread, and paired differences between policies."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Spread:
    """Mean, standard error of the mean, smallest and largest of ``n`` trials."""

    mean: float
    error: float
    low: float
    high: float
    n: int


def spread(values: Sequence[float]) -> Spread:
    """Mean and spread; the standard error of a single trial is NaN, not zero.

    Raises:
        ValueError: no values.

    >>> spread([1.0, 3.0])
    Spread(mean=2.0, error=1.0, low=1.0, high=3.0, n=2)
    """
    if not len(values):
        raise ValueError("no trials to average: the table has no row for what was asked")
    array = np.asarray(values, dtype=np.float64)
    error = array.std(ddof=1) / math.sqrt(array.size) if array.size > 1 else math.nan
    return Spread(
        float(array.mean()), float(error), float(array.min()), float(array.max()), array.size
    )


def pick(rows: Rows, **wanted: Any) -> list[Mapping[str, Any]]:
    """The rows whose columns equal the wanted values.

    >>> pick([{"a": 1, "b": 2}, {"a": 2, "b": 3}], a=2)
    [{'a': 2, 'b': 3}]
    """
    return [row for row in rows if all(row.get(k) == v for k, v in wanted.items())]


def distinct(rows: Rows, column: str) -> list[Any]:
    """The values of a column, each once, in order of appearance."""
    return list(dict.fromkeys(row[column] for row in rows))


def over_trials(rows: Rows, column: str, **wanted: Any) -> Spread:
    """Mean and spread of a column over the rows picked."""
    return spread([float(row[column]) for row in pick(rows, **wanted)])


def paired(rows: Rows, policy: str, control: str, *, column: str = "nll", **wanted: Any) -> Spread:
    """Mean difference policy − control over the same texts, with its standard error.

    On ``nll`` this is the difference in log-perplexity: 0.05 is about 5 % more perplexity. The
    full cache as control has one row a text, whatever the ratio.

    Raises:
        ValueError: the two were not measured on the same texts.

    >>> rows = [{"policy": p, "text": t, "nll": v} for p, t, v in
    ...         [("a", 1, 2.0), ("a", 2, 3.0), ("b", 1, 1.0), ("b", 2, 2.0)]]
    >>> paired(rows, "a", "b").mean
    1.0
    """
    ours = {row["text"]: float(row[column]) for row in pick(rows, policy=policy, **wanted)}
    if control == "full":
        wanted.pop("keep_ratio", None)
    theirs = {row["text"]: float(row[column]) for row in pick(rows, policy=control, **wanted)}
    if not ours or ours.keys() != theirs.keys():
        raise ValueError(
            f"{policy!r} has {len(ours)} texts and {control!r} has {len(theirs)} for {wanted}: "
            "measure both on the same texts"
        )
    return spread([ours[text] - theirs[text] for text in ours])
