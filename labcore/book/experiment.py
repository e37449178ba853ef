"""The experiments of all chapters in one result: each chapter's arrays and tables under its name.

A chapter is a module of this package with ``SECONDS`` (its weight) and ``measure(config, progress)
-> Findings``. Its table ``numbers`` holds one row a figure beside what is expected of it, see
:func:`labcore.book.numbers.number`. A chapter whose module is not there is skipped. A full run
keeps every finished chapter on disk and measures it again only when its code, that of the modules
which chapters share, the size or the seed have changed; the table ``parts`` says when each was
measured.
"""

import hashlib
import inspect
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

from labcore.assets.store import cache_root
from labcore.book.numbers import Findings
from labcore.runs import Progress, Result, Table, committed, record, silent

__all__ = ["CHAPTERS", "Config", "load_result", "run", "summary"]
TOPIC = "book"
CHAPTERS = ("b01", "b02", "b03", "b04", "b05", "b06", "b07", "b08", "b09", "b10", "b11", "b12",
            "b13", "ba", "bb")  # fmt: skip
SHARED = ("data", "language", "training")


@dataclass(frozen=True)
class Config:
    """What to run.

    Attributes:
        seed: Seed of whatever is drawn.
        small: Fewer seeds, rows and steps; the sizes are each chapter's own.
        chapters: Which chapters.
        resume: Keep finished chapters on disk and start from them again.

    Raises:
        ValueError: no chapter, or an unknown one.
    """

    seed: int = 0
    small: bool = True
    chapters: tuple[str, ...] = CHAPTERS
    resume: bool = False

    def __post_init__(self) -> None:
        unknown = set(self.chapters) - set(CHAPTERS)
        if unknown or not self.chapters:
            known = ", ".join(CHAPTERS)
            raise ValueError(f"chapters {self.chapters} are not among {known}: name one of these")

    @property
    def seeds(self) -> tuple[int, ...]:
        """Seeds of whatever is repeated: one at the quick size, three else."""
        return tuple(range(self.seed, self.seed + (1 if self.small else 3)))

    @classmethod
    def quick(cls, seed: int = 0) -> "Config":
        """About a minute for all chapters."""
        return cls(seed=seed)

    @classmethod
    def full(cls, seed: int = 0) -> "Config":
        """The size of the committed results."""
        return cls(seed=seed, small=False, resume=True)


def chapters() -> tuple[str, ...]:
    """The chapters whose module is there."""
    return tuple(name for name in CHAPTERS if find_spec(f"{__package__}.{name}") is not None)


def run(config: Config, progress: Progress | None = None) -> Result:
    """Measure every chapter of ``config``, or take it from disk where nothing has changed.

    Deterministic for a seed, except columns of seconds.

    Args:
        config: What to run.
        progress: Called between steps; raise :class:`labcore.runs.Cancelled` in it to stop.
    """
    progress = progress or silent
    preset = "--quick" if config.small else "--full"
    command = f"lab run book {preset} --seed {config.seed}"
    clock = record(TOPIC, config, seeds=config.seeds, command=command)
    modules = {n: import_module(f"{__package__}.{n}") for n in chapters() if n in config.chapters}
    total, done = sum(module.SECONDS for module in modules.values()), 0
    arrays: dict[str, Any] = {}
    tables: dict[str, Table] = {"parts": []}
    for name, module in modules.items():
        progress(done, total, name)
        part = _chapter(name, module, config, _within(progress, name, done, module.SECONDS, total))
        arrays |= {f"{name}/{key}": value for key, value in part.arrays.items()}
        tables |= {f"{name}/{key}": rows for key, rows in part.tables.items()}
        spent = part.provenance
        tables["parts"].append(
            {
                "part": name,
                "seconds": spent.seconds,
                "cpu_seconds": spent.cpu_seconds,
                "created": spent.created,
            }
        )
        done += module.SECONDS
    progress(total, total, "done")
    result = clock.result(arrays=arrays, tables=tables)
    spent = replace(  # of all sessions, if this one took chapters from an earlier one
        result.provenance,
        seconds=round(sum(row["seconds"] for row in tables["parts"]), 3),
        cpu_seconds=round(sum(row["cpu_seconds"] for row in tables["parts"]), 3),
    )
    return replace(result, provenance=spent)


def load_result(which: str = "full") -> Result:
    """A committed result; no model is needed. Raises as :func:`labcore.runs.committed`."""
    return committed("book", which)


def summary(result: Result) -> Table:
    """Rows for the terminal: every number of every chapter, beside what is expected of it."""
    return list(_summary(result))


def _summary(result: Result) -> Iterator[dict[str, Any]]:
    for name in CHAPTERS:
        for row in result.tables.get(f"{name}/numbers", []):
            yield {"chapter": name, **row}


def _chapter(name: str, module: ModuleType, config: Config, progress: Progress) -> Result:
    """One chapter, from disk when it was measured before with the same code and settings."""
    path = cache_root() / "unfinished" / TOPIC / f"{name}-{_fingerprint(module, config)}.npz"
    if config.resume and path.exists():
        return Result.load(path)
    clock = record(TOPIC, config, seeds=config.seeds, command="")
    found: Findings = module.measure(config, progress)
    result = clock.result(arrays=found.arrays, tables=found.tables)
    if config.resume:
        result.save(path)
    return result


def _fingerprint(module: ModuleType, config: Config) -> str:
    """Short hash of the seed, the size, and the code of a chapter and of what chapters share."""
    shared = (Path(__file__).with_name(f"{name}.py").read_text("utf-8") for name in SHARED)
    code = [inspect.getsource(module), *shared]
    text = json.dumps([code, config.seed, config.small])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _within(progress: Progress, name: str, before: int, weight: int, total: int) -> Progress:
    """A chapter's own progress, as a share of its weight in the whole."""

    def report(done: int, of: int, label: str) -> None:
        progress(before + weight * done // max(of, 1), total, f"{name}: {label}")

    return report
