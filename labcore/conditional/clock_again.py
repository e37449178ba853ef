"""Take the clock's part of a result again, on a quiet machine, and leave the rest as it is.

``python -m labcore.conditional.clock_again`` trains the exit networks again (the same for a seed:
their accuracies must be the result's), times everything that has a time, and writes the committed
result with the new times.
"""

from dataclasses import replace
from typing import Any

from labcore.conditional.experiment import TOPIC, load_result, parts_of
from labcore.conditional.settings import Config
from labcore.parts import Findings, run_parts
from labcore.runs import Progress, Result, Table, record, results_folder, silent, terminal

CLOCKED = ("anytime", "clock", "race", "token_clock")  # the tables of parts that look at a clock
AGAIN = "clock taken again"


def clock_again(result: Result, config: Config, progress: Progress | None = None) -> Result:
    """A result with its times measured anew.

    Args:
        result: What ``config`` gave.
        config: Its configuration.
        progress: Called between steps.

    Raises:
        ValueError: the networks that were trained again answer otherwise than the result's.
    """
    timer = record(result.topic, config, seeds=(), command="")
    parts = [p for p in parts_of(config) if p.name == "clock" or p.name.startswith("exits ")]
    found = Findings()
    for part in run_parts(
        parts, result.topic, config, folder=None, progress=progress or silent
    ).values():
        found.join(part)
    if not _alike(found.tables["budgets"], result.tables["budgets"]):
        raise ValueError("the exits trained again give other accuracies: run the whole experiment")
    took = timer.result(arrays={}, tables={}).provenance
    rows = [row for row in result.tables["parts"] if row["part"] != AGAIN]
    rows.append({"part": AGAIN, "seconds": took.seconds, "cpu_seconds": took.cpu_seconds,
                 "created": took.created})  # fmt: skip
    new = {name: found.tables[name] for name in CLOCKED if name in result.tables}
    return replace(result, tables={**result.tables, **new, "parts": rows})


def _alike(ours: Table, theirs: Table, tolerance: float = 1e-6) -> bool:
    """Whether two tables hold the same accuracies for the same training, seed and budget."""

    def by_key(table: Table) -> dict[Any, float]:
        keys = ("training", "seed", "calibrated", "budget")
        return {tuple(row[k] for k in keys): row["accuracy"] for row in table}

    a, b = by_key(ours), by_key(theirs)
    return a.keys() == b.keys() and all(abs(a[k] - b[k]) <= tolerance for k in a)


if __name__ == "__main__":
    from labcore.runtime import limit_threads

    limit_threads(1)
    taken = clock_again(load_result(), Config.full(), terminal)
    taken.save(results_folder(TOPIC) / "full.npz")
