"""What selection by a gate is compared with: other ways to rank, fuse and merge tokens.

Each scorer gives one number a token, larger is kept first. Random and magnitude need no training;
class attention is that of EViT (Liang et al., 2202.07800), :class:`TokenPredictor` that of
DynamicViT (Rao et al., 2106.02034), :func:`halting_scores` that of A-ViT (Yin et al., 2112.07658),
:func:`token_merging` is ToMe (Bolya et al., 2210.09461).
"""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from labcore.blocks.class_attention import class_attention
from labcore.blocks.vit import Block

HALT_SCALE, HALT_EPSILON = 5.0, 0.01  # A-ViT's
HALT_SHIFT = -3.0  # A-ViT trains 100 epochs from -10, where the gradient is 2e-4: dead in our few


def random_selection(
    tokens: Float[Tensor, "b t d"], generator: torch.Generator | None = None
) -> Float[Tensor, "b t"]:
    """Scores drawn by lot."""
    return torch.rand(tokens.shape[:2], generator=generator, dtype=tokens.dtype)


def magnitude_selection(tokens: Float[Tensor, "b t d"]) -> Float[Tensor, "b t"]:
    """The length of each token's vector."""
    return tokens.norm(dim=-1)


def class_attention_selection(
    block: Block, before: Float[Tensor, "b n d"], patches: int
) -> Float[Tensor, "b t"]:
    """What the class token of the device reads from each patch in a block, averaged over heads.

    Args:
        block: The block.
        before: The tokens that enter it: class token, patches, then others.
        patches: How many patches there are.
    """
    query, key, _ = block.attn.heads(block.norm1(before))
    return class_attention(query, key[:, :, : 1 + patches])


def fuse_rest(
    tokens: Float[Tensor, "b t d"], keep: Bool[Tensor, "b t"], scores: Float[Tensor, "b t"]
) -> tuple[Float[Tensor, "b 1 d"], Bool[Tensor, "b 1"]]:
    """EViT's extra token: the dropped tokens, averaged with their scores as weights.

    Returns:
        The token, and whether there was anything to fuse.
    """
    weight = scores * ~keep
    total = weight.sum(-1, keepdim=True)
    mean = (weight[..., None] * tokens).sum(1) / total.clamp_min(1e-12)
    return mean[:, None], (~keep).any(-1, keepdim=True)


class TokenPredictor(nn.Module):
    """DynamicViT's predictor: half of the features local, half averaged over the kept tokens.

    Args:
        hidden_size: Width of the tokens, even.
        generator: Draws the start.
    """

    def __init__(self, hidden_size: int, *, generator: torch.Generator | None = None) -> None:
        super().__init__()
        half, quarter = hidden_size // 2, hidden_size // 4
        self.norm = nn.LayerNorm(hidden_size)
        self.enter = nn.Linear(hidden_size, hidden_size)
        self.middle, self.narrow = nn.Linear(hidden_size, half), nn.Linear(half, quarter)
        self.leave = nn.Linear(quarter, 2)
        for layer in (self.enter, self.middle, self.narrow, self.leave):
            nn.init.trunc_normal_(layer.weight, std=layer.in_features**-0.5, generator=generator)
            nn.init.zeros_(layer.bias)

    def forward(
        self, tokens: Float[Tensor, "b t d"], keep: Float[Tensor, "b t"] | None = None
    ) -> Float[Tensor, "b t"]:
        """Log-odds of keeping each token."""
        local, whole = F.gelu(self.enter(self.norm(tokens))).chunk(2, dim=-1)
        there = torch.ones_like(whole[..., 0]) if keep is None else keep
        share = there / there.sum(-1, keepdim=True).clamp_min(1e-6)
        whole = (whole * share[..., None]).sum(1, keepdim=True).expand_as(local)
        hidden = F.gelu(self.middle(torch.cat((local, whole), dim=-1)))
        keep_logit, drop_logit = self.leave(F.gelu(self.narrow(hidden))).unbind(-1)
        return keep_logit - drop_logit


def halting_scores(
    tokens: Float[Tensor, "b t d"], scale: float = HALT_SCALE, shift: float = HALT_SHIFT
) -> Float[Tensor, "b t"]:
    """A-ViT's halting score: a sigmoid of the token's *first feature*.

    >>> halting_scores(torch.tensor([[[0.6, 9.0], [9.0, 0.0]]])).tolist()
    [[0.5, 1.0]]
    """
    return torch.sigmoid(scale * tokens[..., 0] + shift)


def a_vit_halting(
    scores: Float[Tensor, "l b t"], epsilon: float = HALT_EPSILON
) -> tuple[Bool[Tensor, "l b t"], Float[Tensor, " b"]]:
    """A-ViT's halting over layers: a token stops once its scores add up to 1 - epsilon.

    Args:
        scores: Halting scores after each layer.
        epsilon: How much may be missing from 1.

    Returns:
        Which tokens go on after each layer (l, b, t), and the ponder cost (b,): mean over tokens of
        the layers passed plus the remainder 1 - (sum before the stop).

    Raises:
        ValueError: no layer.
    """
    if not len(scores):
        raise ValueError("no layer: give at least one row of halting scores")
    total = scores.cumsum(0)
    going = total < 1 - epsilon
    before = torch.cat((torch.zeros_like(total[:1]), total[:-1]))
    passed = going.sum(0).clamp_max(len(scores) - 1)  # index of the layer that stops it
    remainder = 1 - before.gather(0, passed[None])[0]
    return going, (passed + 1 + remainder).mean(-1)


def token_merging(
    tokens: Float[Tensor, "b t d"],
    metric: Float[Tensor, "b t c"],
    size: Float[Tensor, "b t"],
    count: int,
) -> tuple[Float[Tensor, "b m d"], Float[Tensor, "b m c"], Float[Tensor, "b m"]]:
    """One round of ToMe: the ``count`` most similar pairs of even and odd tokens become one.

    Even-numbered tokens each look for the odd-numbered one with the largest cosine similarity; the
    best ``count`` of these edges are merged, as means weighted by ``size``.

    Args:
        tokens: What is merged.
        metric: What is compared (keys, in the paper).
        size: How many patches each token stands for.
        count: Pairs to merge, at most half of the tokens.

    Returns:
        Tokens, metric and sizes after merging: the even tokens that stay (most similar last), then
        the odd ones.

    Raises:
        ValueError: more pairs than there are even tokens or none to merge with.
    """
    even = (tokens.shape[1] + 1) // 2
    if not 0 <= count <= tokens.shape[1] // 2:
        raise ValueError(f"count={count}: of {tokens.shape[1]} tokens at most half can be merged")
    if count == 0:
        return tokens, metric, size
    unit = F.normalize(metric, dim=-1)
    best, partner = (unit[:, ::2] @ unit[:, 1::2].transpose(-1, -2)).max(-1)
    order = best.argsort(dim=-1, descending=True, stable=True)
    gone, stay = order[:, :count], order[:, count:even]
    target = partner.gather(1, gone)

    def merge(x: Float[Tensor, "b t e"]) -> Float[Tensor, "b m e"]:
        wide = (-1, -1, x.shape[-1])
        moved = x[:, ::2].gather(1, gone[..., None].expand(*wide))
        rest = x[:, ::2].gather(1, stay[..., None].expand(*wide))
        return torch.cat(
            (rest, x[:, 1::2].scatter_add(1, target[..., None].expand(*wide), moved)), 1
        )

    sizes = merge(size[..., None])
    return (
        merge(tokens * size[..., None]) / sizes,
        merge(metric * size[..., None]) / sizes,
        sizes[..., 0],
    )


def merge_to(
    tokens: Float[Tensor, "b t d"], metric: Float[Tensor, "b t c"], target: int
) -> tuple[Float[Tensor, "b m d"], Float[Tensor, "b m"]]:
    """Rounds of :func:`token_merging` until ``target`` tokens are left; tokens and their sizes.

    Raises:
        ValueError: ``target`` outside 1..t.
    """
    t = tokens.shape[1]
    if not 1 <= target <= t:
        raise ValueError(f"target={target} must lie in 1..{t}, the number of tokens")
    size = torch.ones(tokens.shape[:2], dtype=tokens.dtype)
    while tokens.shape[1] > target:
        count = min(tokens.shape[1] // 2, tokens.shape[1] - target)
        tokens, metric, size = token_merging(tokens, metric, size, count)
    return tokens, size
