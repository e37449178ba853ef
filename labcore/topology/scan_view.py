"""How a Mamba block reads a sequence: its hidden attention, and which direction learns."""

from typing import Any

import numpy as np
import torch

from labcore.blocks.mamba import Bidirectional, MambaBlock

DIRECTIONS = ("forward", "backward", "both", "as published")


def hidden_attention(tokens: np.ndarray, *, scale: float, mode: str, seed: int = 0) -> np.ndarray:
    """Hidden attention of a fresh Mamba block on one sequence, mean size over channels, (t, t).

    ``M[t, s] = C_t (prod of exp(delta A) from s + 1 to t) delta_s B_s``.

    Args:
        tokens: (t, d).
        scale: Multiplies every step: large steps forget more.
        mode: ``forward``, ``backward``, ``both`` or ``as published``.
        seed: Of the block's weights.

    Raises:
        ValueError: unknown mode.
    """
    if mode not in DIRECTIONS:
        raise ValueError(f"mode must be one of {', '.join(DIRECTIONS)}, got {mode!r}")
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        ahead, back = MambaBlock(tokens.shape[1]), MambaBlock(tokens.shape[1])
        x = torch.nn.functional.layer_norm(torch.from_numpy(tokens), tokens.shape[1:])
        forward = mixing(ahead, x, scale)
        if mode == "forward":
            return forward.abs().mean(-1).numpy()
        if mode == "as published":
            return (forward + forward.flip(0)).abs().mean(-1).numpy()
        other = mixing(back, x.flip(0), scale).flip(0, 1)
        return (other if mode == "backward" else forward + other).abs().mean(-1).numpy()


def mixing(block: MambaBlock, x: torch.Tensor, scale: float = 1.0) -> torch.Tensor:
    """The scan of a block as lower-triangular matrices, (t, s, channels), for x (t, d)."""
    _, delta, write, read = (part[0] for part in block.inner(x[None]))
    delta = delta * scale
    rates = -torch.exp(block.A_log)
    reach = torch.cumsum(delta[..., None] * rates, 0)  # (t, e, n)
    t = len(x)
    out = torch.zeros(t, t, delta.shape[1])
    for i in range(t):
        for j in range(i + 1):
            decay = torch.exp(reach[i] - reach[j])
            out[i, j] = (read[i] * decay * write[j]).sum(-1) * delta[j]
    return out


def branch_gradients(mode: str, *, width: int = 16, seed: int = 0) -> dict[str, float]:
    """Size of the gradient that each direction of a bidirectional layer gets, on one batch."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        pair = Bidirectional(MambaBlock(width), MambaBlock(width), mode)
        x, target = torch.randn(64, 4, width), torch.randn(64, width)
        (pair(x).sum(1) - target).square().mean().backward()
    blocks: dict[str, Any] = {"forward": pair.forward_block, "backward": pair.backward_block}
    return {
        name: float(sum(p.grad.square().sum() for p in block.parameters()) ** 0.5)
        for name, block in blocks.items()
    }
