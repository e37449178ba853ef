"""The real ViT-S on photographs: the map is its attention, and a SemanticViT can be cut from it."""

import numpy as np
import pytest
import torch

from labcore.tokens import photographs
from labcore.tokens.channel import Channel
from labcore.tokens.data import photo
from labcore.tokens.model import SemanticViT

pytestmark = pytest.mark.assets


@pytest.fixture(scope="module")
def china() -> np.ndarray:
    return photographs.square(photo("china"))


def test_the_map_is_the_class_tokens_row_of_the_last_four_layers(china: np.ndarray) -> None:
    model, pixels = photographs.vit_s(), torch.from_numpy(china.copy()).float() / 255
    mean, std = (torch.tensor(v) for v in (photographs.MEAN, photographs.STD))
    rows, x = [], model.embed(((pixels - mean) / std).permute(2, 0, 1)[None])
    for number, block in enumerate(model.blocks):
        if number >= 8:
            rows.append(block.attention(x)[0, :, 0, 1:].mean(0))
        x = block(x)
    found = photographs.class_attention_map(china)
    np.testing.assert_allclose(found, torch.stack(rows).mean(0).numpy(), atol=1e-6)


def test_a_quarter_of_the_patches_covers_the_tower_and_not_the_sky(china: np.ndarray) -> None:
    found = photographs.class_attention_map(china)
    best = np.zeros(256, bool)
    best[np.argsort(-found)[:64]] = True
    side = best.reshape(16, 16)
    assert side[:, :8].sum() > 0.8 * 64  # the tower stands on the left
    assert side[:6, 10:].sum() <= 2  # sky


def test_the_real_network_masked_equals_packed(china: np.ndarray) -> None:
    pixels = torch.from_numpy(china.copy()).permute(2, 0, 1)[None].float() / 255
    images = torch.cat((pixels, pixels.flip(-1)))
    model = SemanticViT(
        photographs.vit_s(), 9, None, Channel(), "topk", 192, scorer="class_attention",
        generator=torch.Generator().manual_seed(0),
    ).eval()  # fmt: skip
    budget = torch.tensor([0.25, 0.5])
    with torch.no_grad():
        masked = model(images, budget, 20.0, generator=torch.Generator().manual_seed(1))
        packed = model.pack_forward(
            images, budget, 20.0, generator=torch.Generator().manual_seed(1)
        )
    assert packed.keep.sum(-1).tolist() == [64, 128]
    scale = masked.logits.abs().max()
    assert (masked.logits - packed.logits).abs().max() / scale < 1e-5


def test_pictures_of_any_shape_become_a_square() -> None:
    assert photographs.square(np.zeros((40, 300, 3), np.uint8)).shape == (224, 224, 3)
    with pytest.raises(ValueError, match="at least 14"):
        photographs.square(np.zeros((10, 300, 3), np.uint8))
    with pytest.raises(ValueError, match="name must be one of"):
        photo("tower")
    seen = []
    middle, found = photographs.look(
        np.full((30, 50, 3), 90, np.uint8), progress=lambda *step: seen.append(step)
    )
    assert middle.shape == (224, 224, 3)
    assert found.shape == (256,)
    assert seen[-1][:2] == (2, 2)
