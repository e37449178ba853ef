"""Real removal against masking, and against token merging: one network, one mask, equal logits.

The peer is the masked forward of public token-selection code: every token is computed in every
block, dropped ones are hidden by an attention mask. Ours packs what is kept. Times are CPU seconds,
the median over turns. Sizes: ViT of width 192, 12 blocks, 196 tokens, split 3, batch 32, rate 0.25.
"""

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from labcore.blocks.vit import VisionTransformer, ViTConfig
from labcore.runs import Progress, silent
from labcore.runtime import limit_threads
from labcore.tokens import figures
from labcore.tokens.experiment import load_result
from labcore.tokens.live import Sent, committed_model, send
from labcore.tokens.masked import keep_one, masked_block
from labcore.tokens.merging import MergingViT
from labcore.tokens.model import SemanticViT

CONFIG = ViTConfig(
    image_size=224, patch_size=16, in_channels=3, hidden_size=192, depth=12, num_heads=3,
    mlp_ratio=4.0, num_classes=10,
)  # fmt: skip
SPLIT, RATE, BATCH = 3, 0.25, 32
Row = dict[str, Any]


def rows(progress: Progress | None = None, quick: bool = False) -> list[Row]:
    """Every race, one row each."""
    limit_threads(1)
    report = progress or silent
    backbone = VisionTransformer(CONFIG, generator=torch.Generator().manual_seed(0))
    images = torch.randn(BATCH, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    turns = 3 if quick else 7
    table = []
    with torch.no_grad():
        for number, (name, goal) in enumerate((("equal", 1 / 0.47), ("unequal", 1 / 0.53))):
            table.append(_masked_race(backbone, images, name, goal, turns))
            report(number + 1, 4, "races")
        table.append(_merging_race(backbone, images, turns))
        report(3, 4, "races")
        table.append(_slider_move(turns))
    report(4, 4, "races")
    return table


def _model(backbone: VisionTransformer, counts: str) -> SemanticViT:
    generator = torch.Generator().manual_seed(2)
    select = "topk" if counts == "equal" else "threshold"
    model = SemanticViT(backbone, SPLIT, select=select, generator=generator).eval()
    if counts == "unequal":  # spread the scores, and set the threshold to their upper quarter
        gate = model.gates[str(SPLIT)]
        gate.weight.mul_(40)
        gate.bias = 0.0
    return model


def _calibrate(model: SemanticViT, images: Tensor) -> None:
    gate = model.gates[str(SPLIT)]
    score = model.device(images, RATE).score
    gate.budget_bias.copy_(torch.logit(score.quantile(1 - RATE)))


def masked_forward(model: SemanticViT, images: Tensor) -> Tensor:
    """The public way: all tokens in all blocks, hidden by a mask."""
    chosen = model.device(images, RATE)
    ones = torch.ones(len(images), 1)
    mask = torch.cat((ones, keep_one(chosen.mask, chosen.score), ones), 1)
    parts = (model.server_class.expand(len(images), -1, -1), chosen.tokens,
             model.budget_token(chosen.budget))  # fmt: skip
    x = torch.cat(parts, 1)
    for block in model.backbone.blocks[SPLIT:]:
        x = masked_block(block, x, mask)
    return model.backbone.head(model.backbone.norm(x[:, 0]))


def _masked_race(
    backbone: VisionTransformer, images: Tensor, counts: str, goal: float, turns: int
) -> Row:
    model = _model(backbone, counts)
    if counts == "unequal":
        _calibrate(model, images)
    out = model.pack_forward(images, RATE)
    worst = float((out.logits - masked_forward(model, images)).abs().max())
    if worst > 1e-5:
        raise RuntimeError(f"logits differ by {worst}")
    ours, peer = race(
        lambda: model.pack_forward(images, RATE), lambda: masked_forward(model, images), turns
    )
    kept = out.keep.sum(-1)
    said = f"logits to {worst:.0e}; {int(kept.min())} to {int(kept.max())} of 196 tokens kept"
    name = f"packed forward, {counts} counts, rate {float(out.rates.mean()):.2f}"
    return _row(name, "masked forward (as public code)", ours, peer, goal, said)


def _merging_race(backbone: VisionTransformer, images: Tensor, turns: int) -> Row:
    model = _model(backbone, "equal")
    merging = MergingViT(backbone, SPLIT).eval()
    ours, peer = race(
        lambda: model.pack_forward(images, RATE), lambda: merging(images, RATE), turns
    )
    return _row("packed forward, equal counts", "token merging (ToMe's rule, written anew)", ours,
                peer, None, "same number of tokens")  # fmt: skip


def _slider_move(turns: int) -> Row:
    """What the page does when a slider is let go: send one canvas, draw both figures."""
    model, picture = committed_model(), load_result().arrays["examples"][0]

    def move(alpha: float) -> Sent:
        sent = send(picture, alpha, 10.0)
        figures.send_figure(picture, sent, alpha=alpha, snr_db=10.0)
        figures.latency_bars(sent.latency, tokens=sent.tokens)
        return sent

    sent = move(RATE)
    pixels = torch.from_numpy(picture)[None, None].float() / 255
    out = model(pixels, RATE, 10.0, generator=torch.Generator().manual_seed(0))
    worst = float((out.logits[0].softmax(-1) - torch.from_numpy(sent.probabilities)).abs().max())
    if worst > 1e-5:
        raise RuntimeError(f"probabilities differ by {worst}")
    ours, _ = race(lambda: move(RATE), lambda: None, turns)
    return _row("slider move: send a canvas, draw", "the page's limit of 0.3 s", ours, 0.3, 1.0,
                f"probabilities of the masked forward to {worst:.0e}")  # fmt: skip


def race(ours: Callable[[], Any], peer: Callable[[], Any], turns: int) -> tuple[float, float]:
    """Median CPU seconds of each, taking turns, one of each to warm up."""
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(turns + 1):
        for run, seconds in zip((ours, peer), times, strict=True):
            start = time.process_time()
            run()
            seconds.append(time.process_time() - start)
    return statistics.median(times[0][1:]), statistics.median(times[1][1:])


def _row(name: str, peer: str, ours: float, theirs: float, goal: float | None, said: str) -> Row:
    return {
        "name": name,
        "work": "tokens",
        "peer": peer,
        "peer_version": torch.__version__,
        "ours_s": ours,
        "peer_s": theirs,
        "ratio": theirs / ours,
        "goal": goal,
        "agreement": said,
        "threads": torch.get_num_threads(),
    }
