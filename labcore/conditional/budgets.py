"""Thresholds that meet a budget, and curves of accuracy over cost, for rules and the oracle.

All of them read the logits of every head, (heads, samples, classes). Budgets are fitted on
validation samples and reported on others (Huang et al., arXiv 1703.09844).
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from labcore.conditional.exits import ExitRule, exit_layers, sureness


def fit_thresholds(
    logits: Float[Tensor, "l m c"],
    y: Int[Tensor, " m"],
    costs: Sequence[float],
    budget: float,
    *,
    kind: str = "confidence",
) -> ExitRule:
    """Thresholds whose expected cost on *validation* samples meets a budget (MSDNet).

    The share that leaves at head l is taken proportional to q^l; one number q decides the cost, and
    is found by bisection; each threshold then lets that share of the remaining samples go.

    Args:
        logits: All heads on validation samples, calibrated if the rule will be.
        y: Their classes; only their number is looked at.
        costs: Cost of leaving at each head, increasing.
        budget: Mean cost a sample.
        kind: "confidence", "margin" or "entropy".

    Raises:
        ValueError: no samples, sizes that differ, or a budget below the first exit's cost.
    """
    heads, samples = logits.shape[:2]
    if not samples:
        raise ValueError("no validation samples: thresholds cannot be fitted on an empty set")
    _check(logits, y, costs)
    if not budget >= costs[0]:
        raise ValueError(
            f"budget {budget:g} is below the first exit's cost {costs[0]:g}: nothing can be met"
        )
    price = np.asarray(costs, dtype=np.float64)
    low, high = -20.0, 20.0  # log q
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if _shares(middle, heads) @ price <= budget else (low, middle)
    share = _shares(low, heads)
    thresholds, here = [], torch.arange(samples)
    for i in range(heads - 1):
        sure = sureness(logits[i, here], kind)
        leave = min(round(float(share[i]) * samples), len(here))
        ordered = sure.sort(descending=True).values
        limit = float(ordered[leave - 1]) if leave else math.inf
        here = here[sure < limit]
        thresholds.append(-limit if kind == "entropy" else limit)
    last = math.inf if kind == "entropy" else -math.inf
    return ExitRule(kind, (*thresholds, last))


def _check(logits: Tensor, y: Tensor, costs: Sequence[float]) -> None:
    """Raise ``ValueError`` unless there are samples, a class for each and a cost for each head."""
    heads, samples = logits.shape[:2]
    if not samples or len(y) != samples or len(costs) != heads:
        raise ValueError(
            f"{heads} heads and {samples} samples, but {len(costs)} costs and {len(y)} classes: "
            "give at least one sample, a class for each, and a cost for each head"
        )


def _shares(log_q: float, heads: int) -> np.ndarray:
    power = log_q * np.arange(heads)
    weights = np.exp(power - power.max())
    return weights / weights.sum()


def cost_accuracy_curve(
    logits: Float[Tensor, "l m c"],
    y: Int[Tensor, " m"],
    costs: Sequence[float],
    kind: str = "confidence",
    thresholds: Sequence[float] = tuple(np.linspace(0, 1, 21).tolist()),
) -> list[dict[str, Any]]:
    """Accuracy and mean cost of a rule over its thresholds.

    Returns:
        Rows with threshold, accuracy, cost, ratio (of the last exit's cost) and mean layers.

    Raises:
        ValueError: no samples, or sizes that differ.
    """
    _check(logits, y, costs)
    price = torch.as_tensor(list(costs), dtype=torch.float64)
    right = logits.argmax(-1) == y  # (l, m)
    rows = []
    for threshold in thresholds:
        layer = exit_layers(logits, ExitRule(kind, float(threshold)))
        cost = float(price[layer].mean())
        rows.append(
            {
                "rule": kind,
                "threshold": float(threshold),
                "accuracy": float(right.gather(0, layer[None])[0].float().mean()),
                "cost": cost,
                "ratio": cost / float(price[-1]),
                "layers": float(layer.float().mean()) + 1,
            }
        )
    return rows


def oracle_layers(logits: Float[Tensor, "l m c"], y: Int[Tensor, " m"]) -> Int[Tensor, " m"]:
    """The first head that is right, the very first where none is: the best any rule can do."""
    right = logits.argmax(-1) == y
    first = right.int().argmax(0)
    return torch.where(right.any(0), first, 0)


def oracle_curve(
    logits: Float[Tensor, "l m c"], y: Int[Tensor, " m"], costs: Sequence[float]
) -> list[dict[str, Any]]:
    """The oracle that may use the first l heads, for l = 1..L.

    Raises:
        ValueError: no samples, or sizes that differ.
    """
    _check(logits, y, costs)
    price = torch.as_tensor(list(costs), dtype=torch.float64)
    rows = []
    for heads in range(1, len(logits) + 1):
        layer = oracle_layers(logits[:heads], y)
        right = (logits[:heads].argmax(-1) == y).any(0)
        cost = float(price[layer].mean())
        rows.append(
            {
                "heads": heads,
                "accuracy": float(right.float().mean()),
                "cost": cost,
                "ratio": cost / float(price[-1]),
                "layers": float(layer.float().mean()) + 1,
            }
        )
    return rows
