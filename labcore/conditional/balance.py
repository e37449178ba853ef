"""Losses that keep a router from collapsing, and their known minima.

"The" balance loss means several things. Switch's is E · sum_e f_e P_e: 1 at balance, E when all
tokens go to one expert with certainty, and it can fall below 1 when the shares f and the mean
probabilities P disagree. A widely used library lets f sum to k, so its values are k times ours.
Padding tokens are left out of every statistic.

Sources: Shazeer et al., arXiv 1701.06538 (importance, load); Fedus et al., arXiv 2101.03961
(balance); Zoph et al., arXiv 2202.08906 (z-loss).
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor


def load_balancing_loss(
    probs: Float[Tensor, "t e"],
    index: Int[Tensor, "t k"],
    mask: Tensor | None = None,
    normalize: bool = True,
) -> Tensor:
    """E · sum_e f_e P_e, f the shares of the assignments and P the mean probabilities.

    Args:
        probs: Softmax over all experts.
        index: The k experts chosen for each token; no gradient flows through this count.
        mask: (t,), True or 1 for real tokens.
        normalize: True: f sums to 1 and balance gives 1. False: f sums to k and balance gives k, as
            in transformers' ``load_balancing_loss_func``.

    Raises:
        ValueError: shapes that do not fit, or no real token.

    >>> load_balancing_loss(torch.full((4, 2), 0.5), torch.tensor([[0], [1], [0], [1]])).item()
    1.0
    """
    if len(index) != len(probs):
        raise ValueError(f"probs has {len(probs)} tokens, index {len(index)}")
    real = token_mask(mask, len(probs), probs)
    k, experts = index.shape[1], probs.shape[1]
    weight = real[:, None].expand(-1, k).reshape(-1)
    counts = torch.zeros(experts, dtype=probs.dtype, device=probs.device)
    counts = counts.index_add(0, index.reshape(-1), weight)
    share = counts / (real.sum() * (k if normalize else 1))
    mean = (probs * real[:, None]).sum(0) / real.sum()
    return experts * (share * mean).sum()


def squared_variation(x: Float[Tensor, " e"]) -> Tensor:
    """Squared coefficient of variation: population variance over squared mean.

    >>> squared_variation(torch.tensor([1.0, 3.0])).item()
    0.25
    """
    return x.var(correction=0) / x.mean().square().clamp_min(torch.finfo(x.dtype).tiny)


def importance_loss(weights: Float[Tensor, "t e"], mask: Tensor | None = None) -> Tensor:
    """CV² of the experts' importance, the sum of their gate weights over tokens.

    Args:
        weights: Gate weight of every expert, 0 where it was not chosen.
        mask: (t,), True for real tokens.
    """
    real = token_mask(mask, len(weights), weights)
    return squared_variation((weights * real[:, None]).sum(0))


def expected_load(
    logits: Float[Tensor, "t e"],
    noisy: Float[Tensor, "t e"],
    scale: Float[Tensor, "t e"],
    k: int,
    mask: Tensor | None = None,
) -> Float[Tensor, " e"]:
    """Load_e = sum_t P(e is among the top k if only its own noise is drawn again).

    Args:
        logits: Without noise. noisy: With the noise that was drawn. scale: Its standard deviation.
        k: Experts a token.
        mask: (t,), True for real tokens.

    Returns:
        A number in [0, t] for each expert; differentiable in logits and scale.

    Raises:
        ValueError: k outside 1..e, or a mask of another shape.
    """
    experts = logits.shape[1]
    if not 1 <= k <= experts:
        raise ValueError(f"k must lie in 1..{experts} (the experts), got {k}")
    real = token_mask(mask, len(logits), logits)
    if k == experts:
        return real.sum().expand(experts)
    top = noisy.topk(k + 1, dim=-1).values
    inside = noisy >= top[:, k - 1 : k]
    # the k-th largest of the OTHERS: one place further down for those that are inside
    rival = torch.where(inside, top[:, k : k + 1], top[:, k - 1 : k])
    chance = torch.special.ndtr((logits - rival) / scale)
    return (chance * real[:, None]).sum(0)


def load_loss(
    logits: Float[Tensor, "t e"],
    noisy: Float[Tensor, "t e"],
    scale: Float[Tensor, "t e"],
    k: int,
    mask: Tensor | None = None,
) -> Tensor:
    """CV² of :func:`expected_load`."""
    return squared_variation(expected_load(logits, noisy, scale, k, mask))


def router_z_loss(logits: Float[Tensor, "t e"], mask: Tensor | None = None) -> Tensor:
    """mean over tokens of logsumexp(logits)²: keeps logits small; (log E)² for zero logits."""
    real = token_mask(mask, len(logits), logits)
    return (logits.logsumexp(-1).square() * real).sum() / real.sum()


def token_mask(mask: Tensor | None, tokens: int, like: Tensor) -> Float[Tensor, " t"]:
    """The mask as numbers 0 and 1; ones when there is none.

    Raises:
        ValueError: another shape than one entry a token, or no real token at all.
    """
    if mask is None:
        return torch.ones(tokens, dtype=like.dtype, device=like.device)
    flat = mask.reshape(-1)
    if len(flat) != tokens:
        raise ValueError(
            f"mask has shape {tuple(mask.shape)} for {tokens} tokens: give one entry a token"
        )
    real = (flat != 0).to(like)
    if not real.any():
        raise ValueError("mask leaves no token: give at least one real one")
    return real
