"""Rows of the long tables, picked and averaged over seeds."""

from typing import Any

import numpy as np

from labcore.tally import Rows, distinct, pick

__all__ = ["Rows", "at_rate", "distinct", "over_seeds", "paired", "pick"]


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


def paired(rows: Rows, method: str, control: str, budget: float) -> tuple[float, float, int]:
    """Accuracy of a method minus its control's, seed by seed: mean, standard error, seeds.

    Raises:
        ValueError: the two were not measured with the same seeds.
    """
    ours = {row["seed"]: row["accuracy"] for row in pick(rows, method=method, budget=budget)}
    theirs = {row["seed"]: row["accuracy"] for row in pick(rows, method=control, budget=budget)}
    if not ours or ours.keys() != theirs.keys():
        raise ValueError(f"{method!r} and {control!r} share no seeds at budget {budget}")
    gaps = np.array([ours[seed] - theirs[seed] for seed in ours])
    error = gaps.std(ddof=1) / len(gaps) ** 0.5 if len(gaps) > 1 else float("nan")
    return float(gaps.mean()), float(error), len(gaps)


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
