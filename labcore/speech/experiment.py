"""The factorial experiment: encoder x adapter x language model, and what each factor explains.

Cells are independent tasks of :func:`labcore.grid.run_grid`: finished ones are on disk, so a run
that was stopped goes on where it was, on this machine or on a Dask cluster. Settings:
:mod:`.settings`; one cell: :mod:`.cells`.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from labcore.assets import cache_root
from labcore.grid import TaskResult, run_grid
from labcore.runs import Progress, Result, Table, committed, record, silent
from labcore.speech.metrics import chrf
from labcore.speech.settings import FACTORS, NO_LM, Config
from labcore.speech.variance import (
    bootstrap_shares,
    gap_of_best,
    pooled_rate,
)

__all__ = ["Config", "load_result", "run", "summary"]
TOPIC = "speech"
SPLITS = ("test", "real")
LIVE = ("conv", "cif", "ctc")  # trained adapters that the result holds, on the conformer
NOT_TRAINED = 0.9  # a cell above this error rate is marked as not trained


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
    seeds = tuple(range(config.seed, config.seed + config.repeats))
    command = f"lab run speech {preset} --seed {config.seed}"
    if "gemma3-270m" in config.lms:  # under terms of its own, which the user accepts
        command = f"LABCORE_ACCEPT_GEMMA=1 {command}"
    clock = record(TOPIC, config, seeds=seeds, command=command)
    for encoder in config.encoders:  # once, before workers would each do it
        progress(0, 1, f"features of {encoder}")
        cells.front(encoder, "none", config.train_clips, config.test_clips)
    with _folder(config) as folder:
        done = run_grid(
            cells.run_cell,
            _tasks(config),
            out=folder,
            n_jobs=config.jobs,
            cluster=config.cluster,
            seed=config.seed,
            data_version=cells.data_version(),
            on_error="raise",
            progress=progress,
        )
    found = _tables(config, done)
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


def load_result(which: str = "full") -> Result:
    """A committed result; no model is needed. Raises as :func:`labcore.runs.committed`."""
    return committed("speech", which)


def _tasks(config: Config) -> Iterator[dict[str, Any]]:
    """Every cell's parameters: whole factorials one after the other, then the variants."""
    sizes = {"train_clips": config.train_clips, "test_clips": config.test_clips}
    for repeat in range(config.seed, config.seed + config.repeats):
        for lm in config.lms:
            for encoder in config.encoders:
                for adapter in config.adapters:
                    kept = repeat == config.seed and lm == config.lms[0] and lm != NO_LM
                    yield sizes | {
                        "encoder": encoder, "adapter": adapter, "lm": lm, "repeat": repeat,
                        "recipe": config.recipe(),
                    } | ({"keep": True} if kept and encoder == "conformer" else {})  # fmt: skip
        if repeat == config.seed:
            yield from _variants(config, sizes)


def _variants(config: Config, sizes: dict[str, int]) -> Iterator[dict[str, Any]]:
    for variant in config.variants:
        options = dict(variant.options)
        changed = {k: options.pop(k) for k in ("warm_steps",) if k in options}
        yield sizes | options | {
            "encoder": variant.encoder, "adapter": variant.adapter, "lm": config.lms[0],
            "repeat": config.seed, "recipe": config.recipe(**changed),
        }  # fmt: skip
    if config.live_steps:
        yield sizes | {
            "encoder": "conformer", "adapter": "conv", "lm": "smollm2-135m",
            "repeat": config.seed, "recipe": config.recipe(steps=config.live_steps),
        }  # fmt: skip


# --- tables --------------------------------------------------------------------------------------


def _tables(config: Config, done: list[TaskResult]) -> dict[str, Any]:
    variants = {
        (v.encoder, v.adapter, tuple(sorted(v.options.items()))): v.name for v in config.variants
    }
    rows: Table = []
    scores: Table = []
    curves: Table = []
    said: Table = []
    arrays: dict[str, np.ndarray] = {}
    for task in done:
        at = _where(config, task, variants)
        rows.append(at | _cell_row(task))
        scores += [at | row for row in _scores(task)]
        curves += [at | row for row in task.values["history"]]
        if task.params["repeat"] == config.seed:
            said += [at | row for row in _said(task)]
        for name, value in task.values.items():
            if name.startswith("weight/"):
                arrays[f"{task.params['adapter']}/{name}"] = value
    found = {"cells": rows, "scores": scores, "curves": curves, "said": said}
    arrays |= error_arrays(config, done, variants)
    found |= decompose(config, arrays)
    return {"arrays": arrays, "tables": found}


def _where(
    config: Config, task: TaskResult, variants: dict[tuple[Any, ...], str]
) -> dict[str, Any]:
    """A cell's place: its levels, its repeat, and the name of what was changed in it."""
    p = task.params
    options: dict[str, Any] = {k: p[k] for k in ("pad", "unit_scale", "scrambled") if k in p}
    if p["recipe"]["warm_steps"] != config.warm_steps:
        options["warm_steps"] = p["recipe"]["warm_steps"]
    variant = ""
    if p["lm"] not in config.lms:
        variant = "a few steps with a model"
    elif options:
        variant = variants[p["encoder"], p["adapter"], tuple(sorted(options.items()))]
    levels = {k: p[k] for k in ("encoder", "adapter", "lm")}
    return levels | {"repeat": p["repeat"] - config.seed, "variant": variant}


def _cell_row(task: TaskResult) -> dict[str, Any]:
    v, recipe = task.values, task.params["recipe"]
    seconds = {k: round(v[k], 2) for k in ("warm_seconds", "train_seconds", "test_seconds")}
    row = {k: v[k] for k in ("parameters", "encoder_parameters", "skipped")} | seconds
    # A step of the warm-up is the adapter alone: scaled to the same number of clips.
    warm = v["warm_seconds"] / max(recipe["warm_steps"], 1)
    row["adapter_step_seconds"] = warm * recipe["batch"] / recipe["warm_batch"]
    row["step_seconds"] = v["train_seconds"] / max(recipe["steps"], 1)
    for split in SPLITS:
        frames, positions = v[f"frames_{split}"], v[f"positions_{split}"]
        row[f"frames_a_position_{split}"] = float((frames / positions).mean())
        row[f"positions_a_second_{split}"] = float(50 * positions.sum() / frames.sum())
        row[f"empty_{split}"] = v[f"empty_{split}"]
    return row


def _scores(task: TaskResult) -> Iterator[dict[str, Any]]:
    """One row a task and test set: error rate, chrF and exact answers."""
    from labcore.speech import corpus

    spoken = corpus.load()
    for split in SPLITS:
        words = task.values[f"words_{split}"]
        numbers = spoken.where(split)[: len(words)]
        for name in ("nearest", *corpus.TASKS):
            if f"said_{name}_{split}" not in task.values:
                continue
            answers = task.values[f"said_{name}_{split}"]
            wanted = [spoken.answer(i, "asr" if name == "nearest" else name) for i in numbers]
            rate = float(pooled_rate(task.values[f"errors_{name}_{split}"], words))
            yield {
                "task": name, "split": split, "wer": rate, "chrf": chrf(wanted, answers),
                "exact": float(np.mean([a == w for a, w in zip(answers, wanted, strict=True)])),
                "clips": len(words), "words": int(words.sum()), "trained": rate <= NOT_TRAINED,
            }  # fmt: skip


def _said(task: TaskResult) -> Iterator[dict[str, Any]]:
    for split in SPLITS:
        for name in ("asr", "st"):
            for clip, text in enumerate(task.values.get(f"said_{name}_{split}", [])[:12]):
                yield {"task": name, "split": split, "clip": clip, "said": text}


def error_arrays(
    config: Config, done: list[TaskResult], variants: dict[tuple[Any, ...], str]
) -> dict[str, np.ndarray]:
    """Word errors (encoder, adapter, lm, repeat, clip) of each task and test set."""
    shape = (len(config.encoders), len(config.adapters), len(config.lms), config.repeats)
    names = ("nearest",) if config.lms == (NO_LM,) else ("nearest", "asr", "st")
    arrays: dict[str, np.ndarray] = {}
    for task in done:
        at = _where(config, task, variants)
        if at["variant"]:
            continue
        place = (
            config.encoders.index(at["encoder"]), config.adapters.index(at["adapter"]),
            config.lms.index(at["lm"]), at["repeat"],
        )  # fmt: skip
        for split in SPLITS:
            words = task.values[f"words_{split}"]
            arrays[f"words/{split}"] = words
            for name in names:
                empty = np.zeros((*shape, len(words)), np.int16)
                table = arrays.setdefault(f"errors/{name}/{split}", empty)
                table[place] = task.values[f"errors_{name}_{split}"]
    return arrays


def decompose(config: Config, arrays: dict[str, np.ndarray]) -> dict[str, Table]:
    """Shares with intervals, and gaps between bests, of each task and test set."""
    shares: Table = []
    gaps: Table = []
    levels = {
        FACTORS[0]: config.encoders, FACTORS[1]: config.adapters, FACTORS[2]: config.lms
    }  # fmt: skip
    subsets = {"all five": config.adapters, "without cif, ctc": tuple(
        a for a in config.adapters if a not in ("cif", "ctc"))}  # fmt: skip
    for key, errors in arrays.items():
        if not key.startswith("errors/"):
            continue
        _, task, split = key.split("/")
        words = arrays[f"words/{split}"]
        for subset, kept in subsets.items():
            chosen = errors[:, [config.adapters.index(a) for a in kept]]
            at = {"task": task, "split": split, "adapters": subset}
            for logit in (False, True):
                factors, table = _factors(config, chosen)
                drawn = bootstrap_shares(
                    table, words, factors, resamples=config.resamples, seed=0, logit=logit
                )
                shares += [at | {"scale": "logit" if logit else "rate"} | row for row in drawn]
            rates = pooled_rate(chosen, words).mean(axis=-1)
            names = levels | {FACTORS[1]: kept}
            gaps += [at | row for row in _gaps(rates, names)]
    return {"shares": shares, "gaps": gaps}


def _factors(config: Config, errors: np.ndarray) -> tuple[tuple[str, ...], np.ndarray]:
    """Without a choice of language models that factor has no axis."""
    if len(config.lms) > 1:
        return FACTORS, errors
    return FACTORS[:2], errors[:, :, 0]


def _gaps(rates: np.ndarray, levels: dict[str, tuple[str, ...]]) -> Table:
    several = [name for name in FACTORS if len(levels[name]) > 1]
    table = rates.squeeze(axis=tuple(i for i, n in enumerate(FACTORS) if n not in several))
    return gap_of_best(table, several, levels)


def summary(result: Result) -> Table:
    """Rows for the terminal: each cell's error rates, then the shares of variance."""
    rows: Table = []
    for split in SPLITS:
        for row in result.where("scores", split=split):
            rows.append(
                {
                    "what": f"{row['task']}, {row['encoder']} + {row['adapter']} + {row['lm']}"
                    + (f" ({row['variant']})" if row["variant"] else ""),
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
                "what": f"share of {row['term']}, {row['task']}",
                "repeat": None,
                "value": row["share"],
                "low": row["low"],
                "high": row["high"],
                "sample": f"{row['split']}{no_lm}",
            }
        )
    return rows
