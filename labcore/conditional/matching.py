"""Token merging by bipartite soft matching (Bolya et al., arXiv 2210.09461).

Tokens are split alternately into A and B; every token of A finds its most similar token of B; the
r best pairs become one token each, a mean weighted by how many tokens they already stand for. One
integer a token, ``source``, says where it went: merging adds rows up by it, unmerging reads by it.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from labcore.blocks.gather import take_rows
from labcore.blocks.vit import Attention


@dataclass(frozen=True)
class Merge:
    """Which tokens become one.

    Attributes:
        source: For each token, the place of the token that it becomes part of (b, n).
        count: Number of tokens afterwards.
    """

    source: Int[Tensor, "b n"]
    count: int

    def merge(self, x: Float[Tensor, "b n d"], size: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Merged tokens (b, m, d) and how many original tokens each stands for (b, m, 1).

        Args:
            x: Tokens. size: Their sizes (b, n, 1), ones by default.
        """
        if size is None:
            size = x.new_ones(*x.shape[:2], 1)
        total = self._sum(size)
        return self._sum(x * size) / total, total

    def unmerge(self, y: Float[Tensor, "b m d"]) -> Float[Tensor, "b n d"]:
        """Each original place gets the token that it became part of."""
        return take_rows(y, self.source)

    def then(self, later: "Merge") -> "Merge":
        """This merge followed by another, as one."""
        return Merge(later.source.gather(1, self.source), later.count)

    def _sum(self, x: Tensor) -> Tensor:
        b, n, d = x.shape
        offset = torch.arange(b, device=x.device)[:, None] * self.count
        flat = x.new_zeros(b * self.count, d)
        flat = flat.index_add(0, (self.source + offset).reshape(-1), x.reshape(b * n, d))
        return flat.view(b, self.count, d)


def bipartite_soft_matching(
    metric: Float[Tensor, "b n d"], r: int, num_prefix_tokens: int = 1
) -> Merge:
    """Match the r most similar pairs.

    Args:
        metric: What similarity is measured on: keys averaged over heads.
        r: Pairs to merge; at most all tokens of A (half of the tokens) are.
        num_prefix_tokens: First tokens that are never merged, as the class token.

    Returns:
        The merge; kept tokens of A come first, in their order, then all of B.

    Raises:
        ValueError: r < 0, or more prefix tokens than tokens.
    """
    b, n, _ = metric.shape
    if r < 0:
        raise ValueError(f"r must be at least 0, got {r}")
    if not 0 <= num_prefix_tokens <= n:
        raise ValueError(f"num_prefix_tokens must lie in 0..{n}, got {num_prefix_tokens}")
    free = len(range(0, n, 2)) - (num_prefix_tokens + 1) // 2  # tokens of A that may go
    partners = n // 2 - num_prefix_tokens // 2
    r = min(r, free) if partners > 0 else 0
    places = torch.arange(n, device=metric.device)
    if r == 0:
        return Merge(places.expand(b, -1), n)
    with torch.no_grad():
        unit = F.normalize(metric, dim=-1)
        scores = unit[:, ::2] @ unit[:, 1::2].transpose(1, 2)
        if num_prefix_tokens:
            scores[:, : (num_prefix_tokens + 1) // 2] = -torch.inf
            scores[:, :, : num_prefix_tokens // 2] = -torch.inf
        best, partner = scores.max(-1)  # (b, |A|)
        gone = best.topk(r, dim=-1).indices
        size_a = best.shape[1]
        stays = torch.ones_like(best, dtype=torch.bool).scatter_(1, gone, False)
        left = size_a - r
        target = torch.where(stays, stays.cumsum(1) - 1, partner + left)
        source = metric.new_empty(b, n, dtype=torch.long)
        source[:, ::2] = target
        source[:, 1::2] = places[: n // 2] + left
    return Merge(source, n - r)


def proportional_attention(
    attention: Attention, x: Float[Tensor, "b n d"], size: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Attention in which a token that stands for s others counts s times: + log s on its logit.

    Args:
        attention: A block's attention. x: Its (normalised) input. size: Sizes (b, n, 1).

    Returns:
        Output (b, n, d), metric for the matching (b, n, d_head), class token's attention (b, n).
    """
    query, key, value = attention.heads(x)
    logits = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5
    if size is not None:
        logits = logits + size.log()[:, None, None, :, 0]
    weights = logits.softmax(-1)
    out = attention.proj((weights @ value).transpose(1, 2).flatten(2))
    return out, key.mean(1), weights[:, :, 0].mean(1)
