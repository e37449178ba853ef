"""Rows of the long tables, picked and averaged over seeds."""

from typing import Any

import numpy as np
from jaxtyping import UInt8

from labcore.tally import Rows, distinct, pick

__all__ = ["Rows", "at_rate", "best_precision", "distinct", "over_seeds", "pick"]


def over_seeds(rows: Rows, method: str, budget: float, **wanted: Any) -> dict[str, Any]:
    """Means over seeds of a method at a budget, with the standard deviation of the accuracy.

    Raises:
        ValueError: that was not measured.
    """
    here = pick(rows, method=method, budget=budget, **wanted)
    if not here:
        raise ValueError(f"{method!r} was not measured at budget {budget}")
    accuracy = np.array([row["accuracy"] for row in here])
    return {
        "spent": float(np.mean([row["rate"] for row in here])),
        "accuracy": float(accuracy.mean()),
        "sd": float(accuracy.std(ddof=1)) if len(accuracy) > 1 else float("nan"),
        "precision": float(np.mean([row["precision"] for row in here])),
        "recall": float(np.mean([row["recall"] for row in here])),
        "seeds": len(here),
        "images": int(here[0]["images"]),
    }


def at_rate(rows: Rows, method: str, rate: float, column: str = "accuracy") -> list[float]:
    """A column at a *spent* rate, one number a seed, straight between the measured points.

    Below the smallest and above the largest spent rate the nearest point is taken.
    """
    values = []
    for seed in distinct(pick(rows, method=method), "seed"):
        points = sorted((r["rate"], r[column]) for r in pick(rows, method=method, seed=seed))
        x, y = np.array(points).T
        values.append(float(np.interp(rate, x, y)))
    return values


def best_precision(kinds: UInt8[np.ndarray, "n t"], budget: float) -> float:
    """Precision of a selector that knows the digit: some canvases have fewer tokens of it.

    Args:
        kinds: 2 for tokens that hold ink of the digit.
        budget: Share of the tokens that is kept, rounded up.

    >>> best_precision(np.array([[2, 0, 0, 0], [2, 2, 2, 0]], np.uint8), 0.5)
    0.75
    """
    kept = int(np.ceil(budget * kinds.shape[1] - 1e-9))
    return float(np.minimum((kinds == 2).sum(-1), kept).mean() / kept)
