"""Mutual information, means with their spread, and accuracy at equal cost."""

import math

import numpy as np

from labcore.tally import Rows, Spread, distinct, pick, spread
from labcore.tally import over as over_seeds

__all__ = [
    "Rows",
    "Spread",
    "at_cost",
    "distinct",
    "mutual_information",
    "over_seeds",
    "paired",
    "pick",
    "spread",
]


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
