"""Gradient explanations of a trained network, written out: saliency and integrated gradients.

Simonyan, Vedaldi, Zisserman (2013), arXiv 1312.6034; Sundararajan, Taly, Yan (2017), arXiv
1703.01365. They need the model and its derivatives; the Koopman explanations need states only.
"""

import warnings
from collections.abc import Callable, Iterator

import numpy as np
import torch
from jaxtyping import Float, Num
from torch import Tensor

from labcore.koopman.explain import Explanation
from labcore.koopman.relevance import pair_relevance
from labcore.koopman.stgnn import DynGCRNN
from labcore.koopman.truth import edge_list

Along = Callable[[Tensor], Tensor]
GAP = 0.05  # completeness may be missed by this share
SHARE = 0.02  # of it, by one interval
CHUNK = 32  # graphs at once


def saliency(
    model: DynGCRNN, x: Num[np.ndarray, "t n"], A: Num[np.ndarray, "t n n"]
) -> Explanation:
    """|d logit / d x|, summed over nodes for steps and over steps for nodes."""
    gradient = _gradient(model, *_tensors(x, A))[0].abs().numpy().astype(np.float64)
    nodes = gradient.sum(axis=0)
    edges = pair_relevance(nodes, edge_list(A))
    return Explanation(gradient.sum(axis=1), nodes, edges, {"name": "saliency"})


def integrated_gradients(
    model: DynGCRNN,
    x: Num[np.ndarray, "t n"],
    A: Num[np.ndarray, "t n n"],
    *,
    steps: int = 32,
    rounds: int = 12,
) -> Explanation:
    """x times the mean gradient on the way from nobody infected to x (midpoint rule).

    The attributions must sum to the change of the logit (completeness; ``meta`` holds both). The
    logit of a recurrent network can jump on the way, so an interval over which its own change is
    missed is halved, and again, instead of taking more steps everywhere.

    Args:
        model: The trained network.
        x: Flags of one graph.
        A: Its contacts.
        steps: Equal intervals to begin with.
        rounds: At most so many halvings less one; 1 for the plain midpoint rule.

    Raises:
        ValueError: fewer than one step or round.

    Warns:
        UserWarning: the sum misses the change by more than 5 %: take more rounds.
    """
    if steps < 1 or rounds < 1:
        raise ValueError(f"steps={steps} and rounds={rounds} must be at least 1")
    given, contacts = _tensors(x, A)
    logit, gradient = _along(model, given, contacts)
    low = torch.arange(steps, dtype=torch.float64) / steps
    size = torch.full_like(low, 1 / steps)
    values = logit(torch.cat([low, torch.ones(1, dtype=torch.float64)]))
    rise, change = values.diff(), float(values[-1] - values[0])
    total = torch.zeros_like(given[0, ..., 0], dtype=torch.float64)
    for left in reversed(range(rounds)):
        slopes = gradient(low + size / 2) * size[:, None, None]
        missed = (slopes.sum(dim=(1, 2)) - rise).abs() > SHARE * GAP * abs(change)
        missed &= left > 0  # the last round keeps what it has
        total += slopes[~missed].sum(dim=0)
        if not missed.any():
            break
        low, size, rise = _halved(low[missed], size[missed] / 2, rise[missed], logit)
    parts = total.numpy()
    gap = abs(parts.sum() - change) / max(abs(change), 1e-9)
    if gap > GAP:
        said = f"{steps} steps, {rounds} rounds miss the change by {gap:.0%}: take more rounds"
        warnings.warn(said, stacklevel=2)
    nodes = np.abs(parts.sum(axis=0))
    meta = {"name": "integrated_gradients", "sum": float(parts.sum()), "change": change, "gap": gap}
    edges = pair_relevance(nodes, edge_list(A))
    return Explanation(np.abs(parts.sum(axis=1)), nodes, edges, meta)


def _along(model: DynGCRNN, given: Tensor, contacts: Tensor) -> tuple[Along, Along]:
    """Logits, and gradients times x, at shares of the way to ``given``."""

    def chunks(shares: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        for way in shares.float().split(CHUNK):
            yield way[:, None, None, None] * given, contacts.expand(len(way), -1, -1, -1)

    @torch.no_grad()
    def logit(shares: Tensor) -> Tensor:
        return torch.cat([model(x, A)[0] for x, A in chunks(shares)]).double()

    def gradient(shares: Tensor) -> Tensor:
        slopes = torch.cat([_gradient(model, x, A) for x, A in chunks(shares)])
        return (slopes * given[0, ..., 0]).double()

    return logit, gradient


def _halved(low: Tensor, size: Tensor, rise: Tensor, logit: Along) -> tuple[Tensor, Tensor, Tensor]:
    """Both halves of each interval, with the change of the logit over each."""
    middle = low + size
    ends = logit(torch.cat([low, middle]))
    first = ends[len(low) :] - ends[: len(low)]
    both = torch.cat([first, rise - first])
    return torch.cat([low, middle]), size.repeat(2), both


def edge_gradient(
    model: DynGCRNN, x: Num[np.ndarray, "t n"], A: Num[np.ndarray, "t n n"]
) -> Explanation:
    """|d logit / d A| on the contacts that exist, by step, node and pair."""
    given, contacts = _tensors(x, A)
    contacts.requires_grad_()
    (slope,) = torch.autograd.grad(model(given, contacts)[0].sum(), contacts)
    both = (slope[0] * contacts[0].detach()).numpy().astype(np.float64)
    weight = np.abs(both + both.transpose(0, 2, 1))  # one contact has two directions
    edges, pairs = edge_list(A), weight.sum(axis=0)
    return Explanation(
        weight.sum(axis=(1, 2)) / 2,
        pairs.sum(axis=1),
        pairs[edges[:, 0], edges[:, 1]],
        {"name": "edge_gradient"},
    )


def _tensors(x: np.ndarray, A: np.ndarray) -> tuple[Tensor, Tensor]:
    given = torch.from_numpy(np.asarray(x, dtype=np.float32))[None, ..., None]
    return given, torch.from_numpy(np.asarray(A, dtype=np.float32))[None]


def _gradient(
    model: DynGCRNN, x: Float[Tensor, "b t n 1"], A: Float[Tensor, "b t n n"]
) -> Float[Tensor, "b t n"]:
    x = x.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(model(x, A)[0].sum(), x)
    return gradient[..., 0]
