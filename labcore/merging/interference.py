"""Singular task interference: how much the singular vectors of different tasks overlap.

STI = ||(U^T U - I) S (V^T V - I)|| with the kept vectors of all tasks side by side (Gargiulo et
al., CVPR 2025, arXiv 2412.00081, section 3). It counts only where both sides overlap.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from labcore.merging.factors import Factors, check_rank, inverse_root, truncated_svd

Norm = Literal["entrywise", "induced", "fro"]
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


def stacked(factors: Sequence[Factors]) -> tuple[Tensor, Tensor, Tensor]:
    """U (m, Tk), S (Tk,) and V (n, Tk) of all tasks side by side, in task order."""
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
    left, s, right = stacked(factors)
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
