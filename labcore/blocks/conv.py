"""Convolutions as sums over unfolded neighbourhoods (the book, chapters 7 and 8), on torch tensors.

As in torch, a filter is not flipped (cross-correlation): output row i reads the input rows
i + i′ − k − 1 for i′ = 1..2k+1, shapes are (batch, channels, space ...), and ``groups`` cuts the
channels into parts that do not see each other.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor


def conv2d(
    x: Float[Tensor, "b c y x"],
    w: Float[Tensor, "o i p q"],
    *,
    padding: int | tuple[int, int] = 0,
    stride: int = 1,
    dilation: int = 1,
    groups: int = 1,
) -> Float[Tensor, "b o u v"]:
    """Convolution by unfolding: gather every neighbourhood, then one matrix product (7.1).

    Args:
        x: Images (B, C, H, W).
        w: Filters (C', C / groups, k, k).
        padding: Zeros on each side, one number or (rows, columns).
        stride: Step of the output grid.
        dilation: Step inside a neighbourhood.
        groups: Parts of the channels; C of them is a depthwise convolution.

    Raises:
        ValueError: sizes that do not fit, or a filter larger than the padded image.
    """
    _check(x, w, stride, dilation, groups)
    rows, columns = (padding, padding) if isinstance(padding, int) else padding
    if min(rows, columns) < 0:
        raise ValueError(f"padding must be >= 0, got {padding}")
    b, c = x.shape[:2]
    x = torch.nn.functional.pad(x, (columns, columns, rows, rows))
    windows = _windows(
        _windows(x, 2, w.shape[2], stride, dilation), 3, w.shape[3], stride, dilation
    )
    u, v = windows.shape[2:4]  # (b, c, u, v, p, q)
    parts = windows.reshape(b, groups, c // groups, u, v, *w.shape[2:])
    filters = w.reshape(groups, -1, *w.shape[1:])
    return torch.einsum("bgcuvpq,gocpq->bgouv", parts, filters).reshape(b, -1, u, v)


def conv1d(
    x: Float[Tensor, "b c t"],
    w: Float[Tensor, "o i k"],
    *,
    padding: int = 0,
    stride: int = 1,
    dilation: int = 1,
    groups: int = 1,
) -> Float[Tensor, "b o u"]:
    """The same along one axis (8.1); see :func:`conv2d`.

    Raises:
        ValueError: sizes that do not fit, or a filter longer than the padded sequence.
    """
    _check(x, w, stride, dilation, groups)
    if padding < 0:
        raise ValueError(f"padding must be >= 0, got {padding}")
    b, c = x.shape[:2]
    x = torch.nn.functional.pad(x, (padding, padding))
    windows = _windows(x, 2, w.shape[2], stride, dilation)  # (b, c, u, k)
    parts = windows.reshape(b, groups, c // groups, *windows.shape[2:])
    filters = w.reshape(groups, -1, *w.shape[1:])
    return torch.einsum("bgcuk,gock->bgou", parts, filters).reshape(b, -1, windows.shape[2])


def causal_conv1d(
    x: Float[Tensor, "b c t"], w: Float[Tensor, "o i k"], *, dilation: int = 1
) -> Float[Tensor, "b o t"]:
    """Convolution that sees the past only: all zeros in front, none behind (8.3).

    Output t reads inputs t, t − dilation, ..., t − (k − 1) dilation.

    Raises:
        ValueError: as :func:`conv1d`.
    """
    _check(x, w, 1, dilation, 1)
    past = torch.nn.functional.pad(x, ((w.shape[2] - 1) * dilation, 0))
    return conv1d(past, w, dilation=dilation)


def conv_fft1d(x: Float[Tensor, "*b t"], w: Float[Tensor, " k"]) -> Float[Tensor, "*b u"]:
    """One filter along one axis by the Fourier transform, without padding: T − k + 1 outputs (7.1).

    Raises:
        ValueError: an empty filter, or one longer than the sequence.
    """
    t, k = x.shape[-1], w.shape[0]
    if not 1 <= k <= t:
        raise ValueError(f"w must have 1..{t} entries, got {k}")
    size = t + k - 1
    product = torch.fft.rfft(x, size) * torch.fft.rfft(w.flip(0), size)
    return torch.fft.irfft(product, size)[..., k - 1 : t]


def toeplitz(w: Float[Tensor, " k"], n: int) -> Float[Tensor, "n n"]:
    """The matrix of a filter of odd length k with (k − 1)/2 zeros on each side (7.1).

    Each row holds the filter, one place further to the right than the row above.

    Raises:
        ValueError: an even length, or n < 1.

    >>> toeplitz(torch.tensor([1.0, 2.0, 3.0]), 3).tolist()
    [[2.0, 3.0, 0.0], [1.0, 2.0, 3.0], [0.0, 1.0, 2.0]]
    """
    k = w.shape[0]
    if k % 2 == 0 or n < 1:
        raise ValueError(f"an odd filter and n >= 1 are wanted, got {k} entries and n = {n}")
    offset = torch.arange(n)[None, :] - torch.arange(n)[:, None] + k // 2  # (n, n)
    inside = (offset >= 0) & (offset < k)
    return torch.where(inside, w[offset.clamp(0, k - 1)], torch.zeros((), dtype=w.dtype))


def receptive_field(layers: Sequence[tuple[int, int, int]]) -> int:
    """How many input places one output sees, along one axis (7.2).

    Args:
        layers: (kernel, stride, dilation) of each layer, first layer first; pooling counts too.

    Raises:
        ValueError: a number below 1.

    >>> receptive_field([(3, 1, 1), (3, 1, 1)]), receptive_field([(3, 1, 2**i) for i in range(5)])
    (5, 63)
    """
    field, jump = 1, 1
    for kernel, stride, dilation in layers:
        if min(kernel, stride, dilation) < 1:
            raise ValueError(f"kernel, stride, dilation must be >= 1: {(kernel, stride, dilation)}")
        field += (kernel - 1) * dilation * jump
        jump *= stride
    return field


def patches(image: Float[Tensor, "b c y x"], p: int) -> Float[Tensor, "b n d"]:
    """Squares of p x p in reading order, each flattened: (B, H W / p², C p²) (11.2).

    Raises:
        ValueError: p does not divide both sides.
    """
    b, c, height, width = image.shape
    if p < 1 or height % p or width % p:
        raise ValueError(f"p must divide {height} and {width}, got {p}")
    squares = image.reshape(b, c, height // p, p, width // p, p)
    return squares.permute(0, 2, 4, 1, 3, 5).reshape(b, -1, c * p * p)


def _windows(x: Tensor, axis: int, kernel: int, stride: int, dilation: int) -> Tensor:
    """Neighbourhoods along an axis, as one more axis at the end; a view, nothing is copied."""
    span = (kernel - 1) * dilation + 1
    if x.shape[axis] < span:
        raise ValueError(f"the filter spans {span} places, the padded input has {x.shape[axis]}")
    return x.unfold(axis, span, stride)[..., ::dilation]


def _check(x: Tensor, w: Tensor, stride: int, dilation: int, groups: int) -> None:
    if min(stride, dilation, groups) < 1:
        raise ValueError(
            f"stride, dilation, groups must be >= 1, got {stride}, {dilation}, {groups}"
        )
    channels, outputs, inside = x.shape[1], w.shape[0], w.shape[1]
    if channels != inside * groups or outputs % groups:
        raise ValueError(
            f"x has {channels} channels, w {tuple(w.shape[:2])} filters and groups is {groups}: "
            "w.shape[1] * groups must be the channels, and groups divide w.shape[0]"
        )
