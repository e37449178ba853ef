"""The experiment: one small ViT, fine-tuned on 8, 14 and 20 real image tasks, merged every way.

Every merger is scored at alpha = 1 and at the alpha that validation pictures choose from one grid,
the same for all. TSV-Compress is scored over its size, with the task known and with a router;
interference and spectra of every layer are kept. Two pre-training seeds.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Literal

from labcore.parts import Findings, Part, run_experiment
from labcore.runs import Progress, Result, Table, silent

if TYPE_CHECKING:
    from labcore.merging.measure import Setting

TOPIC = "merging"
GRID = (0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 0.7, 1.0, 1.2, 1.5, 2.0, 3.0)
FRACTIONS = tuple(kept / 96 for kept in (2, 3, 4, 5, 10, 24, 48, 96))


@dataclass(frozen=True)
class Config:
    """The whole experiment.

    Attributes:
        seed: Decides which pictures are scored, and DARE's draws.
        pretraining: Pre-training seeds of the models.
        counts: Numbers of tasks.
        test_images: Test pictures a task. val_images: Validation pictures a task.
        methods: Names in ``MERGERS``.
        grid: Values of alpha.
        fractions: Shares of the components that TSV-Compress keeps, besides 1 / T.
        resume: Keep finished parts until the run has ended well, and start from them again.
    """

    seed: int
    pretraining: tuple[int, ...]
    counts: tuple[int, ...]
    test_images: int
    val_images: int
    methods: tuple[str, ...]
    grid: tuple[float, ...]
    fractions: tuple[float, ...]
    resume: bool = False

    @classmethod
    def quick(cls, seed: int = 0) -> "Config":
        """Under a minute: the committed models, 8 tasks, 200 test pictures a task."""
        from labcore.merging.measure import METHODS

        return cls(
            seed=seed,
            pretraining=(0,),
            counts=(8,),
            test_images=200,
            val_images=100,
            methods=METHODS,
            grid=(0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.3, 1.6, 2.0, 2.5),
            fractions=(FRACTIONS[3], FRACTIONS[6]),
        )

    @classmethod
    def full(cls, seed: int = 0) -> "Config":
        """The committed results: 8, 14 and 20 tasks, two pre-training seeds."""
        from labcore.merging.measure import METHODS

        return cls(
            seed=seed,
            pretraining=(0, 1),
            counts=(8, 14, 20),
            test_images=300,
            val_images=100,
            methods=METHODS,
            grid=GRID,
            fractions=FRACTIONS,
            resume=True,
        )


def run(config: Config, progress: Progress | None = None) -> Result:
    """Run every part, or resume after those that a killed run finished. Deterministic.

    Models that are not committed are taken from ``out/merging`` or trained first (ten minutes a
    pre-training seed).

    Args:
        config: What to run.
        progress: Called between steps; raise :class:`labcore.runs.Cancelled` in it to stop.
    """
    preset = "--full" if config == Config.full(config.seed) else "--quick"
    return run_experiment(
        TOPIC,
        config,
        _parts(config),
        seeds=config.pretraining,
        command=f"lab run merging {preset} --seed {config.seed}",
        resume=config.resume,
        progress=progress or silent,
    )


def _parts(config: Config) -> list[Part]:
    """The parts; the models, factors and pictures of a seed are loaded by the first that runs."""
    from labcore.merging import measure

    setting = cache(partial(_setting, config))

    def part(
        name: str,
        weight: int,
        measured: Callable[[measure.Setting], Findings],
        seed: int,
        count: int | None = None,
    ) -> Part:
        def run_it(progress: Progress) -> Findings:
            here = setting(seed)
            return measured(here if count is None else replace(here, count=count))

        return Part(name, weight, run_it)

    def accuracy(method: str) -> Callable[[measure.Setting], Findings]:
        return lambda here: measure.accuracy_of(here, method, list(config.grid))

    parts = []
    for seed in config.pretraining:
        parts.append(part(f"seed{seed}-spectra", 2, measure.spectra_of, seed))
        for count in config.counts:
            of = f"seed{seed}-tasks{count}"
            parts.append(part(f"{of}-base", 1, measure.base_of, seed, count))
            for method in config.methods:
                parts.append(part(f"{of}-{method}", count, accuracy(method), seed, count))
            packing = partial(measure.compression_of, fractions=config.fractions)
            parts.append(part(f"{of}-compression", 2 * count, packing, seed, count))
            parts.append(part(f"{of}-interference", 1, measure.interference_of, seed, count))
    return parts


def _setting(config: Config, seed: int) -> "Setting":
    """Models, factors and pictures of a seed, on the most tasks that are asked for."""
    from labcore.merging.checkpoints import models_of
    from labcore.merging.data import TASKS
    from labcore.merging.evaluate import Bench
    from labcore.merging.measure import Setting
    from labcore.merging.tsv import FactorCache

    models, most = models_of(seed), max(config.counts)
    bench = Bench(models, TASKS[:most], config.test_images, config.val_images, config.seed)
    cached = FactorCache(models.first(most))
    return Setting(bench, cached, seed, most, bench.own(), bench.own(val=True))


def summary(result: Result) -> Table:
    """Mean normalised and absolute accuracy, percent, a method and number of tasks."""
    from labcore.merging.tally import compression_means, means

    rows: Table = [
        {
            "tasks": m.tasks,
            "method": m.method,
            "alpha 1: normalised %": 100 * m.one.normalized,
            "absolute %": 100 * m.one.accuracy,
            "tuned: normalised % ": 100 * m.tuned.normalized,
            "absolute % ": 100 * m.tuned.accuracy,
            "best alpha": m.alpha,
            "spread over seeds, points": 100 * m.spread,
        }
        for m in means(result)
    ]
    for found in compression_means(result):
        rows.append(
            {
                "tasks": found["tasks"],
                "method": f"tsv_c, {found['ratio']:.1%} of the size",
                "alpha 1: normalised %": 100 * found["normalized"],
                "absolute %": 100 * found["accuracy"],
            }
        )
    for count in result.config["counts"]:
        routed = result.where("router", tasks=count)
        rows.append(
            {
                "tasks": count,
                "method": f"tsv_c at 1/T, task guessed ({fmean(r['routed'] for r in routed):.0%})",
                "alpha 1: normalised %": 100 * fmean(r["normalized"] for r in routed),
                "absolute %": 100 * fmean(r["accuracy"] for r in routed),
            }
        )
    return rows


def load_result(which: Literal["full", "language"] = "full") -> Result:
    """A committed result, of the experiment or of the language model; no model is needed.

    Raises:
        FileNotFoundError: there is none; the message has the command that makes it.
    """
    path = Path(__file__).parent / "results" / f"{which}.npz"
    if not path.exists():
        made_by = f"lab run merging --full --out {path.parent}"
        command = made_by if which == "full" else "python -m labcore.merging.language"
        raise FileNotFoundError(f"no {which} result of merging: {command}")
    return Result.load(path)
