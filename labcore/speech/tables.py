"""From finished cells to tables: scores, curves, shares of variance, gaps of the best."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from labcore.grid import TaskResult
from labcore.runs import Table
from labcore.speech import corpus
from labcore.speech.metrics import chrf, word_errors
from labcore.speech.names import ALL, FACTORS, NO_LM, NOT_TRAINED, SPLITS, SUBSETS
from labcore.speech.settings import Config
from labcore.speech.variance import bootstrap_shares, gap_of_best, pooled_rate

SAID = 12  # answers of each cell and set that are kept
Placed = Sequence[tuple[dict[str, Any], TaskResult]]


def tabulate(config: Config, done: Placed) -> dict[str, Any]:
    """Arrays and tables of a result, from cells and their places (:mod:`labcore.speech.plan`)."""
    tables: dict[str, Table] = {"cells": [], "scores": [], "curves": [], "said": []}
    arrays: dict[str, np.ndarray] = {}
    for at, task in done:
        tables["cells"].append(at | _cell_row(task))
        tables["scores"] += [at | row for row in _scores(task)]
        tables["curves"] += [at | row for row in task.values["history"]]
        if at["repeat"] == 0:
            tables["said"] += [at | row for row in _said(task)]
        for name, value in task.values.items():
            if name.startswith("weight/"):
                arrays[f"{at['adapter']}/{name}"] = value
    arrays |= error_arrays(config, done)
    tables |= decompose(config, arrays)
    tables["constant"] = list(_constant(config, tables["scores"]))
    return {"arrays": arrays, "tables": tables}


def _cell_row(task: TaskResult) -> dict[str, Any]:
    v, recipe = task.values, task.params["recipe"]
    seconds = {k: round(v[k], 2) for k in ("warm_seconds", "train_seconds", "test_seconds")}
    row = {k: v[k] for k in ("parameters", "encoder_parameters", "skipped")} | seconds
    row |= {"steps": recipe["steps"], "warm_steps": recipe["warm_steps"]}
    # A step of the warm-up is the adapter alone: scaled to the same number of clips.
    warm = v["warm_seconds"] / max(recipe["warm_steps"], 1)
    row["adapter_step_seconds"] = warm * recipe["batch"] / recipe["warm_batch"]
    row["step_seconds"] = v["train_seconds"] / max(recipe["steps"], 1)
    for split in SPLITS:
        if f"frames_{split}" not in v:
            continue
        frames, positions = v[f"frames_{split}"], v[f"positions_{split}"]
        row[f"frames_a_position_{split}"] = float((frames / positions).mean())
        row[f"positions_a_second_{split}"] = float(50 * positions.sum() / frames.sum())
        row[f"empty_{split}"] = v[f"empty_{split}"]
    return row


def _scores(task: TaskResult) -> Iterator[dict[str, Any]]:
    """One row a task and test set: error rate, chrF and exact answers."""
    words_of = str(task.params.get("words", "digits"))
    spoken = corpus.load(words_of)
    for split in SPLITS:
        for name in ("nearest", *corpus.TASKS):
            if f"said_{name}_{split}" not in task.values:
                continue
            answers = task.values[f"said_{name}_{split}"]
            words = task.values[f"words_{name}_{split}"]
            asked = "asr" if name == "nearest" else name
            wanted = [spoken.answer(i, asked) for i in spoken.where(split)[: len(words)]]
            rate = float(pooled_rate(task.values[f"errors_{name}_{split}"], words))
            yield {
                "task": name, "split": split, "wer": rate, "chrf": chrf(wanted, answers),
                "exact": float(np.mean([a == w for a, w in zip(answers, wanted, strict=True)])),
                "clips": len(words), "words": int(words.sum()), "trained": rate <= NOT_TRAINED,
                "corpus": words_of,
            }  # fmt: skip


def _said(task: TaskResult) -> Iterator[dict[str, Any]]:
    for split in SPLITS:
        for name in corpus.TASKS:
            for clip, text in enumerate(task.values.get(f"said_{name}_{split}", [])[:SAID]):
                yield {"task": name, "split": split, "clip": clip, "said": text}


def _constant(config: Config, scores: Table) -> Iterator[dict[str, Any]]:
    """Error rate of the one answer that is best on the training clips, whatever is said."""
    spoken = corpus.load()
    train = spoken.where("train")[: config.train_clips]
    for task in corpus.TASKS:
        texts = [spoken.answer(i, task) for i in train]
        candidates = [" ".join([w] * n) for w in sorted({w for t in texts for w in t.split()})
                      for n in range(1, 5)]  # fmt: skip
        said = min(candidates, key=lambda c: sum(word_errors(t, c)[0] for t in texts))
        for split in SPLITS:
            if not any(r["task"] == task and r["split"] == split for r in scores):
                continue
            wanted = [spoken.answer(i, task) for i in spoken.where(split)[: config.test_clips]]
            counts = np.array([word_errors(t, said) for t in wanted])
            yield {"task": task, "split": split, "said": said,
                   "wer": float(counts[:, 0].sum() / counts[:, 1].sum())}  # fmt: skip


# --- designs -------------------------------------------------------------------------------------


def designs(config: Config) -> dict[str, tuple[tuple[str, ...], int]]:
    """Design -> its language models and the trainings of each of its cells.

    The first holds all factors, with as many trainings as every cell has; a language model that
    was trained with more often has a design of its own.
    """
    fewest = min(config.repeats)
    more = {lm: n for lm, n in zip(config.lms, config.repeats, strict=True) if n > fewest}
    return {ALL: (config.lms, fewest)} | {lm: ((lm,), n) for lm, n in more.items()}


def error_arrays(config: Config, done: Placed) -> dict[str, np.ndarray]:
    """``errors/<design>/<task>/<split>``: word errors (encoder, adapter, lm, repeat, clip)."""
    names = ("nearest",) if config.lms == (NO_LM,) else ("nearest", *corpus.TASKS)
    arrays: dict[str, np.ndarray] = {}
    for at, task in done:
        if at["variant"]:
            continue
        for design, (lms, repeats) in designs(config).items():
            if at["lm"] not in lms or at["repeat"] >= repeats:
                continue
            place = (config.encoders.index(at["encoder"]), config.adapters.index(at["adapter"]),
                     lms.index(at["lm"]), at["repeat"])  # fmt: skip
            shape = (len(config.encoders), len(config.adapters), len(lms), repeats)
            for name in names:
                for split in SPLITS:
                    errors = task.values[f"errors_{name}_{split}"]
                    arrays[f"words/{name}/{split}"] = task.values[f"words_{name}_{split}"]
                    empty = np.zeros((*shape, len(errors)), np.int16)
                    table = arrays.setdefault(f"errors/{design}/{name}/{split}", empty)
                    table[place] = errors
    return arrays


def decompose(config: Config, arrays: dict[str, np.ndarray]) -> dict[str, Table]:
    """Shares with intervals, and gaps between bests, of each design, task and test set.

    ``untrained`` counts the cells of the design above the error rate that marks them.
    """
    shares: Table = []
    gaps: Table = []
    for key, errors in arrays.items():
        if not key.startswith("errors/"):
            continue
        _, design, task, split = key.split("/")
        words, (lms, _) = arrays[f"words/{task}/{split}"], designs(config)[design]
        for subset, adapters in SUBSETS.items():
            levels = {"encoder": config.encoders, "adapter": config.adapters, "language model": lms}
            rows, best = among(errors, words, levels, adapters, resamples=config.resamples)
            at = {"design": design, "task": task, "split": split, "adapters": subset}
            shares += [at | row for row in rows]
            gaps += [at | row for row in best]
    return {"shares": shares, "gaps": gaps}


def among(
    errors: np.ndarray,
    words: np.ndarray,
    levels: Mapping[str, Sequence[str]],
    adapters: Sequence[str],
    *,
    resamples: int,
) -> tuple[Table, Table]:
    """Shares (of the rate and of its logit) and gaps of the best, with some adapters only.

    Args:
        errors: Word errors (encoder, adapter, lm, repeat, clip).
        words: Words of each clip.
        levels: Factor -> names of its levels, in the order of the axes.
        adapters: Which to keep.
        resamples: Of the bootstrap.

    Raises:
        ValueError: no adapter is kept.
    """
    kept = [a for a in levels["adapter"] if a in adapters]
    if not kept:
        raise ValueError(f"no adapter is left: keep at least one of {list(levels['adapter'])}")
    chosen = errors[:, [list(levels["adapter"]).index(a) for a in kept]]
    rates = pooled_rate(chosen, words).mean(axis=-1)
    count = {"untrained": int((rates > NOT_TRAINED).sum()), "cells": int(rates.size)}
    left = dict(levels) | {"adapter": kept}
    factors = [f for f in FACTORS if len(left[f]) > 1]
    flat = tuple(i for i, f in enumerate(FACTORS) if f not in factors)
    shares: Table = []
    for logit in (False, True):
        drawn = bootstrap_shares(
            chosen.squeeze(axis=flat), words, factors, resamples=resamples, seed=0, logit=logit
        )
        shares += [count | {"scale": "logit" if logit else "rate"} | row for row in drawn]
    gaps = gap_of_best(rates.squeeze(axis=flat), factors, left)
    return shares, [count | row for row in gaps]
