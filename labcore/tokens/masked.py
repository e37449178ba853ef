"""Dropped must mean absent: attention that does not see dropped tokens, and real removal.

A token that is only set to zero still has a key (the bias), so softmax gives it mass, and the MLP's
bias writes into it again. Here a dropped token is left out of every sum. Two ways with equal values
for masks of 0 and 1:

- additive, for inference: the logits of dropped keys become -inf;
- multiplicative, for training: A_ij = exp(P_ij) g_j / sum_k exp(P_ik) g_k. The gradient with
  respect to g_j of a dropped token is exp(P_ij) / Z (v_j - out_i), not zero, so that its gate can
  learn that the token was needed. With -inf that gradient is dead.

:func:`pack` removes tokens for good, which is what saves time.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from labcore.blocks.gather import take_rows
from labcore.blocks.vit import Block

_HIGHEST = 30.0  # exponent at which a dropped key is capped, above the largest kept one


def multiplicative_attention(
    query: Float[Tensor, "b h m d"],
    key: Float[Tensor, "b h n d"],
    value: Float[Tensor, "b h n e"],
    mask: Float[Tensor, "b n"],
) -> Float[Tensor, "b h m e"]:
    """Attention in which key j counts ``mask_j`` times; alive gradients for mask_j = 0.

    At least one entry of each row of ``mask`` must be positive.
    """
    logits = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5
    weight = mask[:, None, None, :]
    highest = logits.detach().masked_fill(weight <= 0, -torch.inf).amax(-1, keepdim=True)
    mass = (logits - highest).clamp_max(_HIGHEST).exp() * weight
    return (mass / mass.sum(-1, keepdim=True)) @ value


def additive_attention(
    query: Float[Tensor, "b h m d"],
    key: Float[Tensor, "b h n d"],
    value: Float[Tensor, "b h n e"],
    mask: Float[Tensor, "b n"],
) -> Float[Tensor, "b h m e"]:
    """Attention that leaves out the keys with mask 0 (fused kernel; no gradient for the mask)."""
    return F.scaled_dot_product_attention(query, key, value, attn_mask=mask[:, None, None] > 0)


def masked_block(
    block: Block,
    x: Float[Tensor, "b n d"],
    mask: Float[Tensor, "b n"] | None = None,
    *,
    log_size: Float[Tensor, "b n"] | None = None,
    first_only: bool = False,
) -> Float[Tensor, "b m d"]:
    """One transformer block that reads only tokens with mask > 0.

    Args:
        block: A block of :mod:`labcore.blocks.vit`.
        x: Tokens.
        mask: 1 = there, 0 = absent; with a gradient the multiplicative form is used. None: all.
        log_size: Added to the logits of each key: how many tokens it stands for, as logarithm.
        first_only: Compute the first token's row only (the last block of a classifier).

    Raises:
        ValueError: both ``mask`` and ``log_size``.
    """
    if mask is not None and log_size is not None:
        raise ValueError("give mask or log_size, not both")
    query, key, value = block.attn.heads(block.norm1(x))
    if first_only:
        query, x = query[:, :, :1], x[:, :1]
    if mask is None:
        bias = None if log_size is None else log_size[:, None, None]
        read = F.scaled_dot_product_attention(query, key, value, attn_mask=bias)
    elif mask.requires_grad:
        read = multiplicative_attention(query, key, value, mask)
    else:
        read = additive_attention(query, key, value, mask)
    x = x + block.ls1(block.attn.proj(read.transpose(1, 2).flatten(2)))
    return x + block.ls2(block.mlp(block.norm2(x)))


@dataclass(frozen=True)
class Packed:
    """Where the kept tokens of a batch are.

    Attributes:
        index: Their places, ascending (b, n), n = the largest count; padded with place 0.
        lengths: How many each image has (b,).
    """

    index: Int[Tensor, "b n"]
    lengths: Int[Tensor, " b"]

    @property
    def valid(self) -> Bool[Tensor, "b n"]:
        """Which entries of ``index`` are no padding."""
        return torch.arange(self.index.shape[1]) < self.lengths[:, None]

    def take(self, x: Float[Tensor, "b t d"]) -> Float[Tensor, "b n d"]:
        """The kept tokens, copied together."""
        return take_rows(x, self.index)


def pack(keep: Bool[Tensor, "b t"], *, allow_empty: bool = False) -> Packed:
    """Places of the kept tokens of each image, padded to the longest (one place at least).

    Raises:
        ValueError: unless ``allow_empty``, an image without a kept token (see :func:`keep_one`).

    >>> packed = pack(torch.tensor([[False, True, True], [True, False, False]]))
    >>> packed.index.tolist(), packed.lengths.tolist()
    ([[1, 2], [0, 0]], [2, 1])
    """
    lengths = keep.sum(-1)
    if not allow_empty and not bool((lengths > 0).all()):
        empty = int((lengths == 0).nonzero()[0])
        raise ValueError(f"image {empty} keeps no token: keep its best one first (keep_one)")
    longest = max(1, int(lengths.max()))
    order = (~keep).to(torch.uint8).argsort(dim=-1, stable=True)[:, :longest]
    return Packed(torch.where(keep.gather(1, order), order, 0), lengths)


def keep_one(mask: Float[Tensor, "b t"], score: Float[Tensor, "b t"]) -> Float[Tensor, "b t"]:
    """The mask, with the best-scored token kept in images that would keep none.

    >>> keep_one(torch.zeros(1, 3), torch.tensor([[0.1, 0.3, 0.2]])).tolist()
    [[0.0, 1.0, 0.0]]
    """
    empty = (mask > 0).sum(-1, keepdim=True) == 0
    if not bool(empty.any()):
        return mask
    best = F.one_hot(score.argmax(-1), mask.shape[1]).to(mask.dtype)
    return torch.where(empty, mask + best, mask)
