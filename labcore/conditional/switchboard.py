"""Routing of one picture's tokens, again and again, from the router logits that a result keeps."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from labcore.conditional.routers import TopKRouter


@dataclass(frozen=True)
class Board:
    """Who goes where.

    Attributes:
        expert: Expert of each choice (t, k).
        weight: Its gate weight (t, k).
        dropped: Choices that found no place (t, k).
        load: Choices that each expert carries out (e,).
    """

    expert: Int[np.ndarray, "t k"]
    weight: Float[np.ndarray, "t k"]
    dropped: Bool[np.ndarray, "t k"]
    load: Int[np.ndarray, " e"]


def switch(
    logits: Float[np.ndarray, "t e"],
    k: int,
    *,
    noise: float = 0.0,
    capacity: float = 0.0,
    seed: int = 0,
) -> Board:
    """Top-k routing of given logits.

    Args:
        logits: Router logits of one picture's tokens.
        k: Experts a token.
        noise: Standard deviation of Gaussian noise on the logits.
        capacity: Capacity factor; 0 for no limit.
        seed: Of the noise.

    Raises:
        ValueError: k outside 1..E, or negative noise or capacity.
    """
    if noise < 0 or capacity < 0:
        raise ValueError(f"noise and capacity must be >= 0, got {noise} and {capacity}")
    values = torch.from_numpy(logits.astype(np.float32))
    generator = torch.Generator().manual_seed(seed)
    noisy = values + noise * torch.randn(values.shape, generator=generator)
    router = TopKRouter(1, values.shape[1], k, capacity_factor=capacity or None)
    with torch.no_grad():
        found = router.route(noisy)
    return Board(
        found.index.numpy(), found.weights.numpy(), found.dropped.numpy(), found.counts.numpy()
    )
