"""Training: the network that all methods start from, and the fine-tuning that all methods share.

The base network learns digits first (no clutter, the blank patches left out, which is cheap), then
cluttered canvases. Every method then starts from the same base and sees equally many canvases,
drawn on the fly, with a budget of its own for each image and a new SNR for each batch.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from labcore.blocks.gather import take_rows
from labcore.blocks.vit import Block, VisionTransformer, ViTConfig
from labcore.runs import Progress, silent
from labcore.tokens.data import SIZE, Pool
from labcore.tokens.gates import rate_loss
from labcore.tokens.masked import masked_block
from labcore.tokens.merging import MergingViT
from labcore.tokens.model import SemanticViT

VIT = ViTConfig(image_size=SIZE, patch_size=7, hidden_size=64, depth=4, num_heads=4, num_classes=10)
_GATING = ("gates.", "budget_token.")


@dataclass(frozen=True)
class BaseTraining:
    """Steps of the base network: digits alone, then canvases."""

    digit_steps: int = 500
    canvas_steps: int = 1000
    batch: int = 128
    learning_rate: float = 2e-3


@dataclass(frozen=True)
class Tuning:
    """Fine-tuning of one method.

    Attributes:
        steps: Batches.
        batch: Images a batch.
        learning_rate: Of the network.
        score_factor: What scores every token learns so many times as fast.
        threshold_factor: Thresholds and budget token learn so many times as fast.
        frozen: Share of the steps in which blocks and coder rest: scores are learned while the
            network still reads digits; together from the start, blank tokens learn to carry the
            answer before anything has been chosen.
        exact: Scores learn from exactly ceil(alpha T) tokens, thresholds from the rate loss alone;
            else the threshold's own choice is sent.
        rate_weight: lambda, weight of the rate loss (thresholds only).
        budgets: Lowest and highest budget, drawn uniformly for each image.
        snr_db: Lowest and highest SNR, drawn uniformly for each batch.
        one_sided: Punish overspending only.
    """

    steps: int = 300
    batch: int = 64
    learning_rate: float = 1e-3
    score_factor: float = 3.0
    threshold_factor: float = 10.0
    frozen: float = 0.0
    exact: bool = False
    rate_weight: float = 20.0
    budgets: tuple[float, float] = (0.05, 1.0)
    snr_db: tuple[float, float] = (0.0, 20.0)
    one_sided: bool = False


def class_logits(model: VisionTransformer, tokens: Float[Tensor, "b n d"]) -> Float[Tensor, "b c"]:
    """Logits from embedded tokens; the last block computes the class token's row only."""
    for block in model.blocks[:-1]:
        tokens = block(tokens)
    last = masked_block(cast(Block, model.blocks[-1]), tokens, first_only=True)
    return model.head(model.norm(last[:, 0]))


def train_base(
    pool: Pool, settings: BaseTraining, seed: int, progress: Progress = silent
) -> VisionTransformer:
    """The network before any selection, about 0.14 million parameters."""
    generator = torch.Generator().manual_seed(seed)
    model = VisionTransformer(VIT, generator=generator)
    steps = settings.digit_steps + settings.canvas_steps
    schedule = _Optimiser(model, settings.learning_rate, steps)
    for step in range(steps):
        if step < settings.digit_steps:
            drawn = pool.canvases(settings.batch, generator, fragments=0)
            places = drawn.digit.float().topk(16, dim=-1).indices.sort(dim=-1).values + 1
            first = torch.zeros(len(places), 1, dtype=torch.long)
            tokens = take_rows(model.embed(drawn.images), torch.cat((first, places), dim=1))
        else:
            drawn = pool.canvases(settings.batch, generator)
            tokens = model.embed(drawn.images)
        schedule.step(F.cross_entropy(class_logits(model, tokens), drawn.labels), step)
        progress(step + 1, steps, "base network")
    return model.eval()


def fine_tune(
    model: SemanticViT | MergingViT,
    pool: Pool,
    settings: Tuning,
    seed: int,
    progress: Progress = silent,
) -> SemanticViT | MergingViT:
    """Train device, channel coder and server together; the model is changed and returned.

    The loss is cross entropy, plus lambda times the rate loss where a threshold decides.
    """
    generator = torch.Generator().manual_seed(seed)
    merging = isinstance(model, MergingViT)
    thresholded = not merging and model.select == "threshold"
    if model.coder is not None:
        with torch.no_grad():
            some = pool.canvases(256, generator).images
            model.coder.fit(model.device(some, 1.0, generator).tokens)
    schedule = _Optimiser(
        model,
        settings.learning_rate,
        settings.steps,
        settings.threshold_factor,
        settings.score_factor,
    )
    model.train()
    resting = [p for n, p in model.named_parameters() if _rests(n)]
    low, high = settings.budgets
    for step in range(settings.steps):
        for parameter in resting:
            parameter.requires_grad_(step >= settings.frozen * settings.steps)
        drawn = pool.canvases(settings.batch, generator)
        size = 1 if merging else settings.batch  # merging needs one count a batch
        alpha = low + (high - low) * torch.rand(size, generator=generator)
        asked = alpha.expand(settings.batch)
        snr = float(torch.empty(1).uniform_(*settings.snr_db, generator=generator))
        out = model(drawn.images, asked, snr, generator=generator, exact=settings.exact)
        loss = F.cross_entropy(out.logits, drawn.labels)
        if thresholded:
            rate = rate_loss(out.counted, asked, settings.one_sided)
            loss = loss + settings.rate_weight * rate
        schedule.step(loss, step)
        progress(step + 1, settings.steps, "fine-tuning")
    return model.requires_grad_(True).eval()


def _rests(name: str) -> bool:
    """Whether a parameter is frozen at first: all but gates, budget and class token, and head."""
    return name.startswith("coder.") or (name.startswith("backbone.") and "head" not in name)


class _Optimiser:
    """AdamW, warm-up and cosine, gradients of gates clipped apart from those of the network."""

    def __init__(
        self,
        model: nn.Module,
        rate: float,
        steps: int,
        factor: float = 1.0,
        score_factor: float = 1.0,
    ) -> None:
        named = list(model.named_parameters())
        scores = [p for n, p in named if n.startswith("gates.") and n.endswith(".weight")]
        fast = [p for n, p in named if n.startswith(_GATING) and not n.endswith(".weight")]
        network = [p for n, p in named if not n.startswith(_GATING)]
        self.groups = [
            (network, rate, 0.05),
            (scores, rate * score_factor, 0.0),
            (fast, rate * factor, 0.0),
        ]
        self.optimiser = torch.optim.AdamW(
            [
                {"params": held, "lr": lr, "weight_decay": decay}
                for held, lr, decay in self.groups
                if held
            ],
            betas=(0.9, 0.98),
            fused=True,
        )
        self.rates = [group["lr"] for group in self.optimiser.param_groups]
        self.steps = steps

    def step(self, loss: Tensor, step: int) -> None:
        """One step down."""
        warm = min(1.0, (step + 1) / max(1, min(100, self.steps // 10)))
        share = warm * (0.5 + 0.5 * math.cos(math.pi * step / self.steps))
        for group, rate in zip(self.optimiser.param_groups, self.rates, strict=True):
            group["lr"] = rate * share
        self.optimiser.zero_grad()
        loss.backward()
        for held, _, _ in self.groups:
            if held:
                nn.utils.clip_grad_norm_(held, 1.0)
        self.optimiser.step()


def batches(total: int, size: int) -> Iterator[slice]:
    """Slices that cover ``total`` rows.

    >>> list(batches(5, 2))
    [slice(0, 2, None), slice(2, 4, None), slice(4, 5, None)]
    """
    for start in range(0, total, size):
        yield slice(start, min(start + size, total))
