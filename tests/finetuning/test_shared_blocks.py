"""Class attention, gather and the cost model: against explicit versions and torch's counter."""

import gc
import weakref

import pytest
import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from labcore.blocks.class_attention import class_attention, received_attention
from labcore.blocks.cost import (
    DEIT_SMALL,
    DEIT_TINY,
    VIT_BASE,
    ViTSpec,
    kept_tokens,
    saved_activation_bytes,
    training_flops,
)
from labcore.blocks.gather import put_rows, select_tokens, take_rows
from tests.finetuning.conftest import small_vit


@pytest.mark.parametrize("prefix", [1, 3])
def test_class_attention_is_a_row_of_the_matrix(prefix):
    query, key = torch.randn(2, 3, 9, 8), torch.randn(2, 3, 9, 8)
    matrix = (query @ key.transpose(-1, -2) / 8**0.5).softmax(-1)
    torch.testing.assert_close(
        class_attention(query, key, prefix), matrix[:, :, 0, prefix:].mean(1), atol=1e-6, rtol=0
    )
    torch.testing.assert_close(
        received_attention(query, key, prefix), matrix[..., prefix:].mean((1, 2)), atol=1e-6, rtol=0
    )
    with pytest.raises(ValueError, match="leaves no patch"):
        class_attention(query, key, 9)


def test_select_tokens_equals_a_loop_and_breaks_ties_downwards():
    x, scores = torch.randn(4, 8, 3), torch.randint(4, (4, 6)).float()
    kept, index = select_tokens(x, scores, 4, num_prefix_tokens=2)
    for row in range(4):
        order = sorted(range(6), key=lambda j: (-scores[row, j].item(), j))[:4]
        wanted = sorted(order)
        assert index[row].tolist() == wanted
        assert torch.equal(kept[row], x[row, [0, 1, *(j + 2 for j in wanted)]])
    with pytest.raises(ValueError, match="num_keep must be 1..6"):
        select_tokens(x, scores, 7, 2)
    with pytest.raises(ValueError, match="num_keep must be 1..6"):
        select_tokens(x, scores, 0, 2)
    with pytest.raises(ValueError, match="do not fit"):
        select_tokens(x, scores, 4, num_prefix_tokens=1)


def test_rows_come_back_with_their_gradients():
    x = torch.randn(2, 5, 3, requires_grad=True)
    index = torch.tensor([[0, 3], [1, 4]])
    assert torch.equal(take_rows(x, index), x.gather(1, index[..., None].expand(-1, -1, 3)))
    put_rows(x, index, 2 * take_rows(x, index)).sum().backward()
    wanted = torch.ones(2, 5, 3)
    wanted[torch.arange(2)[:, None], index] = 2
    assert torch.equal(x.grad, wanted)


def test_published_forward_flops_and_ratios():
    for spec, wanted in ((DEIT_TINY, 2.449), (DEIT_SMALL, 9.081), (VIT_BASE, 34.895)):
        assert training_flops(spec).forward / 1e9 == pytest.approx(wanted, abs=5e-4)
    full = training_flops(DEIT_SMALL, freeze_embedding=False).total
    trained = [layer for layer in range(12) if layer not in (3, 7, 11)]
    for budget, wanted in ((1.0, 1.083), (0.95, 1.448), (0.9, 1.867), (0.8, 2.834)):
        tokens = kept_tokens([budget] * 12, 196)
        ratio = full / training_flops(DEIT_SMALL, tokens, trained).total
        assert ratio == pytest.approx(wanted, abs=1e-3)
    assert kept_tokens([0.9] * 12, 196) == (197, 177, 159, 143, 128, 115, 103, 92, 82, 73, 65, 58)


def test_formula_agrees_with_torchs_counter():
    model, images = small_vit(depth=3), torch.randn(2, 1, 28, 28)
    spec = ViTSpec(3, 24, 17, 2.0)
    with sdpa_kernel(SDPBackend.MATH):  # the counter sees nothing of the fused CPU kernel
        x = model.embed(images).detach().requires_grad_()  # a gradient that reaches the bottom
        with FlopCounterMode(display=False) as forward:
            for block in model.blocks:
                x = block(x)
        with FlopCounterMode(display=False) as backward:
            x.sum().backward()
    formula = training_flops(spec, freeze_embedding=False)
    assert forward.get_total_flops() == pytest.approx(2 * formula.forward, rel=0.01)
    assert backward.get_total_flops() == pytest.approx(2 * formula.backward, rel=0.01)


def test_cost_model_refuses_what_does_not_fit():
    spec = ViTSpec(3, 24, 17)
    with pytest.raises(ValueError, match="2 entries"):
        training_flops(spec, [17, 17])
    with pytest.raises(ValueError, match="trainable_layers"):
        training_flops(spec, trainable_layers=[3])
    with pytest.raises(ValueError, match="tokens_out"):
        training_flops(spec, [17] * 3, tokens_out=[17, 18, 1])
    with pytest.raises(ValueError, match="depth"):
        ViTSpec(0, 24, 17)


def test_counting_keeps_nothing_alive():
    gc.disable()  # only reference counts may free it
    try:
        x = torch.randn(8, 8, requires_grad=True)
        with saved_activation_bytes():
            y = x.exp()  # saves its own result
        seen = weakref.ref(y)
        del y
        assert seen() is None
    finally:
        gc.enable()


def test_saved_bytes_count_each_storage_once_and_no_parameter():
    layer, x = torch.nn.Linear(4, 4), torch.randn(8, 4)
    with saved_activation_bytes(layer) as saved:
        F.relu(layer(x)).sum()
    assert saved.total == 2 * 8 * 4 * 4  # the input, and relu's result
    with saved_activation_bytes(layer) as again:
        y = layer(x)
        _ = y.view(4, 8) * y.view(4, 8).detach()
        _ = layer(x)
    assert again.total <= 2 * 8 * 4 * 4
