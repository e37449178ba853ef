"""Means of the result's tables over tasks and pre-training seeds; no torch is needed."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from labcore.runs import Result, Table
from labcore.tally import distinct, pick

LABELS = {
    "zero_shot": "base, not fine-tuned",
    "average": "weight average",
    "task_arithmetic": "task arithmetic",
    "ties": "TIES",
    "dare": "DARE",
    "breadcrumbs": "Breadcrumbs",
    "consensus_ta": "consensus TA",
    "iso_c": "Iso-C",
    "iso_cts": "Iso-CTS",
    "rank_cut": "rank cut only",
    "full_rank": "whitening only",
    "tsv_m": "TSV-Merge",
}
BASELINES = (
    *("average", "task_arithmetic", "ties", "dare", "breadcrumbs", "consensus_ta"),
    *("iso_c", "iso_cts"),
)


@dataclass(frozen=True)
class Score:
    """Means over tasks, then over pre-training seeds; shares of 1."""

    accuracy: float
    normalized: float


@dataclass(frozen=True)
class MethodMean:
    """One method on one number of tasks.

    Attributes:
        one: At alpha = 1. tuned: At the alpha of each seed's validation pictures.
        alpha: Mean of the tuned values.
        spread: Half the range over seeds of the tuned normalised accuracy.
        by_seed: Tuned normalised accuracy of each seed.
    """

    method: str
    tasks: int
    one: Score
    tuned: Score
    alpha: float
    spread: float
    by_seed: tuple[float, ...]


def score(rows: Table) -> Score:
    """Mean over tasks of each seed, then over seeds."""
    groups = [pick(rows, pretraining=s) for s in distinct(rows, "pretraining")]
    return Score(
        fmean(fmean(r["accuracy"] for r in g) for g in groups),
        fmean(fmean(r["normalized"] for r in g) for g in groups),
    )


def means(result: Result) -> list[MethodMean]:
    """Every method on every number of tasks; the base alone has only its one score."""
    table = result.tables["accuracy"]
    return [
        method_mean(table, method, count)
        for count in distinct(table, "tasks")
        for method in distinct(pick(table, tasks=count), "method")
    ]


def method_mean(table: Table, method: str, tasks: int) -> MethodMean:
    """One method on one number of tasks.

    Raises:
        ValueError: it was not measured there.
    """
    rows = pick(table, method=method, tasks=tasks)
    if not rows:
        raise ValueError(f"no {method} on {tasks} tasks in this result")
    one = pick(rows, rule="one")
    tuned = pick(rows, rule="tuned") or one
    seeds = distinct(tuned, "pretraining")
    by_seed = tuple(score(pick(tuned, pretraining=s)).normalized for s in seeds)
    alphas = [pick(tuned, pretraining=s)[0]["alpha"] for s in seeds]
    spread = (max(by_seed) - min(by_seed)) / 2
    return MethodMean(method, tasks, score(one), score(tuned), fmean(alphas), spread, by_seed)


def compression_means(result: Result) -> Table:
    """One row a number of tasks and fraction: size, kept energy, accuracy, worst task."""
    table = result.tables["compression"]
    rows = []
    for tasks in distinct(table, "tasks"):
        for fraction in sorted(set(distinct(pick(table, tasks=tasks), "fraction"))):
            here = pick(table, tasks=tasks, fraction=fraction)
            found = score(here)
            rows.append(
                {
                    "tasks": tasks,
                    "fraction": fraction,
                    "ratio": fmean(r["ratio"] for r in here),
                    "energy": fmean(r["energy"] for r in here),
                    "accuracy": found.accuracy,
                    "normalized": found.normalized,
                    "worst": min(r["normalized"] for r in here),
                    "seeds": len(distinct(here, "pretraining")),
                }
            )
    return rows


def interpolated(points: Sequence[tuple[float, float]], x: float) -> float:
    """Linear interpolation between sorted points; the nearest end outside.

    >>> interpolated([(0.0, 0.0), (2.0, 1.0)], 1.0)
    0.5
    """
    ordered = sorted(points)
    if x <= ordered[0][0]:
        return ordered[0][1]
    for (x0, y0), (x1, y1) in zip(ordered, ordered[1:], strict=False):
        if x <= x1:
            return y0 + (y1 - y0) * (x - x0) / (x1 - x0)
    return ordered[-1][1]
