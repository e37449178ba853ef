"""A vision transformer run sparsely: which tokens go on, what that costs, and where they came from.

Selection and merging happen inside a block, between attention and MLP, as published; a learned
selector decides before a block; halting decides after it. Costs count the tokens that are really
there, predictors included; patch embedding and the last head run on every side and are left out.
"""

from dataclasses import dataclass, field
from typing import cast

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from labcore.blocks.gather import take_rows
from labcore.blocks.vit import Block, VisionTransformer
from labcore.conditional.cost import Cost, attention_flops, block_flops, mlp_flops
from labcore.conditional.estimators import gumbel_softmax, straight_through
from labcore.conditional.halting import halting_weights
from labcore.conditional.matching import Merge, bipartite_soft_matching, proportional_attention
from labcore.conditional.selection import (
    KeepPredictor,
    attend_masked,
    keep_count,
    select_tokens,
)

METHODS = ("random", "class attention", "class attention, fused", "merging")


@dataclass
class Sparse:
    """What a sparse run gives.

    Attributes:
        logits: (b, classes).
        cost: FLOPs of the blocks, a picture on average, against all blocks on all tokens.
        kept: 1 for patches that are still there at the end (b, p); of merging: all.
        source: Of merging: the group of each token at the end (b, 1 + p).
        depth: Of halting: the depth of each token (b, 1 + p).
        keeps: Of learned selection: the decisions of each stage (b, p), with their graph.
        remainder: Of halting, with its graph.
    """

    logits: Tensor
    cost: Cost
    kept: Tensor
    source: Tensor | None = None
    depth: Tensor | None = None
    keeps: list[Tensor] = field(default_factory=list)
    remainder: Tensor | None = None


def full_flops(model: VisionTransformer) -> float:
    """FLOPs of all blocks on all tokens, one picture."""
    c = model.config
    return c.depth * block_flops(1 + c.num_patches, c.hidden_size, c.mlp_ratio)


def run_reduced(
    model: VisionTransformer,
    images: Float[Tensor, "b c y x"],
    method: str,
    amount: float,
    *,
    stages: tuple[int, ...] = (1, 2),
    generator: torch.Generator | None = None,
) -> Sparse:
    """A trained network with fewer tokens, without training it again.

    Args:
        model: A ViT with a head.
        images: Pictures.
        method: One of ``METHODS``.
        amount: Share of the patches kept at each stage; of "merging": pairs merged in each block,
            as a share of the patches.
        stages: Blocks in which tokens are selected (merging merges in all but the last).
        generator: Of "random".

    Raises:
        ValueError: unknown method, or an amount that keeps nothing.
    """
    if method not in METHODS:
        raise ValueError(f"unknown method {method!r}: choose from {', '.join(METHODS)}")
    c, (b, patches) = model.config, (len(images), model.config.num_patches)
    x, size, flops = model.embed(images), None, 0.0
    place = torch.arange(patches).expand(b, -1)  # of the patches that are there; −1 when fused
    total: Merge | None = None
    for i, block in enumerate(_blocks(model)):
        attended, metric, seen = proportional_attention(block.attn, block.norm1(x), size)
        x = x + block.ls1(attended)
        flops += attention_flops(x.shape[1], c.hidden_size)
        if method == "merging" and i < c.depth - 1:
            step = bipartite_soft_matching(metric, round(amount * patches))
            x, size = step.merge(x, size)
            total = step if total is None else total.then(step)
        elif method != "merging" and i in stages:
            fuse = method.endswith("fused")
            scores = seen[:, 1:]
            if method == "random":
                scores = torch.rand(scores.shape, generator=generator)
            keep = min(keep_count(patches, amount ** (stages.index(i) + 1)), x.shape[1] - 1)
            before = x.shape[1] - 1
            x, index = select_tokens(x, scores, keep, fuse=fuse)
            place = place.gather(1, index)
            if fuse and keep < before:
                place = torch.cat((place, place.new_full((b, 1), -1)), 1)
        x = x + block.ls2(block.mlp(block.norm2(x)))
        flops += mlp_flops(x.shape[1], c.hidden_size, round(c.hidden_size * c.mlp_ratio))
    kept = torch.ones(b, patches)
    if method != "merging":
        real = torch.where(place >= 0, place, patches)
        kept = torch.zeros(b, patches + 1).scatter(1, real, 1.0)[:, :-1]
    source = None if total is None else total.source
    logits = model.head(model.norm(x[:, 0]))
    return Sparse(logits, Cost(flops, full_flops(model)), kept, source)


class LearnedSelection(nn.Module):
    """DynamicViT: a predictor before each of some blocks; once dropped, always dropped.

    Args:
        model: A ViT with a head; trained together.
        stages: Blocks before which patches are judged.
        generator: For the predictors' initial weights.
    """

    def __init__(
        self,
        model: VisionTransformer,
        stages: tuple[int, ...] = (1, 2),
        *,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.model, self.stages = model, stages
        d = model.config.hidden_size
        self.predictors = nn.ModuleList(KeepPredictor(d, generator=generator) for _ in stages)

    def masked(
        self, images: Float[Tensor, "b c y x"], generator: torch.Generator | None = None
    ) -> Sparse:
        """Training: sampled decisions in the attention's mask; every token keeps its gradient."""
        x = self.model.embed(images)
        keep, keeps = x.new_ones(len(x), x.shape[1] - 1), []
        for i, block in enumerate(_blocks(self.model)):
            if i in self.stages:
                logits = self.predictors[self.stages.index(i)](x[:, 1:], keep)
                keep = keep * gumbel_softmax(logits, hard=True, generator=generator)[..., 1]
                keeps.append(keep)
            x = masked_block(block, x, keep)
        whole = full_flops(self.model)  # a mask hides tokens, it does not save their work
        logits = self.model.head(self.model.norm(x[:, 0]))
        return Sparse(logits, Cost(whole, whole), keep, keeps=keeps)

    def packed(self, images: Float[Tensor, "b c y x"], keep_ratio: float) -> Sparse:
        """Inference: the best share of the patches at each stage, the others really gone.

        Raises:
            ValueError: the ratio lies outside (0, 1].
        """
        c, x = self.model.config, self.model.embed(images)
        patches, flops = c.num_patches, 0.0
        place = torch.arange(patches).expand(len(x), -1)
        for i, block in enumerate(_blocks(self.model)):
            if i in self.stages:
                stage = self.stages.index(i)
                here = x.new_ones(len(x), x.shape[1] - 1)
                score = self.predictors[stage](x[:, 1:], here).log_softmax(-1)[..., 1]
                x, index = select_tokens(x, score, keep_count(patches, keep_ratio ** (stage + 1)))
                place = place.gather(1, index)
                flops += cast(KeepPredictor, self.predictors[stage]).flops(here.shape[1])
            flops += block_flops(x.shape[1], c.hidden_size, c.mlp_ratio)
            x = block(x)
        kept = torch.zeros(len(x), patches).scatter(1, place, 1.0)
        logits = self.model.head(self.model.norm(x[:, 0]))
        return Sparse(logits, Cost(flops, full_flops(self.model)), kept)


class Halting(nn.Module):
    """A-ViT: every token, the class token too, halts by its own running sum of scores.

    The score reads the first feature: sigmoid(gamma · x[0] − beta). The class token's states, mixed
    by its halting weights, are the picture's feature; when it halts, the picture is done.

    Args:
        model: A ViT with a head; trained together.
        gamma, beta: Slope and offset of the score; a small beta halts early.
        eps: A token halts when its sum reaches 1 − eps.
    """

    def __init__(
        self, model: VisionTransformer, gamma: float = 2.0, beta: float = 3.0, eps: float = 0.01
    ) -> None:
        super().__init__()
        self.model, self.gamma, self.beta, self.eps = model, gamma, beta, eps

    def forward(self, images: Float[Tensor, "b c y x"], shift: float = 0.0) -> Sparse:
        """Run with masks: halted tokens are not read any more.

        Args:
            images: Pictures.
            shift: Subtracted from beta: larger values halt earlier, without training again.
        """
        x, states, scores = self.model.embed(images), [], []
        done = x.new_zeros(x.shape[:2])  # running sum of the scores
        for block in _blocks(self.model):
            alive = (done < 1 - self.eps).to(x.dtype)
            keep = straight_through(alive, (1 - done).clamp(0, 1))
            x = masked_block(block, x, keep[:, 1:])
            score = torch.sigmoid(self.gamma * x[..., 0] - self.beta + shift)
            states.append(x[:, 0])
            scores.append(score)
            done = done + score * alive
        weights, depth, remainder = halting_weights(torch.stack(scores), self.eps)
        mixed = (weights[:, :, 0, None] * torch.stack(states)).sum(0)
        kept = (depth[:, 1:] == len(scores)).to(x.dtype)
        logits = self.model.head(self.model.norm(mixed))
        cost = Cost(self._flops(depth), full_flops(self.model))
        return Sparse(logits, cost, kept, depth=depth, remainder=remainder)

    def _flops(self, depth: Tensor) -> float:
        """Of the tokens that are alive in each block, until the class token halts."""
        c, total = self.model.config, 0.0
        for level in range(1, c.depth + 1):
            alive = (depth >= level).sum(1) * (depth[:, 0] >= level)
            cost = [block_flops(n, c.hidden_size, c.mlp_ratio) for n in alive.tolist()]
            total += sum(cost) / len(cost)
        return total


def masked_block(block: Block, x: Float[Tensor, "b n d"], keep: Tensor) -> Tensor:
    """A block in which dropped patches are not read; ``keep`` (b, p) without the class token."""
    gate = F.pad(keep, (1, 0), value=1.0)
    x = x + block.ls1(attend_masked(block.attn, block.norm1(x), gate))
    return x + block.ls2(block.mlp(block.norm2(x)))


def gather_kept(x: Float[Tensor, "b n d"], kept: Tensor) -> Tensor:
    """The class token and the kept patches of pictures that keep equally many."""
    index = kept.nonzero()[:, 1].view(len(kept), -1) + 1
    return take_rows(x, torch.cat((index.new_zeros(len(index), 1), index), 1))


def _blocks(model: VisionTransformer) -> list[Block]:
    return cast("list[Block]", list(model.blocks))
