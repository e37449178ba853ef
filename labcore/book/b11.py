"""Chapter 11, transformers in practice: a small decoder on the novel, and what its cache saves.

Two blocks, 64 features, 4 heads, 400 steps of chapter 8's recipe, with and without token shift. The
clock: a larger untrained decoder generates with a cache and without one.
"""

import statistics
import time
from typing import Any

import torch
from torch import Tensor

from labcore.blocks.kv_cache import cache_bytes
from labcore.book.language import GPT, bits, novel, train
from labcore.book.numbers import Findings, Size, number, over_seeds
from labcore.runs import Progress, Table

SECONDS = 115
STEPS = 400
WIDTH, LAYERS, HEADS = 192, 4, 6  # of the decoder on the clock
LENGTHS = (32, 64, 128, 256, 512)
SMOLLM2 = {"layers": 30, "kv_heads": 3, "head_dim": 64, "itemsize": 4}


def work_without_cache(tokens: Any) -> Any:
    """Query-key products of one head and layer to write 1, 2, ... tokens, all computed again.

    A step that ends with t tokens in sight computes t (t + 1) / 2 of them: T (T + 1) (T + 2) / 6.

    >>> work_without_cache(3)
    10
    """
    return tokens * (tokens + 1) * (tokens + 2) // 6


def work_with_cache(tokens: Any) -> Any:
    """The same when keys and values are kept: only the new query, t products a step.

    >>> work_with_cache(3)
    6
    """
    return tokens * (tokens + 1) // 2


def generate(model: GPT, ids: Tensor, n: int, *, cached: bool) -> Tensor:
    """Append the ``n`` most likely tokens to ``ids`` (1, t), with or without a cache."""
    caches = model.caches() if cached else None
    new = ids
    with torch.no_grad():
        for _ in range(n):
            logits = model(new, caches) if cached else model(ids)
            token = logits[:, -1:].argmax(-1)
            ids = torch.cat((ids, token), 1)
            new = token
    return ids


def decoder(context: int = 512, *, kv_heads: int | None = None, seed: int = 0) -> GPT:
    """The untrained decoder on the clock; its weights are large enough to make choices clear."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = GPT(73, width=WIDTH, layers=LAYERS, heads=HEADS, kv_heads=kv_heads, context=context)
    return model.eval()


def measure(config: Size, progress: Progress) -> Findings:
    """Train, then generate by the clock."""
    text = novel()
    steps = 30 if config.small else STEPS
    rows: Table = []
    numbers: Table = []
    for name, shift, known in (("plain", "", 2.90), ("token shift", "attention", 2.63),
                               ("token shift in both", "both", None)):  # fmt: skip
        found = []
        for seed in config.seeds:
            model = train(lambda v, s=shift: GPT(v, shift=s), text, steps=steps, seed=seed,
                          progress=progress)  # fmt: skip
            found.append(bits(model, text.test))
            rows.append({"model": name, "seed": seed, "steps": steps, "bits": found[-1]})
        numbers.append(over_seeds(f"bits, small GPT, {name}, {steps} steps", found,
                                  None if config.small else known, 0.08,
                                  sample=f"{len(text.test)} characters"))  # fmt: skip
    numbers.append(number("bytes a token, 30 layers, 3 key heads of 64, float32",
                          cache_bytes(1, **SMOLLM2), 46_080))  # fmt: skip
    clock = _clock(LENGTHS[:3] if config.small else LENGTHS, 1 if config.small else 3, progress)
    return Findings({}, {"numbers": numbers, "gpt": rows, "clock": clock})


def _clock(lengths: tuple[int, ...], rounds: int, progress: Progress) -> Table:
    """CPU seconds to generate each length from one token, the two ways taking turns."""
    rows: Table = []
    model, first = decoder(), torch.tensor([[1]])
    for i, length in enumerate(lengths):
        progress(i, len(lengths), f"clock, {length} tokens")
        spent: dict[bool, list[float]] = {True: [], False: []}
        for _ in range(rounds):
            for cached, seconds in spent.items():
                start = time.process_time()
                generate(model, first, length - 1, cached=cached)
                seconds.append(time.process_time() - start)
        caches = model.caches()
        with torch.no_grad():
            model(torch.ones(1, length, dtype=torch.long), caches)
        rows.append({"tokens": length, "cached": statistics.median(spent[True]),
                     "whole": statistics.median(spent[False]),
                     "bytes": sum(cache.nbytes for cache in caches)})  # fmt: skip
    return rows
