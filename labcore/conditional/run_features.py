"""Early exits and upcycling on a real, pre-trained ViT-S, whose trunk is not trained further."""

from collections.abc import Callable
from typing import Any, cast

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from labcore.blocks.calibration import fit_temperature
from labcore.blocks.vit import Block, VisionTransformer
from labcore.conditional.budgets import fit_thresholds, oracle_curve
from labcore.conditional.data import MEAN, STD, Pictures, one_domain
from labcore.conditional.exits import EarlyExitNet, exit_layers
from labcore.conditional.moe import MoELayer
from labcore.conditional.photo import as_input, vit_s
from labcore.conditional.settings import Features
from labcore.conditional.training import batches
from labcore.parts import Findings

BUDGETS = (0.25, 1 / 3, 0.5, 0.75)
EPOCHS, RATE = 20, 3e-3
Tick = Callable[[], None]


def features(settings: Features, seed: int, *, tick: Tick) -> Findings:
    """A linear head after each of twelve blocks, budgets fitted on validation pictures; upcycling.

    Args:
        settings: Sizes.
        seed: Of the pictures, of the heads and of the order.
        tick: Called between batches.
    """
    pool = one_domain("fashion", "train", settings.train + settings.val, seed)
    data, val = pool.part(0, settings.train), pool.part(settings.train, len(pool))
    test = one_domain("fashion", "test", settings.test, 1000 + seed)
    model = vit_s(settings.side)
    read = [_class_tokens(model, part, settings.side, tick) for part in (data, val, test)]
    net = EarlyExitNet.with_linear_heads(model, 10, generator=torch.Generator().manual_seed(seed))
    _fit(net, read[0], data.labels, seed, tick)
    with torch.no_grad():
        on_val, on_test = (_heads(net, tokens) for tokens in read[1:])
    heat = torch.tensor(
        [fit_temperature(head.double().numpy(), val.labels.numpy()) for head in on_val]
    )[:, None, None]
    on_val, on_test = on_val / heat, on_test / heat
    found = Findings()
    facts: dict[str, Any] = {"seed": seed, "train": len(data), "test": len(test)}
    costs = [net.step_flops * (i + 1) for i in range(len(on_val))]
    for i, head in enumerate(on_test):
        right = float((head.argmax(-1) == test.labels).float().mean())
        found.add("feature_heads", **facts, head=i + 1, accuracy=right)
    for budget in BUDGETS:
        rule = fit_thresholds(on_val, val.labels, costs, budget * costs[-1])
        layer = exit_layers(on_test, rule)
        said = on_test.argmax(-1).gather(0, layer[None])[0]
        found.add(
            "feature_budgets", **facts, budget=budget,
            accuracy=float((said == test.labels).float().mean()),
            ratio=float((layer + 1).float().mean()) / len(costs),
        )  # fmt: skip
    best = oracle_curve(on_test, test.labels, costs)[-1]
    found.add("feature_oracle", **facts, accuracy=best["accuracy"], ratio=best["ratio"])
    gap = _upcycling_gap(model, test, settings.side, seed)
    found.add("feature_upcycling", **facts, gap=gap)
    return found


def _enlarged(images: Float[Tensor, "b 1 y x"], side: int) -> Float[Tensor, "b 3 s s"]:
    """Small grey pictures as the ViT-S reads them: white on black, in three equal colours."""
    grey = F.interpolate(images * STD + MEAN, (side, side), mode="bilinear", align_corners=False)
    return as_input(grey.expand(-1, 3, -1, -1))


@torch.no_grad()
def _class_tokens(
    model: VisionTransformer, data: Pictures, side: int, tick: Tick
) -> Float[Tensor, "l n d"]:
    """The class token after every block."""
    parts = []
    for start in range(0, len(data), 50):
        tick()
        x, states = model.embed(_enlarged(data.part(start, start + 50).images, side)), []
        for block in model.blocks:
            x = block(x)
            states.append(x[:, 0])
        parts.append(torch.stack(states))
    return torch.cat(parts, dim=1)


def _heads(net: EarlyExitNet, tokens: Float[Tensor, "l n d"]) -> Float[Tensor, "l n c"]:
    return torch.stack([head(at) for head, at in zip(net.heads, tokens, strict=True)])


def _fit(net: EarlyExitNet, tokens: Tensor, labels: Tensor, seed: int, tick: Tick) -> None:
    optimizer = torch.optim.AdamW(net.heads.parameters(), lr=RATE, weight_decay=0.01)
    for rows in batches(len(labels), 50, EPOCHS, seed):
        tick()
        optimizer.zero_grad()
        net.loss(_heads(net, tokens[:, rows]), labels[rows]).backward()
        optimizer.step()


@torch.no_grad()
def _upcycling_gap(model: VisionTransformer, test: Pictures, side: int, seed: int) -> float:
    """Largest change of a feature, relative to the largest, when two MLPs become 8 experts each."""
    x = _enlarged(test.part(0, 8).images, side)
    before = model(x)
    depth = len(model.blocks)
    kept = {i: cast(Block, model.blocks[i]).mlp for i in (depth // 2 - 1, depth - 1)}
    try:
        for i, mlp in kept.items():
            generator = torch.Generator().manual_seed(seed + i)
            mixture = MoELayer.from_dense(cast(nn.Module, mlp), 8, 2, generator=generator)
            cast(Any, model.blocks[i]).mlp = mixture
        return float((model(x) - before).abs().max() / before.abs().max())
    finally:
        for i, mlp in kept.items():
            cast(Any, model.blocks[i]).mlp = mlp
