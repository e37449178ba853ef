"""From one row a run to means with their spread, and paired differences over the same splits."""

from labcore.tally import Rows, Spread, distinct, pick, spread

__all__ = ["Rows", "Spread", "distinct", "paired", "pick", "score", "spread"]


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
