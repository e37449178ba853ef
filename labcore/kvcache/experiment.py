"""The experiment on a real language model: what key norms predict, and what dropping by them costs.

Parts, in order: maps of norm against attention and the tokens with small keys; perplexity after
one prune, beside its controls; rolling caches; pass keys in two fillers; a needle in a novel; a
close-up and a film for the pictures; one decode step on the clock. Settings: :mod:`.settings`.
"""

import math
from collections.abc import Iterator
from functools import cache
from typing import Any

from labcore.kvcache.settings import Config
from labcore.kvcache.tally import paired
from labcore.parts import Findings, Part, run_experiment
from labcore.runs import Progress, Result, Table, committed, silent
from labcore.tally import Rows, distinct, over, pick

__all__ = ["Config", "load_result", "run", "summary"]
TOPIC = "kvcache"
PAIRS = (  # policy and control of the table of paired differences
    ("low_norm", "full"),
    ("low_norm", "high_norm"),
    ("low_norm", "random"),
    ("low_norm", "special"),
    ("low_norm+guards", "random+guards"),
    ("low_norm+guards", "high_norm+guards"),
    ("low_norm+guards", "sink_window"),
)


def run(config: Config, progress: Progress | None = None) -> Result:
    """Run every part of ``config``, or resume after the parts that an earlier session finished.

    Deterministic for a seed, except the table ``step_times``, which is a clock's.

    Args:
        config: What to run.
        progress: Called between steps; raise :class:`labcore.runs.Cancelled` in it to stop.
    """
    preset = "--full" if config == Config.full(config.seed) else "--quick"

    def derive(found: Findings) -> None:
        found.tables["paired"] = _paired_differences(found.tables["prune"])

    return run_experiment(
        TOPIC,
        config,
        list(_parts(config)),
        seeds=(config.seed,),
        command=f"lab run kvcache {preset} --seed {config.seed}",
        resume=config.resume,
        progress=progress or silent,
        derive=derive,
    )


def load_result(which: str = "full") -> Result:
    """A committed result; no model is needed. Raises as :func:`labcore.runs.committed`."""
    return committed(TOPIC, which)


def _parts(config: Config) -> Iterator[Part]:
    """The steps, each with its weight in seconds (of the full run; only their ratios matter)."""
    from labcore.kvcache import correlation, data, samples, sweeps, workbench

    @cache
    def lab() -> workbench.Lab:  # loaded by the first part that runs, if any is left to run
        return workbench.open_lab(config)

    def part(name: str, weight: float, measure: Any, *args: Any) -> Part:
        def work(report: Progress) -> Any:
            return measure(lab(), *args, report)

        return Part(name, math.ceil(weight), work)

    for length in config.map_lengths:
        for text in data.MAP_TEXTS:
            yield part(f"map {text} {length}", length / 60, correlation.correlation, text, length)
    for prune in config.prune:
        cells = len(prune.policies) * len(prune.keep_ratios) + len(prune.skip_ratios)
        weight = prune.windows * (prune.length / 150 + cells * prune.tokens / 140)
        yield part(f"prune {prune.length}", weight, sweeps.prune_once, prune)
    for roll in config.rolling:
        streams = len(roll.policies) * roll.windows
        weight = (roll.tokens - roll.budget) * (0.05 + 0.013 * streams)
        yield part(f"rolling {roll.tokens} {roll.prune_to}", weight, sweeps.rolling, roll)
    for key in config.passkey:
        cells = len(key.policies) * len(key.keep_ratios)
        weight = key.depths * key.keys * (key.length / 150 + 0.25 * cells)
        name = f"passkey {key.filler} {key.question} {key.length}"
        yield part(name, weight, sweeps.passkey, key)
    needle = config.needle
    cells = len(needle.policies) * len(needle.keep_ratios)
    weight = needle.depths * needle.texts * (needle.length / 150 + 0.3 * cells)
    yield part("needle", weight, sweeps.needle, needle)
    sample = config.sample
    yield part("close-up", sample.tokens / 100, samples.close_up, sample)
    weight = len(sample.policies) * (sample.tokens - sample.budget) / 12
    yield part("film", weight, samples.film, sample)
    yield part("clock", sum(config.clock.lengths) / 500, samples.step_times, config.clock)


def _paired_differences(rows: Rows) -> Table:
    """Log-perplexity of a policy minus its control's on the same windows, mean and error."""
    table: Table = []
    for length in distinct(rows, "length"):
        here = pick(rows, length=length)
        measured = set(distinct(here, "policy"))
        for policy, control in PAIRS:
            if not {policy, control} <= measured:
                continue
            for ratio in distinct(pick(here, policy=policy), "keep_ratio"):
                found = paired(here, policy, control, keep_ratio=ratio)
                table.append(
                    {
                        "length": length,
                        "keep_ratio": ratio,
                        "policy": policy,
                        "control": control,
                        "difference": found.mean,
                        "error": found.error,
                        "windows": found.n,
                    }
                )
    return table


def summary(result: Result) -> Table:
    """Rows for the terminal: what was measured, its spread, and on how many trials."""
    return [*_map_summary(result), *_prune_summary(result), *_rolling_summary(result),
            *_found_summary(result)]  # fmt: skip


def _map_summary(result: Result) -> Iterator[dict[str, Any]]:
    for row in result.tables["maps"]:
        if row["measure"] in ("relative_alr", "relative_alr_without_first", "recency"):
            yield _line(
                f"{row['measure'].replace('_', ' ')}, {row['text']} {row['length']}",
                row["mean"],
                row["sd"],
                f"{row['heads']} heads",
                f"{row['good_heads']:.0%} of heads better than random",
            )


def _prune_summary(result: Result) -> Iterator[dict[str, Any]]:
    rows = result.tables["prune"]
    for length in distinct(rows, "length"):
        here = pick(rows, length=length)
        for policy in distinct(here, "policy"):
            for ratio in distinct(pick(here, policy=policy), "keep_ratio"):
                if ratio not in (1.0, 0.5, 0.1):
                    continue
                nll = over(here, "nll", policy=policy, keep_ratio=ratio)
                perplexity = math.exp(nll.mean)
                yield _line(
                    f"perplexity, {policy}, {ratio:g} of {length}",
                    perplexity,
                    perplexity * nll.error,
                    f"{nll.n} windows",
                    f"{math.exp(nll.low):.1f} to {math.exp(nll.high):.1f}",
                )


def _rolling_summary(result: Result) -> Iterator[dict[str, Any]]:
    rows = result.tables["rolling"]
    for setting in dict.fromkeys((r["tokens"], r["budget"], r["prune_to"]) for r in rows):
        tokens, budget, prune_to = setting
        here = pick(rows, tokens=tokens, budget=budget, prune_to=prune_to)
        size = f"{budget}" if prune_to == budget else f"{budget} to {prune_to}"
        for policy in distinct(here, "policy"):
            nll = over(here, "nll", policy=policy)
            yield _line(
                f"rolling {size} of {tokens}, {policy}",
                math.exp(nll.mean),
                math.exp(nll.mean) * nll.error,
                f"{nll.n} windows",
                f"{math.exp(nll.low):.1f} to {math.exp(nll.high):.1f}",
            )


def _found_summary(result: Result) -> Iterator[dict[str, Any]]:
    passkey, needle = result.tables["passkey"], result.tables["needle"]
    cells = dict.fromkeys((r["filler"], r["question"], r["length"]) for r in passkey)
    tasks: list[tuple[str, str, Rows]] = [
        (f"passkey in {filler}, question {question}", "exact",
         pick(passkey, filler=filler, question=question, length=length))
        for filler, question, length in cells
    ]  # fmt: skip
    for task, column, rows in [*tasks, ("needle", "accuracy", needle)]:
        for policy in distinct(rows, "policy"):
            for ratio in distinct(pick(rows, policy=policy), "keep_ratio"):
                found = over(rows, column, policy=policy, keep_ratio=ratio)
                yield _line(f"{task}, {policy}, {ratio:g}", found.mean, found.error,
                            f"{found.n} trials", "")  # fmt: skip


def _line(what: str, value: float, error: float, sample: str, note: str) -> dict[str, Any]:
    return {"what": what, "value": value, "spread": error, "sample": sample, "note": note}
