"""A tiny untrained network, and canvases of invented digits, so that no asset is needed."""

import pytest
import torch

from labcore.blocks.vit import VisionTransformer, ViTConfig
from labcore.tokens.data import Pool
from labcore.tokens.model import SemanticViT

TINY = ViTConfig(image_size=28, patch_size=7, hidden_size=16, depth=3, num_heads=2, num_classes=5)


def tiny(seed: int = 0) -> VisionTransformer:
    model = VisionTransformer(TINY, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():  # larger weights: a wrong key must not hide
        for parameter in model.parameters():
            parameter.add_(
                torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)) * 0.2
            )
    return model.eval()


def semantic(split: int = 1, **options) -> SemanticViT:
    generator = torch.Generator().manual_seed(3)
    model = SemanticViT(tiny(), split, generator=generator, **options)
    with torch.no_grad():
        for gate in model.gates.values():
            if hasattr(gate, "budget_bias"):  # thresholds in the middle of the scores
                gate.weight.mul_(30)
                gate.budget_bias.fill_(-3.7)
    return model.eval()


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(6, 1, 28, 28, generator=torch.Generator().manual_seed(5))


@pytest.fixture(scope="package")
def invented() -> Pool:
    generator = torch.Generator().manual_seed(0)
    pictures = torch.zeros(40, 28, 28, dtype=torch.uint8)
    pictures[:, 4:24, 4:24] = torch.randint(0, 256, (40, 20, 20), generator=generator).byte()
    return Pool(pictures, torch.arange(40) % 10)
