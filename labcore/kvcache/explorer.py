"""One head of one text, as the head explorer shows it: plain arrays in, plain arrays out."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float

from labcore.kvcache.attention_loss import relative_alr
from labcore.kvcache.norms import n_keep, select


@dataclass(frozen=True)
class HeadView:
    """What one query head does with the keys that it reads.

    Attributes:
        tokens: Text of every token.
        norms: Norm of every key ``(n,)``.
        percentiles: Rank of every norm, from 0 (smallest) to 1 ``(n,)``.
        attention: Mean attention of the window's queries on the keys before it ``(m,)``, m <= n.
        relative_alr: Relative attention loss of that mean attention: 0 perfect, 1 random.
        kept: Which pairs stay ``(n,)``.
    """

    tokens: tuple[str, ...]
    norms: Float[np.ndarray, " n"]
    percentiles: Float[np.ndarray, " n"]
    attention: Float[np.ndarray, " m"]
    relative_alr: float
    kept: Bool[np.ndarray, " n"]


def key_head(head: int, query_heads: int, key_heads: int) -> int:
    """The key head that a query head reads: ⌊head·G/H⌋.

    >>> key_head(4, query_heads=9, key_heads=3)
    1
    """
    return head * key_heads // query_heads


def head_view(
    tokens: Sequence[str],
    norms: Float[np.ndarray, "l g n"],
    window_mean: Float[np.ndarray, "l h n"],
    *,
    window: int,
    layer: int,
    head: int,
    keep_ratio: float = 0.5,
    sinks: int = 0,
    recent: int = 0,
) -> HeadView:
    """The view of query head ``head`` in ``layer``, and what the rule keeps of its keys.

    Args:
        tokens: Text of every token.
        norms: Key norms, all layers and key heads.
        window_mean: Mean attention from the last queries, all layers and query heads.
        window: Number of those queries; their own keys are left out of ``attention``.
        layer: Layer.
        head: Query head; it reads key head ⌊head·G/H⌋.
        keep_ratio: Share of the pairs that stay.
        sinks: First positions that always stay.
        recent: Newest pairs that always stay.

    Raises:
        ValueError: a layer or head that is not there, a window that leaves fewer than two keys, or
            guards that exceed the pairs kept.
    """
    layers, heads, n = window_mean.shape
    if not (0 <= layer < layers and 0 <= head < heads):
        raise ValueError(f"no layer {layer}, head {head}: give 0..{layers - 1} and 0..{heads - 1}")
    if not 0 < window <= n - 2:
        raise ValueError(f"window={window} leaves fewer than two of {n} keys before it")
    row = torch.from_numpy(norms[layer, key_head(head, heads, norms.shape[1])].astype(np.float32))
    before = torch.from_numpy(window_mean[layer, head, : n - window].astype(np.float64))
    index = select(-row[None, None], n_keep(n, keep_ratio), sinks=sinks, recent=recent)
    kept = torch.zeros(n, dtype=torch.bool).scatter(0, index[0, 0], True)
    return HeadView(
        tokens=tuple(tokens),
        norms=row.numpy(),
        percentiles=row.argsort(stable=True).argsort().numpy() / max(n - 1, 1),
        attention=before.numpy(),
        relative_alr=float(relative_alr(before, row[: n - window])),
        kept=kept.numpy(),
    )
