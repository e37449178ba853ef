"""How well an order of dropping follows attention: the attention loss of arXiv 2406.11430.

One query spends attention ``a`` on ``n`` cached keys. Dropping pairs in an order π, one by one,
loses ℓ_π(m) = Σ_{i<=m} a[π(i)] after m of them. The best order drops the least attended pair first;
the method drops the largest key norm first. The area between the two loss curves is the attention
loss: small when the norm predicts attention.

Every function takes attention ``(..., n)`` and norms ``(..., n)``; leading axes broadcast. The
query's own key belongs to neither, and attention is not renormalised.
"""

import numpy as np
import torch
from jaxtyping import Float, Float64, Int, Real
from scipy.stats import rankdata
from torch import Tensor


def drop_order(norms: Real[Tensor, "*rows n"]) -> Int[Tensor, "*rows n"]:
    """Indices in the order in which the rule drops: largest norm first, of equal norms the newest.

    It is the order of keeping, reversed, so that it agrees with :func:`labcore.kvcache.select`.

    >>> drop_order(torch.tensor([1.0, 3.0, 2.0, 3.0]))
    tensor([3, 1, 2, 0])
    """
    return norms.argsort(dim=-1, stable=True).flip(-1)


def loss_curves(
    attn: Float[Tensor, "*rows n"], norms: Real[Tensor, "*keys n"]
) -> tuple[Float[Tensor, "*rows n"], Float[Tensor, "*rows n"]]:
    """The two curves ℓ(1..n): attention lost in the best order, and in the order of the norms.

    Both end at Σ a and never fall; the second never lies below the first.

    >>> best, by_norm = loss_curves(torch.tensor([0.5, 0.25, 0.25]), torch.tensor([1.0, 2.0, 3.0]))
    >>> best.tolist(), by_norm.tolist()
    ([0.25, 0.5, 1.0], [0.25, 0.5, 1.0])
    """
    _check(attn, norms)
    best = attn.sort(dim=-1).values.cumsum(-1)
    by_norm = attn.gather(-1, drop_order(norms).expand_as(attn)).cumsum(-1)
    return best, by_norm


def alr(attn: Float[Tensor, "*rows n"], norms: Real[Tensor, "*keys n"]) -> Float[Tensor, "*rows"]:
    """Attention loss Y = Σ_m (ℓ_norm(m) − ℓ_best(m)) >= 0, in closed form.

    A pair dropped at 0-based rank R is missing from n − R of the n sums, so the sums need not be
    taken: **Y = Σ_j a_j (R_a(j) − R_n(j))** with R_a the rank by attention, ascending, and R_n the
    rank by norm, descending. O(n log n); :func:`alr_reference` is the definition.

    >>> attn, norms = torch.tensor([0.5, 0.3, 0.2]), torch.tensor([1.0, 3.0, 2.0])
    >>> round(alr(attn, norms).item(), 6)
    0.1
    """
    return attention_losses(attn, norms)[0].to(attn.dtype)


def alr_reference(
    attn: Float[Tensor, "*rows n"], norms: Real[Tensor, "*keys n"]
) -> Float[Tensor, "*rows"]:
    """Attention loss by its definition: the area between the two :func:`loss_curves`."""
    best, by_norm = loss_curves(attn.double(), norms)
    return (by_norm - best).sum(-1).to(attn.dtype)


def relative_alr(
    attn: Float[Tensor, "*rows n"],
    norms: Real[Tensor, "*keys n"],
    *,
    weights: Float[Tensor, " w"] | None = None,
) -> Float[Tensor, "*out"]:
    """Attention loss as a share of what dropping at random loses (an addition of this lab).

    0 is perfect, 1 is what a random order costs in expectation, more is worse than random:
    ρ_Y = Y / (Σ_j a_j R_a(j) − (n − 1)/2 · Σ_j a_j). Uniform attention, for which no order is
    wrong, gives NaN.

    Args:
        attn: Attention of one or more queries.
        norms: Key norms.
        weights: Weights of the queries on the second to last axis, which are then pooled into one
            ratio of weighted sums; a mean of ratios would let rows with nothing to lose dominate.

    >>> attn, norms = torch.tensor([0.5, 0.3, 0.2]), torch.tensor([1.0, 3.0, 2.0])
    >>> round(relative_alr(attn, norms).item(), 6)
    0.333333
    """
    loss, at_random = attention_losses(attn, norms)
    if weights is not None:
        loss, at_random = loss @ weights.double(), at_random @ weights.double()
    return (loss / at_random).to(attn.dtype)


def attention_losses(
    attn: Float[Tensor, "*rows n"], norms: Real[Tensor, "*keys n"]
) -> tuple[Float64[Tensor, "*rows"], Float64[Tensor, "*rows"]]:
    """Attention loss Y, and what a random order loses in expectation; sum both before dividing."""
    _check(attn, norms)
    ranks = torch.arange(attn.shape[-1], device=attn.device, dtype=torch.float64)
    best = attn.sort(dim=-1).values.double() @ ranks  # Σ_j a_j R_a(j)
    by_norm = attn.gather(-1, drop_order(norms).expand_as(attn)).double() @ ranks  # Σ_j a_j R_n(j)
    at_random = ranks.mean() * attn.double().sum(-1)  # every rank is (n − 1)/2 on average
    # The rearrangement inequality gives best >= by_norm; the clamp removes rounding only.
    return (best - by_norm).clamp_min(0.0), best - at_random


def pearson(
    x: Float[np.ndarray, "*rows n"], y: Float[np.ndarray, "*rows n"]
) -> Float[np.ndarray, "*rows"]:
    """Pearson correlation along the last axis.

    >>> float(pearson(np.array([1.0, 2.0, 3.0]), np.array([2.0, 4.0, 6.0])).round(6))
    1.0
    """
    x = x - x.mean(-1, keepdims=True)
    y = y - y.mean(-1, keepdims=True)
    return np.asarray((x * y).sum(-1) / np.sqrt((x**2).sum(-1) * (y**2).sum(-1)))


def spearman(
    x: Float[np.ndarray, "*rows n"], y: Float[np.ndarray, "*rows n"]
) -> Float[np.ndarray, "*rows"]:
    """Spearman rank correlation along the last axis; ties share their mean rank.

    >>> float(spearman(np.array([1.0, 2.0, 3.0]), np.array([1.0, 10.0, 100.0])).round(6))
    1.0
    """
    return pearson(rankdata(x, axis=-1), rankdata(y, axis=-1))


def _check(attn: Tensor, norms: Tensor) -> None:
    if attn.ndim < 1 or norms.ndim < 1 or attn.shape[-1] != norms.shape[-1]:
        raise ValueError(
            f"attention {tuple(attn.shape)} and norms {tuple(norms.shape)} must share the last axis"
        )
    if attn.shape[-1] == 0:
        raise ValueError("no cached keys: the attention loss needs at least one")
