"""Checks of notebook B11: transformers in practice (chapter 11 of arXiv 2404.17625)."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from labcore.blocks.attention import causal_mask
from labcore.blocks.kv_cache import cache_bytes
from labcore.course.checking import EXACT, Wrong, register

Rng = np.random.Generator


def _normal(rng: Rng, *shape: int) -> Tensor:
    return torch.from_numpy(rng.standard_normal(shape))


# B11.1: the mask stands before the softmax


def causal_weights(scores: Tensor) -> Tensor:
    """Reference of B11.1: weights (t, t) of square scores."""
    return scores.masked_fill(~causal_mask(*scores.shape), -torch.inf).softmax(-1)


def _rows_and_future(answer: Callable[[Tensor], Tensor], rng: Rng) -> str | None:
    weights = torch.as_tensor(answer(_normal(rng, 9, 9)))
    if float((weights.sum(-1) - 1).abs().max()) > 1e-6:
        return "rows do not sum to 1"
    return "a query reads the future" if float(weights.triu(1).abs().max()) > 0 else None


register(
    "B11.1",
    reference=causal_weights,
    cases=(lambda rng: (_normal(rng, 6, 6),), lambda rng: (_normal(rng, 4, 4),)),
    properties=(_rows_and_future,),
    wrong=(
        Wrong(
            "after the softmax",
            lambda scores: scores.softmax(-1).tril(),
            "rows no longer sum to one: the future took its share before it was removed",
        ),
        Wrong(
            "scores times zero",
            lambda scores: scores.tril().softmax(-1),
            "a score of 0 is not 'no': exp(0) = 1. Use minus infinity",
        ),
        Wrong(
            "itself hidden too",
            lambda scores: scores.masked_fill(torch.ones_like(scores).tril(-1) == 0, -1e9).softmax(
                -1
            ),
            "a token may read itself: keep the diagonal",
        ),
    ),
)


# B11.2: the online softmax


def online(scores: Tensor, values: Tensor, block: int) -> Tensor:
    """Reference of B11.2: softmax(scores) @ values for one query, ``block`` scores at a time."""
    return scores.softmax(-1) @ values


def _no_maximum(scores: Tensor, values: Tensor, block: int) -> Tensor:
    e = scores.exp()
    return (e[:, None] * values).sum(0) / e.sum()


def _block_maxima(scores: Tensor, values: Tensor, block: int) -> Tensor:
    total, summed = torch.zeros(()).double(), torch.zeros(values.shape[1]).double()
    for part, some in zip(scores.split(block), values.split(block), strict=True):
        e = (part - part.max()).exp()
        total, summed = total + e.sum(), summed + e @ some
    return summed / total


def _mean_of_blocks(scores: Tensor, values: Tensor, block: int) -> Tensor:
    parts = zip(scores.split(block), values.split(block), strict=True)
    return torch.stack([s.softmax(-1) @ v for s, v in parts]).mean(0)


def _draw_scores(scale: float) -> Callable[[Rng], tuple[Tensor, Tensor, int]]:
    def draw(rng: Rng) -> tuple[Tensor, Tensor, int]:
        n = int(rng.integers(10, 20))
        return scale * _normal(rng, n), _normal(rng, n, 3), int(rng.integers(3, 5))

    return draw


register(
    "B11.2",
    reference=online,
    cases=(
        _draw_scores(1.0),
        (
            torch.tensor([-1000.0, 1000, 999, 998.5, 0, 1000]).double(),
            torch.arange(12).double().view(6, 2),
            2,
        ),
    ),
    points=2,
    wrong=(
        Wrong(
            "no running maximum",
            _no_maximum,
            "exp(1000) is infinite: subtract the largest score seen so far",
        ),
        Wrong(
            "sums not rescaled",
            _block_maxima,
            "each block subtracted its own maximum: bring the old sums to the new maximum first",
        ),
        Wrong(
            "mean of the blocks",
            _mean_of_blocks,
            "blocks have different weight: add up sums of exponentials, divide once at the end",
        ),
    ),
)


# B11.3: the mask when a cache is there


def cached_mask(held: int, new: int) -> Tensor:
    """Reference of B11.3: (new, held + new), True where a new query may read."""
    return causal_mask(new, held + new)


register(
    "B11.3",
    reference=cached_mask,
    cases=((4, 1), (3, 3), lambda rng: (int(rng.integers(2, 9)), int(rng.integers(2, 6)))),
    tolerance=EXACT,
    wrong=(
        Wrong(
            "square mask, first aligned",
            lambda held, new: torch.ones(new, held + new, dtype=torch.bool).tril(),
            "this lines up the first query with the first key: with one new token it reads key 0 "
            "only. The LAST query stands at the last key",
        ),
        Wrong(
            "everything",
            lambda held, new: torch.ones(new, held + new, dtype=torch.bool),
            "right for one new token only: several new ones must not see each other's future",
        ),
        Wrong(
            "itself hidden",
            lambda held, new: torch.ones(new, held + new, dtype=torch.bool).tril(held - 1),
            "a new token reads itself as well: one diagonal further",
        ),
    ),
)


# B11.4: bytes


def bytes_held(
    tokens: int, layers: int, heads: int, kv_heads: int, head_dim: int, size: int
) -> int:
    """Reference of B11.4: bytes of a cache."""
    return cache_bytes(tokens, layers=layers, kv_heads=kv_heads, head_dim=head_dim, itemsize=size)


def _draw_sizes(rng: Rng) -> tuple[int, ...]:
    kv = int(rng.integers(1, 5))
    heads = kv * int(rng.integers(2, 5))
    return int(rng.integers(5, 999)), int(rng.integers(2, 40)), heads, kv, 64, 2


register(
    "B11.4",
    reference=bytes_held,
    cases=((1, 30, 9, 3, 64, 4), _draw_sizes),
    tolerance=EXACT,
    wrong=(
        Wrong(
            "query heads",
            lambda tokens, layers, heads, kv_heads, head_dim, size: bytes_held(
                tokens, layers, heads, heads, head_dim, size
            ),
            "queries are not kept: count the key heads",
        ),
        Wrong(
            "keys only",
            lambda *sizes: bytes_held(*sizes) // 2,
            "values are kept too: twice as much",
        ),
        Wrong(
            "one layer",
            lambda tokens, layers, *rest: bytes_held(tokens, 1, *rest),
            "every layer keeps its own pairs",
        ),
    ),
)


# B11.5: patches


def patchify(images: Tensor, p: int) -> Tensor:
    """Reference of B11.5: (b, n, c p p), patches in reading order, channel first in each."""
    b, c, h, w = images.shape
    cut = images.view(b, c, h // p, p, w // p, p)
    return cut.permute(0, 2, 4, 1, 3, 5).reshape(b, (h // p) * (w // p), c * p * p)


def _reshaped(images: Tensor, p: int) -> Tensor:
    b, c, h, w = images.shape
    return images.reshape(b, (h // p) * (w // p), c * p * p)


def _column_order(images: Tensor, p: int) -> Tensor:
    b, c, h, w = images.shape
    cut = images.view(b, c, h // p, p, w // p, p)
    return cut.permute(0, 4, 2, 1, 3, 5).reshape(b, -1, c * p * p)


def _channels_last(images: Tensor, p: int) -> Tensor:
    b, c, h, w = images.shape
    cut = images.view(b, c, h // p, p, w // p, p)
    return cut.permute(0, 2, 4, 3, 5, 1).reshape(b, -1, c * p * p)


def _draw_images(rng: Rng) -> tuple[Any, ...]:
    return _normal(rng, 2, 3, 8, 12), 4


register(
    "B11.5",
    reference=patchify,
    cases=(_draw_images, lambda rng: (_normal(rng, 1, 2, 6, 6), 3)),
    tolerance=EXACT,
    wrong=(
        Wrong(
            "only reshaped",
            _reshaped,
            "a reshape cuts runs of pixels, not squares: split both axes, then permute",
        ),
        Wrong(
            "down the columns",
            _column_order,
            "patches go in reading order: along a row of patches first",
        ),
        Wrong(
            "channels last",
            _channels_last,
            "inside a patch the channel comes first: (c, p, p)",
        ),
    ),
)
