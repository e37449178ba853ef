"""Gradient explanations of a trained network, written out: saliency and integrated gradients.

Simonyan, Vedaldi, Zisserman (2013), arXiv 1312.6034; Sundararajan, Taly, Yan (2017), arXiv
1703.01365. They need the model and its derivatives; the Koopman explanations need states only.
"""

import warnings

import numpy as np
import torch
from jaxtyping import Float, Num
from torch import Tensor

from labcore.koopman.explain import Explanation
from labcore.koopman.relevance import pair_relevance
from labcore.koopman.stgnn import DynGCRNN
from labcore.koopman.truth import edge_list

GAP = 0.05  # completeness may be missed by this share


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
    steps: int = 256,
    chunk: int = 32,
) -> Explanation:
    """x times the mean gradient on the way from nobody infected to x (midpoint rule).

    ``meta`` holds the completeness: the attributions must sum to the change of the logit.

    Raises:
        ValueError: fewer than one step.

    Warns:
        UserWarning: the sum misses the change by more than 5 %: take more steps.
    """
    if steps < 1:
        raise ValueError(f"steps={steps} must be at least 1")
    given, contacts = _tensors(x, A)
    total = torch.zeros_like(given[0])
    for way in ((torch.arange(steps) + 0.5) / steps).split(chunk):
        inputs = way[:, None, None, None] * given
        total += _gradient(model, inputs, contacts.expand(len(way), -1, -1, -1)).sum(dim=0)[
            ..., None
        ]
    mean = (total / steps)[..., 0]
    parts = (given[0, ..., 0] * mean).numpy().astype(np.float64)
    with torch.no_grad():
        ends = torch.cat([torch.zeros_like(given), given])
        nothing, all_ = model(ends, contacts.expand(2, -1, -1, -1))[0].tolist()
    change = all_ - nothing
    gap = abs(parts.sum() - change) / max(abs(change), 1e-9)
    if gap > GAP:
        warnings.warn(f"{steps} steps miss the change by {gap:.0%}: take more", stacklevel=2)
    nodes = np.abs(parts.sum(axis=0))
    meta = {"name": "integrated_gradients", "sum": float(parts.sum()), "change": change, "gap": gap}
    edges = pair_relevance(nodes, edge_list(A))
    return Explanation(np.abs(parts.sum(axis=1)), nodes, edges, meta)


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
