"""Checks of notebook B08: convolutions beyond images (chapter 8 of arXiv 2404.17625)."""

import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from labcore.blocks import text as blocks
from labcore.course.checking import EXACT, Wrong, register

Rng = np.random.Generator


def _normal(rng: Rng, *shape: int) -> Tensor:
    return torch.from_numpy(rng.standard_normal(shape))


# B08.1: one byte-pair merge

Merge = tuple[tuple[int, int], int, list[int]]


def merge_once(ids: list[int], new: int) -> Merge:
    """Reference of B08.1: (pair, its count, the sequence after the merge)."""
    found = Counter(zip(ids, ids[1:], strict=False))
    pair = min(found, key=lambda p: (-found[p], p))
    return pair, found[pair], blocks.replace_pair(ids, pair, new)


def _overlapping(ids: list[int], new: int) -> Merge:
    pair, count, _ = merge_once(ids, new)
    starts = {i for i in range(len(ids) - 1) if (ids[i], ids[i + 1]) == pair}
    kept = [
        new if i in starts else x for i, x in enumerate(ids) if i in starts or i - 1 not in starts
    ]
    return pair, count, kept


def _first_seen(ids: list[int], new: int) -> Merge:
    found = Counter(zip(ids, ids[1:], strict=False))
    pair, count = found.most_common(1)[0]
    return pair, count, blocks.replace_pair(ids, pair, new)


def _no_runs(ids: list[int], new: int) -> Merge:
    found: Counter[tuple[int, int]] = Counter()
    i = 0
    while i < len(ids) - 1:
        found[ids[i], ids[i + 1]] += 1
        i += 2 if ids[i] == ids[i + 1] and ids[i : i + 3] == [ids[i]] * 3 else 1
    pair = min(found, key=lambda p: (-found[p], p))
    return pair, found[pair], blocks.replace_pair(ids, pair, new)


def _draw_ids(rng: Rng) -> tuple[list[int], int]:
    run = [2] * int(rng.integers(5, 9))  # a run of equal ids wins: overlaps and counts show
    return [*run, 1, 0, *(int(i) for i in rng.integers(0, 4, size=6))], 9


register(
    "B08.1",
    reference=merge_once,
    cases=(([3, 1, 0, 3, 1, 0], 7), _draw_ids, ([2, 2, 2, 1, 2], 5)),
    tolerance=EXACT,
    points=2,
    wrong=(
        Wrong(
            "overlapping replacement",
            _overlapping,
            "replace from left to right and jump over what was merged: a a a becomes X a",
        ),
        Wrong(
            "ties by first seen",
            _first_seen,
            "of equally frequent pairs take the smallest pair of ids, not the first one met",
        ),
        Wrong(
            "runs counted once",
            _no_runs,
            "count every adjacent pair, those that overlap in a run too: a a a holds two",
        ),
    ),
)


# B08.2: causality by padding


def causal_conv(x: Tensor, w: Tensor, dilation: int) -> Tensor:
    """Reference of B08.2: (t, e) from (t, d) and a kernel (e, d, k)."""
    return F.conv1d(F.pad(x.T, ((w.shape[2] - 1) * dilation, 0)), w, dilation=dilation).T


def _padded(left: Callable[[int], int], right: Callable[[int], int]) -> Callable[..., Tensor]:
    def wrong(x: Tensor, w: Tensor, dilation: int) -> Tensor:
        span = (w.shape[2] - 1) * dilation
        return F.conv1d(F.pad(x.T, (left(span), right(span))), w, dilation=dilation).T

    return wrong


def _undilated(x: Tensor, w: Tensor, dilation: int) -> Tensor:
    return causal_conv(x, w, 1)


def _no_future(answer: Callable[[Tensor, Tensor, int], Tensor], rng: Rng) -> str | None:
    x, w, _ = _draw_conv(rng)
    other = x.clone()
    other[6] += 1
    changed = (answer(x, w, 2) != answer(other, w, 2)).any(-1).nonzero()
    first = int(changed[0]) if len(changed) else len(x)
    return None if first >= 6 else f"a change at token 6 reaches output {first}"


def _draw_conv(rng: Rng) -> tuple[Tensor, Tensor, int]:
    return _normal(rng, 12, 3), _normal(rng, 2, 3, 3), 2


register(
    "B08.2",
    reference=causal_conv,
    cases=(_draw_conv, _draw_conv),
    properties=(_no_future,),
    wrong=(
        Wrong(
            "padded on both sides",
            _padded(lambda s: s // 2, lambda s: s - s // 2),
            "'same' padding lets every output see tokens that come later: pad on the left only",
        ),
        Wrong(
            "padded on the right",
            _padded(lambda s: 0, lambda s: s),
            "zeros belong BEFORE the first token: the output at t ends at t",
        ),
        Wrong(
            "dilation forgotten",
            _undilated,
            "taps stand `dilation` tokens apart, and the padding grows with it: (k - 1) * dilation",
        ),
    ),
)


# B08.3: receptive field of a stack


def receptive_field(kernel: int, dilations: list[int]) -> int:
    """Reference of B08.3: tokens that one output can see."""
    return 1 + (kernel - 1) * sum(dilations)


register(
    "B08.3",
    reference=receptive_field,
    cases=(
        (3, [1, 2, 4, 8, 16]),
        lambda rng: (int(rng.integers(2, 6)), [int(d) for d in rng.integers(1, 9, size=4)]),
    ),
    tolerance=EXACT,
    wrong=(
        Wrong(
            "kernels added",
            lambda kernel, dilations: kernel * sum(dilations),
            "a layer ADDS (kernel - 1) * dilation tokens to what is seen already",
        ),
        Wrong(
            "one missing",
            lambda kernel, dilations: (kernel - 1) * sum(dilations),
            "the output's own token counts as well",
        ),
        Wrong(
            "dilation ignored",
            lambda kernel, dilations: 1 + (kernel - 1) * len(dilations),
            "taps of a dilated layer stand further apart: multiply by the dilation",
        ),
    ),
)


# B08.4: bits of a bigram table


def bigram_bits(train: str, test: str) -> float:
    """Reference of B08.4: add-one bigram, bits a character."""
    return blocks.bigram_bits(train, test)


def _table(add: int = 1, nats: bool = False, own: bool = False) -> Callable[[str, str], float]:
    def wrong(train: str, test: str) -> float:
        size = len(set(train) | set(test))
        source = test if own else train
        pairs, first = Counter(zip(source, source[1:], strict=False)), Counter(source[:-1])
        total = sum(
            math.log2((first[a] + size) / (pairs[a, b] + add))
            for a, b in zip(test, test[1:], strict=False)
        )
        return total / (len(test) - 1) * (math.log(2) if nats else 1)

    return wrong


def _draw_texts(rng: Rng) -> tuple[str, str]:
    letters = np.array(list("abcde "))
    train, test = ("".join(rng.choice(letters, size=n)) for n in (80, 30))
    return train, test


def _joint(train: str, test: str) -> float:
    size = len(set(train) | set(test))
    pairs = Counter(zip(train, train[1:], strict=False))
    n = len(train) - 1 + size**2
    total = sum(math.log2(n / (pairs[p] + 1)) for p in zip(test, test[1:], strict=False))
    return total / (len(test) - 1)


register(
    "B08.4",
    reference=bigram_bits,
    cases=(("abracadabra", "abaca"), _draw_texts),
    wrong=(
        Wrong(
            "nats",
            _table(nats=True),
            "that is in nats: take logarithms to base 2",
        ),
        Wrong(
            "counted on the test text",
            _table(own=True),
            "the table must come from the training text: a test text never teaches",
        ),
        Wrong(
            "joint probability",
            _joint,
            "score p(b | a), not p(a, b): divide by how often a begins a pair",
        ),
    ),
)


# B08.5: beam search

Tree = Callable[[list[int]], Tensor]


def beam(logp: Tree, steps: int, width: int) -> tuple[list[int], float]:
    """Reference of B08.5: (tokens, log-probability)."""
    return blocks.beam_search(lambda ids: logp(list(ids)), [], steps, width=width)


def _search(width: int | None = None, last_only: bool = False) -> Callable[..., Any]:
    def wrong(logp: Tree, steps: int, beams: int) -> tuple[list[int], float]:
        kept: list[tuple[float, list[int], float]] = [(0.0, [], 0.0)]
        for _ in range(steps):
            grown = []
            for score, ids, _rank in kept:
                for token, gain in enumerate(logp(ids).tolist()):
                    rank = gain if last_only else score + gain
                    grown.append((score + gain, [*ids, token], rank))
            kept = sorted(grown, key=lambda b: -b[2])[: width or beams]
        best = kept[0]
        return best[1], best[0]

    return wrong


def _garden(seed: int) -> Tree:
    """A tree with a tempting first step: token 0 begins likely and goes on badly."""
    table = np.random.default_rng(seed).uniform(0.8, 1.2, size=(3, 3, 3))

    def logp(ids: list[int]) -> Tensor:
        if not ids:
            p = [0.5, 0.45, 0.05]
        elif ids[0] == 0:
            p = [0.36, 0.33, 0.31]
        else:
            p = [0.9, 0.06, 0.04] if ids[0] == 1 else [0.98, 0.01, 0.01]
        weights = torch.tensor(p).double() * torch.from_numpy(table[len(ids), sum(ids) % 3])
        return (weights / weights.sum()).log()

    return logp


def _by_length(logp: Tree, steps: int, width: int) -> tuple[list[int], float]:
    tokens, score = beam(logp, steps, width)
    return tokens, score / steps


register(
    "B08.5",
    reference=beam,
    cases=((_garden(0), 3, 2), lambda rng: (_garden(int(rng.integers(1, 99))), 3, 3)),
    points=2,
    wrong=(
        Wrong(
            "greedy",
            _search(width=1),
            "only one beginning is kept: keep the best `width` after every step",
        ),
        Wrong(
            "ranked by the last step",
            _search(last_only=True),
            "rank beginnings by the SUM of their log-probabilities, not by the newest one",
        ),
        Wrong(
            "divided by the length",
            _by_length,
            "the right tokens; give their log-probability as it is, not per token",
        ),
    ),
)


# B08.6: padding and its mask


def pad_batch(texts: list[list[int]], pad: int) -> tuple[Tensor, Tensor]:
    """Reference of B08.6: ids (b, longest), padded on the right, and True where a token is."""
    longest = max(len(ids) for ids in texts)
    rows = [[*ids, *[pad] * (longest - len(ids))] for ids in texts]
    lengths = torch.tensor([len(ids) for ids in texts])
    return torch.tensor(rows), torch.arange(longest)[None] < lengths[:, None]


def _by_value(texts: list[list[int]], pad: int) -> tuple[Tensor, Tensor]:
    ids, _ = pad_batch(texts, pad)
    return ids, ids != pad


def _on_the_left(texts: list[list[int]], pad: int) -> tuple[Tensor, Tensor]:
    ids, mask = pad_batch([row[::-1] for row in texts], pad)
    return ids.flip(1), mask.flip(1)


def _swapped(texts: list[list[int]], pad: int) -> tuple[Tensor, Tensor]:
    ids, mask = pad_batch(texts, pad)
    return ids, ~mask


def _draw_rows(rng: Rng) -> tuple[list[list[int]], int]:
    rows = [[int(i) for i in rng.integers(1, 9, size=n)] for n in (3, 6, int(rng.integers(4, 6)))]
    rows[1][2] = 0  # a real token that looks like padding
    return rows, 0


register(
    "B08.6",
    reference=pad_batch,
    cases=(([[5, 0, 2], [4]], 0), _draw_rows),
    tolerance=EXACT,
    wrong=(
        Wrong(
            "mask by value",
            _by_value,
            "a real token may have the id of the padding: build the mask from the LENGTHS",
        ),
        Wrong(
            "padded on the left",
            _on_the_left,
            "the padding goes behind the text here",
        ),
        Wrong(
            "mask turned round",
            _swapped,
            "True where a token IS, False where padding is",
        ),
    ),
)
