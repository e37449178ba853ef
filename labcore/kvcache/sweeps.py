"""The measurements of what compression costs: one prune, rolling caches, retrieval.

Each function measures one part of :class:`~labcore.kvcache.settings.Config` on a loaded model and
returns plain arrays and tables, one row a trial, so that a spread over trials can always be shown.
"""

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from labcore.kvcache import (
    Policy,
    Prompt,
    compress,
    continuation_nll,
    data,
    needle_prompt,
    overall_kept,
    passkey_prompt,
    prefill,
    profile_attention,
    retrieval_rows,
    special_mask,
    stream_nll,
)
from labcore.kvcache.correlation import norm_percentiles
from labcore.kvcache.settings import Needle, Passkey, Prune, Rolling
from labcore.kvcache.workbench import Lab
from labcore.parts import Findings
from labcore.runs import Progress, Table

SKIPPING = "low_norm+skip"  # the method with the first layers left whole, as published
BINS = 20
NEEDLE = (
    " The best thing to do in San Francisco is eat a sandwich and sit in Dolores Park on a sunny"
    " day.",
    "\n\nWhat is the best thing to do in San Francisco? The best thing to do in San Francisco is",
    " eat a sandwich and sit in Dolores Park on a sunny day.",
)  # Kamradt's needle-in-a-haystack sentence, its question and its answer


# --- one prune ---------------------------------------------------------------------------------


def prune_once(lab: Lab, part: Prune, progress: Progress) -> Findings:
    """Perplexity of what follows, for every window, policy and ratio; one prefill a window."""
    texts = data.windows(lab.tokenizer, part.length + part.tokens + 1, part.windows)
    rows: Table = []
    for trial, (name, ids) in enumerate(texts.items()):
        rows += _prune_window(lab, part, trial, name, ids[None])
        progress(trial + 1, len(texts), f"{part.length} tokens, {name}")
    return Findings(tables={"prune": rows})


def _prune_window(lab: Lab, part: Prune, trial: int, name: str, ids: Int[Tensor, "1 t"]) -> Table:
    prompt, follows = ids[:, : part.length], ids[:, part.length :]
    profile = profile_attention(lab.model, prompt, window=lab.config.score_window)
    special = special_mask(lab.tokenizer, prompt)
    layers, full_bytes = len(profile.cache.layers), profile.cache.nbytes()
    cells: list[tuple[str, str, float, tuple[int, ...]]] = [
        (policy, policy, ratio, ()) for policy in part.policies for ratio in part.keep_ratios
    ]
    cells += [(SKIPPING, "low_norm", ratio, lab.config.skip_layers) for ratio in part.skip_ratios]
    at = {"length": part.length, "text": name, "tokens": part.tokens}

    def row(policy: str, ratio: float, kept: float, cache: Any) -> dict[str, Any]:
        nll = float(continuation_nll(lab.model, cache, follows).mean())
        size = cache.nbytes()
        return at | {
            "policy": policy,
            "keep_ratio": ratio,
            "overall_kept": kept,
            "bytes": size,
            "bytes_kept": size / full_bytes,
            "nll": nll,
            "perplexity": float(np.exp(nll)),
        }

    rows = [row("full", 1.0, 1.0, profile.cache)]
    for label, policy, ratio, skip in cells:
        rule = lab.policy(policy, trial)
        cache = compress(
            profile,
            rule.score,
            keep_ratio=ratio,
            skip_layers=skip,
            sinks=rule.sinks,
            recent=rule.recent,
            special=special,
            generator=rule.generator(),
        )
        rows.append(row(label, ratio, overall_kept(layers, ratio, skip), cache))
    return rows


# --- rolling caches ----------------------------------------------------------------------------


def rolling(lab: Lab, part: Rolling, progress: Progress) -> Findings:
    """Perplexity of streams with a bounded cache, counted from where the budget is full."""
    texts = data.windows(lab.tokenizer, part.tokens + 1, part.windows)
    policies: dict[str, Policy | None] = {"full": None}
    policies |= {name: lab.policy(name) for name in part.policies}
    losses = stream_nll(
        lab.model,
        torch.stack(list(texts.values())),
        policies=policies,
        budget=part.budget,
        prune_to=part.prune_to,
        skip_layers=lab.config.skip_layers,
        progress=progress,
    )
    rows: Table = []
    for policy, nll in losses.items():
        for text, mean in zip(texts, nll[:, part.budget :].mean(dim=1).tolist(), strict=True):
            rows.append(
                {
                    "tokens": part.tokens,
                    "budget": part.budget,
                    "prune_to": part.prune_to,
                    "policy": policy,
                    "text": text,
                    "scored": part.tokens - part.budget,
                    "nll": mean,
                    "perplexity": float(np.exp(mean)),
                }
            )
    return Findings(tables={"rolling": rows})


# --- retrieval ---------------------------------------------------------------------------------


def passkey(lab: Lab, part: Passkey, progress: Progress) -> Findings:
    """Is the pass key still found? One row a trial, and how small the keys of its digits are."""
    policies: dict[str, Policy | None] = {"full": None}
    policies |= {name: lab.policy(name) for name in part.policies}
    trials = [(d, k) for d in _places(part.depths) for k in range(part.keys)]
    found = Findings(tables={"passkey": [], "passkey_norms": []})
    counts = np.zeros(BINS)
    for done, (depth, number) in enumerate(trials):
        seed = 1_000 * lab.config.seed + done
        prompt = passkey_prompt(
            lab.tokenizer,
            part.length,
            depth=depth,
            seed=seed,
            filler=part.filler,  # type: ignore[arg-type]
            text=data.prose(number, part.length) if part.filler == "prose" else None,
            chat=part.filler == "prose",
        )
        prompt = _digits_only(lab.tokenizer, prompt)
        at = {"length": part.length, "filler": part.filler, "depth": depth, "seed": seed}
        rows = retrieval_rows(
            lab.model,
            prompt,
            keep_ratios=part.keep_ratios,
            policies=policies,
            question=part.question,  # type: ignore[arg-type]
            skip_layers=lab.config.skip_layers,
            window=lab.config.score_window,
        )
        found.tables["passkey"] += [at | row for row in rows]
        if part.question == "after" and number == 0:
            of_key = _evidence_percentiles(lab, prompt)
            counts += np.histogram(of_key, bins=BINS, range=(0, 1))[0]
            found.tables["passkey_norms"].append(
                at | {"mean_percentile": float(of_key.mean()), "values": int(of_key.size)}
            )
        progress(done + 1, len(trials), f"{part.filler}, depth {depth:.2f}")
    if part.question == "after":
        name = f"passkey_percentiles/{part.filler}@{part.length}"
        found.arrays[name] = (counts / counts.sum()).astype(np.float32)
    return found


def _digits_only(tokenizer: Any, prompt: Prompt) -> Prompt:
    """The same prompt with the blank before the key moved from the answer to the question.

    What is asked for is the key: a model that would begin with another blank, or with an article,
    and then says all five digits has found it.
    """
    blanks = 0
    while not tokenizer.decode(prompt.answer[0, blanks : blanks + 1].tolist()).strip():
        blanks += 1
    question = torch.cat([prompt.question, prompt.answer[:, :blanks]], dim=1)
    return replace(prompt, question=question, answer=prompt.answer[:, blanks:])


def _evidence_percentiles(lab: Lab, prompt: Prompt) -> Float[np.ndarray, "l g e"]:
    """Norm percentiles of the tokens to be found, in the layers that are pruned."""
    cache, _ = prefill(lab.model, prompt.context)
    layers = [i for i in range(len(cache.layers)) if i not in lab.config.skip_layers]
    norms = torch.stack([cache.norms(layer)[0] for layer in layers])
    return norm_percentiles(norms)[..., prompt.evidence.numpy()]


def needle(lab: Lab, part: Needle, progress: Progress) -> Findings:
    """Share of the answer's tokens that the model still says, for a sentence in a novel."""
    policies: dict[str, Policy | None] = {"full": None}
    policies |= {name: lab.policy(name) for name in part.policies}
    hidden, question, answer = NEEDLE
    trials = [(d, t) for d in _places(part.depths) for t in range(part.texts)]
    table: Table = []
    for done, (depth, number) in enumerate(trials):
        prompt = needle_prompt(
            lab.tokenizer,
            part.length,
            depth=depth,
            text=data.prose(number, part.length),
            needle=hidden,
            question=question,
            answer=answer,
        )
        rows = retrieval_rows(
            lab.model,
            prompt,
            keep_ratios=part.keep_ratios,
            policies=policies,
            skip_layers=lab.config.skip_layers,
            window=lab.config.score_window,
        )
        table += [{"length": part.length, "depth": depth, "text": number} | row for row in rows]
        progress(done + 1, len(trials), f"depth {depth:.2f}")
    return Findings(tables={"needle": table})


def _places(count: int) -> list[float]:
    """``count`` depths, evenly spaced, none of them at the very edge."""
    return [(i + 0.5) / count for i in range(count)]
