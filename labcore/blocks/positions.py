"""Where a token stands: sinusoids, linear biases, rotations (section 10.2)."""

import torch
from jaxtyping import Float, Int
from torch import Tensor


def sinusoidal(t: int, d: int) -> Float[Tensor, "t d"]:
    """Pairs (sin, cos) of ``position * 10000**(-2 i / d)`` for i = 0 .. d/2 - 1 (1706.03762).

    The dot product of two rows depends on their distance only; each has squared length d / 2.

    Raises:
        ValueError: ``t`` is not positive or ``d`` is not even.
    """
    _even(d)
    if t < 1:
        raise ValueError(f"t must be at least 1 position, got {t}")
    angles = torch.arange(t, dtype=torch.float64)[:, None] * _frequencies(d)
    return torch.stack((angles.sin(), angles.cos()), -1).flatten(1)


def alibi(t: int, heads: int) -> Float[Tensor, "h t t"]:
    """Biases ``-slope (i - j)`` for query i and key j, with slope ``2**(-8 h / heads)``, h from 1.

    Add them to the scores of causal attention; the slopes are those of Press et al. (2108.12409)
    for a power of two of heads.

    Raises:
        ValueError: ``t`` or ``heads`` is not positive.
    """
    if t < 1 or heads < 1:
        raise ValueError(f"t and heads must be at least 1, got {t} and {heads}")
    place = torch.arange(t, dtype=torch.float64)
    slopes = 2.0 ** (-8 * torch.arange(1, heads + 1, dtype=torch.float64) / heads)
    return -slopes[:, None, None] * (place[:, None] - place[None])


def rope(
    x: Float[Tensor, "... t d"], positions: Int[Tensor, " n"], *, base: float = 10_000.0
) -> Float[Tensor, "... t d"]:
    """Turn the pairs (x[2i], x[2i + 1]) by ``position * base**(-2 i / d)`` (Su et al., 2104.09864).

    The dot product of a turned query and a turned key depends on their distance only. Models of
    the Llama family pair x[i] with x[i + d/2] instead: the same up to the order of features.

    Raises:
        ValueError: An odd width, or another number of positions than tokens.
    """
    _even(x.shape[-1])
    if len(positions) != x.shape[-2]:
        raise ValueError(f"{len(positions)} positions do not fit {x.shape[-2]} tokens")
    angles = positions.double()[:, None] * _frequencies(x.shape[-1], base)
    cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    first, second = x[..., ::2], x[..., 1::2]
    return torch.stack((first * cos - second * sin, first * sin + second * cos), -1).flatten(-2)


def _frequencies(d: int, base: float = 10_000.0) -> Float[Tensor, " half"]:
    return base ** (-torch.arange(0, d, 2, dtype=torch.float64) / d)


def _even(d: int) -> None:
    if d < 2 or d % 2:
        raise ValueError(f"the width must be even, for pairs of features, got {d}")
