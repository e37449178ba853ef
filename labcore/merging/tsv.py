"""TSV-Merge (Gargiulo et al., CVPR 2025, arXiv 2412.00081, section 4).

Each task keeps rank r // T; the kept left vectors of all tasks are made mutually orthogonal by one
polar step, the right ones too; M = U_perp S V_perp^T is added to the base once, alpha = 1.
"""

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from labcore.merging.factors import Factors, inverse_root, truncated_svd, whitener
from labcore.merging.interference import (
    POLAR_TOL,
    Matrices,
    as_factors,
    singular_task_interference,
    stacked,
)
from labcore.merging.options import MergeReport, Row, TsvOptions
from labcore.merging.vectors import MatrixPolicy, StateDict, TaskVector, check_same_keys


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
    left, s, right = stacked(as_factors(deltas_or_factors, rank, tol))
    if orthogonalize and len(s):
        root_left, root_right = whitener(left, POLAR_TOL), whitener(right, POLAR_TOL)
        if not return_factors:
            # by numpy: where torch's BLAS keeps to AVX2 (AMD), it has a third less speed in float64
            chain = (left, root_left * s, root_right, right.T)
            return torch.from_numpy(np.linalg.multi_dot([matrix.numpy() for matrix in chain]))
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
    cache: FactorCache | None = None,
    base: StateDict | None = None,
    **options: Any,
) -> tuple[TaskVector, MergeReport]:
    """TSV-Merge of whole models.

    Args:
        task_vectors: Task name -> task vector.
        rank: Kept per task and matrix, capped at each matrix's own size; r // T by default.
        policy: Which parameters are matrices.
        cache: Factors to use instead of new SVDs.
        base: The base's weights; with them the report counts kept components that are no larger
            than what storing the weights rounds away.
        options: Further fields of :class:`TsvOptions`. ``vector_rule``: what is not a matrix is the
            "mean" over tasks (the authors' code) or the "sum". ``orthogonalize=False`` leaves out
            the whitening (the ablation). ``on_zero_rank``: with more tasks than directions "raise",
            take the "mean", or "keep_one" each. ``tol``: null directions lie below this share of
            s_1; "rounding" also drops what rounding alone explains. ``method``: of
            :func:`truncated_svd`. ``report=False`` leaves the report empty and saves its time.

    Raises:
        ValueError: no task, names or shapes that differ, an integer tensor, rank 0 with
            ``on_zero_rank="raise"``, or a bad option.
    """
    check_tasks(task_vectors)
    how = TsvOptions(rank=rank, policy=policy or MatrixPolicy(), **options)
    merged: dict[str, Tensor] = {}
    rows: list[Row] = []
    for name, value in next(iter(task_vectors.values())).items():
        deltas = {task: tau[name] for task, tau in task_vectors.items()}
        k = how.rank_of(name, value, len(deltas))
        if k == 0:
            merged[name] = merge_vectors(list(deltas.values()), how)
            rows.append({"parameter": name, "kind": "vector", "rank": 0})
            continue
        weight = None if base is None else base[name]
        parts = []
        for number in range(len(how.policy.blocks(name, value))):
            began = time.perf_counter()
            if cache is not None:
                found = [(cache.factors[task, name][number].truncate(k), 0) for task in deltas]
            else:
                found = [
                    how.reduce(
                        f"{task}: {name}",
                        how.policy.blocks(name, delta)[number],
                        k,
                        None if weight is None else how.policy.blocks(name, weight)[number],
                    )
                    for task, delta in deltas.items()
                ]
            dense, row = merge_factors(name, found, k, how)
            parts.append(dense)
            if how.report:
                kinds = sorted({str(delta.dtype) for delta in deltas.values()})
                rows.append(row | {"dtypes": kinds, "seconds": time.perf_counter() - began})
        merged[name] = torch.cat(parts).view(value.shape).to(value.dtype)
    return TaskVector(merged), MergeReport(rows if how.report else [], choices=how.choices)


def merge_vectors(deltas: Sequence[Tensor], how: TsvOptions) -> Tensor:
    """What is no matrix: the mean over tasks, or the sum."""
    total = torch.stack(list(deltas)).sum(0)
    return total if how.vector_rule == "sum" else total / len(deltas)


def merge_factors(
    name: str, found: Sequence[tuple[Factors, int]], rank: int, how: TsvOptions
) -> tuple[Tensor, Row]:
    """The merged matrix of all tasks' factors, and its row of the report.

    Raises:
        ValueError: shapes that differ.
    """
    factors = [item for item, _ in found]
    if len({f.shape for f in factors}) > 1:
        raise ValueError(f"{name}: shapes differ between tasks, {[f.shape for f in factors]}")
    dense = tsv_merge_matrix(factors, rank=rank, orthogonalize=how.orthogonalize)
    assert isinstance(dense, Tensor)
    if not how.report:
        return dense, {}
    left, s, right = stacked(factors)
    before = singular_task_interference(factors, rank)
    after = singular_task_interference(factors, rank, whiten=True)
    conditions = [inverse_root(x.T @ x, POLAR_TOL)[1] if len(s) else 1.0 for x in (left, right)]
    return dense, {
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
        "rounding_noise": sum(noise for _, noise in found),
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
