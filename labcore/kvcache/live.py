"""What the lab does with a text somebody typed: look at its keys, go on writing from fewer.

Plain data comes back, so that a worker process can send it. The model is loaded once a process.
"""

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from transformers import StoppingCriteria, StoppingCriteriaList

from labcore.kvcache.attention import load_model
from labcore.kvcache.cache import KeyNormCache
from labcore.kvcache.data import token_texts
from labcore.kvcache.maps import head_map
from labcore.kvcache.profile import profile_attention
from labcore.runs import Progress, silent

MAX_TOKENS = 512
MIN_TOKENS = 16


@dataclass(frozen=True)
class CloseUp:
    """Norms and attention of one text, all layers and heads.

    Attributes:
        tokens: The text's tokens as text.
        norms: Key norms ``(l, g, n)``.
        window_mean: Mean attention from the last ``window`` queries ``(l, h, n)``.
        window: Number of last queries.
        maps: Relative attention loss ``(l, h)``: all positions, and without the first.
        cut: Tokens that did not fit and were left out.
    """

    tokens: tuple[str, ...]
    norms: Float[np.ndarray, "l g n"]
    window_mean: Float[np.ndarray, "l h n"]
    window: int
    maps: dict[str, Float[np.ndarray, "l h"]]
    cut: int


@dataclass(frozen=True)
class Continuation:
    """What the model writes after a text, with the whole cache and with a compressed one.

    Attributes:
        full, compressed: The new text.
        same_tokens: How many new tokens agree before the first difference.
        new_tokens: How many tokens were written.
        full_bytes, kept_bytes: Cache of the prompt before and after compression.
    """

    full: str
    compressed: str
    same_tokens: int
    new_tokens: int
    full_bytes: int
    kept_bytes: int


def close_up(text: str, *, model: str = "smollm2-135m", progress: Progress = silent) -> CloseUp:
    """Look at the keys of a text of at most 512 tokens; what is longer is cut at the end.

    Raises:
        ValueError: fewer than 16 tokens.
    """
    progress(0, 3, "loading the model")
    network, tokenizer = _loaded(model)
    ids, cut = _ids(tokenizer, text)
    progress(1, 3, f"reading {ids.shape[1]} tokens")
    window = min(64, ids.shape[1] // 2)
    profile = profile_attention(network, ids, window=window, rows=True)
    progress(2, 3, "maps")
    maps = {
        "relative_alr": head_map(profile),
        "relative_alr_without_first": head_map(profile, exclude_first=1),
    }
    progress(3, 3, "done")
    return CloseUp(
        tokens=tuple(token_texts(tokenizer, ids[0].tolist())),
        norms=profile.norms.numpy(),
        window_mean=profile.window_mean.numpy(),
        window=window,
        maps=maps,
        cut=cut,
    )


def continue_text(
    text: str,
    *,
    keep_ratio: float,
    score: str = "low_norm",
    sinks: int = 0,
    recent: int = 0,
    skip_layers: tuple[int, ...] = (0, 1),
    new_tokens: int = 40,
    model: str = "smollm2-135m",
    progress: Progress = silent,
) -> Continuation:
    """Greedy continuation of a text from the whole cache, and from what compression leaves of it.

    Raises:
        ValueError: fewer than 16 tokens, or settings that :class:`KeyNormCache` refuses.
    """
    progress(0, 2 * new_tokens, "loading the model")
    network, tokenizer = _loaded(model)
    ids, _ = _ids(tokenizer, text)
    whole = KeyNormCache(network.config, keep_ratio=1.0, skip_layers=skip_layers)
    pruned = KeyNormCache(
        network.config,
        keep_ratio=keep_ratio,
        score=score,
        sinks=sinks,
        recent=recent,
        skip_layers=skip_layers,
        generator=torch.Generator().manual_seed(0),
    )
    total = 2 * new_tokens
    full, full_bytes = _write(network, ids, whole, new_tokens, progress, 0, total)
    kept, kept_bytes = _write(network, ids, pruned, new_tokens, progress, new_tokens, total)
    return Continuation(
        full=tokenizer.decode(full, skip_special_tokens=True),
        compressed=tokenizer.decode(kept, skip_special_tokens=True),
        same_tokens=_same(full, kept),
        new_tokens=len(full),
        full_bytes=full_bytes,
        kept_bytes=kept_bytes,
    )


@cache
def _loaded(model: str) -> tuple[Any, Any]:
    return load_model(model)


def _ids(tokenizer: Any, text: str) -> tuple[Tensor, int]:
    ids = tokenizer(text, return_tensors="pt").input_ids
    n = ids.shape[1]
    if n < MIN_TOKENS:
        raise ValueError(f"the text has {n} tokens: write {MIN_TOKENS} or more, about a sentence")
    return ids[:, :MAX_TOKENS], max(n - MAX_TOKENS, 0)


class _Watch(StoppingCriteria):
    """Tells the progress after each token, and the cache's size after the prompt."""

    def __init__(self, cache: KeyNormCache, progress: Progress, done: int, total: int) -> None:
        self.cache, self.progress, self.done, self.total = cache, progress, done, total
        self.prompt_bytes = 0

    def __call__(self, input_ids: Tensor, scores: Any, **kwargs: Any) -> Tensor:
        self.prompt_bytes = self.prompt_bytes or self.cache.nbytes()
        self.done += 1
        self.progress(self.done, self.total, "writing")
        return torch.zeros(input_ids.shape[0], dtype=torch.bool)


def _write(
    model: Any,
    ids: Tensor,
    cache: KeyNormCache,
    new_tokens: int,
    progress: Progress,
    done: int,
    total: int,
) -> tuple[Tensor, int]:
    watch = _Watch(cache, progress, done, total)
    written = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        past_key_values=cache,
        do_sample=False,
        max_new_tokens=new_tokens,
        stopping_criteria=StoppingCriteriaList([watch]),
        pad_token_id=model.config.eos_token_id,
    )
    return written[0, ids.shape[1] :], watch.prompt_bytes


def _same(a: Tensor, b: Tensor) -> int:
    n = min(len(a), len(b))
    return int((a[:n] == b[:n]).int().cumprod(0).sum())
