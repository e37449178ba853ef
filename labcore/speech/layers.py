"""Attention as the encoders and adapters of this topic use it: batched, with padding masked."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F


def padding_mask(lengths: Tensor, t: int) -> Bool[Tensor, "b t"]:
    """True where a row of a padded batch holds something.

    >>> padding_mask(torch.tensor([1, 3]), 3).int().tolist()
    [[1, 0, 0], [1, 1, 1]]
    """
    return torch.arange(t, device=lengths.device) < lengths[:, None]


class MultiHead(nn.Module):
    """Multi-head attention; queries from ``x``, keys and values from ``other`` (or ``x``)."""

    def __init__(self, dim: int, heads: int):
        super().__init__()
        if dim % heads:
            raise ValueError(f"{heads} heads do not divide the width {dim}: choose a divisor")
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)

    def forward(
        self,
        x: Float[Tensor, "b n d"],
        other: Float[Tensor, "b t d"] | None = None,
        *,
        mask: Bool[Tensor, "b t"] | None = None,
        causal: bool = False,
    ) -> Float[Tensor, "b n d"]:
        """Attend; ``mask`` is True for keys that may be read."""
        if other is None:
            q, k, v = self.qkv(x).chunk(3, dim=-1)
        else:
            dim = x.shape[-1]
            weight, bias = self.qkv.weight, self.qkv.bias
            q = F.linear(x, weight[:dim], bias[:dim])
            k, v = F.linear(other, weight[dim:], bias[dim:]).chunk(2, dim=-1)
        q, k, v = (self._split(part) for part in (q, k, v))
        allowed = None if mask is None else mask[:, None, None, :]
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=allowed, is_causal=causal)
        return self.out(mixed.transpose(1, 2).flatten(2))

    def weights(
        self, x: Float[Tensor, "b n d"], other: Float[Tensor, "b t d"], mask: Bool[Tensor, "b t"]
    ) -> Float[Tensor, "b n t"]:
        """The attention weights of queries ``x`` on ``other``, averaged over heads."""
        dim = x.shape[-1]
        q = self._split(F.linear(x, self.qkv.weight[:dim], self.qkv.bias[:dim]))
        rows = slice(dim, 2 * dim)
        k = self._split(F.linear(other, self.qkv.weight[rows], self.qkv.bias[rows]))
        scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
        scores = scores.masked_fill(~mask[:, None, None, :], -torch.inf)
        return scores.softmax(dim=-1).mean(dim=1)

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)
