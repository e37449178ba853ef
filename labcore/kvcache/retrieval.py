"""Does the model still find it? One prefill a prompt, then every policy at every ratio."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal

import torch

from labcore.kvcache.compression import Policy
from labcore.kvcache.evaluate import answer_hits
from labcore.kvcache.norms import check_guards, n_keep
from labcore.kvcache.profile import profile_attention
from labcore.kvcache.prompts import Prompt, passkey_prompt
from labcore.kvcache.scores import get_score
from labcore.runs import Progress, Table, silent

Question = Literal["after", "inside"]


def retrieval_grid(
    model: Any,
    tokenizer: Any,
    *,
    lengths: Sequence[int],
    depths: Sequence[float],
    keep_ratios: Sequence[float],
    policies: Mapping[str, Policy | None],
    filler: Literal["repeat", "prose"] = "repeat",
    text: str | None = None,
    chat: bool = False,
    question: Question = "after",
    skip_layers: Collection[int] = (),
    window: int = 64,
    seeds: Sequence[int] = (0,),
    progress: Progress = silent,
) -> Table:
    """Pass-key retrieval over lengths, depths and seeds; one row a trial (:func:`retrieval_rows`).

    Args:
        model: Loaded with ``attn="labcore"``.
        tokenizer: Its tokenizer.
        lengths: Tokens of the context.
        depths: Where the key stands, from 0 to 1.
        keep_ratios: Fractions to keep.
        policies: What to compare, by name; None is the full cache.
        filler: ``"repeat"`` or ``"prose"``, see :func:`passkey_prompt`.
        text: The prose.
        chat: Use the chat template.
        question: Whether the question comes ``"after"`` compression or stands ``"inside"`` what is
            compressed.
        skip_layers: Layers left whole.
        window: Last queries that ``observation`` looks at.
        seeds: Seeds of the keys.
        progress: Called after each prompt; raise :class:`labcore.runs.Cancelled` in it to stop.

    Raises:
        ValueError: Any policy that some length and ratio leave no room for, before anything runs.
    """
    for length in lengths:
        _check_room(policies, length, keep_ratios, window)
    cells = [(n, depth, seed) for n in lengths for depth in depths for seed in seeds]
    table: Table = []
    for done, (length, depth, seed) in enumerate(cells):
        prompt = passkey_prompt(
            tokenizer, length, depth=depth, seed=seed, filler=filler, text=text, chat=chat
        )
        cell = {"length": length, "depth": depth, "seed": seed, "filler": filler}
        rows = retrieval_rows(
            model,
            prompt,
            keep_ratios=keep_ratios,
            policies=policies,
            question=question,
            skip_layers=skip_layers,
            window=window,
        )
        table += [cell | row for row in rows]
        progress(done + 1, len(cells), f"{length} tokens, depth {depth:.2f}")
    return table


def retrieval_rows(
    model: Any,
    prompt: Prompt,
    *,
    keep_ratios: Sequence[float],
    policies: Mapping[str, Policy | None],
    question: Question = "after",
    skip_layers: Collection[int] = (),
    window: int = 64,
) -> Table:
    """One prompt under every policy and ratio.

    With the question inside, the first token of the answer comes from the uncompressed pass, as in
    the published evaluation; with the question after, compression cannot know what will be asked.

    Returns:
        Rows with ``policy``, ``keep_ratio``, ``overall_kept``, ``question``, ``exact`` (every token
        of the answer right) and ``accuracy`` (share of its tokens, each given the ones before).
    """
    if question not in ("after", "inside"):
        raise ValueError(f"question must be 'after' or 'inside', got {question!r}")
    inside = question == "inside"
    context = torch.cat([prompt.context, prompt.question], dim=1) if inside else prompt.context
    asked = prompt.question[:, :0] if inside else prompt.question
    _check_room(policies, context.shape[1], keep_ratios, window)
    profile = profile_attention(model, context, window=window)
    table: Table = []
    for name, policy in policies.items():
        for ratio in keep_ratios if policy is not None else (1.0,):
            cache = profile.cache
            if policy is not None:
                cache = policy.compress(profile, keep_ratio=ratio, skip_layers=skip_layers)
            hits = answer_hits(model, cache, asked, prompt.answer, logits=profile.logits)
            table.append(
                {
                    "policy": name,
                    "keep_ratio": ratio,
                    "overall_kept": cache.kept_fraction(),
                    "question": question,
                    "exact": bool(hits.all()),
                    "accuracy": float(hits.float().mean()),
                }
            )
    return table


def _check_room(
    policies: Mapping[str, Policy | None], length: int, keep_ratios: Sequence[float], window: int
) -> None:
    """Raise before any work when a policy cannot keep what it must keep."""
    for policy in filter(None, policies.values()):
        score = get_score(policy.score)
        for ratio in keep_ratios:
            k = n_keep(length, ratio)
            score.check_room(k, window)
            check_guards(*score.guards(policy.sinks, policy.recent, window), k)
