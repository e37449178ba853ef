"""The experiment: one small ViT, fine-tuned on 8, 14 and 20 real image tasks, merged every way.

Every merger is scored at alpha = 1 and at the alpha that validation pictures choose from one grid,
the same for all. TSV-Compress is scored over its size, with the task known and with a router;
interference and spectra of every layer are kept. Two pre-training seeds.
"""

import hashlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

from labcore.assets.store import cache_root
from labcore.runs import Progress, Result, Table, record, silent

TOPIC = "merging"
GRID = (
    *(0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.3),
    *(1.4, 1.5, 1.6, 1.8, 2.0, 2.25, 2.5, 3.0),
)
FRACTIONS = (0.0105, 0.03, 0.0525, 0.105, 0.25, 0.5, 1.0)  # 1, 2, 5, 10, 24, 48, 96 of 96


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
            fractions=(0.0525, 0.5),
        )

    @classmethod
    def full(cls, seed: int = 0) -> "Config":
        """The committed results: two pre-training seeds, 8, 14 and 20 tasks."""
        from labcore.merging.measure import METHODS

        return cls(
            seed=seed,
            pretraining=(0, 1),
            counts=(8, 14, 20),
            test_images=500,
            val_images=200,
            methods=METHODS,
            grid=GRID,
            fractions=FRACTIONS,
            resume=True,
        )


def run(config: Config, progress: Progress | None = None) -> Result:
    """Run every part, or resume after those that a killed run finished. Deterministic.

    Models that are neither committed nor in ``out/merging`` are trained first (about five minutes
    a pre-training seed).

    Args:
        config: What to run.
        progress: Called between steps; raise :class:`labcore.runs.Cancelled` in it to stop.
    """
    progress = progress or silent
    preset = "--full" if config == Config.full(config.seed) else "--quick"
    clock = record(TOPIC, config, seeds=config.pretraining,
                   command=f"lab run merging {preset} --seed {config.seed}")  # fmt: skip
    folder = cache_root() / "unfinished" / f"merging-{_fingerprint(config)}"
    arrays: dict[str, Any] = {}
    tables: dict[str, Table] = {}
    seconds, cpu = 0.0, 0.0
    total = len(config.pretraining) * (len(config.counts) + 1)
    for done, (name, part) in enumerate(_parts(config, progress)):
        progress(done, total, name)
        path = folder / f"{name}.npz"
        if config.resume and path.exists():
            found = Result.load(path)
        else:
            began = record(TOPIC, config, seeds=config.pretraining, command="")
            measured = part()
            found = began.result(arrays=measured.arrays, tables=measured.tables)
            if config.resume:
                found.save(path)
        arrays |= found.arrays
        for table, rows in found.tables.items():
            tables.setdefault(table, []).extend(rows)
        seconds += found.provenance.seconds
        cpu += found.provenance.cpu_seconds
    progress(total, total, "done")
    result = clock.result(arrays=arrays, tables=tables)
    shutil.rmtree(folder, ignore_errors=True)
    spent = replace(result.provenance, seconds=round(seconds, 3), cpu_seconds=round(cpu, 3))
    return replace(result, provenance=spent)


def _parts(config: Config, progress: Progress) -> Iterator[tuple[str, Any]]:
    """Named parts; what several share is made by the first that needs it."""
    from functools import cache, partial

    from labcore.merging import measure
    from labcore.merging.checkpoints import models_of
    from labcore.merging.data import TASKS
    from labcore.merging.evaluate import Bench
    from labcore.merging.tsv import FactorCache

    most = max(config.counts)

    @cache
    def setting(seed: int, count: int) -> measure.Setting:
        if count != most:
            return replace(setting(seed, most), count=count)
        models = models_of(seed, progress)
        bench = Bench(models, TASKS[:most], config.test_images, config.val_images, config.seed)
        cached = FactorCache(models.first(most))
        return measure.Setting(bench, cached, seed, most, bench.own(), bench.own(val=True))

    def merged(seed: int, count: int) -> measure.Findings:
        here = setting(seed, count)
        found = measure.accuracy_of(here, config.methods, list(config.grid))
        found.join(measure.compression_of(here, config.fractions))
        found.join(measure.interference_of(here))
        return found

    def spectra(seed: int) -> measure.Findings:
        return measure.spectra_of(setting(seed, most))

    for seed in config.pretraining:
        yield f"spectra-seed{seed}", partial(spectra, seed)
        for count in config.counts:
            yield f"seed{seed}-tasks{count}", partial(merged, seed, count)


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


def load_result(which: Literal["full", "quick"] = "full") -> Result:
    """A committed result; no model is needed.

    Raises:
        FileNotFoundError: there is none; the message has the command that makes it.
    """
    path = Path(__file__).parent / "results" / f"{which}.npz"
    if not path.exists():
        raise FileNotFoundError(
            f"no {which} result of merging: lab run merging --{which} --out {path.parent}"
        )
    return Result.load(path)


def _fingerprint(config: Config) -> str:
    text = json.dumps(asdict(config), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
