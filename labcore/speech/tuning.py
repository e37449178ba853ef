"""How the recipe was chosen: a few candidates on one cell, scored on held-back training voices.

    python -m labcore.speech.tuning --out labcore/speech/results

The cell is conformer + Conv + SmolLM2, the clips that are scored are the ``valid`` split: two of
the training voices, which no cell trains on. No test clip is read. The lowest mean word error rate
over both tasks wins; every cell of the grid then uses that recipe, without early stopping. The
committed table is ``results/tuning.json``.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from labcore.grid import run_grid
from labcore.runs import Table, replacing
from labcore.speech import cells
from labcore.speech.corpus import TASKS
from labcore.speech.experiment import TUNING, cells_folder
from labcore.speech.variance import pooled_rate

CELL = {"encoder": "conformer", "adapter": "conv", "lm": "smollm2-135m", "repeat": 0}
RECIPE = {"lr": 1e-3, "warm_steps": 100, "steps": 100, "batch": 8}  # steps: what time allows
CANDIDATES: dict[str, dict[str, Any]] = {
    "rate 0.0005, warm-up 250": {"lr": 5e-4, "warm_steps": 250},
    "rate 0.001, warm-up 250": {"warm_steps": 250},
    "rate 0.001, warm-up 100": {},
    "rate 0.002, warm-up 100": {"lr": 2e-3},
    "rate 0.001, warm-up 100, plain prompt": {"prompt": "plain"},
}


def _tasks() -> Iterator[dict[str, Any]]:
    for candidate in CANDIDATES.values():
        recipe = RECIPE | {k: v for k, v in candidate.items() if k in RECIPE}
        changed = {k: v for k, v in candidate.items() if k not in RECIPE}
        yield CELL | changed | {"recipe": recipe, "splits": ["valid"]}


def tune(jobs: int = 1) -> Table:
    """Every candidate's error rates on the validation voices, the best first."""
    done = run_grid(cells.run_cell, _tasks(), out=cells_folder(), n_jobs=jobs,
                    data_version=cells.data_version(), on_error="raise", progress=_say)  # fmt: skip
    rows: Table = []
    for name, task in zip(CANDIDATES, done, strict=True):
        rates = {
            t: float(pooled_rate(task.values[f"errors_{t}_valid"], task.values[f"words_{t}_valid"]))
            for t in TASKS
        }
        seconds = task.values["warm_seconds"] + task.values["train_seconds"]
        rows.append(
            {"candidate": name, **rates, "mean": sum(rates.values()) / len(rates),
             "clips": len(task.values["words_asr_valid"]), "split": "valid",
             "cpu_seconds": round(seconds, 1)}
        )  # fmt: skip
    return sorted(rows, key=lambda r: r["mean"])


def _say(done: int, total: int, note: str) -> None:
    print(f"{done}/{total} {note}", flush=True)


def main() -> None:
    """Write ``tuning.json``."""
    parser = argparse.ArgumentParser(description="choose the recipe on validation voices")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--jobs", type=int, default=1)
    args = parser.parse_args()
    rows = tune(args.jobs)
    with replacing(args.out / TUNING) as part:
        part.write_text(json.dumps(rows, indent=1) + "\n")
    for row in rows:
        print(row)


if __name__ == "__main__":
    main()
