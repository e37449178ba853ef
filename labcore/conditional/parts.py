"""A long experiment as named parts, each on disk once it is finished.

A run that is killed or cancelled starts again from its finished parts; their seconds count.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from labcore.runs import Progress, Result, Table, record


@dataclass
class Findings:
    """Arrays and tables that a part returns."""

    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    tables: dict[str, Table] = field(default_factory=dict)

    def add(self, table: str, **row: Any) -> None:
        """Append a row to a table."""
        self.tables.setdefault(table, []).append(row)


@dataclass(frozen=True)
class Part:
    """One step of an experiment: its name (also of its file), and what does the work.

    ``run`` is given a function to call between steps; it raises when the run was cancelled.
    """

    name: str
    run: Callable[[Callable[[], None]], Findings]


def run_parts(
    parts: Sequence[Part], topic: str, config: Any, *, folder: Path | None, progress: Progress
) -> list[Result]:
    """Run every part that is not on disk yet, one result a part.

    Args:
        parts: What to run.
        topic: Name of the topic.
        config: Its configuration, kept in every part.
        folder: Where finished parts are kept; None keeps nothing.
        progress: Called within and between parts; raise :class:`labcore.runs.Cancelled` in it to
            stop.
    """
    results = []
    for done, part in enumerate(parts):

        def tick(done: int = done, name: str = part.name) -> None:
            progress(done, len(parts), name)

        tick()
        path = None if folder is None else folder / f"{part.name}.npz"
        if path is not None and path.exists():
            results.append(Result.load(path))
            continue
        clock = record(topic, config, seeds=(), command="")
        found = part.run(tick)
        results.append(clock.result(arrays=found.arrays, tables=found.tables))
        if path is not None:
            results[-1].save(path)
    progress(len(parts), len(parts), "done")
    return results


def merged(results: Sequence[Result]) -> Findings:
    """All arrays and tables; tables of one name are joined in order.

    Raises:
        ValueError: two parts hold an array of the same name.
    """
    whole = Findings()
    for result in results:
        for name, array in result.arrays.items():
            if name in whole.arrays:
                raise ValueError(f"two parts hold an array {name!r}: rename one of them")
            whole.arrays[name] = array
        for name, rows in result.tables.items():
            whole.tables[name] = whole.tables.get(name, []) + rows
    return whole


def fingerprint(config: Any) -> str:
    """Short hash of a configuration, for the name of a folder."""
    text = json.dumps(asdict(config), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
