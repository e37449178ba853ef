"""Paired differences between policies over the same texts."""

from typing import Any

from labcore.tally import Rows, Spread, pick, spread


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
