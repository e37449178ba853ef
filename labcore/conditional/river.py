"""Who leaves at which head for a threshold, from the logits that a result keeps."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int

from labcore.conditional.budgets import fit_thresholds
from labcore.conditional.exits import ExitRule, exit_layers


@dataclass(frozen=True)
class River:
    """How samples flow through the heads.

    Attributes:
        leaving: Samples that leave at each head (l,).
        right: Those of them that are classified right (l,).
        accuracy: Of all samples. whole: Of the last head on all samples.
        ratio: FLOPs spent, of all blocks on all samples.
    """

    leaving: Int[np.ndarray, " l"]
    right: Int[np.ndarray, " l"]
    accuracy: float
    whole: float
    ratio: float


def river(
    logits: Float[np.ndarray, "l m c"],
    labels: Int[np.ndarray, " m"],
    threshold: float,
    *,
    kind: str = "confidence",
    temperatures: Float[np.ndarray, " l"] | None = None,
) -> River:
    """Exits of every sample under one rule; all blocks cost the same.

    Args:
        logits: Of all heads. labels: Classes.
        threshold: Of the rule. kind: Its name.
        temperatures: Divide each head's logits by these first.
    """
    return _flow(*_tensors(logits, labels, temperatures), ExitRule(kind, float(threshold)))


def budget_river(
    val_logits: Float[np.ndarray, "l v c"],
    val_labels: Int[np.ndarray, " v"],
    logits: Float[np.ndarray, "l m c"],
    labels: Int[np.ndarray, " m"],
    budget: float,
    *,
    temperatures: Float[np.ndarray, " l"] | None = None,
) -> River:
    """Exits under thresholds that were fitted to a budget on validation samples.

    Args:
        val_logits, val_labels: What the thresholds are fitted on.
        logits, labels: What is reported.
        budget: Share of the whole cost.
        temperatures: Divide each head's logits by these first.
    """
    on_val, y_val = _tensors(val_logits, val_labels, temperatures)
    heads = len(on_val)
    costs = [(i + 1) / heads for i in range(heads)]
    rule = fit_thresholds(on_val, y_val, costs, budget)
    return _flow(*_tensors(logits, labels, temperatures), rule)


def _tensors(
    logits: np.ndarray, labels: np.ndarray, temperatures: np.ndarray | None
) -> tuple[torch.Tensor, torch.Tensor]:
    values = torch.from_numpy(logits.astype(np.float32))
    if temperatures is not None:
        values = values / torch.from_numpy(temperatures.astype(np.float32))[:, None, None]
    return values, torch.from_numpy(labels.astype(np.int64))


def _flow(logits: torch.Tensor, labels: torch.Tensor, rule: ExitRule) -> River:
    heads = len(logits)
    layer = exit_layers(logits, rule)
    right = logits.argmax(-1) == labels
    hit = right.gather(0, layer[None])[0]
    return River(
        leaving=torch.bincount(layer, minlength=heads).numpy(),
        right=torch.bincount(layer[hit], minlength=heads).numpy(),
        accuracy=float(hit.float().mean()),
        whole=float(right[-1].float().mean()),
        ratio=float((layer + 1).float().mean()) / heads,
    )
