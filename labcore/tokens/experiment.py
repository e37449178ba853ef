"""The experiment on cluttered canvases: one base network, every method, a checked channel.

Parts, in order: the base network; each method fine-tuned and measured, seed by seed; the noise maps
of the gate; class attention of a real ViT-S on photographs. Settings: :mod:`.settings`.
"""

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import torch

from labcore.assets.store import cache_root
from labcore.parts import Findings, Part, fingerprint, run_experiment
from labcore.runs import Progress, Result, Table, committed, silent
from labcore.tokens import methods, samples
from labcore.tokens.channel import Channel
from labcore.tokens.data import Canvases, pool
from labcore.tokens.evaluate import evaluate_cell, evaluate_curve
from labcore.tokens.settings import AUDITS, ONE_RATE, Config
from labcore.tokens.tally import over_seeds
from labcore.tokens.training import fine_tune, train_base

__all__ = ["Config", "load_result", "run", "summary"]
TOPIC = "tokens"
TEST_SEED = 2026
WITH_WEIGHTS = ("gate", "class_attention", "random")
NOISY = ("gate", "class_attention")


def run(config: Config, progress: Progress | None = None) -> Result:
    """Run every part of ``config``, or resume after the parts that an earlier session finished.

    Args:
        config: What to run.
        progress: Called between steps; raise :class:`labcore.runs.Cancelled` in it to stop.
    """
    preset = "--full" if config == Config.full(config.seed) else "--quick"
    return run_experiment(
        TOPIC,
        config,
        list(_parts(config)),
        seeds=tuple(range(config.seed, config.seed + config.seeds)),
        command=f"lab run tokens {preset} --seed {config.seed}",
        resume=config.resume,
        progress=progress or silent,
    )


def load_result(which: str = "full") -> Result:
    """A committed result; no model is needed. Raises as :func:`labcore.runs.committed`."""
    return committed("tokens", which)


@cache
def test_canvases(count: int) -> Canvases:
    """The test canvases: always the same, of digits that no training saw."""
    return pool("test").canvases(count, torch.Generator().manual_seed(TEST_SEED))


def _parts(config: Config) -> Iterator[Part]:
    held: dict[str, Any] = {}  # the base network's arrays, once there

    def base_part(report: Progress) -> Findings:
        found = _base(config, report)
        held.update(found.arrays)
        return found

    def base_arrays() -> dict[str, Any]:
        if not held:  # that part was finished by an earlier run
            folder = cache_root() / "unfinished" / f"{TOPIC}-{fingerprint(config)}"
            held.update(Result.load(folder / "base.npz").arrays)
        return held

    def part(method: str, seed: int) -> Part:
        weight = 22 if config.tuning else 5
        return Part(
            f"{method} {seed}",
            weight,
            lambda report: _method(config, method, seed, base_arrays, report),
        )

    yield Part("base", 110 if config.base else 1, base_part)
    for seed in range(config.seed, config.seed + config.seeds):
        for method in config.methods:
            if seed > config.seed and method in AUDITS:
                continue
            yield part(method, seed)
    yield Part("photographs", 8, _photographs)


def _base(config: Config, report: Progress) -> Findings:
    if config.base is None:
        model = methods.base_from(load_result().arrays)
    else:
        model = train_base(pool("train"), config.base, config.seed, report)
    data = test_canvases(config.test_images)
    with torch.no_grad():
        right = (model(data.images).argmax(-1) == data.labels).float().mean().item()
    row = {
        "accuracy": right,
        "images": len(data),
        "digit_share": data.digit.float().mean().item(),
    }
    return Findings(methods.to_arrays(model, "base"), {"base": [row]})


def _method(
    config: Config,
    method: str,
    seed: int,
    base_arrays: Callable[[], dict[str, Any]],
    report: Progress,
) -> Findings:
    """Fine-tune one method and measure it."""
    if config.tuning is None:
        model = methods.model_from(load_result().arrays, method)
    else:
        model = methods.build(method, methods.base_from(base_arrays()), seed)
        tuning = methods.tuning_of(method, config.tuning)
        fine_tune(model, pool("train"), tuning, seed, report)
    data = test_canvases(config.test_images)
    budgets = (ONE_RATE[method],) if method in ONE_RATE else config.budgets
    found = Findings(tables={"curves": [], "noise": []})
    rows = found.tables["curves"]
    rows += evaluate_curve(model, data, budgets, (config.curve_snr,), (seed,), method=method)
    if method.startswith("gate"):
        model.select = "topk"
        rows += evaluate_curve(
            model, data, budgets, (config.curve_snr,), (seed,), method=f"{method}_topk"
        )
        model.select = "threshold"
    if method in NOISY:
        found.tables["noise"] = _noise(config, model, data, method, seed)
    if method in WITH_WEIGHTS and seed == config.seed:
        found.arrays.update(methods.to_arrays(model, method))
    if method == "gate" and seed == config.seed:
        found.arrays.update(samples.close_up(model, data, config.budgets))
    return found


def _noise(config: Config, model: Any, data: Canvases, method: str, seed: int) -> Table:
    """Accuracy over SNR at one rate; of the first seed's gate over all rates, and with fading."""
    whole = method == "gate" and seed == config.seed
    budgets = {"awgn": config.budgets if whole else (config.noise_budget,)}
    if whole:
        budgets["rayleigh"] = config.fading_budgets
    channels = {"awgn": Channel(), "rayleigh": Channel("rayleigh", "mmse")}
    table: Table = []
    for kind, rates in budgets.items():
        model.channel = channels[kind]
        for rate in rates:
            for snr in config.snrs:
                row = evaluate_cell(model, data, rate, snr, seed)
                table.append({"method": method, "channel": kind, "seed": seed, **row})
    model.channel = Channel()
    return table


def _photographs(report: Progress) -> Findings:
    from labcore.tokens import photographs

    return Findings(*photographs.close_up())


def summary(result: Result) -> Table:
    """Rows for the terminal: accuracy, spent rate and precision of each method."""
    rows = result.tables["curves"]
    base = result.tables["base"][0]
    table: Table = [
        {"method": "base network, nothing dropped", "asked": 1.0, "spent": 1.0,
         "accuracy": base["accuracy"], "sd": 0.0, "precision": base["digit_share"],
         "recall": 1.0, "seeds": 1, "images": base["images"]}
    ]  # fmt: skip
    for method in dict.fromkeys(row["method"] for row in rows):
        for budget in dict.fromkeys(r["budget"] for r in rows if r["method"] == method):
            cell = over_seeds(rows, method, budget)
            table.append({"method": method, "asked": budget, **cell})
    return table
