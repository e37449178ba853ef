"""The experiments: experts on a mixed stream, gradient estimators, early exits, fewer tokens.

Each part trains small networks on real pictures (MNIST, Fashion-MNIST, cluttered canvases built
from MNIST) for every seed; the full run also reads a pre-trained ViT-S. Test pictures choose
nothing. Settings: :mod:`.settings`.
"""

from collections.abc import Callable, Iterator
from typing import Any

from labcore.conditional.measure import distinct, over_seeds, pick
from labcore.conditional.settings import Config
from labcore.parts import Findings, Part, run_experiment
from labcore.runs import Progress, Result, Table, committed, silent

__all__ = ["Config", "load_result", "run", "summary"]
TOPIC = "conditional"


def run(config: Config, progress: Progress | None = None) -> Result:
    """Run every part of ``config``, or resume after the parts that an earlier session finished.

    Deterministic for a seed, except for what a clock measures (``clock``, ``time_ratio``).

    Args:
        config: What to run.
        progress: Called between steps; raise :class:`labcore.runs.Cancelled` in it to stop.
    """
    preset = "--full" if config == Config.full(config.seed) else "--quick"
    return run_experiment(
        TOPIC,
        config,
        list(parts_of(config)),
        seeds=_seeds(config),
        command=f"lab run conditional {preset} --seed {config.seed}",
        resume=config.resume,
        progress=progress or silent,
    )


def load_result(which: str = "full") -> Result:
    """A committed result; no model is needed. Raises as :func:`labcore.runs.committed`."""
    return committed("conditional", which)


def _seeds(config: Config) -> tuple[int, ...]:
    return tuple(range(config.seed, config.seed + config.seeds))


def parts_of(config: Config) -> Iterator[Part]:
    """The parts of the experiment, in order."""
    from labcore.conditional import (
        run_clock,
        run_estimators,
        run_exits,
        run_features,
        run_mixture,
        run_photographs,
        run_tokens,
    )

    for seed in _seeds(config):
        first = {"keep": seed == config.seed}
        yield _part(f"estimators {seed}", 2, run_estimators.estimation, config.estimation, seed)
        for training in ("joint", "separate"):
            name = f"exits {training} {seed}"
            yield _part(name, 15, run_exits.exits, config.exits, training, seed, **first)
        for arm in config.mixture.arms:
            name = f"mixture {arm} {seed}"
            yield _part(name, 12, run_mixture.mixture, config.mixture, arm, seed, **first)
        yield _part(f"upcycling {seed}", 25, run_mixture.upcycling, config.mixture, seed)
    yield _part("clock", 20, run_clock.clock, config.tokens)
    for seed in _seeds(config):
        first = {"keep": seed == config.seed}
        yield _part(f"tokens {seed}", 110, run_tokens.tokens, config.tokens, seed, **first)
        if config.features is not None:
            yield _part(f"features {seed}", 45, run_features.features, config.features, seed)
    if config.features is not None:
        yield _part("photographs", 15, run_photographs.photographs)


def _part(
    name: str, weight: int, work: Callable[..., Findings], *args: Any, **options: Any
) -> Part:
    """A part whose work reports nothing but that it is alive."""

    def measure(report: Progress) -> Findings:
        return work(*args, **options, tick=lambda: report(0, 1, "working"))

    return Part(name, weight, measure)


def summary(result: Result) -> Table:
    """Rows for the terminal: what was measured, its spread over seeds, and on how many pictures."""
    return [
        *_mixture_summary(result),
        *_estimator_summary(result),
        *_exit_summary(result),
        *_token_summary(result),
    ]


def _mixture_summary(result: Result) -> Iterator[dict[str, Any]]:
    rows = result.tables["mixture"]
    for arm in distinct(rows, "arm"):
        here = pick(rows, arm=arm)
        note = f"{here[0]['ratio']:.2f} of the FLOPs of dense, equal parameters"
        experts = pick(result.tables.get("experts", []), arm=arm, trained=True, tokens="patches")
        if experts:
            bits = over_seeds(experts, "class_bits")
            largest = over_seeds(experts, "largest")
            note += f"; {bits.mean:.2f} bits expert-class; largest load {largest.mean:.2f}"
        yield _line(f"stream, {arm}", here, "accuracy", note)
    for start in ("scratch", "digits"):
        for kind in ("dense", "mixture"):
            here = pick(result.tables["upcycling"], start=start, kind=kind)
            yield _line(f"clothes from {start}, {kind}", here, "accuracy", "upcycling")


def _estimator_summary(result: Result) -> Iterator[dict[str, Any]]:
    rows = result.tables["estimators"]
    for categories in distinct(rows, "categories"):
        for name in distinct(rows, "estimator"):
            here = pick(rows, categories=categories, estimator=name)
            for tau in distinct(here, "tau"):
                at = pick(here, tau=tau)
                sd = over_seeds(at, "sd").mean
                what = f"bias, {name}, {categories} categories, tau {tau:g}"
                yield _line(what, at, "bias", f"sd {sd:.2f} of the exact norm", "draws")


def _exit_summary(result: Result) -> Iterator[dict[str, Any]]:
    for training in ("joint", "separate"):
        here = pick(result.tables["heads"], training=training)
        for head in distinct(here, "head"):
            note = f"ECE {over_seeds(here, 'ece', head=head).mean:.3f}"
            yield _line(f"exits {training}, head {head}", pick(here, head=head), "accuracy", note)
        budgets = pick(result.tables["budgets"], training=training, calibrated=True)
        for budget in distinct(budgets, "budget"):
            at = pick(budgets, budget=budget)
            spent = over_seeds(at, "ratio").mean
            yield _line(f"exits {training}, budget {budget:.2f}", at, "accuracy",
                        f"spent {spent:.3f} on test")  # fmt: skip


def _token_summary(result: Result) -> Iterator[dict[str, Any]]:
    yield _line("canvas, all tokens", result.tables["token_base"], "accuracy", "")
    rows = result.tables["tokens"]
    for method in distinct(rows, "method"):
        here = pick(rows, method=method)
        for amount in distinct(here, "amount"):
            at = pick(here, amount=amount)
            ratio = over_seeds(at, "ratio").mean
            yield _line(f"canvas, {method} {amount:g}", at, "accuracy",
                        f"{ratio:.2f} of the FLOPs")  # fmt: skip


def _line(what: str, rows: Any, column: str, note: str, size: str = "test") -> dict[str, Any]:
    found = over_seeds(rows, column)
    unit = "draws" if size == "draws" else "test pictures"
    sample = f"{found.n} seeds x {rows[0][size]} {unit}"
    return {"what": what, "value": found.mean, "spread": found.error, "sample": sample,
            "note": note}  # fmt: skip
