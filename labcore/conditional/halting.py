"""Adaptive computation: every token leaves at its own depth, with weights that sum to one.

Sources: Graves, arXiv 1603.08983 (ACT); Yin et al., arXiv 2112.07658 (A-ViT).
"""

import torch
from jaxtyping import Float
from torch import Tensor


def halting_scores(
    states: Float[Tensor, "*batch d"], gamma: float = 10.0, beta: float = 30.0
) -> Tensor:
    """sigmoid(gamma · first feature − beta): the halting score needs no weights of its own."""
    return torch.sigmoid(gamma * states[..., 0] - beta)


def halting_weights(
    halting: Float[Tensor, "l *batch"], eps: float = 0.01
) -> tuple[Tensor, Tensor, Tensor]:
    """Weight of every layer's state, depth and remainder of every token.

    A token halts at the first layer N whose running sum reaches 1 − eps, and at the last layer
    whatever the sum is. Layers before N weigh h, layer N the remainder 1 − sum of those.

    Returns:
        weights (l, ...) that sum to 1, depth N (...) from 1 to L, remainder (...).

    Raises:
        ValueError: eps outside (0, 1), scores outside [0, 1], or no layer.
    """
    if not 0 < eps < 1:
        raise ValueError(f"eps must lie in (0, 1), got {eps}")
    if not len(halting):
        raise ValueError("halting has no layer")
    if not bool(((halting >= 0) & (halting <= 1)).all()):
        raise ValueError("halting scores must lie in [0, 1]: pass them through a sigmoid")
    after = halting.cumsum(0)
    before = torch.cat((torch.zeros_like(halting[:1]), after[:-1]))
    alive = before < 1 - eps
    last = torch.zeros_like(alive)
    last[-1] = True
    stops = alive & ((after >= 1 - eps) | last)
    weights = torch.where(stops, 1 - before, halting) * alive
    remainder = ((1 - before) * stops).sum(0)
    return weights, alive.sum(0), remainder


def adaptive_computation(
    halting: Float[Tensor, "l b n"], states: Float[Tensor, "l b n d"], eps: float = 0.01
) -> tuple[Tensor, Tensor, Tensor]:
    """The halting mixture of layer states: sum over l < N of h x, plus remainder · x at N.

    States after a token's depth do not matter.

    Returns:
        output (b, n, d), depth (b, n), remainder (b, n).

    Raises:
        ValueError: as :func:`halting_weights`, or shapes that do not fit.

    >>> h = torch.tensor([0.3, 0.5, 0.9]).view(3, 1, 1)
    >>> _, depth, remainder = adaptive_computation(h, torch.zeros(3, 1, 1, 2))
    >>> depth.item(), round(remainder.item(), 4), round(ponder_loss(depth, remainder).item(), 4)
    (3, 0.2, 3.2)
    """
    if halting.shape != states.shape[:-1]:
        raise ValueError(
            f"halting {tuple(halting.shape)} does not fit states {tuple(states.shape)}"
        )
    weights, depth, remainder = halting_weights(halting, eps)
    used = torch.where(weights[..., None] > 0, states, 0)  # also where a skipped state is NaN
    return (weights[..., None] * used).sum(0), depth, remainder


def ponder_loss(depth: Tensor, remainder: Tensor) -> Tensor:
    """mean of N + r: the depth that ran, with the remainder carrying the gradient."""
    return (depth + remainder).mean()


def depth_prior_loss(
    halting: Float[Tensor, "l *batch"], target: float, spread: float = 1.0
) -> Tensor:
    """KL from a Gaussian over layers around ``target`` to the mean halting distribution.

    Raises:
        ValueError: ``spread`` <= 0.
    """
    if spread <= 0:
        raise ValueError(f"spread must be > 0, got {spread}")
    layers = torch.arange(1, len(halting) + 1, dtype=halting.dtype, device=halting.device)
    wanted = (-0.5 * ((layers - target) / spread).square()).softmax(0)
    mean = halting.flatten(1).mean(1)
    found = (mean + 1e-8) / (mean + 1e-8).sum()
    return (wanted * (wanted.log() - found.log())).sum()
