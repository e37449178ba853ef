"""One picture through the layers: how far each moves the class token, which patches survive."""

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from labcore.blocks.cost import keep_count
from labcore.blocks.gather import best_tokens
from labcore.finetuning.budgets import class_token_delta
from labcore.finetuning.layers import patch_scores, run_block
from labcore.finetuning.trunk import find_trunk


@torch.no_grad()
def delta_profile(
    model: nn.Module, images: Float[Tensor, "b c y x"]
) -> dict[str, Float[np.ndarray, " l"]]:
    """Mean delta of every layer on all tokens, ``absolute`` and ``relative``."""
    trunk = find_trunk(model)
    found: dict[str, list[float]] = {"absolute": [], "relative": []}

    def run(x: Tensor) -> Tensor:
        for view in trunk.views:
            out = view.block(x)
            for name, values in found.items():
                relative = name == "relative"
                values.append(class_token_delta(x[:, 0], out[:, 0], relative=relative).item())
            x = out
        return x

    with trunk.running(run):
        model(images)
    return {name: np.array(values, np.float32) for name, values in found.items()}


@torch.no_grad()
def survivors(
    model: nn.Module, images: Float[Tensor, "1 c y x"], budget: float
) -> Bool[np.ndarray, "l p"]:
    """Patches that are still there after each layer when every layer keeps the same share.

    In training the last layer drops nothing; here its choice is shown too.

    Raises:
        ValueError: a budget outside (0, 1].
    """
    if not 0 < budget <= 1:
        raise ValueError(f"budget must be in (0, 1], got {budget}")
    trunk = find_trunk(model)
    prefix = trunk.num_prefix_tokens
    rows: list[np.ndarray] = []

    def run(x: Tensor) -> Tensor:
        first = x.shape[1] - prefix
        here = torch.arange(first)
        for view in trunk.views:
            patches = x.shape[1] - prefix
            keep = keep_count(budget, patches)
            query, key, _ = view.project(view.norm1(x))
            scores = patch_scores(view, query, key, "class", prefix)
            x = run_block(view, x, keep, prefix=prefix).tokens
            here = here[best_tokens(scores, keep)[0]]
            rows.append(np.isin(np.arange(first), here.numpy()))
        return x[:, :prefix]

    with trunk.running(run):
        model(images)
    return np.stack(rows)
