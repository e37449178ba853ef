"""The other ways to merge, on the same task vectors; ``MERGERS`` names them all.

Each takes (task name -> task vector) and options, and returns one merged task vector that
:func:`labcore.merging.vectors.apply` adds with a scale alpha.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from labcore.merging.factors import polar_factor, truncated_svd
from labcore.merging.tsv import check_tasks, tsv_merge
from labcore.merging.vectors import MatrixPolicy, TaskVector

Tasks = Mapping[str, TaskVector]
Trim = Literal["global", "tensor", "mergekit"]


def task_arithmetic(task_vectors: Tasks) -> TaskVector:
    """sum_t tau_t (Ilharco et al., 2023, arXiv 2212.04089)."""
    return _combine(task_vectors, lambda stack: stack.sum(0))


def weight_average(task_vectors: Tasks) -> TaskVector:
    """The mean of tau_t, so the mean of the models."""
    return _combine(task_vectors, lambda stack: stack.mean(0))


def ties(task_vectors: Tasks, *, keep: float = 0.2, trim: Trim = "global") -> TaskVector:
    """Trim, elect signs, average those who agree (Yadav et al., 2023, arXiv 2306.01708).

    Args:
        task_vectors: Task name -> task vector.
        keep: Share of the largest magnitudes to keep.
        trim: Over the whole model (the paper) or in each tensor; ties at the threshold all stay,
            and a sum of exactly zero takes the sign of the sum of signs. "mergekit" does as
            mergekit 0.1.5: in each tensor exactly this many entries stay, whichever of equal ones
            its sort puts first, and a sum of zero counts as positive. Updates of a few steps of
            Adam hold many equal magnitudes, and then the rules give other weights.

    Raises:
        ValueError: ``keep`` outside (0, 1], or an unknown ``trim``.
    """
    check_tasks(task_vectors)
    if not 0 < keep <= 1:
        raise ValueError(f"keep must be in (0, 1], got {keep}")
    if trim not in get_args(Trim):
        raise ValueError(f"trim must be one of {', '.join(get_args(Trim))}, got {trim!r}")
    if trim == "mergekit":
        first = {task: _first(tau, keep) for task, tau in task_vectors.items()}
        return _combine(first, lambda stack: _agreeing(stack, _plus_or_minus(stack)))
    trimmed = {task: _trimmed(tau, keep, trim) for task, tau in task_vectors.items()}
    return _combine(trimmed, lambda stack: _agreeing(stack, _elected(stack)))


def _first(tau: TaskVector, keep: float) -> TaskVector:
    """Exactly ``keep`` of every tensor's entries, the others zero."""
    kept = {}
    for name, value in tau.items():
        order = value.abs().flatten().argsort(descending=True)[: max(1, int(keep * value.numel()))]
        mask = torch.zeros(value.numel()).index_fill_(0, order, 1.0)
        kept[name] = value * mask.view(value.shape)
    return TaskVector(kept)


def _trimmed(tau: TaskVector, keep: float, trim: str) -> TaskVector:
    sizes = {n: v.abs().flatten() for n, v in tau.items()}
    if trim == "global":
        cuts = dict.fromkeys(sizes, _threshold(torch.cat(list(sizes.values())), keep))
    else:
        cuts = {n: _threshold(size, keep) for n, size in sizes.items()}
    return TaskVector({n: torch.where(v.abs() >= cuts[n], v, 0.0) for n, v in tau.items()})


def _threshold(magnitudes: Tensor, keep: float) -> Tensor:
    n = len(magnitudes)
    return magnitudes.kthvalue(n - max(1, int(keep * n)) + 1).values


def _elected(stack: Tensor) -> Tensor:
    """Sign of the sum; of a sum of zero, the sign of the sum of signs."""
    sign = stack.sum(0).sign()
    return torch.where(sign == 0, stack.sign().sum(0).sign(), sign)


def _plus_or_minus(stack: Tensor) -> Tensor:
    return torch.where(stack.sum(0) >= 0, 1.0, -1.0)


def _agreeing(stack: Tensor, sign: Tensor) -> Tensor:
    """Mean of the entries that are not zero and have this sign."""
    agree = (stack.sign() == sign) & (stack != 0)
    return torch.where(agree, stack, 0.0).sum(0) / agree.sum(0).clamp_min(1)


def dare(task_vectors: Tasks, *, p: float = 0.9, seed: int = 0) -> TaskVector:
    """Drop each entry with probability p, rescale the rest, add up (arXiv 2311.03099).

    Raises:
        ValueError: p outside [0, 1).
    """
    if not 0 <= p < 1:
        raise ValueError(f"p must be in [0, 1), got {p}")
    generator = torch.Generator().manual_seed(seed)

    def drop(stack: Tensor) -> Tensor:
        kept = torch.rand(stack.shape, generator=generator) >= p
        return (stack * kept / (1 - p)).sum(0)

    return _combine(task_vectors, drop)


def breadcrumbs(task_vectors: Tasks, *, beta: float = 0.85, gamma: float = 0.993) -> TaskVector:
    """Per tensor drop the smallest ``beta`` and the largest 1 - gamma (arXiv 2312.06795).

    Raises:
        ValueError: not 0 <= beta < gamma <= 1.
    """
    if not 0 <= beta < gamma <= 1:
        raise ValueError(f"want 0 <= beta < gamma <= 1, got beta={beta}, gamma={gamma}")

    def mask(stack: Tensor) -> Tensor:
        flat = stack.flatten(1)
        rank = flat.abs().argsort(1).argsort(1)
        n = flat.shape[1]
        kept = (rank >= int(beta * n)) & (rank < max(1, round(gamma * n)))
        return (flat * kept).sum(0).view(stack.shape[1:])

    return _combine(task_vectors, mask)


def tall_masks(
    task_vectors: Tasks, *, threshold: float | Mapping[str, float] = 0.4
) -> dict[str, dict[str, Tensor]]:
    """|tau_t| > lambda |tau - tau_t| with tau the sum (Wang et al., 2024, arXiv 2405.07813)."""
    total = task_arithmetic(task_vectors)
    masks = {}
    for task, tau in task_vectors.items():
        scale = threshold[task] if isinstance(threshold, Mapping) else threshold
        masks[task] = {n: v.abs() > scale * (total[n] - v).abs() for n, v in tau.items()}
    return masks


def consensus_ta(
    task_vectors: Tasks,
    *,
    threshold: float | Mapping[str, float] = 0.4,
    at_least: int = 2,
) -> TaskVector:
    """The sum, where at least this many tasks' masks are on; warns when none can be."""
    masks = tall_masks(task_vectors, threshold=threshold)
    if at_least > len(masks):
        warnings.warn(
            f"at_least={at_least} exceeds the {len(masks)} tasks: nothing is kept", stacklevel=2
        )
    total = task_arithmetic(task_vectors)
    votes = {n: torch.stack([m[n] for m in masks.values()]).sum(0) for n in total}
    return TaskVector({n: v * (votes[n] >= at_least) for n, v in total.items()})


def iso_c(task_vectors: Tasks, *, policy: MatrixPolicy | None = None) -> TaskVector:
    """mean(s) U V^T from the SVD of the sum; what is no matrix is the mean (arXiv 2502.04959)."""
    policy = policy or MatrixPolicy()
    mean = weight_average(task_vectors)
    merged = dict(mean)
    for name, value in mean.items():
        if policy.kind(name, value) == "matrix":
            parts = [_isotropic(b) for b in policy.blocks(name, value * len(task_vectors))]
            merged[name] = torch.cat(parts).view(value.shape).to(value.dtype)
    return TaskVector(merged)


def _isotropic(total: Tensor) -> Tensor:
    factors = truncated_svd(total, min(total.shape), method="svd")
    if not factors.rank:
        return torch.zeros_like(total)
    return (factors.s.sum() / min(total.shape)) * factors.U @ factors.Vh


def iso_cts(
    task_vectors: Tasks, *, common: float = 0.8, policy: MatrixPolicy | None = None
) -> TaskVector:
    """Iso-C with room for each task (arXiv 2502.04959): whitened directions, one singular value.

    The leading directions of the sum are the common space; each task adds the leading directions
    of what that space leaves of it. All are whitened as in TSV-Merge and get the mean of their
    singular values. What is no matrix is the mean.

    Args:
        task_vectors: Task name -> task vector.
        common: Share of the r directions that the sum gives; what does not divide by T joins it.
        policy: Which parameters are matrices.

    Raises:
        ValueError: ``common`` outside (0, 1].
    """
    if not 0 < common <= 1:
        raise ValueError(f"common must be in (0, 1], got {common}")
    policy = policy or MatrixPolicy()
    merged = dict(weight_average(task_vectors))
    for name, value in merged.items():
        if policy.kind(name, value) == "matrix":
            blocks = [policy.blocks(name, tau[name]) for tau in task_vectors.values()]
            parts = [_common_and_own(group, common) for group in zip(*blocks, strict=True)]
            merged[name] = torch.cat(parts).view(value.shape).to(value.dtype)
    return TaskVector(merged)


def _common_and_own(deltas: Sequence[Tensor], share: float) -> Tensor:
    wide = [delta.double() for delta in deltas]
    r = min(wide[0].shape)
    own = (r - int(r * share)) // len(wide)
    spaces = [truncated_svd(torch.stack(wide).sum(0), r - own * len(wide), method="svd")]
    basis = spaces[0].U
    for delta in wide if own else ():
        spaces.append(truncated_svd(delta - basis @ (basis.T @ delta), own, method="svd"))
    s = torch.cat([space.s for space in spaces])
    if not len(s):
        return torch.zeros_like(wide[0])
    left = polar_factor(torch.cat([space.U for space in spaces], 1))
    right = polar_factor(torch.cat([space.Vh.T for space in spaces], 1))
    return s.sum() / r * left @ right.T


def _tsv_m(task_vectors: Tasks, **options: Any) -> TaskVector:
    return tsv_merge(task_vectors, **options)[0]


def _rank_cut(task_vectors: Tasks, **options: Any) -> TaskVector:
    return tsv_merge(task_vectors, orthogonalize=False, vector_rule="sum", **options)[0]


def _full_rank(task_vectors: Tasks, **options: Any) -> TaskVector:
    largest = max(min(v.flatten(1).shape) for v in next(iter(task_vectors.values())).values()
                  if v.ndim > 1)  # fmt: skip
    return tsv_merge(task_vectors, rank=largest, **options)[0]


def _combine(task_vectors: Tasks, function: Callable[[Tensor], Tensor]) -> TaskVector:
    check_tasks(task_vectors)
    names = next(iter(task_vectors.values()))
    return TaskVector(
        {n: function(torch.stack([tau[n] for tau in task_vectors.values()])) for n in names}
    )


def tune_alpha(
    evaluate: Callable[[float], float], grid: Sequence[float]
) -> tuple[float, list[tuple[float, float]]]:
    """The alpha of the grid with the best score, the first of equals, and the whole curve.

    Raises:
        ValueError: an empty grid.

    >>> tune_alpha(lambda a: -((a - 1) ** 2), [0.5, 1.0, 1.5])[0]
    1.0
    """
    if not grid:
        raise ValueError("grid: want at least one alpha, got none")
    curve = [(float(alpha), float(evaluate(alpha))) for alpha in grid]
    return max(curve, key=lambda point: point[1])[0], curve


MERGERS: dict[str, Callable[..., TaskVector]] = {
    "average": weight_average,
    "task_arithmetic": task_arithmetic,
    "ties": ties,
    "dare": dare,
    "breadcrumbs": breadcrumbs,
    "consensus_ta": consensus_ta,
    "iso_c": iso_c,
    "iso_cts": iso_cts,
    "rank_cut": _rank_cut,
    "full_rank": _full_rank,
    "tsv_m": _tsv_m,
}
