"""A long experiment as named parts, each on disk once it is finished.

A run that is killed or cancelled starts again from its finished parts, and the seconds of those
count: the provenance tells what the whole result took, not what the last session took.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np

from labcore.runs import Progress, Result, Table, record


@dataclass
class Findings:
    """Arrays and tables that a part returns."""

    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    tables: dict[str, Table] = field(default_factory=dict)


@dataclass(frozen=True)
class Part:
    """One step of an experiment.

    Attributes:
        name: Its name, also of its file.
        weight: About how long it takes, in seconds; only the progress bar reads it.
        run: Does the work; reports ``(done, total, label)`` through what it is given.
    """

    name: str
    weight: int
    run: Callable[[Progress], Findings]


def run_parts(
    parts: Sequence[Part], topic: str, config: Any, *, folder: Path | None, progress: Progress
) -> dict[str, Result]:
    """Run every part that is not on disk yet; one result a part, by name.

    Args:
        parts: What to run.
        topic: Name of the topic.
        config: Its configuration, kept in every part.
        folder: Where finished parts are kept; None keeps nothing.
        progress: Called within and between parts; raise :class:`labcore.runs.Cancelled` in it to
            stop.
    """
    results: dict[str, Result] = {}
    total, done = sum(part.weight for part in parts), 0
    for part in parts:
        progress(done, total, part.name)
        path = None if folder is None else folder / f"{part.name}.npz"
        if path is not None and path.exists():
            results[part.name] = Result.load(path)
        else:
            clock = record(topic, config, seeds=(), command="")
            found = part.run(_within(progress, part, done, total))
            result = clock.result(arrays=found.arrays, tables=found.tables)
            results[part.name] = result
            if path is not None:
                result.save(path)
        done += part.weight
    progress(total, total, "done")
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
    """Short hash of a configuration, for the name of a folder.

    >>> fingerprint({"seed": 0}) == fingerprint({"seed": 0}) != fingerprint({"seed": 1})
    True
    """
    plain: Mapping[str, Any] = asdict(config) if is_dataclass(config) else config  # type: ignore[arg-type]
    text = json.dumps(plain, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _within(progress: Progress, part: Part, before: int, total: int) -> Progress:
    """A part's own progress, as a share of its weight in the whole."""

    def report(done: int, of: int, label: str) -> None:
        progress(before + part.weight * done // max(of, 1), total, f"{part.name}: {label}")

    return report
