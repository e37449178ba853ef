"""Fewer tokens: top-k by class attention, learned keep decisions, mixture of depths.

Sources: Liang et al., arXiv 2202.07800 (EViT); Rao et al., arXiv 2106.02034 (DynamicViT); Raposo et
al., arXiv 2404.02258 (mixture of depths).
"""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from labcore.blocks.gather import take_rows
from labcore.blocks.vit import Attention
from labcore.conditional.cost import Cost, block_flops


def keep_count(patches: int, keep_ratio: float) -> int:
    """k = ceil(ratio · n), at least 1.

    Raises:
        ValueError: the ratio lies outside (0, 1].

    >>> keep_count(49, 0.7)
    35
    """
    if not 0 < keep_ratio <= 1:
        raise ValueError(f"keep_ratio must lie in (0, 1], got {keep_ratio}")
    return max(1, math.ceil(keep_ratio * patches - 1e-9))


def select_tokens(
    x: Float[Tensor, "b n d"], scores: Float[Tensor, "b p"], keep: int, *, fuse: bool = False
) -> tuple[Tensor, Int[Tensor, "b k"]]:
    """The class token and the ``keep`` best patches, in their order.

    Args:
        x: Tokens, the class token first, then p patches.
        scores: One score a patch, as the class token's attention.
        keep: Patches that stay.
        fuse: Add one token, the mean of the others weighted by their scores.

    Returns:
        Tokens (b, 1 + keep [+ 1], d) and places of the kept patches among the p, ascending.

    Raises:
        ValueError: ``keep`` outside 1..p, or scores that are not one a patch.
    """
    patches = scores.shape[1]
    if x.shape[1] != patches + 1:
        raise ValueError(f"{x.shape[1]} tokens need {x.shape[1] - 1} scores, got {patches}")
    if not 1 <= keep <= patches:
        raise ValueError(f"keep must lie in 1..{patches}, got {keep}")
    index = scores.topk(keep, dim=1).indices.sort(1).values
    zero = index.new_zeros(len(index), 1)
    kept = take_rows(x, torch.cat((zero, index + 1), 1))
    if not fuse or keep == patches:
        return kept, index
    rest = scores.scatter(1, index, 0.0)
    weights = rest / rest.sum(1, keepdim=True).clamp_min(torch.finfo(rest.dtype).tiny)
    fused = weights[:, None] @ x[:, 1:]
    return torch.cat((kept, fused), 1), index


def masked_attention(
    logits: Float[Tensor, "b h n n"], keep: Float[Tensor, "b n"]
) -> Float[Tensor, "b h n n"]:
    """A_ij = exp(P_ij) G_ij / sum_k exp(P_ik) G_ik with G_ij = keep_j, and G_ii = 1.

    For keep in {0, 1} this equals a mask of −inf, but a dropped token keeps a gradient: its gate
    can still learn that it was needed. Do not also zero the token, or its value is lost.

    Raises:
        ValueError: a mask that is not one entry a token.
    """
    if keep.shape != (len(logits), logits.shape[-1]):
        raise ValueError(
            f"keep has shape {tuple(keep.shape)}, {(len(logits), logits.shape[-1])} is wanted: "
            "one entry a token"
        )
    top = logits.detach().amax(-1, keepdim=True)
    own = torch.eye(keep.shape[1], dtype=keep.dtype, device=keep.device)
    gate = keep[:, None, None, :] * (1 - own) + own
    scaled = (logits - top).exp() * gate
    return scaled / scaled.sum(-1, keepdim=True).clamp_min(torch.finfo(scaled.dtype).tiny)


def attend_masked(
    attention: Attention, x: Float[Tensor, "b n d"], keep: Float[Tensor, "b n"]
) -> Float[Tensor, "b n d"]:
    """A block's attention under :func:`masked_attention`."""
    query, key, value = attention.heads(x)
    logits = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5
    read = masked_attention(logits, keep) @ value
    return attention.proj(read.transpose(1, 2).flatten(2))


class KeepPredictor(nn.Module):
    """Keep or drop, from a patch and the mean of the patches that are still there.

    Args:
        hidden_size: D.
        width: Hidden width.
        generator: For the initial weights.
    """

    def __init__(
        self, hidden_size: int, width: int = 32, *, generator: torch.Generator | None = None
    ) -> None:
        super().__init__()
        first, last = nn.Linear(2 * hidden_size, width), nn.Linear(width, 2)
        for linear in (first, last):
            nn.init.normal_(linear.weight, std=linear.in_features**-0.5, generator=generator)
            nn.init.zeros_(linear.bias)
        self.net = nn.Sequential(nn.LayerNorm(2 * hidden_size), first, nn.GELU(), last)

    def flops(self, patches: int) -> float:
        """FLOPs of judging that many patches."""
        linear = [m for m in self.net if isinstance(m, nn.Linear)]
        return 2.0 * patches * sum(m.weight.numel() for m in linear)

    def forward(
        self, patches: Float[Tensor, "b p d"], keep: Float[Tensor, "b p"]
    ) -> Float[Tensor, "b p 2"]:
        """Logits of (drop, keep)."""
        weight = keep[..., None]
        mean = (patches * weight).sum(1, keepdim=True) / weight.sum(1, keepdim=True).clamp_min(1)
        return self.net(torch.cat((patches, mean.expand_as(patches)), -1))


def keep_ratio_loss(kept: list[Tensor], targets: list[float]) -> Tensor:
    """mean over stages of (target − mean keep)², over the batch.

    Raises:
        ValueError: not one target a stage, or no stage.
    """
    if len(kept) != len(targets) or not kept:
        raise ValueError(f"{len(kept)} stages need as many targets, got {len(targets)}")
    gaps = [(rho - keep.mean()).square() for rho, keep in zip(targets, kept, strict=True)]
    return torch.stack(gaps).mean()


class MixtureOfDepths(nn.Module):
    """A router lets the C best tokens through a block; the others pass by unchanged.

    The block's *update* is multiplied by the router's weight, so that the router gets a gradient.

    Args:
        block: Tokens (b, n, d) → tokens, as a transformer block.
        hidden_size: D.
        capacity: Share of the tokens that enter the block.
        generator: For the router's initial weights.

    Raises:
        ValueError: the capacity lies outside (0, 1].
    """

    def __init__(
        self,
        block: Callable[[Tensor], Tensor],
        hidden_size: int,
        capacity: float,
        *,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        keep_count(1, capacity)
        self.block, self.capacity, self.hidden_size = block, capacity, hidden_size
        self.router = nn.Linear(hidden_size, 1, bias=False)
        nn.init.normal_(self.router.weight, std=hidden_size**-0.5, generator=generator)

    def cost(self, tokens: int, mlp_ratio: float = 4.0) -> Cost:
        """FLOPs for one sequence if the block is a transformer block, the router included."""
        ran = keep_count(tokens, self.capacity)
        router = 2.0 * tokens * self.hidden_size
        whole = block_flops(tokens, self.hidden_size, mlp_ratio)
        return Cost(router + block_flops(ran, self.hidden_size, mlp_ratio), whole)

    def forward(self, x: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
        """Tokens in, tokens out."""
        score = self.router(x)[..., 0]
        best = score.topk(keep_count(x.shape[1], self.capacity), dim=1)
        index = best.indices.sort(1).values
        chosen = take_rows(x, index)
        update = (self.block(chosen) - chosen) * score.gather(1, index).sigmoid()[..., None]
        return x.scatter_add(1, index[..., None].expand_as(update), update)
