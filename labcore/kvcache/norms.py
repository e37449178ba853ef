"""Which pairs to keep: the L2 norm of a cached key, and the selection rule.

A key with a small norm tends to receive much attention, so a pair's future influence can be guessed
from its key alone, before any query exists (Devoto et al., EMNLP 2024, arXiv 2406.11430). The rule
keeps the pairs with the lowest norms, separately for every batch row and key/value head: each head
holds its own positions, and every head the same number of them.

Two details decide whether results repeat. Norms are float32 even when the cache is bfloat16, where
nine in ten norms of a head tie with another one. Ties that remain go to the lower position.
"""

import math
from collections.abc import Collection

import torch
from jaxtyping import Float, Float32, Int
from torch import Tensor

Guard = int | Int[Tensor, "b 1 1"]  # one number for all rows, or one a row


def key_norms(keys: Float[Tensor, "*rows d"]) -> Float32[Tensor, "*rows"]:
    """L2 norm of every key, in float32 whatever the dtype of the cache.

    A rotary embedding turns coordinate pairs, so the norm is the same before and after it.

    >>> key_norms(torch.tensor([[3.0, 4.0], [0.0, 2.0]], dtype=torch.bfloat16))
    tensor([5., 2.])
    """
    return torch.linalg.vector_norm(keys.float(), dim=-1)


def n_keep(n: int, keep_ratio: float) -> int:
    """How many of ``n`` pairs a ratio keeps: ``min(n, max(1, ceil(keep_ratio · n)))``.

    The subtracted 1e-9 undoes rounding: 0.07 · 100 is 7.000000000000001 in floating point, and 7
    pairs are meant, not 8.

    Raises:
        ValueError: ``keep_ratio`` is outside (0, 1].

    >>> n_keep(1000, 0.1), n_keep(3, 0.5), n_keep(3, 0.01)
    (100, 2, 1)
    """
    check_keep_ratio(keep_ratio)
    return min(n, max(1, math.ceil(keep_ratio * n - 1e-9)))


def overall_kept(num_layers: int, keep_ratio: float, skip_layers: Collection[int] = ()) -> float:
    """Fraction of all pairs that stay when some layers are left whole: (|S| + (L − |S|)ρ) / L.

    Report it beside ρ: a ratio of 0.5 that skips 2 of 32 layers keeps more than half.

    >>> overall_kept(32, 0.5, skip_layers=(0, 1))
    0.53125
    """
    check_keep_ratio(keep_ratio)
    check_layers(skip_layers, num_layers)
    skipped = len(set(skip_layers))
    return (skipped + (num_layers - skipped) * keep_ratio) / num_layers


def select(
    scores: Float[Tensor, "b g n"],
    k: int,
    *,
    positions: Int[Tensor, "b g n"] | None = None,
    sinks: Guard = 0,
    recent: Guard = 0,
) -> Int[Tensor, "b g k"]:
    """Indices of the ``k`` pairs with the highest score, in ascending order.

    Args:
        scores: Higher is kept; the method's own score is minus the norm.
        k: Pairs to keep in every row and head.
        positions: Original positions of the pairs, ascending; 0..n-1 when nothing was dropped yet.
        sinks: Positions below this number always stay.
        recent: This many of the newest pairs always stay. Both guards count inside ``k``.

    Raises:
        ValueError: ``k`` is outside 1..n, the guards exceed ``k``, a score is NaN, or the positions
            do not ascend.

    >>> select(torch.tensor([[[-1.0, -3.0, -2.0, -3.0]]]), 2)
    tensor([[[0, 2]]])
    >>> select(torch.tensor([[[-1.0, -3.0, -2.0, -3.0]]]), 2, recent=1)
    tensor([[[0, 3]]])
    """
    n = scores.shape[-1]
    if not 1 <= k <= n:
        raise ValueError(f"k={k} pairs cannot be kept out of {n}: give 1 <= k <= {n}")
    check_guards(sinks, recent, k)
    if scores.isnan().any():
        raise ValueError("scores hold NaN: check the keys of this layer")
    index = torch.arange(n, device=scores.device)
    positions = index.expand_as(scores) if positions is None else positions
    if (positions.diff(dim=-1) <= 0).any():
        raise ValueError("positions must ascend along the last axis: sort the pairs first")

    guarded = (positions < sinks) | (index >= n - recent)
    ranked = scores.masked_fill(guarded, math.inf)
    best_first = ranked.argsort(dim=-1, descending=True, stable=True)  # ties: lower position first
    return best_first[..., :k].sort(dim=-1).values


def check_keep_ratio(keep_ratio: float) -> None:
    """Raise ``ValueError`` unless ``keep_ratio`` is in (0, 1]."""
    if not 0 < keep_ratio <= 1:
        raise ValueError(f"keep_ratio must be in (0, 1], got {keep_ratio}")


def check_layers(layers: Collection[int], num_layers: int) -> None:
    """Raise ``ValueError`` unless every index names one of the model's layers."""
    wrong = sorted(index for index in layers if not 0 <= index < num_layers)
    if wrong:
        raise ValueError(f"skip_layers {wrong} are outside 0..{num_layers - 1}")


def check_guards(sinks: Guard, recent: Guard, k: int) -> None:
    """Raise ``ValueError`` unless the guards are non-negative and fit into ``k`` pairs."""
    pairs = torch.broadcast_tensors(torch.as_tensor(sinks), torch.as_tensor(recent))
    for s, w in zip(pairs[0].flatten().tolist(), pairs[1].flatten().tolist(), strict=True):
        if s < 0 or w < 0:
            raise ValueError(f"sinks and recent must not be negative, got sinks={s}, recent={w}")
        if s + w > k:
            raise ValueError(f"sinks={s} + recent={w} exceed the {k} pairs kept")
