"""Checks of notebook B07: convolutional layers (the book, chapter 7)."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from labcore.blocks import conv
from labcore.course.checking import EXACT, Wrong, register

Rng = np.random.Generator


def _normal(rng: Rng, *shape: int) -> Tensor:
    return torch.from_numpy(rng.standard_normal(shape))


# B07.1: a convolution of one's own


def conv2d(x: Tensor, w: Tensor, padding: int, stride: int, dilation: int) -> Tensor:
    """Reference of B07.1."""
    return conv.conv2d(x, w, padding=padding, stride=stride, dilation=dilation)


def _draw_images(rng: Rng) -> dict[str, Any]:
    return {"x": _normal(rng, 2, 3, 9, 9), "w": _normal(rng, 4, 3, 3, 3), "padding": 1,
            "stride": 2, "dilation": 1}  # fmt: skip


def _draw_dilated(rng: Rng) -> dict[str, Any]:
    return _draw_images(rng) | {"stride": 1, "dilation": 2, "padding": 2}


def _draw_plain(rng: Rng) -> dict[str, Any]:
    return _draw_images(rng) | {"stride": 1, "padding": 0}


register(
    "B07.1",
    reference=conv2d,
    cases=(_draw_plain, _draw_images, _draw_dilated),
    points=2,
    wrong=(
        Wrong(
            "kernel flipped",
            lambda x, w, **o: conv2d(x, w.flip(2, 3), **o),
            "this is the convolution of signal processing; in this field the kernel is not flipped",
        ),
        Wrong(
            "rows and columns exchanged",
            lambda x, w, **o: conv2d(x, w.transpose(2, 3), **o),
            "the kernel's axes are (rows, columns), in the order of the image; square kernels hide "
            "it",
        ),
        Wrong(
            "stride ignored",
            lambda x, w, padding, stride, dilation: conv2d(x, w, padding, 1, dilation),
            "the output grid must step by `stride`",
        ),
        Wrong(
            "dilation ignored",
            lambda x, w, padding, stride, dilation: conv2d(x, w, padding, stride, 1),
            "inside the neighbourhood the steps are `dilation` long",
        ),
    ),
)


# B07.2: the matrix of a filter


def _draw_filter(rng: Rng) -> tuple[Tensor, int]:
    return _normal(rng, 5), int(rng.integers(8, 12))


def _circulant(w: Tensor, n: int) -> Tensor:
    row = torch.zeros(n, dtype=w.dtype)
    k = len(w) // 2
    row[: k + 1], row[n - k :] = w[k:], w[:k]
    return torch.stack([row.roll(i) for i in range(n)])


register(
    "B07.2",
    reference=conv.toeplitz,
    cases=((torch.tensor([1.0, 2.0, 3.0]).double(), 5), _draw_filter),
    wrong=(
        Wrong(
            "transposed",
            lambda w, n: conv.toeplitz(w, n).T,
            "row i holds the filter from left to right; you have it in the columns: flipped",
        ),
        Wrong(
            "round the corner",
            _circulant,
            "zeros stand outside the signal; here the filter comes in again on the other side",
        ),
        Wrong(
            "first entry on the diagonal",
            lambda w, n: sum(
                w[j] * torch.diag(torch.ones(n - j, dtype=w.dtype), j) for j in range(len(w))
            ),
            "the MIDDLE of the filter is on the diagonal, (k − 1)/2 entries are left of it",
        ),
    ),
)


# B07.3: receptive field


def field(layers: list[tuple[int, int]]) -> int:
    """Reference of B07.3: (kernel, stride) of each layer."""
    return conv.receptive_field([(kernel, stride, 1) for kernel, stride in layers])


def _draw_layers(rng: Rng) -> tuple[list[tuple[int, int]]]:
    inner = [(int(rng.choice([3, 5])), int(rng.integers(1, 3))) for _ in range(3)]
    return ([(3, 2), *inner, (2, 2), (3, 1)],)


register(
    "B07.3",
    reference=field,
    cases=(([(3, 1), (3, 1)],), ([(3, 1), (2, 2), (3, 1), (2, 2)],), _draw_layers),
    tolerance=EXACT,
    wrong=(
        Wrong(
            "strides ignored",
            lambda layers: 1 + sum(kernel - 1 for kernel, _ in layers),
            "after a stride of 2 one step of the next layer is two pixels of the image",
        ),
        Wrong(
            "product of kernels",
            lambda layers: int(np.prod([kernel for kernel, _ in layers])),
            "neighbourhoods of neighbours overlap: sizes add up, they do not multiply",
        ),
        Wrong(
            "own stride counted",
            lambda layers: (
                1
                + sum(
                    (kernel - 1) * int(np.prod([s for _, s in layers[: i + 1]]))
                    for i, (kernel, _) in enumerate(layers)
                )
            ),
            "a layer's own stride matters for the layers AFTER it",
        ),
    ),
)


# B07.4: what depthwise-separable layers save


def ratio(size: int, channels: int, outputs: int) -> float:
    """Reference of B07.4: weights of depthwise + pointwise over those of a full convolution."""
    return 1 / outputs + 1 / size**2


register(
    "B07.4",
    reference=ratio,
    cases=((3, 64, 128), lambda rng: tuple(int(n) for n in (rng.choice([3, 5, 7]), 16, 40))),
    wrong=(
        Wrong(
            "pointwise part forgotten",
            lambda size, channels, outputs: 1 / outputs,
            "the depthwise part does not mix channels: a 1x1 convolution must follow",
        ),
        Wrong(
            "one over the input channels",
            lambda size, channels, outputs: 1 / channels + 1 / size**2,
            "the depthwise part has s² c weights, the full one s² c c': their ratio is 1/c'",
        ),
        Wrong(
            "side instead of area",
            lambda size, channels, outputs: 1 / outputs + 1 / size,
            "a kernel of side s has s² places",
        ),
    ),
)


# B07.5: equivariance


def shift_error(f: Any, x: Tensor, shift: int) -> float:
    """Reference of B07.5: largest gap, ``shift`` + 1 pixels away from the border."""
    moved = f(torch.roll(x, shift, dims=-1))
    after = torch.roll(f(x), shift, dims=-1)
    edge = shift + 1
    return float((moved - after)[..., edge:-edge, edge:-edge].abs().max())


def _with_border(f: Any, x: Tensor, shift: int) -> float:
    return float((f(torch.roll(x, shift, -1)) - torch.roll(f(x), shift, -1)).abs().max())


def _unmoved(f: Any, x: Tensor, shift: int) -> float:
    edge = shift + 1
    gap = f(torch.roll(x, shift, -1)) - f(x)
    return float(gap[..., edge:-edge, edge:-edge].abs().max())


def _blur(x: Tensor) -> Tensor:
    return conv.conv2d(x, torch.ones(1, 1, 3, 3, dtype=x.dtype), padding=1)


def _blocks(x: Tensor) -> Tensor:
    """Every 2x2 block gets its maximum: pooling, drawn at full size."""
    pooled = torch.nn.functional.max_pool2d(x, 2)
    return pooled.repeat_interleave(2, -1).repeat_interleave(2, -2)


register(
    "B07.5",
    reference=shift_error,
    cases=(
        lambda rng: (_blocks, _normal(rng, 1, 1, 12, 12), 1),
        lambda rng: (_blur, _normal(rng, 1, 1, 12, 12), 2),
        lambda rng: (_blocks, _normal(rng, 1, 1, 12, 12), 2),
    ),
    wrong=(
        Wrong(
            "border counted",
            _with_border,
            "at the border the zeros outside are seen: leave shift + 1 pixels out on every side",
        ),
        Wrong(
            "invariance",
            _unmoved,
            "this asks whether NOTHING changes; equivariance: the output moves along with the "
            "input",
        ),
    ),
)
