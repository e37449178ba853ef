"""Per-head answers to two questions: does the norm predict attention here, and can it at all?"""

from typing import Any, Literal, get_args

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from labcore.kvcache.attention_loss import attention_losses, pearson, spearman
from labcore.kvcache.profile import AttentionProfile

Metric = Literal["relative_alr", "alr", "alr_per_key", "spearman", "pearson"]
Order = Literal["norm", "recency"]
FLAT = 0.02  # coefficient of variation below which norms cannot rank anything


def head_map(
    profile: AttentionProfile,
    *,
    metric: Metric = "relative_alr",
    order: Order = "norm",
    exclude_first: int = 0,
) -> Float[np.ndarray, "l h"]:
    """Agreement of an order of dropping with attention, for every layer and query head.

    The attention losses average over the profile's last queries, each over the keys before it;
    ``relative_alr`` as a ratio of sums. The correlations are between minus the norm (or the
    position) of the keys before the window and the window's mean attention on them. Query head h
    is paired with key head ⌊h·G/H⌋; the published routine assumes as many key heads as query heads.

    Args:
        profile: Made with ``rows=True`` for the attention losses.
        metric: 0 is perfect for the losses, 1 for the correlations.
        order: Drop the largest norm first (the method), or the oldest first (the control).
        exclude_first: Leave out the first positions, such as the attention sink at 0.

    Raises:
        ValueError: An unknown metric or order, a profile without rows, or no key left.
    """
    if order not in ("norm", "recency"):
        raise ValueError(f"order must be 'norm' or 'recency', got {order!r}")
    n = len(profile.tokens)
    if not 0 <= exclude_first < n - profile.window:
        raise ValueError(f"exclude_first={exclude_first} leaves no key before the window")
    drop_last = -profile.norms_by_query_head()
    if order == "recency":
        drop_last = torch.arange(float(n), device=drop_last.device).expand_as(drop_last)
    if metric in ("spearman", "pearson"):
        correlate = spearman if metric == "spearman" else pearson
        before = slice(exclude_first, n - profile.window)  # every query of the window sees these
        kept, mean = drop_last[..., before].double(), profile.window_mean[..., before].double()
        return correlate(kept.cpu().numpy(), mean.cpu().numpy())
    return _loss_map(profile, metric, -drop_last, exclude_first)


def _loss_map(
    profile: AttentionProfile, metric: str, norms: Tensor, first: int
) -> Float[np.ndarray, "l h"]:
    """Mean (or ratio of sums) of a loss over the window; query t sees the keys ``first``..t-1."""
    if profile.rows is None:
        raise ValueError(f"metric {metric!r} needs every row: profile_attention(..., rows=True)")
    if metric not in ("relative_alr", "alr", "alr_per_key"):
        raise ValueError(f"unknown metric {metric!r}; choose one of {', '.join(get_args(Metric))}")
    start = len(profile.tokens) - profile.window
    loss, at_random, per_key = torch.zeros(3, *profile.last.shape[:2], dtype=torch.float64)
    for query, t in enumerate(range(start, len(profile.tokens))):
        lost, lost_at_random = attention_losses(
            profile.rows[:, :, query, first:t].cpu(), norms[..., first:t].cpu()
        )
        loss += lost
        at_random += lost_at_random
        per_key += lost / (t - first)
    maps = {
        "relative_alr": loss / at_random,
        "alr": loss / profile.window,
        "alr_per_key": per_key / profile.window,
    }
    return maps[metric].numpy()


def norm_health(profile: AttentionProfile) -> list[dict[str, Any]]:
    """Whether the norms of each key head can carry the method, one row a layer and head.

    Models that normalise queries and keys (Qwen3, Gemma 3) leave the norms nearly equal, and then
    the rule ranks noise; where the first position's norm is above the mean, the rule evicts the
    attention sink. Rows hold ``layer``, ``head``, ``mean``, ``variation`` (standard deviation over
    mean), ``sink`` (norm of position 0 over the mean) and ``flag``: ``"flat"`` when the variation
    is below 0.02, ``"sink above mean"``, or ``""``.
    """
    mean = profile.norms.mean(dim=-1)
    variation = profile.norms.std(dim=-1, correction=0) / mean
    sink = profile.norms[..., 0] / mean
    return [
        {
            "layer": layer,
            "head": head,
            "mean": float(mean[layer, head]),
            "variation": float(variation[layer, head]),
            "sink": float(sink[layer, head]),
            "flag": _flag(float(variation[layer, head]), float(sink[layer, head])),
        }
        for layer, head in np.ndindex(*mean.shape)
    ]


def _flag(variation: float, sink: float) -> str:
    if variation < FLAT:
        return "flat"
    return "sink above mean" if sink > 1 else ""
