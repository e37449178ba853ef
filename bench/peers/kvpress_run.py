"""Runs inside the peer environment: what kvpress keeps, and what one of its steps costs.

    python kvpress_run.py job.json out.npz

The job names a model folder, token ids, presses with their keep ratios, and how many decoding steps
to time. Only kvpress, torch, transformers and numpy are needed here; labcore is not.
"""

import json
import statistics
import sys
import time
from importlib.metadata import version

import kvpress
import numpy as np
import torch
from transformers import AutoModelForCausalLM, DynamicCache
from transformers.utils import logging

PRESSES = {
    "low_norm": lambda drop: kvpress.KnormPress(drop),
    "sink_window": lambda drop: kvpress.StreamingLLMPress(drop, n_sink=4),
    "received_mean": lambda drop: kvpress.ObservedAttentionPress(drop),
    "last_query": lambda drop: kvpress.TOVAPress(drop),
    "key_difference": lambda drop: kvpress.KeyDiffPress(drop),
    "observation": lambda drop: kvpress.SnapKVPress(drop, window_size=64, kernel_size=5),
}


def load(folder, attn):
    """The model in float32."""
    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation=attn, local_files_only=True
    )
    return model.eval().requires_grad_(False)


def prefill(model, ids, press=None):
    """A cache of the prompt, pruned by the press."""
    cache = DynamicCache()
    if press is None:
        model(ids, past_key_values=cache)
    else:
        with press(model):
            model(ids, past_key_values=cache)
    return cache


def kept_positions(model, ids, full, press):
    """Positions (layers, heads, kept), found again by comparing keys with a full cache."""
    pruned, found = prefill(model, ids, press), []
    for whole, part in zip(full.layers, pruned.layers, strict=True):
        same = (part.keys[0, :, :, None] == whole.keys[0, :, None]).all(-1)  # (g, k, n)
        found.append(same.int().argmax(-1).sort(dim=-1).values)
    return torch.stack(found).numpy(), pruned


def continuation_nll(model, cache, ids, start):
    """Losses of ``ids`` after the first, at positions from ``start``."""
    stored = cache.layers[0].keys.shape[2]
    steps = torch.arange(ids.shape[1] - 1)
    logits = model(
        ids[:, :-1],
        past_key_values=cache,
        position_ids=(start + steps)[None],
        cache_position=stored + steps,
    ).logits
    return torch.nn.functional.cross_entropy(logits[0], ids[0, 1:], reduction="none").numpy()


def step_seconds(model, ids, budget, steps):
    """Median CPU seconds of a decoding step that prunes back to ``budget`` after every token."""
    cache = prefill(model, ids[:, :budget])
    press = kvpress.DecodingPress(kvpress.KnormPress(), compression_interval=1, target_size=budget)
    seconds = []
    with press(model):
        for t in range(budget, budget + steps):
            position = torch.tensor([t])
            start = time.process_time()
            model(
                ids[:, t : t + 1],
                past_key_values=cache,
                position_ids=position[None],
                cache_position=position,
            )
            seconds.append(time.process_time() - start)
    return statistics.median(seconds)


@torch.no_grad()
def main(job_file, out):
    """Do the job and write what was found."""
    torch.set_num_threads(1)
    logging.disable_progress_bar()
    with open(job_file) as file:
        job = json.load(file)
    ids, length = torch.tensor([job["ids"]]), job["length"]
    results = {"version": np.array(version("kvpress"))}
    prompt, rest = ids[:, :length], ids[:, length : length + 33]
    models = {"sdpa": load(job["model"], "sdpa")}
    full = {"sdpa": prefill(models["sdpa"], prompt)} if job["presses"] else {}
    for name, ratio in job["presses"]:
        attn = "eager" if name == "received_mean" else "sdpa"
        if attn not in models:
            models[attn] = load(job["model"], attn)
            full[attn] = prefill(models[attn], prompt)
        press = PRESSES[name](1 - ratio)
        positions, cache = kept_positions(models[attn], prompt, full[attn], press)
        results[f"{name}@{ratio}"] = positions
        results[f"nll@{name}@{ratio}"] = continuation_nll(models[attn], cache, rest, length)
    for budget in job["budgets"]:
        seconds = step_seconds(models["sdpa"], ids, budget, job["steps"])
        results[f"seconds@{budget}"] = np.array(seconds)
    np.savez(out, **results)


if __name__ == "__main__":
    main(*sys.argv[1:])
