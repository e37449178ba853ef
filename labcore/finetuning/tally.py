"""From one row a run to means with their spread over seeds."""

from typing import Any

from labcore.tally import Rows, Spread, distinct, pick, spread
from labcore.tally import over as over_runs

__all__ = ["Rows", "Spread", "distinct", "over_runs", "paired", "pick", "spread"]


def paired(rows: Rows, ours: str, theirs: str, column: str = "accuracy", **wanted: Any) -> Spread:
    """Difference of two strategies over the seeds that both have.

    Raises:
        ValueError: they share no seed.
    """
    a = {row["seed"]: float(row[column]) for row in pick(rows, strategy=ours, **wanted)}
    b = {row["seed"]: float(row[column]) for row in pick(rows, strategy=theirs, **wanted)}
    return spread([a[seed] - b[seed] for seed in a if seed in b])
