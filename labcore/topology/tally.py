"""From one row a run to means with their spread, and paired differences over the same splits."""

from labcore.tally import Rows, Spread, distinct, pick, spread

__all__ = [
    "BASELINES",
    "Rows",
    "Spread",
    "best_by_domain",
    "best_higher",
    "distinct",
    "domain_of",
    "paired",
    "pick",
    "score",
    "spread",
]
BASELINES = ("majority class", "features only (MLP)", "cell counts only")


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


def domain_of(rows: Rows, label: str) -> str:
    """The domain of a row of the benchmark; ``baseline`` for those that read no structure."""
    return "baseline" if label in BASELINES else str(pick(rows, label=label)[0]["domain"])


def best_by_domain(rows: Rows, data: str) -> dict[str, str]:
    """Domain to its label of best VALIDATION accuracy; the test part chooses nothing."""
    here = [r for r in pick(rows, data=data) if not r["label"].startswith("ablation")]
    best: dict[str, str] = {}
    for label in distinct(here, "label"):
        domain = domain_of(here, label)
        rival = best.setdefault(domain, label)
        if score(here, data, label, "val").mean > score(here, data, rival, "val").mean:
            best[domain] = label
    return best


def best_higher(rows: Rows, data: str) -> str | None:
    """The label of best VALIDATION accuracy above graphs, if any was run."""
    best = best_by_domain(rows, data)
    higher = [label for domain, label in best.items() if domain not in ("baseline", "graph")]
    return max(higher, key=lambda label: score(rows, data, label, "val").mean, default=None)
