"""A long experiment as named parts, each on disk once it is finished.

A run that is killed or cancelled starts again from its finished parts, and the seconds of those
count: the provenance tells what the whole result took, not what the last call took.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, is_dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from labcore.assets.store import cache_root
from labcore.runs import Progress, Result, Table, record


@dataclass
class Findings:
    """Arrays and tables that a part returns."""

    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    tables: dict[str, Table] = field(default_factory=dict)

    def add(self, table: str, **row: Any) -> None:
        """Append a row to a table."""
        self.tables.setdefault(table, []).append(row)

    def join(self, other: "Findings | Result") -> None:
        """Add another part's arrays, and its rows at the end of tables of the same name.

        Raises:
            ValueError: both hold an array of the same name.
        """
        for name, array in other.arrays.items():
            if name in self.arrays:
                raise ValueError(f"two parts hold an array {name!r}: rename one of them")
            self.arrays[name] = array
        for name, rows in other.tables.items():
            self.tables[name] = self.tables.get(name, []) + rows


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


def run_experiment(
    topic: str,
    config: Any,
    parts: Sequence[Part],
    *,
    seeds: Sequence[int],
    command: str,
    resume: bool,
    progress: Progress,
    derive: Callable[[Findings], None] | None = None,
) -> Result:
    """Run the parts of an experiment, or resume after the finished ones, and join what they found.

    The result has one more table, ``parts``: what each of them took. The provenance's seconds are
    their sum.

    Args:
        topic: Name of the topic.
        config: Its configuration.
        parts: What to run, in order.
        seeds: The seeds, for the provenance.
        command: What makes this result again.
        resume: Keep finished parts in the cache until the whole has ended well.
        progress: Called within and between parts; raise :class:`labcore.runs.Cancelled` in it to
            stop.
        derive: Adds what is computed from all parts.
    """
    clock = record(topic, config, seeds=seeds, command=command)
    folder = cache_root() / "unfinished" / f"{topic}-{fingerprint(config)}"
    results = run_parts(parts, topic, config, folder=folder if resume else None, progress=progress)
    whole = Findings()
    for result in results.values():
        whole.join(result)
    if derive is not None:
        derive(whole)
    spent = [
        {
            "part": name,
            "seconds": result.provenance.seconds,
            "cpu_seconds": result.provenance.cpu_seconds,
            "created": result.provenance.created,
        }
        for name, result in results.items()
    ]
    result = clock.result(arrays=whole.arrays, tables=whole.tables | {"parts": spent})
    shutil.rmtree(folder, ignore_errors=True)
    seconds, cpu_seconds = (round(sum(r[k] for r in spent), 3) for k in ("seconds", "cpu_seconds"))
    provenance = replace(result.provenance, seconds=seconds, cpu_seconds=cpu_seconds)
    return replace(result, provenance=provenance)


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
