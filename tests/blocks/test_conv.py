"""Convolutions against torch's own, in float64, and the laws they obey."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from labcore.blocks import conv

G = torch.Generator().manual_seed(0)


def draw(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=G, dtype=torch.float64)


@pytest.mark.parametrize("padding", [0, 2, (1, 3)])
@pytest.mark.parametrize(("stride", "dilation"), [(1, 1), (2, 1), (1, 2), (3, 2)])
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_conv2d_equals_torch(padding: Any, stride: int, dilation: int, groups: int) -> None:
    x, w = draw(2, 4, 11, 9), draw(8, 4 // groups, 3, 2)
    options = {"padding": padding, "stride": stride, "dilation": dilation, "groups": groups}
    ours, theirs = conv.conv2d(x, w, **options), F.conv2d(x, w, **options)
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("stride", "dilation", "groups"), [(1, 1, 1), (2, 3, 2)])
def test_conv1d_equals_torch(stride: int, dilation: int, groups: int) -> None:
    x, w = draw(2, 4, 20), draw(6, 4 // groups, 3)
    options = {"padding": 2, "stride": stride, "dilation": dilation, "groups": groups}
    torch.testing.assert_close(conv.conv1d(x, w, **options), F.conv1d(x, w, **options))


def test_fourier_equals_sums() -> None:
    x, w = draw(3, 50), draw(7)
    theirs = F.conv1d(x[:, None], w[None, None])[:, 0]
    torch.testing.assert_close(conv.conv_fft1d(x, w), theirs, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("k", [1, 3, 7])
def test_toeplitz_is_the_convolution(k: int) -> None:
    x, w = draw(12), draw(k)
    theirs = F.conv1d(x[None, None], w[None, None], padding=k // 2)[0, 0]
    torch.testing.assert_close(conv.toeplitz(w, 12) @ x, theirs, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("dilation", [1, 4])
def test_a_causal_convolution_never_sees_the_future(dilation: int) -> None:
    x, w = draw(1, 3, 30), draw(5, 3, 3)
    before = conv.causal_conv1d(x, w, dilation=dilation)
    changed = x.clone()
    changed[:, :, 17:] += 1
    after = conv.causal_conv1d(changed, w, dilation=dilation)
    assert before.shape == (1, 5, 30)
    assert torch.equal(before[:, :, :17], after[:, :, :17])
    assert not torch.equal(before[:, :, 17], after[:, :, 17])


def test_receptive_field_is_what_a_gradient_reaches() -> None:
    layers = [(3, 1, 1), (2, 2, 1), (3, 1, 2)]
    x = torch.zeros(1, 1, 64, dtype=torch.float64, requires_grad=True)
    y = x
    for kernel, stride, dilation in layers:
        y = F.conv1d(y, torch.ones(1, 1, kernel).double(), stride=stride, dilation=dilation)
    y[0, 0, y.shape[-1] // 2].backward()
    assert x.grad is not None
    reached = torch.nonzero(x.grad[0, 0]).ravel()
    assert int(reached[-1] - reached[0]) + 1 == conv.receptive_field(layers)


def test_patches_are_in_reading_order_and_lose_nothing() -> None:
    x = draw(32, 3, 64, 64)
    found = conv.patches(x, 8)
    assert found.shape == (32, 64, 192)
    torch.testing.assert_close(found[5, 9], x[5, :, 8:16, 8:16].ravel())
    unfolded = F.unfold(x, 8, stride=8).transpose(1, 2)
    assert torch.equal(found, unfolded)


def test_equivariance_away_from_the_borders() -> None:
    x, w = draw(1, 1, 20, 20), draw(1, 1, 3, 3)
    moved = conv.conv2d(torch.roll(x, (2, 3), dims=(2, 3)), w, padding=1)
    after = torch.roll(conv.conv2d(x, w, padding=1), (2, 3), dims=(2, 3))
    torch.testing.assert_close(moved[..., 4:-4, 5:-5], after[..., 4:-4, 5:-5])


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda: conv.conv2d(draw(1, 3, 5, 5), draw(4, 2, 3, 3)), "channels"),
        (lambda: conv.conv2d(draw(1, 3, 5, 5), draw(4, 3, 7, 7)), "spans 7"),
        (lambda: conv.conv2d(draw(1, 3, 5, 5), draw(4, 3, 3, 3), stride=0), ">= 1"),
        (lambda: conv.conv2d(draw(1, 3, 5, 5), draw(4, 3, 3, 3), padding=-1), "padding"),
        (lambda: conv.conv1d(draw(1, 3, 5), draw(4, 3, 3), padding=-1), "padding"),
        (lambda: conv.conv_fft1d(draw(5), draw(6)), "1..5"),
        (lambda: conv.toeplitz(draw(2), 5), "odd"),
        (lambda: conv.receptive_field([(3, 0, 1)]), ">= 1"),
        (lambda: conv.patches(draw(1, 1, 6, 6), 4), "divide"),
    ],
)
def test_bad_input_is_refused(act: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        act()
