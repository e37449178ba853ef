"""Checks of notebook B10: transformer models (chapter 10 of arXiv 2404.17625)."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from labcore.blocks import attention as blocks
from labcore.blocks.positions import sinusoidal
from labcore.course.checking import Wrong, register

Rng = np.random.Generator


def _normal(rng: Rng, *shape: int) -> Tensor:
    return torch.from_numpy(rng.standard_normal(shape))


# B10.1: scaled dot-product attention


def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Reference of B10.1: (t_query, v)."""
    read, _ = blocks.attention(query, key, value, return_weights=True)
    return read


def _softly(scale: bool, dim: int) -> Callable[..., Tensor]:
    def wrong(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        scores = query @ key.T
        if scale:
            scores = scores / query.shape[1] ** 0.5
        return scores.softmax(dim) @ value

    return wrong


def _by_width(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    return (query @ key.T / query.shape[1]).softmax(-1) @ value


def _draw_attention(rng: Rng) -> tuple[Tensor, ...]:
    k = int(rng.integers(4, 9))
    return _normal(rng, 5, k), _normal(rng, 7, k), _normal(rng, 7, 3)


register(
    "B10.1",
    reference=attend,
    cases=(_draw_attention, _draw_attention),
    wrong=(
        Wrong(
            "no scale",
            _softly(scale=False, dim=-1),
            "divide the scores by the square root of the width, or wide keys make it a hard choice",
        ),
        Wrong(
            "softmax over queries",
            _softly(scale=True, dim=0),
            "every QUERY's weights must sum to one: softmax over the keys, the last axis",
        ),
        Wrong(
            "divided by the width",
            _by_width,
            "a dot product of k independent terms grows like sqrt(k), not like k",
        ),
    ),
)


# B10.2: the order of the tokens


def order_gap(layer: Callable[[Tensor], Tensor], x: Tensor, order: Tensor) -> float:
    """Reference of B10.2: how far the layer is from following a reordering of its tokens."""
    return float((layer(x[order]) - layer(x)[order]).abs().max())


def _self(x: Tensor) -> Tensor:
    return attend(x, x, x)


def _placed(x: Tensor) -> Tensor:
    return _self(x + sinusoidal(len(x), x.shape[1]))


def _draw_order(layer: Callable[[Tensor], Tensor]) -> Callable[[Rng], tuple[Any, ...]]:
    def draw(rng: Rng) -> tuple[Any, ...]:
        n = int(rng.integers(5, 9))
        return layer, _normal(rng, n, 4), torch.roll(torch.arange(n), int(rng.integers(2, 4)))

    return draw


register(
    "B10.2",
    reference=order_gap,
    cases=(_draw_order(_self), _draw_order(_placed)),
    wrong=(
        Wrong(
            "invariance",
            lambda layer, x, order: float((layer(x[order]) - layer(x)).abs().max()),
            "the outputs are tokens too: they must be compared in the new order",
        ),
        Wrong(
            "mean difference",
            lambda layer, x, order: float((layer(x[order]).mean() - layer(x).mean()).abs()),
            "means hide who said what: take the largest absolute difference of entries",
        ),
    ),
)


# B10.3: sinusoidal positions


def positions(t: int, d: int) -> Tensor:
    """Reference of B10.3: (t, d), pairs (sin, cos)."""
    return sinusoidal(t, d)


def _waves(power: Callable[[Tensor, int], Tensor], joined: bool = False) -> Callable[..., Tensor]:
    def wrong(t: int, d: int) -> Tensor:
        i = torch.arange(d // 2).double()
        angle = torch.arange(t).double()[:, None] * 10_000.0 ** power(i, d)
        pair = (angle.sin(), angle.cos())
        return torch.cat(pair, 1) if joined else torch.stack(pair, -1).flatten(1)

    return wrong


def _offsets_only(answer: Callable[[int, int], Tensor], rng: Rng) -> str | None:
    p = torch.as_tensor(answer(40, 16)).double()
    far = [float(p[i] @ p[i + 7]) for i in (0, 11, 30)]
    if max(far) - min(far) > 1e-6:
        return f"dot products at distance 7 differ from place to place: {far}"
    size = float(p[5] @ p[5])
    return None if abs(size - 8) < 1e-6 else f"the squared length of a row is {size:.4f}, not d / 2"


register(
    "B10.3",
    reference=positions,
    cases=((6, 8), lambda rng: (int(rng.integers(5, 30)), 2 * int(rng.integers(3, 10)))),
    properties=(_offsets_only,),
    wrong=(
        Wrong(
            "exponent i/d",
            _waves(lambda i, d: -i / d),
            "the exponent is -2i/d for pair i (mind the convention): half of yours",
        ),
        Wrong(
            "growing frequencies",
            _waves(lambda i, d: 2 * i / d),
            "frequencies FALL from 1 towards 1/10000: the exponent is negative",
        ),
        Wrong(
            "sines first, cosines after",
            _waves(lambda i, d: -2 * i / d, joined=True),
            "the same numbers in another order: interleave the pairs, sin, cos, sin, cos",
        ),
    ),
)


# B10.4: heads are a sum


def head_outputs(
    x: Tensor, w_query: Tensor, w_key: Tensor, w_value: Tensor, w_out: Tensor, heads: int
) -> Tensor:
    """Reference of B10.4: (heads, t, d), what each head adds to the output."""
    query, key, value = (blocks.split_heads(x @ w, heads) for w in (w_query, w_key, w_value))
    read, _ = blocks.attention(query, key, value, return_weights=True)
    return read @ w_out.unflatten(0, (heads, -1))


def _heads(
    width_of_all: bool = False, first_block: bool = False, interleaved: bool = False
) -> Callable[..., Tensor]:
    def wrong(x: Tensor, wq: Tensor, wk: Tensor, wv: Tensor, wo: Tensor, heads: int) -> Tensor:
        size, found = wq.shape[1] // heads, []
        for h in range(heads):
            part = slice(h, None, heads) if interleaved else slice(h * size, (h + 1) * size)
            q, k, v = x @ wq[:, part], x @ wk[:, part], x @ wv[:, part]
            width = wq.shape[1] if width_of_all else size
            block = wo[:size] if first_block else wo[part]
            found.append((q @ k.T / width**0.5).softmax(-1) @ v @ block)
        return torch.stack(found)

    return wrong


def _draw_heads(rng: Rng) -> tuple[Any, ...]:
    return _normal(rng, 5, 6), *(_normal(rng, 6, 6) for _ in range(4)), 3


register(
    "B10.4",
    reference=head_outputs,
    cases=(_draw_heads, _draw_heads),
    points=2,
    wrong=(
        Wrong(
            "scaled by the whole width",
            _heads(width_of_all=True),
            "a head's scores are dot products of ITS width: divide by sqrt(d / heads)",
        ),
        Wrong(
            "one block of w_out for all",
            _heads(first_block=True),
            "head h meets the rows h * size .. (h + 1) * size of w_out",
        ),
        Wrong(
            "every heads-th column",
            _heads(interleaved=True),
            "a head owns consecutive columns, not every heads-th one",
        ),
    ),
)


# B10.5: a set of views


def pooled(views: Tensor, mask: Tensor) -> Tensor:
    """Reference of B10.5: mean over the views that are there, (b, d)."""
    weight = mask.double()[..., None]
    return (views * weight).sum(1) / weight.sum(1)


def _order_free(answer: Callable[[Tensor, Tensor], Tensor], rng: Rng) -> str | None:
    views, mask = _draw_views(rng)
    order = torch.roll(torch.arange(views.shape[1]), 1)
    gap = float((answer(views, mask) - answer(views[:, order], mask[:, order])).abs().max())
    return None if gap < 1e-9 else f"reordering the views changes the answer by {gap:.2g}"


def _draw_views(rng: Rng) -> tuple[Tensor, Tensor]:
    mask = torch.from_numpy(rng.random((3, 5)) < 0.6)
    mask[:, 0], mask[0, 4] = True, False
    mask[:, 1] = torch.tensor([False, True, True])
    return _normal(rng, 3, 5, 4) + 1, mask


register(
    "B10.5",
    reference=pooled,
    cases=(_draw_views, _draw_views),
    properties=(_order_free,),
    wrong=(
        Wrong(
            "divided by all",
            lambda views, mask: (views * mask[..., None]).mean(1),
            "absent views count as zeros: divide by the number of views that ARE there",
        ),
        Wrong(
            "mask ignored",
            lambda views, mask: views.mean(1),
            "padding takes part in the mean: leave out views whose mask is False",
        ),
        Wrong(
            "the first view",
            lambda views, mask: views[:, 0],
            "that depends on the order of the views",
        ),
    ),
)
