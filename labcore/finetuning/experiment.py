"""The experiment: fine-tune two real networks in every way, and say what each way cost.

A small ViT pre-trained here on digits and DINOv2's ViT-S learn clothing. Every run is a part of its
own, so a run that is stopped goes on. All strategies also take steps in turns on one clock, two
photographs go through the real model, and some strategies race for the same CPU time. Settings:
:mod:`.settings`.
"""

from collections.abc import Iterator, Sequence
from functools import cache
from statistics import median
from typing import Any

import numpy as np

from labcore.finetuning.settings import BUDGETS, Config, Trial
from labcore.finetuning.tally import Rows, distinct, over_runs, pick
from labcore.finetuning.training import Recipe
from labcore.parts import Findings, Part, run_experiment
from labcore.runs import Progress, Result, Table, committed, silent

__all__ = ["Config", "compare_strategies", "load_result", "run", "summary"]
TOPIC = "finetuning"
_SECONDS = {"small": 8, "scratch": 8, "vit-s": 45}


def run(config: Config, progress: Progress | None = None) -> Result:
    """Run every part of ``config``, or resume after the parts that are finished.

    Deterministic for a seed, except seconds and peak memory.

    Args:
        config: What to run.
        progress: Called between steps; raise :class:`labcore.runs.Cancelled` in it to stop.
    """
    presets = {"--quick": Config.quick(config.seed), "--full": Config.full(config.seed)}
    preset = next((name for name, known in presets.items() if known == config), None)
    called = f"lab run finetuning {preset} --seed {config.seed}"
    seeds = tuple(dict.fromkeys(seed for trial in config.trials for seed in trial.seeds))
    return run_experiment(
        TOPIC,
        config,
        list(_parts(config)),
        seeds=seeds,
        command=called if preset else "labcore.finetuning.experiment.run",
        resume=config.resume,
        progress=progress or silent,
    )


def compare_strategies(
    strategies: Sequence[str],
    recipe: Recipe,
    *,
    seeds: Sequence[int] = (0,),
    progress: Progress = silent,
) -> Result:
    """Fine-tune one model in several ways, with every seed; :func:`summary` makes the table.

    Args:
        strategies: Of :data:`labcore.finetuning.strategies.STRATEGIES`.
        recipe: Model, pictures and amount of training.
        seeds: Pictures, their order, layers drawn.
        progress: As for :func:`run`.

    Raises:
        ValueError: no strategy, one that is not known, or no seed.
    """
    if not strategies or not seeds:
        raise ValueError("name one or more strategies and seeds")
    trial = Trial(recipe.model, recipe, tuple(strategies), tuple(seeds))
    return run(Config(seeds[0], (trial,)), progress)


def load_result(which: str = "full") -> Result:
    """A committed result; no model is needed. Raises as :func:`labcore.runs.committed`."""
    return committed("finetuning", which)


def _parts(config: Config) -> Iterator[Part]:
    """The clock and the photographs; then every model and strategy, seed by seed; the race last."""
    tasks = {trial.name: _task_of(trial) for trial in config.trials}
    frozen = {trial.name: _frozen_of(trial, tasks[trial.name]) for trial in config.trials}
    measured = [trial for trial in config.trials if trial.name != "scratch"]
    for trial in measured if config.clock_rounds else ():
        yield Part(f"clock {trial.name}", 30, _clock(trial, config.clock_rounds, config.seed))
    for name in config.photographs:
        yield Part(f"photograph {name}", 10, _photograph(name))
    for number in range(max(len(trial.seeds) for trial in config.trials)):
        for trial in config.trials:
            for seed in trial.seeds[number : number + 1]:
                if trial in measured:
                    work = _baselines(trial, tasks[trial.name], frozen[trial.name], seed)
                    yield Part(f"baselines {trial.name} {seed}", 8, work)
                for name in trial.strategies:
                    work = _one_run(trial, tasks[trial.name], frozen[trial.name], name, seed)
                    yield Part(f"{trial.name} {name} {seed}", _SECONDS.get(trial.name, 60), work)
    for trial in config.trials:
        for seed in trial.seeds:
            for name in trial.runners:
                work = _race(trial, tasks[trial.name], name, seed)
                yield Part(f"race {trial.name} {name} {seed}", 10, work)


def _task_of(trial: Trial) -> Any:
    """The pictures of a seed; read when a part first asks for them."""
    from labcore.finetuning import data

    @cache
    def task(seed: int) -> data.Task:
        recipe = trial.recipe
        return data.task_of(
            recipe.data, recipe.train, recipe.test, image_size=recipe.image_size,
            channels=recipe.channels, seed=seed,
        )  # fmt: skip

    return task


def _frozen_of(trial: Trial, task: Any) -> Any:
    """What the head reads of a seed's training pictures before any training."""

    @cache
    def frozen(seed: int) -> Any:
        from labcore.finetuning.models import build, features

        held, recipe = task(seed), trial.recipe
        model = build(recipe.model, recipe.image_size, classes=held.classes)
        return features(model.to(recipe.device).eval(), held.train.images)

    return frozen


def _one_run(trial: Trial, task: Any, frozen: Any, strategy: str, seed: int) -> Any:
    def work(report: Progress) -> Findings:
        from labcore.finetuning.training import fine_tune

        found = fine_tune(
            strategy, trial.recipe, task(seed), seed=seed, frozen=frozen(seed), progress=report
        )
        row = {
            "model": trial.name,
            "strategy": strategy,
            "seed": seed,
            "accuracy": found.accuracy,
            "test": trial.recipe.test,
            "train": trial.recipe.train,
            "steps": trial.recipe.steps,
            "peak_bytes": found.peak_bytes,
            "trained": found.trained,
            **found.costs(),
        }
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
        return Findings(arrays, {"runs": [row]})

    return work


def _race(trial: Trial, task: Any, strategy: str, seed: int) -> Any:
    def work(report: Progress) -> Findings:
        from labcore.finetuning.race import race_table

        table = race_table(
            (strategy,), trial.recipe, task(seed), seconds=trial.race_seconds, seed=seed,
            progress=report,
        )  # fmt: skip
        return Findings(tables={"race": [{"model": trial.name, **row} for row in table]})

    return work


def _baselines(trial: Trial, task: Any, frozen: Any, seed: int) -> Any:
    def work(report: Progress) -> Findings:
        from labcore.finetuning.models import build, features
        from labcore.finetuning.training import baselines

        held, recipe = task(seed), trial.recipe
        model = build(recipe.model, recipe.image_size, classes=held.classes).to(recipe.device)
        scores = baselines(held, frozen(seed), features(model.eval(), held.test.images))
        table: Table = [
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
    """Rows for the terminal: accuracy and cost of every strategy, beside full fine-tuning's."""
    rows, table = result.tables["runs"], []
    for model in distinct(rows, "model"):
        here = pick(rows, model=model)
        whole = pick(here, strategy="full")
        for name in distinct(here, "strategy"):
            mine = pick(here, strategy=name)
            table.append(
                {
                    "model": model,
                    "strategy": name,
                    **_score(mine),
                    "CPU s/step": _median(mine, "step_seconds"),
                    "GFLOPs/picture": _median(mine, "gflops"),
                    "saved MB/step": _median(mine, "saved_bytes") / 1e6,
                    "x faster": _ratio(whole, mine, "step_seconds"),
                    "x FLOPs": _ratio(whole, mine, "gflops"),
                    "x saved": _ratio(whole, mine, "saved_bytes"),
                    "peak MB": _megabytes(mine),
                    "tokens": _median(mine, "mean_tokens"),
                }
            )
        base = pick(result.tables.get("baselines", []), model=model)
        for name in distinct(base, "baseline"):
            table.append({"model": model, "strategy": name, **_score(pick(base, baseline=name))})
    return table


def _score(rows: Rows) -> dict[str, Any]:
    found = over_runs(rows, "accuracy")
    return {"accuracy": found.mean, "spread": found.sd, "seeds": found.n}


def _median(rows: Rows, column: str) -> float:
    return median(float(row[column]) for row in rows)


def _ratio(whole: Rows, mine: Rows, column: str) -> float:
    return _median(whole, column) / max(_median(mine, column), 1e-12)


def _megabytes(rows: Rows) -> float | None:
    peaks = [row["peak_bytes"] for row in rows if row["peak_bytes"] is not None]
    return median(peaks) / 1e6 if peaks else None
