"""Drawing K layers without replacement, and how likely each one is to be drawn."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

_MOST_LAYERS = 16  # 2^L subsets are walked


def sampling_weights(budgets: Float[Tensor, " l"], sampling: str) -> Float[Tensor, " l"]:
    """Weights of the draw: the budgets, or their exponentials for ``softmax``.

    >>> sampling_weights(torch.tensor([1.0, 0.5]), "proportional").tolist()
    [1.0, 0.5]
    """
    return budgets.exp() if sampling == "softmax" else budgets.clone()


def draw_layers(
    weights: Float[Tensor, " l"],
    k: int,
    sampling: str = "proportional",
    generator: torch.Generator | None = None,
) -> tuple[int, ...]:
    """K different layers, ascending; ``top`` takes the largest weights, lowest index on ties.

    Raises:
        ValueError: K outside 0..L.

    >>> draw_layers(torch.tensor([0.2, 0.9, 0.9]), 2, "top")
    (1, 2)
    """
    if not 0 <= k <= len(weights):
        raise ValueError(f"k must be 0..{len(weights)} layers, got {k}")
    if k == 0:
        return ()
    if sampling == "top":
        chosen = weights.argsort(descending=True, stable=True)[:k]
    else:
        chosen = torch.multinomial(weights, k, replacement=False, generator=generator)
    return tuple(sorted(chosen.tolist()))


def inclusion_probabilities(
    weights: Float[Tensor, " l"], k: int, sampling: str = "proportional"
) -> Float[Tensor, " l"]:
    """Exact probability of each layer to be among K sequential draws without replacement.

    The chance to reach a subset is summed over the layer that came last; all ``2^L`` subsets are
    visited once, in order of their binary code.

    Raises:
        ValueError: K outside 0..L, or more than 16 layers.

    >>> [round(p, 4) for p in inclusion_probabilities(torch.tensor([1.0, 0.5, 0.5]), 2).tolist()]
    [0.8333, 0.5833, 0.5833]
    """
    depth = len(weights)
    if not 0 <= k <= depth:
        raise ValueError(f"k must be 0..{depth} layers, got {k}")
    if sampling == "top":
        found = torch.zeros(depth, dtype=torch.float64)
        found[list(draw_layers(weights, k, "top"))] = 1.0
        return found
    if depth > _MOST_LAYERS:
        raise ValueError(f"exact probabilities need at most {_MOST_LAYERS} layers, got {depth}")
    reach, member = _reach(weights.double(), k)
    return (reach.unsqueeze(1) * member).sum(0)


def _reach(weights: Tensor, k: int) -> tuple[Any, Any]:
    """Probability of each subset of K layers, and which layers are in it."""
    depth = len(weights)
    codes = torch.arange(2**depth)
    member = (codes.unsqueeze(1) >> torch.arange(depth)) & 1
    left = weights.sum() - (member * weights).sum(1)
    size = member.sum(1)
    reach = (size == 0).double()
    for number in range(k):
        now = codes[size == number]
        step = (reach[now] / left[now]).unsqueeze(1) * weights * (1 - member[now])
        target = now.unsqueeze(1) | (1 << torch.arange(depth))
        reach.index_add_(0, target.flatten(), (step * (1 - member[now])).flatten())
    chosen = size == k
    return reach[chosen], member[chosen]
