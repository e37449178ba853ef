"""Normalisation and dropout against torch, in float64; stacks against their formula."""

import pytest
import torch
from torch import nn

from labcore.blocks import norm


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_batch_norm_equals_torch_with_its_buffers() -> None:
    layer = nn.BatchNorm1d(4).double()
    layer.weight.data, layer.bias.data = draw(4, seed=8), draw(4, seed=9)
    affine = {"scale": layer.weight, "shift": layer.bias}
    running = norm.Running(torch.zeros(4).double(), torch.ones(4).double())
    for step in range(3):
        x = draw(6, 4, seed=step)
        ours, running = norm.batch_norm(x, running, training=True, **affine)
        torch.testing.assert_close(ours, layer(x), rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(running.mean, layer.running_mean)
        torch.testing.assert_close(running.var, layer.running_var)
    layer.eval()
    ours, after = norm.batch_norm(x, running, training=False, **affine)
    torch.testing.assert_close(ours, layer(x), rtol=1e-9, atol=1e-12)
    assert torch.equal(after.var, running.var)


def test_layer_and_rms_norm_equal_torch() -> None:
    x, w, b = draw(2, 3, 5), draw(5, seed=1), draw(5, seed=2)
    wanted = nn.functional.layer_norm(x, (5,), w, b)
    torch.testing.assert_close(norm.layer_norm(x, scale=w, shift=b), wanted, rtol=1e-9, atol=1e-12)
    wanted = nn.functional.rms_norm(x, (5,), w, eps=1e-6)
    torch.testing.assert_close(norm.rms_norm(x, scale=w), wanted, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("keep", [0.2, 0.9, 1.0])
def test_dropout_keeps_the_mean(keep: float) -> None:
    ones = torch.ones(200_000, dtype=torch.float64)
    y = norm.dropout(ones, keep=keep, generator=torch.Generator().manual_seed(0))
    assert y.mean() == pytest.approx(1.0, abs=0.02)
    assert y.var() == pytest.approx((1 - keep) / keep, abs=0.05)


@pytest.mark.parametrize(("residual", "normed"), [(False, False), (True, False), (True, True)])
def test_a_stack_is_its_formula(residual: bool, normed: bool) -> None:
    stack = norm.ResidualStack(3, 4, residual, normed, generator=torch.Generator().manual_seed(0))
    x = draw(5, 4).float()
    wanted = x
    for layer in stack.layers:
        new = layer(norm.layer_norm(wanted) if normed else wanted).relu()
        wanted = wanted + new if residual else new
    torch.testing.assert_close(stack(x), wanted)
    assert len(stack.states(x)) == 4


def test_bad_inputs_are_named() -> None:
    x = draw(3, 4)
    for keep in (0.0, -0.1, 1.5):
        with pytest.raises(ValueError, match=f"KEEP a value, got {keep}"):
            norm.dropout(x, keep=keep)
    with pytest.raises(ValueError, match="1 row has no variance"):
        norm.batch_norm(x[:1], norm.Running.start(4), training=True)
    with pytest.raises(ValueError, match="have 5 features, x 4"):
        norm.batch_norm(x, norm.Running.start(5), training=True)
    with pytest.raises(ValueError, match="depth and width"):
        norm.ResidualStack(0, 4, True, True)
    with pytest.raises(ValueError, match="relu or sigmoid"):
        norm.ResidualStack(1, 4, True, True, activation="tanh")
