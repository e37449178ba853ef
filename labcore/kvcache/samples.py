"""What the pictures need beside the measurements: one text seen closely, and one step on the clock.

Small enough to be kept with the results, so that a page or a notebook opens without the model.
"""

import time
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import DynamicCache

from labcore.kvcache import KeyNormCache, data, profile_attention
from labcore.kvcache.attention import labcore_attention
from labcore.kvcache.settings import Clock, Sample
from labcore.kvcache.workbench import Lab
from labcore.parts import Findings
from labcore.runs import Progress


def close_up(lab: Lab, part: Sample, progress: Progress) -> Findings:
    """Norms and attention of the opening of a novel, all layers and heads.

    Arrays: ``sample/norms`` (l, g, n), ``sample/window_mean`` (l, h, n), ``sample/triangle``
    (l, h, m, m) with the attention of the first m tokens among themselves; table ``sample``.
    """
    ids = data.opening(lab.tokenizer, part.tokens)
    window = min(lab.config.window, part.tokens // 2)
    profile = profile_attention(lab.model, ids[None], window=window)
    progress(1, 2, "norms and attention")
    first = profile_attention(
        lab.model, ids[None, : part.triangle], window=part.triangle, rows=True
    )
    progress(2, 2, "attention triangle")
    assert first.rows is not None
    names = data.token_texts(lab.tokenizer, ids.tolist())
    return Findings(
        arrays={
            "sample/norms": profile.norms.numpy(),
            "sample/window_mean": profile.window_mean.numpy(),
            "sample/triangle": first.rows.numpy().astype(np.float16),
        },
        tables={
            "sample": [
                {"position": i, "token": name, "id": token, "window": window}
                for i, (name, token) in enumerate(zip(names, ids.tolist(), strict=True))
            ]
        },
    )


def film(lab: Lab, part: Sample, progress: Progress) -> Findings:
    """When each pair of a rolling cache was dropped: ``film/<policy>`` (l, g, n), -1: it stays."""
    ids = data.opening(lab.tokenizer, part.tokens)[None]
    found = Findings()
    rounds = len(part.policies) * (part.tokens - part.budget)
    done = 0
    for name in part.policies:
        rule = lab.policy(name)
        cache = KeyNormCache(
            lab.model.config,
            budget=part.budget,
            score=rule.score,
            skip_layers=lab.config.skip_layers,
            sinks=rule.sinks,
            recent=rule.recent,
            record=True,
        )
        with torch.no_grad():
            lab.model(ids[:, : part.budget], past_key_values=cache, logits_to_keep=1)
            for t in range(part.budget, part.tokens):
                lab.model(ids[:, t : t + 1], past_key_values=cache)
                done += 1
                progress(done, rounds, name)
        history = torch.stack([layer[0] for layer in cache.history])
        found.arrays[f"film/{name}"] = history.numpy().astype(np.int16)
    found.tables["film"] = [
        {"policy": name, "budget": part.budget, "tokens": part.tokens} for name in part.policies
    ]
    return found


def step_times(lab: Lab, part: Clock, progress: Progress) -> Findings:
    """CPU milliseconds of one decode step, by what they are spent on, at several cache lengths.

    Each piece is timed alone in all layers, with weights and pairs of their own, so that the caches
    of the processor are as cold as in a real step; "rest" is the whole step minus its pieces.
    """
    rows = []
    for done, length in enumerate(part.lengths):
        for name, ms in _pieces(lab.model, length, part.repeats).items():
            rows.append({"cached": length, "part": name, "ms": ms, "repeats": part.repeats})
        progress(done + 1, len(part.lengths), f"{length} pairs")
    return Findings(tables={"step_times": rows})


def _pieces(model: Any, length: int, repeats: int) -> dict[str, float]:
    config, layers = model.config, model.model.layers
    g, d = config.num_key_value_heads, config.hidden_size // config.num_attention_heads
    generator = torch.Generator().manual_seed(0)
    pairs = [
        torch.randn((2, 1, g, length, d), generator=generator) * 0.1 for _ in range(len(layers))
    ]
    hidden = torch.randn((1, 1, config.hidden_size), generator=generator)
    query = torch.randn((1, config.num_attention_heads, 1, d), generator=generator)
    new = torch.randn((1, g, 1, d), generator=generator)

    def projections() -> None:
        for layer in layers:
            for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
                getattr(layer.self_attn, name)(hidden)

    def attend() -> None:
        for layer, (keys, values) in zip(layers, pairs, strict=True):
            labcore_attention(layer.self_attn, query, keys, values, None)

    def grow(cache: Any) -> Callable[[], None]:
        def update() -> None:
            for index in range(len(layers)):
                cache.update(new, new, index)

        return update

    def mlp() -> None:
        for layer in layers:
            layer.mlp(hidden)

    token = torch.zeros((1, 1), dtype=torch.int64)
    ours = _holding(pairs, KeyNormCache(config, keep_ratio=1.0, when="manual"))
    work = {
        "whole step": lambda: model(token, past_key_values=ours),
        "MLP": mlp,
        "projections": projections,
        "vocabulary": lambda: model.lm_head(hidden),
        "attention": attend,
        "cache": grow(ours),
    }
    with torch.no_grad():
        found = _milliseconds(work, repeats)
        theirs = _holding(pairs, DynamicCache(config=config))
        plain = _milliseconds({"cache of the library": grow(theirs)}, repeats)
    pieces = sum(ms for name, ms in found.items() if name != "whole step")
    return found | {"rest": max(found["whole step"] - pieces, 0.0)} | plain


def _holding(pairs: list[Tensor], cache: Any) -> Any:
    for index, (keys, values) in enumerate(pairs):
        cache.update(keys, values, index)
    return cache


def _milliseconds(work: dict[str, Callable[[], Any]], repeats: int) -> dict[str, float]:
    """Median CPU time of each piece; the pieces take turns, so that a busy moment hits them all."""
    times: dict[str, list[float]] = {name: [] for name in work}
    for round_number in range(repeats + 1):
        for name, piece in work.items():
            start = time.process_time()
            piece()
            if round_number:  # the first round only warms up: first calls allocate
                times[name].append(time.process_time() - start)
    return {name: 1_000 * median(seconds) for name, seconds in times.items()}
