"""Small models that every test of the topic shares."""

import pytest
import torch
import torch.nn.functional as F

from labcore.blocks.vit import VisionTransformer, ViTConfig

DEPTH = 4


def small_vit(*, depth=DEPTH, seed=0, layer_scale=False, classes=5):
    config = ViTConfig(
        patch_size=7, hidden_size=24, depth=depth, num_heads=3, mlp_ratio=2.0,
        num_classes=classes, layer_scale=layer_scale,
    )  # fmt: skip
    model = VisionTransformer(config, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():  # a fresh model hardly looks at its input: make it look
        for name, p in model.named_parameters():
            if "qkv.weight" in name or "fc" in name or "proj.weight" in name:
                p.mul_(8)
    return model.train()


@pytest.fixture
def model():
    return small_vit()


@pytest.fixture
def batch():
    g = torch.Generator().manual_seed(1)
    return torch.randn(6, 1, 28, 28, generator=g), torch.randint(5, (6,), generator=g)


@pytest.fixture
def loss_fn():
    return F.cross_entropy
