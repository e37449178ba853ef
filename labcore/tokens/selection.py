"""How the device chooses in front of a block: by a gate's threshold, by halting, or by rank."""

from dataclasses import dataclass, replace
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from labcore.blocks.vit import Block
from labcore.tokens import scorers
from labcore.tokens.gates import TokenGate, top_k
from labcore.tokens.masked import keep_one


@dataclass(frozen=True)
class Sight:
    """What may be looked at when tokens are chosen.

    Attributes:
        patches: Patch tokens as they enter the block (b, t, d).
        budget: The budget token there (b, d).
        alpha: The rate asked for (b,).
        mask: Patches that are still there (b, t).
        before: All tokens as they entered the block before (b, n, d).
        block: That block.
        halted: Sum of the halting scores so far (b, t).
    """

    patches: Float[Tensor, "b t d"]
    budget: Float[Tensor, "b d"]
    alpha: Float[Tensor, " b"]
    mask: Float[Tensor, "b t"]
    before: Float[Tensor, "b n d"]
    block: Block
    halted: Float[Tensor, "b t"]


@dataclass(frozen=True)
class Choice:
    """What was chosen.

    Attributes:
        mask: (b, t), above 0 for tokens that stay; at least one of each image.
        counted: The same as the rate loss sees it.
        score: Score of each token (b, t).
        threshold: Threshold of each image (b,); NaN where there is none.
        scale: What the published soft gate multiplies the tokens with (b, t); else None.
    """

    mask: Float[Tensor, "b t"]
    counted: Float[Tensor, "b t"]
    score: Float[Tensor, "b t"]
    threshold: Float[Tensor, " b"]
    scale: Float[Tensor, "b t"] | None = None

    def exactly(self, sight: Sight) -> "Choice":
        """ceil(alpha T) tokens of the highest scores instead; the rate loss sees what it saw."""
        return replace(self, mask=top_k(self.score, sight.alpha, sight.mask) * sight.mask)


def by_threshold(gate: TokenGate, sight: Sight, generator: torch.Generator | None = None) -> Choice:
    """A gate's own threshold decides; the rate adapts to the image."""
    out = gate(sight.patches, sight.budget, sight.mask, generator=generator)
    if gate.gate != "soft":
        kept = keep_one(out.mask, out.score.detach())
        return Choice(kept, out.counted, out.score, out.threshold)
    kept = keep_one(out.keep.to(out.mask.dtype), out.score.detach())
    forced = (kept > 0) & ~out.keep  # the one token of an image that would send none stays whole
    scale = torch.where(forced, 1.0, out.mask)
    return Choice(kept, out.counted, out.score, out.threshold, scale)


def by_halting(sight: Sight) -> Choice:
    """A-ViT: a token stops once its halting scores add up to 1 - epsilon.

    The gradient of the remainder 1 - sum stands in for the step's.
    """
    left = 1 - sight.halted
    going = (left > scorers.HALT_EPSILON).to(left.dtype)
    kept = keep_one((left + (going - left).detach()) * sight.mask, left.detach())
    return Choice(kept, kept, left, torch.full_like(sight.alpha, torch.nan))


def by_rank(
    scorer: str, gate: nn.Module | None, sight: Sight, generator: torch.Generator | None = None
) -> Choice:
    """Exactly ceil(alpha T) tokens with the highest scores."""
    score = _scores(scorer, gate, sight, generator)
    kept = top_k(score, sight.alpha, sight.mask) * sight.mask
    return Choice(kept, kept, score, torch.full_like(sight.alpha, torch.nan))


def nothing(sight: Sight) -> Choice:
    """No patch at all: what the class token can say alone."""
    none = torch.zeros_like(sight.mask)
    return Choice(none, none, none, torch.full_like(sight.alpha, torch.nan))


def _scores(
    scorer: str, gate: nn.Module | None, sight: Sight, generator: torch.Generator | None
) -> Float[Tensor, "b t"]:
    if scorer == "gate":
        return cast(TokenGate, gate).scores(sight.patches)
    if scorer == "predictor":
        return torch.sigmoid(cast(scorers.TokenPredictor, gate)(sight.patches, sight.mask))
    if scorer == "random":
        return scorers.random_selection(sight.patches, generator)
    if scorer == "magnitude":
        return scorers.magnitude_selection(sight.patches)
    if scorer == "class_attention":
        t = sight.patches.shape[1]
        return scorers.class_attention_selection(sight.block, sight.before, t)
    return 1 - sight.halted
