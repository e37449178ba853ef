"""Checks of notebook P06: which pairs of a key-value cache to keep (arXiv 2406.11430)."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from labcore.course.checking import EXACT, Wrong, register
from labcore.kvcache.attention_loss import attention_losses
from labcore.kvcache.norms import key_norms, select

Rng = np.random.Generator
LLAMA_2_7B = {"layers": 32, "key_heads": 32, "head_dim": 128, "itemsize": 2}
SMOLLM2_135M = {"layers": 30, "key_heads": 3, "head_dim": 64, "itemsize": 4}


def _normal(rng: Rng, *shape: int) -> Tensor:
    return torch.from_numpy(rng.standard_normal(shape))


# P06.1: the ledger of bytes


def cache_bytes(
    tokens: int,
    layers: int,
    key_heads: int,
    head_dim: int,
    itemsize: int,
    keep_ratio: float = 1.0,
    skipped: int = 0,
) -> int:
    """Reference of P06.1: keys and values of the skipped layers whole, of the others ⌈ρn⌉."""
    pairs = skipped * tokens + (layers - skipped) * math.ceil(keep_ratio * tokens - 1e-9)
    return 2 * pairs * key_heads * head_dim * itemsize


def _ledger(kept: Callable[[int, float], int], tensors: int = 2) -> Any:
    """A wrong ledger: another number of kept pairs, or of tensors in a pair."""

    def wrong(
        tokens: int, layers: int, keep_ratio: float = 1.0, skipped: int = 0, **of: int
    ) -> int:
        pairs = skipped * tokens + (layers - skipped) * kept(tokens, keep_ratio)
        return tensors * pairs * of["key_heads"] * of["head_dim"] * of["itemsize"]

    return wrong


def _draw_model(rng: Rng) -> dict[str, Any]:
    layers = int(rng.integers(4, 40))
    return {
        "tokens": int(rng.integers(100, 5000)) * 2 + 1,
        "layers": layers,
        "key_heads": int(rng.integers(1, 33)),
        "head_dim": int(rng.choice([64, 96, 128])),
        "itemsize": int(rng.choice([1, 2, 4])),
        "keep_ratio": int(rng.integers(1, 8)) / 8,  # eighths of odd lengths: exact, never whole
        "skipped": int(rng.integers(1, layers)),
    }


register(
    "P06.1",
    reference=cache_bytes,
    cases=(
        {"tokens": 4096, **LLAMA_2_7B},
        {"tokens": 4096, **LLAMA_2_7B, "keep_ratio": 0.5, "skipped": 2},
        {"tokens": 1025, **SMOLLM2_135M, "keep_ratio": 0.25, "skipped": 2},
        _draw_model,
    ),
    tolerance=EXACT,
    wrong=(
        Wrong(
            "one tensor",
            _ledger(lambda n, ratio: math.ceil(ratio * n), tensors=1),
            "half of it is missing: a pair is a key AND a value",
        ),
        Wrong(
            "skipped layers pruned too",
            lambda skipped=0, **given: cache_bytes(**given),
            "skipped layers stay whole: the ratio holds for the other layers only",
        ),
        Wrong(
            "rounded down",
            _ledger(lambda n, ratio: int(ratio * n)),
            "round the number of pairs up, in every layer: half of 1025 pairs is 513",
        ),
    ),
)


# P06.2: the attention loss of one query


def attention_loss(row: Tensor, norms: Tensor) -> tuple[float, float]:
    """Reference of P06.2: (ALR, relative ALR) of a row whose last entry is the query's own key."""
    loss, at_random = attention_losses(row[:-1], norms[:-1])
    return float(loss), float(loss / at_random)


def _losses(attn: Tensor, norms: Tensor, *, middle: float | None = None) -> tuple[float, float]:
    ranks = attn.argsort().argsort().double()
    by_norm = (-norms).argsort().argsort().double()
    middle = (len(attn) - 1) / 2 if middle is None else middle
    loss = float(attn @ (ranks - by_norm))
    return loss, loss / float(attn @ (ranks - middle))


def _draw_row(rng: Rng) -> tuple[Tensor, Tensor]:
    logits = 2 * _normal(rng, int(rng.integers(8, 40)))
    return logits.softmax(dim=-1), 8 + _normal(rng, len(logits))


register(
    "P06.2",
    reference=attention_loss,
    cases=(
        (
            torch.tensor([0.25, 0.15, 0.10, 0.50], dtype=torch.float64),
            torch.tensor([1.0, 3.0, 2.0, 5.0], dtype=torch.float64),
        ),
        _draw_row,
    ),
    points=2,
    wrong=(
        Wrong(
            "own key included",
            lambda row, norms: _losses(row, norms),
            "leave out the last entry of both: a query's own key is never dropped in its own step",
        ),
        Wrong(
            "norms ranked ascending",
            lambda row, norms: _losses(row[:-1], -norms[:-1]),
            "the largest norm is dropped FIRST, so it has rank 0: rank minus the norm",
        ),
        Wrong(
            "renormalised",
            lambda row, norms: _losses(row[:-1] / row[:-1].sum(), norms[:-1]),
            "do not divide the row by its sum: the loss is counted in attention as it was paid",
        ),
        Wrong(
            "middle rank n/2",
            lambda row, norms: _losses(row[:-1], norms[:-1], middle=(len(row) - 1) / 2),
            "ranks run from 0 to n - 1, so a random order has mean rank (n - 1)/2, not n/2",
        ),
    ),
)


# P06.3: before or after the rotation


def _lengths(keys: Tensor) -> Tensor:
    return key_norms(keys.float())


def kept_before_rotation(keys: Tensor, k: int) -> Tensor:
    """Reference of P06.3: positions of the k shortest keys of each head, ascending."""
    return select(-_lengths(keys)[None], k)[0]


def _rotate(keys: Tensor) -> Tensor:
    """Rotary embedding of keys at positions 0..n-1, in float64 (Su et al., arXiv 2104.09864)."""
    n, d = keys.shape[-2:]
    angles = torch.arange(n)[:, None] / 10_000 ** (torch.arange(d // 2) / (d // 2)).double()
    turned = torch.view_as_complex(keys.unflatten(-1, (-1, 2)).contiguous())
    return torch.view_as_real(turned * torch.polar(torch.ones_like(angles), angles)).flatten(-2)


def _same_after_rotation(answer: Any, rng: Rng) -> str | None:
    keys = _normal(rng, 2, 40, 16)
    before, after = (np.asarray(answer(x, 13)) for x in (keys, _rotate(keys)))
    if np.array_equal(before, after):
        return None
    return "rotated keys give another set; a norm does not change when coordinate pairs turn"


def _draw_bfloat16(rng: Rng) -> tuple[Tensor, int]:
    return _normal(rng, 2, 256, 64).bfloat16(), 128


def _in_cache_dtype(keys: Tensor, k: int) -> Tensor:
    return select(-keys.square().sum(-1).sqrt().to(keys.dtype).float()[None], k)[0]


register(
    "P06.3",
    reference=kept_before_rotation,
    cases=(
        (torch.tensor([[[3.0, 4], [0, 1], [2, 0]], [[1, 0], [0, 3], [2, 0]]]).double(), 2),
        lambda rng: (_normal(rng, 3, 50, 16), int(rng.integers(5, 40))),
        _draw_bfloat16,
    ),
    properties=(_same_after_rotation,),
    tolerance=EXACT,
    wrong=(
        Wrong(
            "longest kept",
            lambda keys, k: select(_lengths(keys)[None], k)[0],
            "these are the LONGEST keys; the rule keeps the shortest",
        ),
        Wrong(
            "in order of the norm",
            lambda keys, k: _lengths(keys).argsort(dim=-1, stable=True)[..., :k],
            "the right pairs, shortest first: sort the positions, so that they ascend",
        ),
        Wrong(
            "one set for all heads",
            lambda keys, k: select(-_lengths(keys).mean(0).expand(len(keys), -1)[None], k)[0],
            "each head keeps its own positions: do not average the norms over heads",
        ),
        Wrong(
            "norm in bfloat16",
            _in_cache_dtype,
            "half-precision norms tie and the set becomes an accident: take them in float32",
        ),
    ),
)


# P06.4: guards


def guarded(scores: Tensor, k: int, sinks: int = 0, recent: int = 0) -> Tensor:
    """Reference of P06.4: the k best scores of each head; guarded positions always among them."""
    return select(scores[None], k, sinks=sinks, recent=recent)[0]


def _guards_on_top(scores: Tensor, k: int, sinks: int = 0, recent: int = 0) -> Tensor:
    total = min(k + sinks + recent, scores.shape[-1])
    return select(scores[None], total, sinks=sinks, recent=recent)[0]


def _guards_dropped(scores: Tensor, k: int, sinks: int = 0, recent: int = 0) -> Tensor:
    position = torch.arange(scores.shape[-1])
    outside = (position < sinks) | (position >= scores.shape[-1] - recent)
    return select(scores.masked_fill(outside, -math.inf)[None], k)[0]


def _draw_guards(rng: Rng) -> dict[str, Any]:
    scores = _normal(rng, 3, int(rng.integers(24, 60)))
    # first and last score worst, the one before the last best: each mistake shows
    scores[:, [0, -1]] -= 9
    scores[:, -2] += 9
    k = int(rng.integers(8, 12))
    return {"scores": scores, "k": k, "sinks": int(rng.integers(1, 4)), "recent": 4}


register(
    "P06.4",
    reference=guarded,
    cases=(
        {"scores": torch.tensor([[1.0, 5, 4, 3, 6, 0]]).double(), "k": 3, "sinks": 1, "recent": 2},
        _draw_guards,
        lambda rng: {"scores": _normal(rng, 2, 30), "k": 10},
    ),
    tolerance=EXACT,
    points=2,
    wrong=(
        Wrong(
            "guards on top of k",
            _guards_on_top,
            "guards count INSIDE k: the number of pairs kept stays k",
        ),
        Wrong(
            "guards dropped",
            _guards_dropped,
            "the guarded positions are the ones you lose: raise their score to +inf, not -inf",
        ),
        Wrong(
            "guards ignored",
            lambda scores, k, sinks=0, recent=0: select(scores[None], k)[0],
            "positions below `sinks` and the newest `recent` must be there whatever their score",
        ),
        Wrong(
            "sinks only",
            lambda scores, k, sinks=0, recent=0: select(scores[None], k, sinks=sinks)[0],
            "the first positions are safe, the newest are not: guard positions >= n - recent too",
        ),
    ),
)


# P06.5: positions after pruning


def distances(kept: Tensor, seen: int, new: int) -> Tensor:
    """Reference of P06.5: position of each new query minus that of each key, stored then new."""
    fresh = seen + torch.arange(new)
    return fresh[:, None] - torch.cat([kept, fresh])


def _stored_as_position(kept: Tensor, seen: int, new: int) -> Tensor:
    return distances(kept, len(kept), new)


def _renumbered(kept: Tensor, seen: int, new: int) -> Tensor:
    return distances(torch.arange(len(kept)), len(kept), new)


def _draw_kept(rng: Rng) -> dict[str, Any]:
    seen = int(rng.integers(20, 90))
    kept = np.sort(rng.choice(seen, size=seen // 3, replace=False))
    return {"kept": torch.from_numpy(kept), "seen": seen, "new": int(rng.integers(1, 5))}


register(
    "P06.5",
    reference=distances,
    cases=({"kept": torch.tensor([0, 3, 7]), "seen": 9, "new": 2}, _draw_kept),
    tolerance=EXACT,
    wrong=(
        Wrong(
            "stored length as position",
            _stored_as_position,
            "the first new token stands at `seen`, however few pairs are stored",
        ),
        Wrong(
            "keys renumbered",
            _renumbered,
            "stored keys keep the positions they were rotated with: do not count them anew",
        ),
        Wrong(
            "key minus query",
            lambda kept, seen, new: -distances(kept, seen, new),
            "the signs are turned: distance = position of the query - position of the key",
        ),
    ),
)


# P06.6: ties


def tied(n: int, d: int, k: int) -> tuple[Tensor, list[int]]:
    """Reference of P06.6: n different keys of exactly one norm, and the positions that survive."""
    bits = torch.arange(n)[:, None] >> torch.arange(d) & 1
    return 1.0 - 2.0 * bits, list(range(k))


def _normalised(n: int, d: int, k: int) -> tuple[Tensor, list[int]]:
    keys = torch.randn(n, d, generator=torch.Generator().manual_seed(0))
    return torch.nn.functional.normalize(keys, dim=-1), list(range(k))


def _use_tied(answer: Any, n: int, d: int, k: int) -> dict[str, Any]:
    """What matters of an answer: many keys are right."""
    keys, survivors = answer(n, d, k)
    keys = torch.as_tensor(keys)
    norms = key_norms(keys.float())
    return {
        "shape of the keys": tuple(keys.shape),
        "every norm is equal": bool((norms == norms[0]).all()) and bool(norms[0] > 0),
        "all keys differ": len(torch.unique(keys, dim=0)) == len(keys),
        "survivors": sorted(int(j) for j in survivors),
    }


register(
    "P06.6",
    reference=tied,
    cases=(
        (4, 8, 2),
        (12, 16, 5),
        lambda rng: (int(rng.integers(8, 30)), 16, int(rng.integers(2, 7))),
    ),
    tolerance=EXACT,
    use=_use_tied,
    wrong=(
        Wrong(
            "nearly equal",
            _normalised,
            "dividing by the norm leaves rounding in the last bit, and that bit decides: choose "
            "coordinates whose squares add up exactly, such as +1 and -1",
        ),
        Wrong(
            "one key n times",
            lambda n, d, k: (torch.ones(n, d), list(range(k))),
            "the norms tie because the keys are the same; make n different keys of one norm",
        ),
        Wrong(
            "newest survive",
            lambda n, d, k: (tied(n, d, k)[0], list(range(n - k, n))),
            "among equal norms the LOWER position stays, on every device",
        ),
    ),
)
