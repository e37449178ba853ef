"""TSV-Merge and singular task interference (Gargiulo et al., CVPR 2025, arXiv 2412.00081).

Each task keeps rank r // T; the kept left vectors of all tasks are made mutually orthogonal by one
polar step, the right ones too; M = U_perp S V_perp^T is added to the base once, alpha = 1.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from labcore.merging.factors import Factors, check_rank, inverse_root, truncated_svd
from labcore.merging.vectors import MatrixPolicy, StateDict, TaskVector, check_same_keys

Norm = Literal["entrywise", "induced", "fro"]
ZeroRank = Literal["raise", "mean", "keep_one"]
Matrices = Sequence[Tensor | Factors] | Sequence[Tensor] | Sequence[Factors]
POLAR_TOL = 1e-7


@dataclass(frozen=True)
class STIResult:
    """Singular task interference of one layer.

    Attributes:
        value: ||(U^T U - I) S (V^T V - I)|| in the chosen norm.
        normalized: value / sum(S), comparable between layers; 0 when nothing is kept.
        gram_left: U^T U, (Tk, Tk). gram_right: V^T V.
        blocks: (T, T) sums of |entries| of the product's blocks.
        pairwise: (T, T) interference of each pair of tasks alone.
    """

    value: float
    normalized: float
    gram_left: Float[Tensor, "k k"]
    gram_right: Float[Tensor, "k k"]
    blocks: Float[Tensor, "t t"]
    pairwise: Float[Tensor, "t t"]


@dataclass(frozen=True)
class MergeReport:
    """What was done to each parameter: one row a parameter; a list of plain dicts in ``rows``."""

    rows: list[dict[str, Any]]

    def to_pandas(self) -> Any:
        """The rows as a pandas DataFrame."""
        import pandas

        return pandas.DataFrame(self.rows)


def rank_per_task(shape: Sequence[int], tasks: int) -> int:
    """r // T, which is 0 when there are more tasks than directions.

    >>> rank_per_task((768, 3072), 8)
    96
    """
    return min(shape) // tasks


def as_factors(items: Matrices, rank: int | None, tol: float | None = None) -> list[Factors]:
    """Factors of each task at ``rank`` (default r // T).

    Raises:
        ValueError: no task, shapes that differ, rank outside 1..r, or more tasks than directions.
    """
    if not items:
        raise ValueError("tasks: want at least one task to merge, got none")
    shapes = {tuple(item.shape) for item in items}
    if len(shapes) > 1:
        raise ValueError(f"tasks: shapes differ, {sorted(shapes)}; give matrices of one parameter")
    shape = shapes.pop()
    if len(shape) != 2:
        raise ValueError(f"tasks: want matrices, got shape {shape}")
    k = rank_per_task(shape, len(items)) if rank is None else rank
    if rank is None and k == 0:
        raise ValueError(
            f"rank: {len(items)} tasks leave rank 0 of {min(shape)}; give rank, or on_zero_rank"
        )
    check_rank("tasks", k, min(shape))
    return [
        item.truncate(k)
        if isinstance(item, Factors)
        else truncated_svd(item, k, tol=tol, name=f"task {number}")
        for number, item in enumerate(items)
    ]


def _stack(factors: Sequence[Factors]) -> tuple[Tensor, Tensor, Tensor]:
    return (
        torch.cat([f.U for f in factors], 1),
        torch.cat([f.s for f in factors]),
        torch.cat([f.Vh for f in factors], 0).T,
    )


def singular_task_interference(
    deltas_or_factors: Matrices,
    rank: int | None = None,
    *,
    norm: Norm = "entrywise",
    whiten: bool = False,
) -> STIResult:
    """||(U^T U - I) S (V^T V - I)||: overlap counts where both sides overlap, weighted by s.

    Args:
        deltas_or_factors: One matrix, or its factors, a task.
        rank: Kept per task; r // T by default.
        norm: Sum of |entries| (the paper's), largest column sum, or Frobenius.
        whiten: Measure the orthogonalised vectors instead; 0 up to rounding.

    Raises:
        ValueError: as :func:`as_factors`, or an unknown norm.
    """
    if norm not in ("entrywise", "induced", "fro"):
        raise ValueError(f"norm must be entrywise, induced or fro, got {norm!r}")
    factors = as_factors(deltas_or_factors, rank)
    left, s, right = _stack(factors)
    gram_left, gram_right = left.T @ left, right.T @ right
    if whiten:
        gram_left, gram_right = _whitened(gram_left), _whitened(gram_right)
    eye = torch.eye(len(s), dtype=s.dtype)
    product = (gram_left - eye) * s @ (gram_right - eye)
    total = float(s.sum())
    value = _norm(product, norm)
    sizes = [f.rank for f in factors]
    rows = torch.stack([part.abs().sum(0) for part in product.split(sizes, 0)])
    blocks = torch.stack([part.sum(1) for part in rows.split(sizes, 1)], 1)
    pairs = _pairwise(gram_left - eye, s, gram_right - eye, sizes, norm)
    share = value / total if total else 0.0
    return STIResult(value, share, gram_left, gram_right, blocks, pairs)


def _whitened(gram: Tensor) -> Tensor:
    if not len(gram):
        return gram
    root, _ = inverse_root(gram, POLAR_TOL)
    return root @ gram @ root


def _norm(product: Tensor, norm: Norm) -> float:
    if not product.numel():
        return 0.0
    if norm == "entrywise":
        return float(product.abs().sum())
    if norm == "induced":
        return float(product.abs().sum(0).max())
    return float(product.norm())


def _pairwise(left: Tensor, s: Tensor, right: Tensor, sizes: list[int], norm: Norm) -> Tensor:
    parts = torch.arange(len(s)).split(sizes)
    out = torch.zeros(len(sizes), len(sizes), dtype=s.dtype)
    for i in range(len(sizes)):
        for j in range(i):
            both = torch.cat((parts[i], parts[j]))
            grid = (both[:, None], both)
            out[i, j] = out[j, i] = _norm(left[grid] * s[both] @ right[grid], norm)
    return out


def tsv_merge_matrix(
    deltas_or_factors: Matrices,
    *,
    rank: int | None = None,
    orthogonalize: bool = True,
    tol: float | None = None,
    return_factors: bool = False,
) -> Tensor | Factors:
    """Merge one matrix of all tasks: U_perp diag(S) V_perp^T, in float64.

    Only small Gram matrices are decomposed: M = U (C_u^(-1/2) S C_v^(-1/2)) V^T.

    Args:
        deltas_or_factors: One matrix, or its factors, a task.
        rank: Kept per task; r // T by default. Above it, rows become orthonormal instead.
        orthogonalize: False sums the truncations (the ablation).
        tol: Null directions lie below this share of s_1.
        return_factors: Give U_perp, S, V_perp^T instead of their product.

    Raises:
        ValueError: as :func:`as_factors`.
    """
    left, s, right = _stack(as_factors(deltas_or_factors, rank, tol))
    if orthogonalize and len(s):
        root_left, _ = inverse_root(left.T @ left, POLAR_TOL)
        root_right, _ = inverse_root(right.T @ right, POLAR_TOL)
        if not return_factors:
            return left @ ((root_left * s) @ root_right) @ right.T
        left, right = left @ root_left, right @ root_right
    merged = Factors(left, s, right.T)
    return merged if return_factors else merged.dense()


def tsv_merge_matrix_reference(deltas: Sequence[Tensor], rank: int) -> Tensor:
    """The same on one screen, as the paper writes it: plain SVDs in float64."""
    triples = [torch.linalg.svd(d.double(), full_matrices=False) for d in deltas]
    u = torch.cat([t[0][:, :rank] for t in triples], 1)
    s = torch.cat([t[1][:rank] for t in triples])
    v = torch.cat([t[2][:rank].T for t in triples], 1)
    p_u, _, q_u = torch.linalg.svd(u, full_matrices=False)
    p_v, _, q_v = torch.linalg.svd(v, full_matrices=False)
    return (p_u @ q_u * s) @ (p_v @ q_v).T


class FactorCache:
    """Factors of every (task, parameter) at a largest rank: any re-merge without a new SVD."""

    def __init__(
        self,
        task_vectors: Mapping[str, TaskVector],
        *,
        max_rank: int | None = None,
        policy: MatrixPolicy | None = None,
    ) -> None:
        check_tasks(task_vectors)
        self.policy = policy or MatrixPolicy()
        self.task_vectors = dict(task_vectors)
        self.factors: dict[tuple[str, str], list[Factors]] = {}
        for task, tau in task_vectors.items():
            for name, value in tau.items():
                if self.policy.kind(name, value) == "matrix":
                    self.factors[task, name] = [
                        truncated_svd(block, min(max_rank or min(block.shape), *block.shape),
                                      name=f"{task}: {name}")
                        for block in self.policy.blocks(name, value)
                    ]  # fmt: skip

    def merge(
        self, tasks: Sequence[str] | None = None, rank: int | None = None, **options: Any
    ) -> tuple[TaskVector, MergeReport]:
        """TSV-Merge of a subset at any rank up to the cached one; options as :func:`tsv_merge`.

        Raises:
            KeyError: a task that is not cached; the known ones are listed.
        """
        chosen = list(self.task_vectors) if tasks is None else list(tasks)
        unknown = [task for task in chosen if task not in self.task_vectors]
        if unknown:
            raise KeyError(f"unknown tasks {unknown}: cached are {', '.join(self.task_vectors)}")
        subset = {task: self.task_vectors[task] for task in chosen}
        return tsv_merge(subset, rank=rank, policy=self.policy, cache=self, **options)


def tsv_merge(
    task_vectors: Mapping[str, TaskVector],
    *,
    rank: int | None = None,
    policy: MatrixPolicy | None = None,
    vector_rule: Literal["mean", "sum"] = "mean",
    orthogonalize: bool = True,
    on_zero_rank: ZeroRank = "raise",
    tol: float | None = None,
    cache: FactorCache | None = None,
) -> tuple[TaskVector, MergeReport]:
    """TSV-Merge of whole models.

    Args:
        task_vectors: Task name -> task vector.
        rank: Kept per task and matrix, capped at each matrix's own size; r // T by default.
        policy: Which parameters are matrices.
        vector_rule: What is not a matrix: mean over tasks (the authors' code) or sum.
        orthogonalize: False leaves out the whitening (the ablation).
        on_zero_rank: With more tasks than directions: refuse, take the mean, or keep one each.
        tol: Null directions lie below this share of s_1.
        cache: Factors to use instead of new SVDs.

    Raises:
        ValueError: no task, names that differ, or rank 0 with ``on_zero_rank="raise"``.
    """
    check_tasks(task_vectors)
    if vector_rule not in ("mean", "sum"):
        raise ValueError(f"vector_rule must be mean or sum, got {vector_rule!r}")
    policy = policy or MatrixPolicy()
    merged: dict[str, Tensor] = {}
    rows: list[dict[str, Any]] = []
    first = next(iter(task_vectors.values()))
    for name, value in first.items():
        deltas = [tau[name] for tau in task_vectors.values()]
        k = rank_per_task(value.flatten(1).shape, len(deltas)) if value.ndim > 1 else 1
        matrix = policy.kind(name, value) == "matrix"
        if matrix and rank is None and k == 0:
            if on_zero_rank == "raise":
                raise ValueError(
                    f"{name}: rank 0, {len(deltas)} tasks for {tuple(value.shape)}; set rank or "
                    "on_zero_rank='mean' or 'keep_one'"
                )
            matrix = on_zero_rank == "keep_one"
        if not matrix:
            total = torch.stack(deltas).sum(0)
            merged[name] = total if vector_rule == "sum" else total / len(deltas)
            rows.append({"parameter": name, "kind": "vector", "rank": 0})
            continue
        wanted = max(k, 1) if rank is None else rank
        parts, report = [], []
        for number, block in enumerate(policy.blocks(name, value)):
            limit = min(wanted, *block.shape)
            if cache is not None:
                items = [cache.factors[task, name][number].truncate(limit) for task in task_vectors]
            else:
                blocks = [policy.blocks(name, d)[number] for d in deltas]
                labels = [f"{task}: {name}" for task in task_vectors]
                items = [
                    truncated_svd(b, limit, tol=tol, name=label)
                    for b, label in zip(blocks, labels, strict=True)
                ]
            dense = tsv_merge_matrix(items, rank=limit, orthogonalize=orthogonalize)
            assert isinstance(dense, Tensor)
            parts.append(dense)
            report.append(_row(name, items, limit))
        merged[name] = torch.cat(parts).view(value.shape).to(value.dtype)
        rows += report
    return TaskVector(merged), MergeReport(rows)


def _row(name: str, factors: list[Factors], rank: int) -> dict[str, Any]:
    left, s, right = _stack(factors)
    before = singular_task_interference(factors, rank)
    after = singular_task_interference(factors, rank, whiten=True)
    conditions = [inverse_root(x.T @ x, POLAR_TOL)[1] if len(s) else 1.0 for x in (left, right)]
    return {
        "parameter": name,
        "kind": "matrix",
        "rank": rank,
        "energy": [round(f.energy, 6) for f in factors],
        "sti": before.value,
        "sti_normalized": before.normalized,
        "sti_whitened": after.value,
        "condition_left": conditions[0],
        "condition_right": conditions[1],
        "dropped": sum(f.dropped for f in factors),
    }


def check_tasks(task_vectors: Mapping[str, StateDict]) -> None:
    """Raise ``ValueError`` unless there is a task and all have the same names."""
    if not task_vectors:
        raise ValueError("task_vectors: want at least one task, got none")
    check_same_keys(task_vectors)


def normalized_accuracy(
    accuracy: Mapping[str, float], single: Mapping[str, float]
) -> tuple[dict[str, float], float]:
    """Merged accuracy over each task's own fine-tuned accuracy, and the mean of the ratios.

    Raises:
        ValueError: other tasks, or a fine-tuned accuracy that is not positive.

    >>> normalized_accuracy({"a": 0.45, "b": 0.8}, {"a": 0.9, "b": 0.8})
    ({'a': 0.5, 'b': 1.0}, 0.75)
    """
    if set(accuracy) != set(single) or not accuracy:
        raise ValueError("accuracy and single must name the same tasks, at least one")
    if any(not (math.isfinite(v) and v > 0) for v in single.values()):
        raise ValueError("single: fine-tuned accuracies must be positive")
    ratios = {task: accuracy[task] / single[task] for task in accuracy}
    return ratios, sum(ratios.values()) / len(ratios)
