"""The measurements of the experiment: tables of one pre-training seed and number of tasks."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from labcore.merging.baselines import MERGERS, Tasks
from labcore.merging.compress import tsv_compress
from labcore.merging.evaluate import Accuracies, Bench
from labcore.merging.interference import singular_task_interference
from labcore.merging.router import SubspaceRouter
from labcore.merging.tsv import FactorCache, normalized_accuracy
from labcore.merging.vectors import TaskVector, apply
from labcore.parts import Findings
from labcore.runs import Table

METHODS: tuple[str, ...] = (
    *("average", "task_arithmetic", "ties", "dare", "breadcrumbs", "consensus_ta"),
    *("iso_c", "iso_cts", "rank_cut", "full_rank", "tsv_m"),
)
ROUTER_PICTURES, ROUTER_RANK = 300, 16


@dataclass(frozen=True)
class Setting:
    """One pre-training seed's models on its first tasks, and what every row then says."""

    bench: Bench
    cache: FactorCache
    seed: int
    count: int
    own: Accuracies
    own_val: Accuracies

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of the tasks."""
        return self.bench.tasks[: self.count]

    @property
    def taus(self) -> Tasks:
        """Their task vectors."""
        return self.bench.models.first(self.count)

    def rows(self, accuracy: Accuracies, **more: Any) -> Table:
        """One row a task: accuracy, and its share of the fine-tuned model's."""
        ratios, _ = normalized_accuracy(accuracy, {t: self.own[t] for t in accuracy})
        return [
            {"pretraining": self.seed, "tasks": self.count, "task": task, **more}
            | {"accuracy": accuracy[task], "own": self.own[task], "normalized": ratios[task]}
            for task in accuracy
        ]


def merged_once(setting: Setting, method: str) -> tuple[TaskVector, dict[str, Any]]:
    """What a method returns, and what it chose on validation pictures.

    Raises:
        ValueError: unknown method.
    """
    if method not in MERGERS:
        raise ValueError(f"unknown method {method!r}: {', '.join(MERGERS)}")
    if method == "consensus_ta":
        merged, chosen = setting.bench.tuned_consensus(setting.taus)
        return merged, {"lambda": float(np.mean(list(chosen.values())))}
    names = list(setting.tasks)
    if method == "tsv_m":
        return setting.cache.merge(names, report=False)[0], {}
    if method == "rank_cut":
        options: dict[str, Any] = {"orthogonalize": False, "vector_rule": "sum", "report": False}
        return setting.cache.merge(names, **options)[0], {}
    if method == "full_rank":
        rank = max(f[0].rank for f in setting.cache.factors.values())
        return setting.cache.merge(names, rank=rank, report=False)[0], {}
    return MERGERS[method](setting.taus), {}


def base_of(setting: Setting) -> Findings:
    """The base alone, which has no alpha."""
    found = setting.bench.scores(setting.bench.models.base, setting.tasks)
    rows = setting.rows(found, method="zero_shot", rule="one", alpha=0.0)
    return Findings(tables={"accuracy": rows})


def accuracy_of(setting: Setting, method: str, grid: list[float]) -> Findings:
    """A method at alpha = 1 and at the alpha that validation pictures choose, and its curve."""
    merged, chosen = merged_once(setting, method)
    best, curve = setting.bench.tune(merged, setting.tasks, setting.own_val, grid)
    at = {"pretraining": setting.seed, "tasks": setting.count, "method": method}
    curves: Table = [{**at, "alpha": alpha, "val": value, **chosen} for alpha, value in curve]
    table: Table = []
    for rule, alpha in (("one", 1.0), ("tuned", best)):
        found = setting.bench.merged(merged, alpha, setting.tasks)
        table += setting.rows(found, method=method, rule=rule, alpha=alpha)
    return Findings(tables={"accuracy": table, "alpha": curves})


def compression_of(setting: Setting, fractions: Iterable[float]) -> Findings:
    """TSV-Compress with the task known: bytes against accuracy; the router is reported apart."""
    table: Table = []
    routed: Table = []
    for fraction in (1 / setting.count, *fractions):
        packed = tsv_compress(setting.taus, fraction=fraction)
        found = {
            task: setting.bench.score(
                apply(setting.bench.models.base, packed.task_vector(task)), task
            )
            for task in setting.tasks
        }
        rows = setting.rows(found, fraction=fraction)
        for row in rows:
            row["ratio"], row["bytes"] = packed.ratio(row["task"]), packed.bytes(row["task"])
            row["energy"] = packed.energy(row["task"])
        table += rows
        if fraction == 1 / setting.count:
            fit = {
                t: setting.bench.features(t, split="train", n=ROUTER_PICTURES)
                for t in setting.tasks
            }
            router = SubspaceRouter.fit(fit, ROUTER_RANK)
            taus = {task: packed.task_vector(task) for task in setting.tasks}
            right, correct = setting.bench.routed(taus, router)
            routed += [row | {"routed": right[row["task"]]} for row in setting.rows(correct)]
    return Findings(tables={"compression": table, "router": routed})


def interference_of(setting: Setting) -> Findings:
    """Interference of every matrix at rank r // T, before and after whitening, and of each pair."""
    table: Table = []
    normalised = []
    _, report = setting.cache.merge(list(setting.tasks))
    for row in report.rows:
        if row["kind"] != "matrix":
            continue
        plain = {k: v for k, v in row.items() if k not in ("energy", "dtypes", "seconds")}
        depth, kind = place(row["parameter"])
        at = {"pretraining": setting.seed, "tasks": setting.count, "depth": depth, "part": kind}
        table.append({**at, **plain, "kept_energy": float(np.mean(row["energy"]))})
        factors = [setting.cache.factors[t, row["parameter"]][0] for t in setting.tasks]
        kept = [f.truncate(row["rank"]) for f in factors]
        found = singular_task_interference(kept, row["rank"])
        totals = torch.stack([f.s.sum() for f in kept])
        weight = totals[:, None] + totals
        normalised.append((found.pairwise / weight.clamp_min(1e-300)).numpy())
    name = f"pairs/{setting.seed}@{setting.count}"
    arrays = {name: np.stack(normalised).astype(np.float32)}
    return Findings(arrays, {"interference": table})


def spectra_of(setting: Setting) -> Findings:
    """Cumulative share of the squared norm of every matrix of every task."""
    names = list(dict.fromkeys(name for _, name in setting.cache.factors))
    longest = max(f[0].rank for f in setting.cache.factors.values())
    out = np.ones((len(setting.tasks), len(names), longest), dtype=np.float32)
    for i, task in enumerate(setting.tasks):
        for j, name in enumerate(names):
            squared = setting.cache.factors[task, name][0].s ** 2
            if len(squared):
                out[i, j, : len(squared)] = (squared.cumsum(0) / squared.sum()).numpy()
    rows = [{"parameter": name, "depth": place(name)[0], "part": place(name)[1]} for name in names]
    return Findings({f"spectra/{setting.seed}": out}, {"matrices": rows})


_BLOCK = re.compile(r"(?:^|\.)(?:blocks|layers|layer|h)\.(\d+)\.(.+)")


def place(parameter: str) -> tuple[int, str]:
    """Depth of a parameter's block, and its part; -1 when it stands in no block.

    >>> place("blocks.2.attn.qkv.weight"), place("model.layers.7.mlp.up_proj.weight")
    ((2, 'attn.qkv'), (7, 'mlp.up_proj'))
    """
    name = parameter.removesuffix(".weight")
    found = _BLOCK.search(name)
    return (int(found[1]), found[2]) if found else (-1, name)
