"""What every experiment shares: progress and cancelling, and results with their provenance.

A :class:`Result` is plain data (named arrays and tidy tables) in one ``.npz`` file with the
configuration, seeds, versions and seconds that made it. A run reports through a ``Progress``
callback, and stops between two steps when that callback raises :class:`Cancelled`.
Many runs at once are in :mod:`labcore.grid`.
"""

import json
import os
import struct
import sys
import tempfile
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, is_dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from labcore.runtime import versions

Progress = Callable[[int, int, str], None]
Table = list[dict[str, Any]]


# what reading a damaged archive, its compressed members or its texts may raise
DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    LookupError,
    ValueError,
    TypeError,
    AttributeError,
    RuntimeError,  # a member that says it is encrypted, or compressed in a way unknown here
    OSError,
)


class Cancelled(Exception):
    """Raised inside a progress callback to stop a run between two steps."""


class ResultError(ValueError):
    """A result file that is damaged, or not a result."""


def silent(done: int, total: int, label: str) -> None:
    """The progress callback that says nothing."""


def terminal(done: int, total: int, label: str) -> None:
    """A one-line progress bar on stderr; nothing when stderr is not a terminal."""
    if not sys.stderr.isatty():
        return
    filled = round(24 * done / max(total, 1))
    end = "\n" if done >= total else ""
    bar = "█" * filled + "·" * (24 - filled)
    print(f"\r{bar} {done}/{total} {label[:48]:<48}", end=end, file=sys.stderr, flush=True)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path``, moved over it when the block ends well, else removed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-", suffix=".part")
    os.close(handle)
    part = Path(name)
    try:
        yield part
        part.chmod(0o644)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


@dataclass(frozen=True)
class Provenance:
    """Where a result comes from: seeds, package versions, time, and the command to repeat it."""

    seeds: tuple[int, ...]
    versions: dict[str, str]
    seconds: float
    cpu_seconds: float
    created: str
    command: str


@dataclass(frozen=True)
class Result:
    """What one run of a topic's experiment measured.

    Attributes:
        topic: The topic's name, as in ``labcore.<topic>``.
        config: The experiment's configuration as plain data.
        arrays: Named numeric arrays.
        tables: Named tidy tables: a list of rows, each a dict of scalars.
        provenance: Seeds, versions, seconds, command.
    """

    topic: str
    config: dict[str, Any]
    arrays: dict[str, np.ndarray]
    tables: dict[str, Table]
    provenance: Provenance

    def save(self, path: str | Path) -> Path:
        """Write everything to one ``.npz`` file, under a temporary name first."""
        path = Path(path)
        meta = {
            "topic": self.topic,
            "config": self.config,
            "tables": self.tables,
            "provenance": asdict(self.provenance),
        }
        text = json.dumps(meta, sort_keys=True, allow_nan=True)
        arrays: dict[str, Any] = {f"array/{k}": v for k, v in self.arrays.items()}
        with replacing(path) as part, part.open("wb") as file:
            np.savez_compressed(file, meta=np.frombuffer(text.encode(), np.uint8), **arrays)
        return path

    @classmethod
    def load(cls, path: str | Path) -> "Result":
        """Read a file that :meth:`save` wrote; no code in it can run.

        Raises:
            FileNotFoundError: there is no such file.
            ResultError: the file is damaged or is not a result.
        """
        path = Path(path)
        if not path.exists():
            raise FileNotFoundError(f"no result {path}: run the experiment first")
        try:
            with np.load(path, allow_pickle=False) as file:
                meta = json.loads(bytes(file["meta"]).decode())
                names = [name for name in file.files if name.startswith("array/")]
                arrays = {name.removeprefix("array/"): file[name] for name in names}
            source = meta["provenance"]
            provenance = Provenance(**{**source, "seeds": tuple(source["seeds"])})
            return cls(meta["topic"], meta["config"], arrays, meta["tables"], provenance)
        except DAMAGE as error:
            raise ResultError(
                f"{path.name} is damaged or is not a result: run the experiment again ({error})"
            ) from error

    def where(self, table: str, **wanted: Any) -> Table:
        """Rows of a table whose columns equal the wanted values."""
        if table not in self.tables:
            raise ValueError(f"no table {table!r}: this result has {sorted(self.tables)}")
        return [r for r in self.tables[table] if all(r.get(k) == v for k, v in wanted.items())]


def results_folder(topic: str) -> Path:
    """Where a topic's committed results are."""
    return Path(__file__).parent / topic / "results"


def committed(topic: str, which: str = "full") -> Result:
    """A topic's committed result; no model and no data are needed to read it.

    Args:
        topic: As in ``labcore.<topic>``.
        which: ``full``, ``quick``, or what else the topic keeps.

    Raises:
        FileNotFoundError: there is none; the message has the command that makes it.
    """
    path = results_folder(topic) / f"{which}.npz"
    if not path.exists():
        option = f" --{which}" if which in ("full", "quick") else ""
        raise FileNotFoundError(
            f"no {which} result of {topic}: lab run {topic}{option} --out {path.parent}"
        )
    return Result.load(path)


@dataclass
class Recorder:
    """Times a run and turns its findings into a :class:`Result`."""

    topic: str
    config: Any
    seeds: Sequence[int]
    command: str
    _wall: float = field(default_factory=time.perf_counter)
    _cpu: float = field(default_factory=time.process_time)

    def result(self, *, arrays: Mapping[str, Any], tables: Mapping[str, Table]) -> Result:
        """Close the run: seconds and versions are taken now."""
        provenance = Provenance(
            seeds=tuple(int(s) for s in self.seeds),
            versions=versions(),
            seconds=round(time.perf_counter() - self._wall, 3),
            cpu_seconds=round(time.process_time() - self._cpu, 3),
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            command=self.command,
        )
        held = self.config
        known = is_dataclass(held) and not isinstance(held, type)
        config = asdict(held) if known else dict(held)
        plain = json.loads(json.dumps(config))
        kept = {name: np.asarray(value) for name, value in arrays.items()}
        return Result(self.topic, plain, kept, dict(tables), provenance)


def record(topic: str, config: Any, *, seeds: Sequence[int], command: str) -> Recorder:
    """Start the clock of a run of ``topic`` (call :meth:`Recorder.result` at its end)."""
    return Recorder(topic, config, seeds, command)
