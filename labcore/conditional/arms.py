"""The networks of the mixture experiment: one ViT, its MLPs dense or mixtures.

Blocks 2 and 4 hold the layer in question. E experts of width H, k of them a token: "dense, equal
FLOPs" has an MLP of width kH there, "dense, equal parameters" one of width EH.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from labcore.blocks.vit import Mlp, VisionTransformer, ViTConfig
from labcore.conditional.cost import Cost, attention_flops, mlp_flops, moe_flops
from labcore.conditional.moe import MoELayer, RouterName, SoftMoE

EXPERTS, WIDTH, HIDDEN, LAYERS = 8, 64, 64, (1, 3)


@dataclass(frozen=True)
class Arm:
    """One network of the comparison.

    Attributes:
        name: For tables and figures.
        kind: "dense", "top_k", "expert_choice" or "soft".
        active: Experts a token; of "dense": width over H.
        balance: Weight of the balance loss.
    """

    name: str
    kind: str
    active: int
    balance: float = 0.0


ARMS = (
    Arm("dense, equal FLOPs", "dense", 2),
    Arm("dense, equal parameters", "dense", EXPERTS),
    Arm("top-1, no balance", "top_k", 1),
    Arm("top-1, balanced", "top_k", 1, 1e-2),
    Arm("top-2, no balance", "top_k", 2),
    Arm("top-2, balanced", "top_k", 2, 1e-2),
    Arm("expert choice", "expert_choice", 2),
    Arm("soft", "soft", 2),
)
BY_NAME = {arm.name: arm for arm in ARMS}


def build(arm: Arm, classes: int, seed: int) -> VisionTransformer:
    """The arm's network; weights outside of the layers in question are equal for equal seeds."""
    generator = torch.Generator().manual_seed(seed)
    config = ViTConfig(hidden_size=HIDDEN, depth=4, mlp_ratio=2.0, num_classes=classes)
    model = VisionTransformer(config, generator=generator)
    for i in LAYERS:
        model.blocks[i].mlp = _layer(arm, generator)
    return model


def _layer(arm: Arm, generator: torch.Generator) -> nn.Module:
    if arm.kind == "soft":
        tokens = 17
        slots = round(arm.active * tokens / EXPERTS)
        return SoftMoE(HIDDEN, EXPERTS, slots, intermediate_size=WIDTH, generator=generator)
    if arm.kind == "dense":
        mlp = Mlp(HIDDEN, arm.active * WIDTH / HIDDEN)
        for linear in (mlp.fc1, mlp.fc2):
            nn.init.normal_(linear.weight, std=linear.in_features**-0.5, generator=generator)
            nn.init.zeros_(linear.bias)
        return mlp
    router: RouterName = "expert_choice" if arm.kind == "expert_choice" else "top_k"
    return MoELayer(HIDDEN, WIDTH, EXPERTS, arm.active, router=router, generator=generator)


def mixtures(model: VisionTransformer) -> list[MoELayer]:
    """The network's sparse layers, first to last."""
    return [m for m in model.modules() if isinstance(m, MoELayer)]


def auxiliary(model: VisionTransformer, arm: Arm) -> Tensor:
    """Balance and z-loss of all sparse layers on the last batch; 0 without a balance weight."""
    if not arm.balance:
        return torch.zeros(())
    losses = [layer.auxiliary_loss(arm.balance) for layer in mixtures(model)]
    return torch.stack(losses).sum()


def layer_cost(arm: Arm, tokens: int = 17) -> Cost:
    """FLOPs of one layer in question, one picture, against the dense one of equal parameters."""
    whole = mlp_flops(tokens, HIDDEN, EXPERTS * WIDTH)
    if arm.kind == "dense":
        return Cost(mlp_flops(tokens, HIDDEN, arm.active * WIDTH), whole)
    if arm.kind == "soft":
        slots = round(arm.active * tokens / EXPERTS)
        return SoftMoE(HIDDEN, EXPERTS, slots, intermediate_size=WIDTH).cost(tokens)
    return Cost(moe_flops(tokens, HIDDEN, WIDTH, EXPERTS, arm.active), whole)


def network_cost(arm: Arm, tokens: int = 17) -> Cost:
    """FLOPs of all four blocks, one picture, against the dense network of equal parameters."""
    rest = 4 * attention_flops(tokens, HIDDEN) + 2 * mlp_flops(tokens, HIDDEN, 2 * HIDDEN)
    layer = layer_cost(arm, tokens)
    return Cost(rest + 2 * layer.executed, rest + 2 * layer.total)
