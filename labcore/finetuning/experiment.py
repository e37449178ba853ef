"""The experiment: fine-tune two real networks in every way, and say what each way cost.

A small ViT pre-trained here on digits and DINOv2's ViT-S learn clothing. Every run is a part of its
own, so a run that is stopped goes on. Then all strategies take steps in turns on one clock, and two
photographs go through the real model for the pictures. Settings: :mod:`.settings`.
"""

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any, Literal

import numpy as np

from labcore.finetuning.settings import BUDGETS, Config, Trial
from labcore.finetuning.tally import distinct, over_runs, pick
from labcore.parts import Findings, Part, run_experiment
from labcore.runs import Progress, Result, Table, silent

__all__ = ["Config", "load_result", "run", "summary"]
TOPIC = "finetuning"
_SECONDS = {"small": 8, "scratch": 10, "vit-s": 45}


def run(config: Config, progress: Progress | None = None) -> Result:
    """Run every part of ``config``, or resume after the parts that are finished.

    Deterministic for a seed, except seconds and peak memory.

    Args:
        config: What to run.
        progress: Called between steps; raise :class:`labcore.runs.Cancelled` in it to stop.
    """
    preset = "--full" if config == Config.full(config.seed) else "--quick"
    seeds = tuple(dict.fromkeys(seed for trial in config.trials for seed in trial.seeds))
    return run_experiment(
        TOPIC,
        config,
        list(_parts(config)),
        seeds=seeds,
        command=f"lab run finetuning {preset} --seed {config.seed}",
        resume=config.resume,
        progress=progress or silent,
    )


def load_result(which: Literal["full", "quick"] = "full") -> Result:
    """A committed result; no model is needed.

    Raises:
        FileNotFoundError: there is none; the message has the command that makes it.
    """
    path = Path(__file__).parent / "results" / f"{which}.npz"
    if not path.exists():
        raise FileNotFoundError(
            f"no {which} result of finetuning: lab run finetuning --{which} --out {path.parent}"
        )
    return Result.load(path)


def _parts(config: Config) -> Iterator[Part]:
    """First seeds, trial by trial; the clock and the photographs; then the other seeds."""
    tasks = {trial.name: _task_of(trial) for trial in config.trials}
    measured = [trial for trial in config.trials if trial.name != "scratch"]
    for trial in measured:
        yield Part(f"baselines {trial.name}", 5, _baselines(trial, tasks[trial.name]))
    for first in (True, False):  # the first four everywhere, then the clock, then the rest
        for trial in config.trials:
            for name in trial.strategies[:4] if first else trial.strategies[4:]:
                yield _run_part(trial, tasks[trial.name], name, trial.seeds[0])
        if not first:
            continue
        for trial in measured if config.clock_rounds else ():
            yield Part(f"clock {trial.name}", 30, _clock(trial, config.clock_rounds, config.seed))
        for name in config.photographs:
            yield Part(f"photograph {name}", 10, _photograph(name))
    for trial in config.trials:
        for seed in trial.seeds[1:]:
            for name in trial.repeated:
                yield _run_part(trial, tasks[trial.name], name, seed)


def _run_part(trial: Trial, task: Any, strategy: str, seed: int) -> Part:
    title = f"{trial.name} {strategy} {seed}"
    return Part(title, _SECONDS[trial.name], _one_run(trial, task, strategy, seed))


def _task_of(trial: Trial) -> Any:
    """The pictures of a seed; read when a part first asks for them."""
    from labcore.finetuning import data

    @cache
    def task(seed: int) -> data.Task:
        recipe = trial.recipe
        channels = 3 if recipe.model == "vit-s" else 1
        size = recipe.image_size
        return data.clothing(
            recipe.train, recipe.test, image_size=size, channels=channels, seed=seed
        )

    return task


def _one_run(trial: Trial, task: Any, strategy: str, seed: int) -> Any:
    def work(report: Progress) -> Findings:
        from labcore.finetuning.training import fine_tune

        found = fine_tune(strategy, trial.recipe, task(seed), seed=seed, progress=report)
        about = {"model": trial.name, "strategy": strategy, "seed": seed}
        row = {
            **about,
            "accuracy": found.accuracy,
            "test": trial.recipe.test,
            "train": trial.recipe.train,
            "steps": trial.recipe.steps,
            "peak_bytes": found.peak_bytes,
            "trained": found.trained,
            **found.costs(),
        }
        curve = [
            {**about, "step": step, "cpu_seconds": spent, "accuracy": score}
            for step, spent, score in found.curve
        ]
        arrays: dict[str, np.ndarray] = {}
        if found.reports[0].deltas and seed == trial.seeds[0]:
            depth, start = len(found.reports[0].tokens), f"{trial.name}/{strategy}/"
            trained = [[layer in r.layers for layer in range(depth)] for r in found.reports]
            arrays = {
                f"{start}budgets": np.array([r.budgets for r in found.reports], np.float32),
                f"{start}tokens": np.array([r.tokens for r in found.reports], np.int16),
                f"{start}deltas": np.array([r.deltas for r in found.reports], np.float32),
                f"{start}trained": np.array(trained),
            }
        return Findings(arrays, {"runs": [row], "curves": curve})

    return work


def _baselines(trial: Trial, task: Any) -> Any:
    def work(report: Progress) -> Findings:
        from labcore.finetuning.models import build, features
        from labcore.finetuning.training import baselines

        table: Table = []
        for number, seed in enumerate(trial.seeds):
            report(number, len(trial.seeds), "trivial baselines")
            held = task(seed)
            model = build(trial.recipe.model, trial.recipe.image_size)
            both = (features(model, part.images) for part in (held.train, held.test))
            scores = baselines(held, *both)
            table += [
                {"model": trial.name, "baseline": name, "seed": seed, "accuracy": score}
                for name, score in scores.items()
            ]
        return Findings(tables={"baselines": table})

    return work


def _clock(trial: Trial, rounds: int, seed: int) -> Any:
    def work(report: Progress) -> Findings:
        from labcore.finetuning.clock import step_costs

        return Findings(tables={"clock": step_costs(trial, rounds, seed, report)})

    return work


def _photograph(name: str) -> Any:
    def work(report: Progress) -> Findings:
        from labcore.finetuning import data, filmstrip, models

        model = models.real_vit(224).eval()
        images = data.photograph(name)
        profile = filmstrip.delta_profile(model, images)
        kept = []
        for number, budget in enumerate(BUDGETS):
            report(number, len(BUDGETS), f"budget {budget:g}")
            kept.append(filmstrip.survivors(model, images, budget))
        small = data.middle_square(data.photograph_pixels(name), 160)
        arrays = {f"photo/{name}/{key}": values for key, values in profile.items()}
        arrays |= {f"photo/{name}/kept": np.stack(kept), f"photo/{name}/pixels": small}
        return Findings(arrays)

    return work


def summary(result: Result) -> Table:
    """Rows for the terminal: accuracy and cost of every strategy, relative to full fine-tuning."""
    rows, table = result.tables["runs"], []
    for model in distinct(rows, "model"):
        here = pick(rows, model=model)
        whole = pick(here, strategy="full")
        for name in distinct(here, "strategy"):
            found = over_runs(here, "accuracy", strategy=name)
            mine = pick(here, strategy=name)
            table.append(
                {
                    "model": model,
                    "strategy": name,
                    "accuracy": found.mean,
                    "spread": found.deviation,
                    "seeds": found.n,
                    "CPU s/step": median(r["step_seconds"] for r in mine),
                    "x faster": _ratio(whole, mine, "step_seconds"),
                    "x FLOPs": _ratio(whole, mine, "gflops"),
                    "x saved bytes": _ratio(whole, mine, "saved_bytes"),
                    "saved MB": median(r["saved_bytes"] for r in mine) / 1e6,
                    "peak MB": _megabytes(mine),
                    "tokens": float(np.mean([r["mean_tokens"] for r in mine])),
                }
            )
    for row in result.tables["baselines"]:
        table.append({"model": row["model"], "strategy": row["baseline"], "seeds": 1,
                      "accuracy": row["accuracy"]})  # fmt: skip
    return table


def _ratio(whole: Any, mine: Any, column: str) -> float:
    return median(r[column] for r in whole) / max(median(r[column] for r in mine), 1e-12)


def _megabytes(rows: Any) -> float | None:
    peaks = [row["peak_bytes"] for row in rows if row["peak_bytes"] is not None]
    return median(peaks) / 1e6 if peaks else None
