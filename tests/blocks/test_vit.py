"""The plain vision transformer: its insides agree with its forward pass."""

import pytest
import torch

from labcore.blocks.gather import take_rows
from labcore.blocks.vit import VisionTransformer, ViTConfig


def model(**sizes):
    return VisionTransformer(ViTConfig(**sizes), generator=torch.Generator().manual_seed(0)).eval()


def test_steps_by_hand_give_the_forward_pass():
    vit, images = model(num_classes=5), torch.rand(2, 1, 28, 28)
    x = vit.embed(images)
    for block in vit.blocks:
        weights = block.attention(x)
        query_key_value = block.attn.heads(block.norm1(x))
        read = (weights @ query_key_value[2]).transpose(1, 2).flatten(2)
        x = x + block.attn.proj(read)
        x = x + block.mlp(block.norm2(x))
        torch.testing.assert_close(weights.sum(-1), torch.ones(2, 4, 17))
    torch.testing.assert_close(vit.head(vit.norm(x[:, 0])), vit(images), atol=1e-5, rtol=1e-5)


def test_a_block_takes_any_number_of_tokens():
    vit = model()
    x = vit.embed(torch.rand(2, 1, 28, 28))
    index = torch.tensor([[0, 3, 5], [0, 1, 2]])
    kept = take_rows(x, index)
    assert torch.equal(kept[0, 1], x[0, 3])
    assert vit.blocks[0](kept).shape == (2, 3, 96)


def test_sizes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="patch_size=5"):
        ViTConfig(patch_size=5)
    with pytest.raises(ValueError, match="num_heads=7"):
        ViTConfig(num_heads=7)
