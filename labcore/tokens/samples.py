"""What pictures need of one trained gate: rates per image, scores of digit and clutter tokens."""

from collections.abc import Sequence

import numpy as np
import torch

from labcore.tokens.data import Canvases
from labcore.tokens.model import SemanticViT
from labcore.tokens.training import batches

EXAMPLES, SCORED = 24, 200


@torch.no_grad()
def close_up(model: SemanticViT, data: Canvases, budgets: Sequence[float]) -> dict[str, np.ndarray]:
    """Arrays of a gate.

    Returns:
        ``spent`` (budgets, images), float16; ``scores`` (budgets, 200, 49), ``thresholds``
        (budgets, 200), ``kinds`` (200, 49): 0 blank, 1 clutter, 2 digit; ``examples`` (24, 49, 49)
        of bytes with ``example_labels``.
    """
    spent, scores, thresholds = [], [], []
    few = data.take(slice(SCORED))
    for budget in budgets:
        chosen = [model.device(data.take(rows).images, budget) for rows in batches(len(data), 250)]
        spent.append(torch.cat([model.rates(part.mask) for part in chosen]))
        seen = model.device(few.images, budget)
        scores.append(seen.score)
        thresholds.append(seen.threshold)
    kinds = few.clutter.to(torch.uint8) + 2 * few.digit.to(torch.uint8)
    return {
        "spent": torch.stack(spent).numpy().astype(np.float16),
        "scores": torch.stack(scores).numpy().astype(np.float16),
        "thresholds": torch.stack(thresholds).numpy().astype(np.float32),
        "kinds": kinds.numpy(),
        "examples": (data.images[:EXAMPLES, 0] * 255).byte().numpy(),
        "example_labels": data.labels[:EXAMPLES].numpy(),
    }
