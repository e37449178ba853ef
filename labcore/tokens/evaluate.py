"""Accuracy, spent rate and precision of a model, for every budget and SNR."""

from collections.abc import Sequence
from typing import Any

import torch

from labcore.runs import Table
from labcore.tokens.data import Canvases
from labcore.tokens.link import flops
from labcore.tokens.model import SemanticViT
from labcore.tokens.training import batches

BATCH = 250


@torch.no_grad()
def evaluate_cell(
    model: SemanticViT, data: Canvases, budget: float, snr_db: float | None, seed: int = 0
) -> dict[str, Any]:
    """One row: what ``model`` does on ``data`` when asked for ``budget`` over a channel.

    Precision is the share of kept tokens that hold ink of the digit, recall the share of those
    tokens that are kept; NaN where tokens are merged.

    Args:
        model: The model, in evaluation mode.
        data: Canvases.
        budget: Rate asked for.
        snr_db: Decibels, None for no noise.
        seed: Noise and random selections.
    """
    generator = torch.Generator().manual_seed(seed)
    right, kept, hit, rates = 0, 0, 0, []
    for rows in batches(len(data), BATCH):
        part = data.take(rows)
        out = model.pack_forward(part.images, budget, snr_db, generator=generator)
        right += int((out.logits.argmax(-1) == part.labels).sum())
        kept += int(out.keep.sum())
        hit += int((out.keep & part.digit).sum())
        rates.append(out.rates)
    rate = float(torch.cat(rates).mean())
    tokens = rate * model.patches
    sent = min(tokens, model.patches)
    counted = kept > 0 and model.__class__ is SemanticViT
    symbols = 0 if model.coder is None else model.coder.num_symbols
    return {
        "budget": budget,
        "snr_db": float("inf") if snr_db is None else snr_db,
        "rate": rate,
        "accuracy": right / len(data),
        "precision": hit / kept if counted else float("nan"),
        "recall": hit / int(data.digit.sum()) if counted else float("nan"),
        "flops": sum(flops(model.backbone.config, model.split, sent)),
        "channel_uses": symbols * tokens,
        "images": len(data),
    }


def evaluate_curve(
    model: SemanticViT,
    data: Canvases,
    budgets: Sequence[float],
    snrs: Sequence[float | None] = (None,),
    seeds: Sequence[int] = (0,),
    *,
    method: str = "",
) -> Table:
    """A long table: one row a budget, SNR and seed (of noise and random selection).

    Raises:
        ValueError: no budget, SNR or seed.
    """
    if not (len(budgets) and len(snrs) and len(seeds)):
        raise ValueError("give at least one budget, one SNR and one seed")
    return [
        {"method": method, "seed": seed, **evaluate_cell(model, data, budget, snr, seed)}
        for seed in seeds
        for snr in snrs
        for budget in budgets
    ]
