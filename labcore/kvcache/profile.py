"""One forward pass over a text that keeps what every score, map and figure needs, and no more.

Full attention maps of all layers take L·H·N² numbers. What the scores need is their column sums and
a few rows, so each layer's attention is computed again in chunks of queries and summed up at once.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Float32, Int
from torch import Tensor

from labcore.kvcache.attention import NAME, visible
from labcore.kvcache.cache import KeyNormCache
from labcore.kvcache.norms import key_norms


@dataclass(frozen=True)
class AttentionProfile:
    """What one text did to the attention of every layer.

    Attributes:
        tokens: Token ids ``(n,)``.
        norms: Key norms ``(l, g, n)``.
        received: Attention received by each pair, summed over all queries ``(l, h, n)``.
        window_mean: Mean attention from the last ``window`` queries ``(l, h, n)``.
        last: Attention from the last query ``(l, h, n)``.
        rows: Attention of each of the last ``window`` queries ``(l, h, w, n)``, if asked for.
        window: Number of last queries.
        heads: Number of query heads and of key/value heads.
        cache: Everything stored, nothing dropped; functions of this package do not change it.
        logits: Logits of the last token ``(v,)``.
    """

    tokens: Int[Tensor, " n"]
    norms: Float32[Tensor, "l g n"]
    received: Float32[Tensor, "l h n"]
    window_mean: Float32[Tensor, "l h n"]
    last: Float32[Tensor, "l h n"]
    rows: Float32[Tensor, "l h w n"] | None
    window: int
    heads: tuple[int, int]
    cache: KeyNormCache
    logits: Float[Tensor, " v"]

    def norms_by_query_head(self) -> Float32[Tensor, "l h n"]:
        """Key norms as each query head meets them: head h reads key head ⌊h·G/H⌋."""
        query_heads, key_heads = self.heads
        return self.norms.repeat_interleave(query_heads // key_heads, dim=1)


def profile_attention(
    model: Any,
    input_ids: Int[Tensor, "1 n"],
    *,
    window: int = 64,
    chunk: int = 256,
    rows: bool = False,
) -> AttentionProfile:
    """Run a prompt once and keep its cache and the statistics of its attention.

    Args:
        model: A causal language model loaded with ``attn="labcore"``.
        input_ids: One text.
        window: Last queries to average over, or to keep (``rows=True``).
        chunk: Queries at a time; bounds the extra memory by H·chunk·N numbers.
        rows: Keep the attention rows of the window, which :func:`head_map` needs.

    Raises:
        ValueError: Another attention implementation, layers without attention, ``window`` outside
            1..n, or a bad ``chunk``.
    """
    _check(model, input_ids, window, chunk)
    cache = KeyNormCache(model.config, keep_ratio=1.0, skip_layers=(), when="manual")
    collector = _Statistics(window, chunk, rows)
    with torch.no_grad():
        output = model(input_ids, past_key_values=cache, logits_to_keep=1, collector=collector)
    missing = set(range(len(cache.layers))) - set(collector.layers)
    if missing:
        raise ValueError(f"layers {sorted(missing)} have no attention to profile")
    layers = [collector.layers[index] for index in range(len(cache.layers))]
    norms, received, window_mean, last = (
        torch.stack([getattr(layer, name) for layer in layers])
        for name in ("norms", "received", "window_mean", "last")
    )
    kept_rows = torch.stack([layer.rows for layer in layers]) if rows else None
    return AttentionProfile(
        tokens=input_ids[0],
        norms=norms,
        received=received,
        window_mean=window_mean,
        last=last,
        rows=kept_rows,
        window=window,
        heads=(received.shape[1], norms.shape[1]),
        cache=cache,
        logits=output.logits[0, -1],
    )


@dataclass(frozen=True)
class _Layer:
    norms: Tensor  # (g, n)
    received: Tensor  # (h, n)
    window_mean: Tensor  # (h, n)
    last: Tensor  # (h, n)
    rows: Tensor | None  # (h, w, n)


class _Statistics:
    """The collector: one :class:`_Layer` for each layer of the pass."""

    def __init__(self, window: int, chunk: int, keep_rows: bool) -> None:
        self.window, self.chunk, self.keep_rows = window, chunk, keep_rows
        self.layers: dict[int, _Layer] = {}

    def add(
        self, layer: int, query: Tensor, key: Tensor, scaling: float, sliding_window: int | None
    ) -> None:
        _, h, n, _ = query.shape
        received = query.new_zeros((h, n), dtype=torch.float32)
        rows = query.new_zeros((h, self.window, n), dtype=torch.float32)
        for start in range(0, n, self.chunk):
            stop = min(start + self.chunk, n)
            attn = _attention_rows(
                query[0, :, start:stop], key[0, :, :stop], scaling, sliding_window
            )
            received[:, :stop] += attn.sum(dim=1)
            first = n - self.window  # the window's first query
            if stop > first:
                rows[:, max(start - first, 0) : stop - first, :stop] = attn[
                    :, max(first - start, 0) :
                ]
        self.layers[layer] = _Layer(
            norms=key_norms(key[0]),
            received=received,
            window_mean=rows.mean(dim=1),
            last=rows[:, -1].clone(),
            rows=rows if self.keep_rows else None,
        )


def _attention_rows(
    query: Float[Tensor, "h q d"],
    key: Float[Tensor, "g n d"],
    scaling: float,
    sliding_window: int | None,
) -> Float32[Tensor, "h q n"]:
    """Attention of a chunk of queries, of which the last belongs to the last key."""
    h, q, d = query.shape
    g, n, _ = key.shape
    logits = (query.float().reshape(g, -1, d) * scaling) @ key.float().transpose(1, 2)
    logits = logits.view(h, q, n)
    future = ~visible(q, n, sliding_window, query.device)
    return logits.masked_fill_(future, -torch.inf).softmax(dim=-1)


def _check(model: Any, input_ids: Tensor, window: int, chunk: int) -> None:
    implementation = model.config.get_text_config(decoder=True)._attn_implementation
    if implementation != NAME:
        raise ValueError(
            f"profile_attention reads attention as it happens, and cannot see into "
            f"{implementation!r}: load the model with attn='labcore'"
        )
    n = input_ids.shape[1]
    if not 1 <= window <= n:
        raise ValueError(f"window={window} queries do not fit a text of {n} tokens: give 1..{n}")
    if chunk < 1:
        raise ValueError(f"chunk must be at least 1, got {chunk}")
