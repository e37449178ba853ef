"""The benchmark: every choice of the table on every seed, resumable, as one tidy table.

Finished runs are kept until the whole table is there; a run that is killed goes on from them.
"""

import shutil
from dataclasses import replace
from typing import Any

import numpy as np

from labcore.assets.store import cache_root
from labcore.grid import run_grid, task_id
from labcore.runs import Progress, Result, Table, committed, record, silent
from labcore.topology.pipeline import as_params, run_choice
from labcore.topology.settings import Config
from labcore.topology.tally import distinct, pick, spread

__all__ = ["Config", "load_result", "run", "run_one", "summary"]
TOPIC = "topology"
CURVE = ("epoch", "train", "val", "test", "val_loss")
COLUMNS = ("test", "val", "train", "epoch", "parameters", "seconds", "lift_seconds", "cells")


def run(config: Config, progress: Progress | None = None) -> Result:
    """Run every choice of ``config``, or resume after those that an earlier session finished.

    Deterministic for a seed, except the columns of seconds.

    Args:
        config: What to run.
        progress: Called after each run; raise :class:`labcore.runs.Cancelled` in it to stop.
    """
    report = progress or silent
    preset = "--full" if config == Config.full(config.seed) else "--quick"
    command = f"lab run topology {preset} --seed {config.seed}"
    choices = config.choices()
    seeds = tuple(sorted({seed for _, seed in choices}))
    clock = record(TOPIC, config, seeds=seeds, command=command)
    grid = [{**as_params(choice, seed), "history": True} for choice, seed in choices]
    name = task_id(run_choice, {"rows": grid})[:16]
    folder = cache_root() / "unfinished" / f"topology-{name}"
    found = run_grid(run_choice, grid, out=folder, n_jobs=1, on_error="raise", progress=report)
    rows: Table = [
        {
            "data": choice.data,
            "domain": choice.domain,
            "lifting": choice.lifting,
            "model": choice.model,
            "label": choice.label,
            "seed": seed,
            "epochs": choice.epochs,
            **{column: task.values[column] for column in COLUMNS},
        }
        for (choice, seed), task in zip(choices, found, strict=True)
    ]
    curves = {
        f"curve/{choice.data}/{choice.label}": _curve(task.values["history"])
        for (choice, seed), task in zip(choices, found, strict=True)
        if seed == config.seed and task.values["history"]
    }
    result = clock.result(arrays=curves, tables={"runs": rows})
    shutil.rmtree(folder, ignore_errors=True)
    spent = round(sum(row["seconds"] + row["lift_seconds"] for row in rows), 3)
    whole = replace(result.provenance, cpu_seconds=spent)  # of all runs, also resumed ones
    return replace(result, provenance=whole)


def _curve(history: list[dict[str, float]]) -> np.ndarray:
    """Epoch, then the scores of the three parts and the loss of validation, (checks, 5)."""
    return np.array([[row[name] for name in CURVE] for row in history], dtype=np.float32)


def history(result: Result, data: str, label: str) -> list[dict[str, float]]:
    """The learning curve of a row's first seed, as :func:`~.pipeline.train` gives it.

    Raises:
        ValueError: there is none, as for the majority class.
    """
    name = f"curve/{data}/{label}"
    if name not in result.arrays:
        raise ValueError(f"no learning curve of {label!r} on {data!r}")
    return [dict(zip(CURVE, map(float, row), strict=True)) for row in result.arrays[name]]


def run_one(choice: dict[str, Any], seed: int = 0, progress: Progress | None = None) -> Any:
    """One choice of one's own, with its learning curve; for the page.

    Raises:
        ValueError: what the pipeline refuses.
    """
    report = progress or silent
    report(0, 1, str(choice.get("model")))
    found = run_choice(seed=seed, split_seed=seed, history=True, **choice)
    report(1, 1, "done")
    return found


def board_row(choice: dict[str, Any], seed: int, found: dict[str, Any]) -> dict[str, Any]:
    """A run of one's own as a row of short texts."""
    return {
        "model": choice["model"],
        "lifting": choice["lifting"],
        "seed": seed,
        "validation": f"{found['val']:.3f}",
        "test": f"{found['test']:.3f}",
        "parameters": found["parameters"],
        "ms an epoch": f"{1e3 * found['seconds'] / found['history'][-1]['epoch']:.1f}",
    }


def load_result(which: str = "full") -> Result:
    """A committed result; no model is needed. Raises as :func:`labcore.runs.committed`."""
    return committed("topology", which)


def summary(result: Result) -> Table:
    """Rows for the terminal: test accuracy of each choice, with its spread over seeds."""
    rows, table = result.tables["runs"], []
    for data in distinct(rows, "data"):
        for label in distinct(pick(rows, data=data), "label"):
            here = pick(rows, data=data, label=label)
            found = spread([row["test"] for row in here])
            table.append(
                {
                    "what": f"{data}: {label}",
                    "value": found.mean,
                    "spread": found.sd,
                    "sample": f"{found.n} seeds",
                    "note": f"{here[0]['lifting']}, {here[0]['parameters']} parameters",
                }
            )
    return table
