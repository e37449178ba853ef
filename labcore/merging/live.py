"""What the page and the notebook do live: re-merge committed models, look, and score.

The committed models of pre-training seed 0 and 200 test pictures a task come with the lab, so
nothing is downloaded and nothing is trained. Factors are taken once; a re-merge needs no new SVD.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from labcore.blocks.vit import ViTConfig
from labcore.merging import training
from labcore.merging.baselines import MERGERS
from labcore.merging.checkpoints import HELD, PICTURES, Models, committed_path, unpack
from labcore.merging.data import TASKS, pictures
from labcore.merging.factors import inverse_root
from labcore.merging.interference import POLAR_TOL, singular_task_interference
from labcore.merging.measure import place
from labcore.merging.tsv import FactorCache
from labcore.merging.vectors import TaskVector, apply
from labcore.runs import Progress, Table, silent


@dataclass(frozen=True)
class Workbench:
    """Committed models with their factors and pictures, loaded once.

    Attributes:
        models: Base, heads, task vectors of pre-training seed 0.
        cache: Factors of every task at full rank.
        images: Task -> (200, 28, 28). labels: Task -> (200,).
        base: Accuracy of the base. own: Of each fine-tuned model, on these pictures.
    """

    models: Models
    cache: FactorCache
    images: dict[str, Float[Tensor, "n 28 28"]]
    labels: dict[str, Int[Tensor, " n"]]
    base: dict[str, float]
    own: dict[str, float]

    def scores(self, delta: TaskVector, alpha: float, tasks: Sequence[str]) -> dict[str, float]:
        """Accuracy of base + alpha * delta on the committed pictures of these tasks."""
        model = training.new_model(apply(self.models.base, delta, alpha)).eval()
        heads = self.models.heads
        return {
            t: training.accuracy(model, heads[t], self.images[t], self.labels[t]) for t in tasks
        }

    @property
    def parameters(self) -> list[str]:
        """Names of the matrices, from the picture to the feature."""
        return list(dict.fromkeys(name for _, name in self.cache.factors))


@lru_cache(maxsize=1)
def open_workbench() -> Workbench:
    """Read the committed models and pictures, and take all factors once.

    Raises:
        FileNotFoundError: a file is missing; the message has the command that makes it.
    """
    models = unpack(committed_path(0))
    if not PICTURES.exists():
        raise FileNotFoundError(f"no {PICTURES.name}: python -m labcore.merging.checkpoints")
    with np.load(PICTURES, allow_pickle=False) as file:
        images = {t: torch.from_numpy(file[f"{t}/images"]).float() / 255 for t in TASKS}
        labels = {t: torch.from_numpy(file[f"{t}/labels"]).long() for t in TASKS}
        base, own = ({t: float(file[f"{t}/{name}"]) for t in TASKS} for name in ("base", "own"))
    return Workbench(models, FactorCache(models.task_vectors), images, labels, base, own)


def merge(
    tasks: Sequence[str],
    method: str,
    *,
    rank: int | None = None,
    whiten: bool = True,
    vector_rule: str = "mean",
) -> TaskVector:
    """Merge committed task vectors; TSV-Merge from cached factors.

    Args:
        tasks: Which tasks.
        method: A name in ``MERGERS``.
        rank: Components a task; r // T by default. Only TSV-Merge reads it and what follows.
        whiten: Make the vectors of different tasks orthogonal.
        vector_rule: "mean" or "sum" for what is no matrix.

    Raises:
        ValueError: no task, or an unknown method. KeyError: an unknown task.
    """
    if method not in MERGERS:
        raise ValueError(f"unknown method {method!r}: {', '.join(MERGERS)}")
    cache = open_workbench().cache
    if method == "tsv_m":
        options: dict[str, Any] = {"orthogonalize": whiten, "vector_rule": vector_rule}
        return cache.merge(tasks, rank, report=False, **options)[0]
    return MERGERS[method]({task: cache.task_vectors[task] for task in tasks})


@dataclass(frozen=True)
class Scores:
    """A re-merge scored on the committed test pictures; plain numbers, ready to draw."""

    base: dict[str, float]
    merged: dict[str, float]
    own: dict[str, float]
    normalized: float
    merge_seconds: float
    seconds: float
    pictures: int


def scores(tasks: Sequence[str], method: str, alpha: float, **options: Any) -> Scores:
    """Merge these tasks and score the model on each; options as :func:`merge`."""
    bench = open_workbench()
    began = time.perf_counter()
    delta = merge(tasks, method, **options)
    merged_at = time.perf_counter()
    found = bench.scores(delta, alpha, tasks)
    own = {t: bench.own[t] for t in tasks}
    share = sum(found[t] / own[t] for t in tasks) / len(tasks)
    ended = time.perf_counter()
    return Scores(
        {t: bench.base[t] for t in tasks},
        found,
        own,
        share,
        merged_at - began,
        ended - began,
        HELD,
    )


def full_scores(
    tasks: Sequence[str],
    method: str,
    alpha: float,
    *,
    images: int = 500,
    progress: Progress = silent,
    **options: Any,
) -> Scores:
    """The same on ``images`` newly drawn test pictures a task; needs the data sets.

    Raises:
        AssetError: the pictures are not here and cannot be fetched.
    """
    bench = open_workbench()
    began = time.perf_counter()
    delta = merge(tasks, method, **options)
    merged_at = time.perf_counter()
    found: list[dict[str, float]] = [{}, {}, {}]
    for done, task in enumerate(tasks):
        progress(done, len(tasks), task)
        shown = pictures(task, "test", images, seed=1)
        deltas = (TaskVector({}), delta, bench.models.task_vectors[task])
        for kept, update in zip(found, deltas, strict=True):
            scale = alpha if update is delta else 1.0
            model = training.new_model(apply(bench.models.base, update, scale)).eval()
            kept[task] = training.accuracy(model, bench.models.heads[task], *shown)
    base, merged, own = found
    share = sum(merged[t] / own[t] for t in tasks) / len(tasks)
    ended = time.perf_counter()
    return Scores(base, merged, own, share, merged_at - began, ended - began, images)


@dataclass(frozen=True)
class Overlap:
    """The singular vectors of one matrix of several tasks, side by side."""

    left: np.ndarray
    right: np.ndarray
    sizes: tuple[int, ...]
    value: float


def overlap(
    tasks: Sequence[str], parameter: str, *, rank: int | None = None, whiten: bool = False
) -> Overlap:
    """|U^T U| and |V^T V| of a matrix, and its interference over the sum of singular values.

    Raises:
        ValueError: unknown parameter or no task. KeyError: unknown task.
    """
    bench = open_workbench()
    if parameter not in bench.parameters:
        raise ValueError(f"unknown matrix {parameter!r}: {', '.join(bench.parameters)}")
    factors = [bench.cache.factors[task, parameter][0] for task in tasks]
    kept = [f.truncate(rank or min(f.shape) // len(tasks)) for f in factors]
    found = singular_task_interference(kept, kept[0].rank, whiten=whiten)
    left, right = found.gram_left, found.gram_right
    return Overlap(left.numpy(), right.numpy(), tuple(f.rank for f in kept), found.normalized)


def interference(tasks: Sequence[str], *, rank: int | None = None) -> tuple[Table, np.ndarray]:
    """Interference of every matrix, and of each pair of tasks, averaged over matrices."""
    bench = open_workbench()
    rows: Table = []
    pairs = []
    for name in bench.parameters:
        factors = [bench.cache.factors[task, name][0] for task in tasks]
        kept = [f.truncate(rank or min(f.shape) // len(tasks)) for f in factors]
        found = singular_task_interference(kept, kept[0].rank)
        after = singular_task_interference(kept, kept[0].rank, whiten=True)
        totals = torch.stack([f.s.sum() for f in kept])
        depth, part = place(name)
        grams = (found.gram_left, found.gram_right)
        left, right = (inverse_root(gram, POLAR_TOL)[1] for gram in grams)
        rows.append(
            {
                "parameter": name,
                "depth": depth,
                "part": part,
                "rank": kept[0].rank,
                "sti_normalized": found.normalized,
                "whitened": after.normalized,
                "condition left": left,
                "condition right": right,
                "kept energy": float(np.mean([f.energy for f in kept])),
            }
        )
        pairs.append((found.pairwise / (totals[:, None] + totals)).numpy())
    return rows, np.mean(pairs, 0)


def kept_share(tasks: int, rank: int | None = None) -> float:
    """Share of a matrix's components that each task keeps; every matrix here has rank 96.

    >>> kept_share(8), kept_share(8, 24)
    (0.125, 0.25)
    """
    width = ViTConfig().hidden_size
    return (rank or width // tasks) / width


@dataclass(frozen=True)
class Gallery:
    """Test pictures of one task and what base and merged model say."""

    images: np.ndarray
    truth: list[int]
    merged: list[int]
    base: list[int]


def gallery(
    task: str, tasks: Sequence[str], method: str, alpha: float, *, n: int = 16, **options: Any
) -> Gallery:
    """The first ``n`` committed test pictures of a task, classified before and after merging."""
    bench = open_workbench()
    images = bench.images[task][:n]
    head = bench.models.heads[task]
    delta = merge(tasks, method, **options)
    said = []
    for state in (bench.models.base, apply(bench.models.base, delta, alpha)):
        model = training.new_model(state).eval()
        with torch.no_grad():
            said.append(training.logits(model, head, images).argmax(-1).tolist())
    return Gallery(images.numpy(), bench.labels[task][:n].tolist(), said[1], said[0])


def model_bytes() -> int:
    """Bytes of one float32 model."""
    return sum(value.numel() * 4 for value in open_workbench().models.base.values())
