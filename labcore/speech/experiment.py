"""The factorial experiment: encoder x adapter x language model, and what each factor explains.

Cells are independent tasks of :func:`labcore.grid.run_grid`: finished ones are on disk, so a run
that was stopped goes on where it was, on this machine or on a Dask cluster. Settings:
:mod:`.settings`; which cells: :mod:`.plan`; one cell: :mod:`.cells`; what becomes of them:
:mod:`.tables`.
"""

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from labcore.assets import cache_root
from labcore.grid import run_grid
from labcore.runs import Progress, Result, Table, committed, record, results_folder, silent
from labcore.speech.names import NO_LM, SPLITS
from labcore.speech.plan import plan
from labcore.speech.settings import Config
from labcore.speech.tables import tabulate

__all__ = ["Config", "load_result", "run", "summary"]
TOPIC = "speech"
TUNING = "tuning.json"
LIVE = ("conv", "cif", "ctc")  # trained adapters that the result holds, on the conformer


def run(config: Config, progress: Progress | None = None) -> Result:
    """Run every cell of ``config``, or go on after the finished ones, and decompose the scores.

    Deterministic for a seed, except the columns of seconds.

    Args:
        config: What to run.
        progress: Called after each cell; raise :class:`labcore.runs.Cancelled` in it to stop.
    """
    from labcore.speech import cells

    progress = progress or silent
    preset = "--full" if config == Config.full(config.seed) else "--quick"
    seeds = tuple(range(config.seed, config.seed + max(config.repeats)))
    command = f"lab run speech {preset} --seed {config.seed}"
    if "gemma3-270m" in config.lms:  # under terms of its own, which the user accepts
        command = f"LABCORE_ACCEPT_GEMMA=1 {command}"
    clock = record(TOPIC, config, seeds=seeds, command=command)
    for encoder in config.encoders:  # once, before workers would each do it
        progress(0, 1, f"features of {encoder}")
        cells.front(encoder, "none", config.train_clips, config.test_clips)
    places, params = zip(*plan(config), strict=True)
    with _folder(config) as folder:
        done = run_grid(
            cells.run_cell,
            params,
            out=folder,
            n_jobs=config.jobs,
            cluster=config.cluster,
            seed=config.seed,
            data_version=cells.data_version(),
            on_error="raise",
            progress=progress,
        )
    found = tabulate(config, list(zip(places, done, strict=True)))
    if any("/weight/" in name for name in found["arrays"]):
        _exhibit(config, found, progress)
    return _whole_time(clock.result(**found))


def _whole_time(result: Result) -> Result:
    """The provenance tells what all cells took, also those that an earlier call finished."""
    columns = ("warm_seconds", "train_seconds", "test_seconds")
    spent = round(sum(r[c] for r in result.tables["cells"] for c in columns), 3)
    made = result.provenance
    longer = {k: max(getattr(made, k), spent) for k in ("seconds", "cpu_seconds")}
    return replace(result, provenance=replace(made, **longer))


@contextmanager
def _folder(config: Config) -> Iterator[Path]:
    """Where finished cells are: kept when the run may be resumed, else for this run only."""
    if config.resume:
        yield cells_folder()
        return
    with tempfile.TemporaryDirectory(prefix="lab-speech-") as folder:
        yield Path(folder)


def cells_folder() -> Path:
    """Where finished cells are kept; a cell's file is named after all that decides it."""
    return cache_root() / "unfinished" / "speech-cells"


def _exhibit(config: Config, found: dict[str, Any], progress: Progress) -> None:
    """Add what pictures need, from the adapters that were kept; keep some of them for live use."""
    from labcore.speech import cells, exhibits

    arrays = found["arrays"]
    views = [exhibits.encoders_view(progress)]
    for kind in config.adapters:
        start = f"{kind}/weight/"
        weights = {
            name.removeprefix(f"{kind}/"): arrays.pop(name)
            for name in list(arrays)
            if name.startswith(start)
        }
        views.append(exhibits.adapter_view(kind, weights, config.lms[0]))
        if kind in LIVE:
            arrays |= {f"live/{kind}/{k}": v for k, v in cells.quantised(weights).items()}
    for view in views:
        arrays |= view.arrays
        for name, rows in view.tables.items():
            found["tables"].setdefault(name, []).extend(rows)


def load_tuning() -> Table:
    """How the recipe was chosen (:mod:`.tuning`): the candidates' scores, the best first."""
    rows: Table = json.loads((results_folder(TOPIC) / TUNING).read_text())
    return rows


def load_result(which: str = "full") -> Result:
    """A committed result; no model is needed. Raises as :func:`labcore.runs.committed`."""
    return committed("speech", which)


def summary(result: Result) -> Table:
    """Rows for the terminal: each cell's error rates, then the shares of variance."""
    rows: Table = []
    for split in SPLITS:
        for row in result.where("scores", split=split):
            rows.append(
                {
                    "what": f"{row['task']}, {row['encoder']} + {row['adapter']} + {row['lm']}"
                    + (f" ({row['variant']})" if row["variant"] else "")
                    + ("" if row["trained"] else ", not trained"),
                    "repeat": row["repeat"],
                    "value": row["wer"],
                    "low": None,
                    "high": None,
                    "sample": f"{split}, {row['words']} words",
                }
            )
    no_lm = "; no language model factor" if result.config["lms"] == [NO_LM] else ""
    for row in result.where("shares", scale="rate", adapters="all five"):
        rows.append(
            {
                "what": f"share of {row['term']}, {row['task']}, {row['design']}",
                "repeat": None,
                "value": row["share"],
                "low": row["low"],
                "high": row["high"],
                "sample": f"{row['split']}{no_lm}",
            }
        )
    return rows
