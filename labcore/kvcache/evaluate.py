"""What a compressed cache costs: perplexity of the continuation, exact answers, long streams.

No function here changes the cache that it is given. Padding cannot be hidden from a compressed
cache (:func:`labcore.kvcache.attention.check_no_padding`), so batches hold texts of one length.
"""

from collections.abc import Collection, Mapping
from typing import Any, cast

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Float32, Int
from torch import Tensor
from transformers import Cache

from labcore.kvcache.cache import KeyNormCache, KeyNormLayer, fork, make_layers
from labcore.kvcache.compression import Policy
from labcore.kvcache.norms import check_guards
from labcore.kvcache.pairs import Rule
from labcore.kvcache.schedule import Schedule, make_schedule
from labcore.kvcache.scores import LayerState, get_score
from labcore.runs import Progress, silent


def prefill(model: Any, input_ids: Int[Tensor, "b n"]) -> tuple[KeyNormCache, Float[Tensor, "b v"]]:
    """Run a prompt and keep everything; returns the cache and the logits of the last token."""
    cache = KeyNormCache(model.config, keep_ratio=1.0, skip_layers=(), when="manual")
    with torch.no_grad():
        logits = model(input_ids, past_key_values=cache, logits_to_keep=1).logits[:, -1]
    return cache, logits


def check_restart(cache: Cache, input_ids: Int[Tensor, "b n"]) -> None:
    """Raise ``ValueError`` unless ``input_ids`` go on where the cache ends.

    ``generate`` takes the whole sequence, the cached part included, and cuts that part off. Given
    fewer tokens it cuts off the wrong ones and says nothing, so ask first.
    """
    seen, given = cache.get_seq_length(), input_ids.shape[1]
    if given <= seen:
        raise ValueError(
            f"input_ids hold {given} tokens, the cache has seen {seen}: pass the whole sequence, "
            "the cached part included, and at least one token more"
        )


def continuation_nll(
    model: Any, cache: Cache, ids: Int[Tensor, "b t1"], start: int | None = None
) -> Float32[Tensor, "b t"]:
    """Negative log-likelihood of a continuation, in nats a token, given what came before.

    The first token of ``ids`` is fed but not scored: the prompt's own pass decided its probability.
    Perplexity is the exponential of the mean.

    Args:
        model: A causal language model.
        cache: Any filled cache.
        ids: The tokens that follow, T + 1 of them for T scores.
        start: Position of the first; the tokens that the cache has seen by default. Another number
            shows what a wrong position costs.

    Raises:
        ValueError: Fewer than two tokens, or a negative ``start``.
    """
    if ids.shape[1] < 2:
        raise ValueError("a continuation needs two tokens or more: one to feed, one to score")
    return _nll(_forward(model, cache, ids[:, :-1], start), ids[:, 1:])


def answer_hits(
    model: Any,
    cache: Cache,
    question_ids: Int[Tensor, "1 q"],
    answer_ids: Int[Tensor, "1 a"],
    start: int | None = None,
    *,
    logits: Float[Tensor, " v"] | None = None,
) -> Bool[Tensor, " a"]:
    """Which tokens of the answer the model would say, each given the right ones before it.

    One pass over question and answer instead of one a token: greedy decoding says the answer
    exactly when every token of it is the most likely one.

    Args:
        model: A causal language model.
        cache: What came before the question.
        question_ids: The question; empty when it was part of the prompt.
        answer_ids: The expected answer.
        start: Position of the question; the tokens that the cache has seen by default.
        logits: Logits of the prompt's last token, which predict the answer when the question is
            empty.

    Raises:
        ValueError: An empty answer, or an empty question without logits.
    """
    q, a = question_ids.shape[1], answer_ids.shape[1]
    if a == 0:
        raise ValueError("the answer is empty")
    if q == 0 and logits is None:
        raise ValueError("without a question, pass logits= of the prompt's last token")
    fed = torch.cat([question_ids, answer_ids[:, :-1]], dim=1)
    said = [] if q or logits is None else [logits.argmax().view(1)]
    if fed.shape[1]:
        said.append(_forward(model, cache, fed, start)[0, max(q - 1, 0) :].argmax(dim=-1))
    return torch.cat(said) == answer_ids[0]


def exact_match(
    model: Any,
    cache: Cache,
    question_ids: Int[Tensor, "1 q"],
    answer_ids: Int[Tensor, "1 a"],
    start: int | None = None,
    *,
    logits: Float[Tensor, " v"] | None = None,
) -> bool:
    """Whether greedy decoding after the question says exactly the answer (:func:`answer_hits`)."""
    return bool(answer_hits(model, cache, question_ids, answer_ids, start, logits=logits).all())


def stream_nll(
    model: Any,
    ids: Int[Tensor, "w t1"],
    *,
    policies: Mapping[str, Policy | None],
    budget: int,
    prune_to: int | None = None,
    skip_layers: Collection[int] = (0, 1),
    progress: Progress = silent,
) -> dict[str, Float32[Tensor, "w t"]]:
    """Language modelling, token by token, with a rolling cache for each policy.

    Equal budgets give equal lengths, so all policies and windows run as one batch. Until the budget
    is full nothing is dropped: that part is one pass over each window, shared by all policies.

    Args:
        model: A causal language model with full attention in every layer.
        ids: Windows of T + 1 tokens.
        policies: What to compare, by name; None is the full cache.
        budget: Most pairs that a layer holds after a step.
        prune_to: Pairs that stay when the budget is reached; the budget itself by default.
        skip_layers: Layers left whole.
        progress: Called after each token; raise :class:`labcore.runs.Cancelled` in it to stop.

    Returns:
        For every policy the negative log-likelihood of each next token, in nats.
    """
    schedule = make_schedule(None, budget, prune_to, "prefill")
    rolling = {name: policy for name, policy in policies.items() if policy is not None}
    windows, length, copies = ids.shape[0], ids.shape[1] - 1, len(rolling)
    results = {}
    if copies < len(policies):
        full = torch.cat([_read(model, row[None])[1] for row in ids])
        results = {name: full for name, policy in policies.items() if policy is None}
    if not rolling:
        return results

    rule = _joint_rule(list(rolling.values()), windows, schedule, ids.device)
    layers = make_layers(model.config, rule, schedule, skip_layers=skip_layers)
    starts = [_read(model, row[None, : budget + 1]) for row in ids]
    cache = _filled(layers, [start for start, _ in starts], copies, model.config)
    rows = ids.repeat(copies, 1)
    losses = [torch.cat([nll for _, nll in starts]).repeat(copies, 1)]
    for t in range(budget, length):
        with torch.no_grad():
            logits = model(rows[:, t : t + 1], past_key_values=cache).logits
        losses.append(_nll(logits, rows[:, t + 1 : t + 2]))
        progress(t + 1, length, "tokens")
    by_policy = torch.cat(losses, dim=1).split(windows)
    return results | dict(zip(rolling, by_policy, strict=True))


def _nll(logits: Tensor, targets: Tensor) -> Tensor:
    # With the vocabulary as the last axis; the other order sums it less exactly, by 1e-4 nats.
    losses = F.cross_entropy(logits.float().flatten(0, 1), targets.flatten(), reduction="none")
    return losses.view(targets.shape)


def _forward(model: Any, cache: Cache, ids: Tensor, start: int | None) -> Tensor:
    """Logits of ``ids`` fed at positions from ``start``, on a copy of the cache."""
    start = cache.get_seq_length() if start is None else start
    if start < 0:
        raise ValueError(f"start must be the position of the first token, 0 or more, got {start}")
    positions = torch.arange(start, start + ids.shape[1], device=ids.device)[None]
    with torch.no_grad():
        output = model(ids, past_key_values=fork(cache), position_ids=positions)
    return cast(Tensor, output.logits)


def _read(model: Any, ids: Tensor) -> tuple[KeyNormCache, Tensor]:
    """The cache and the losses of one window read at once."""
    cache = KeyNormCache(model.config, keep_ratio=1.0, skip_layers=(), when="manual")
    with torch.no_grad():
        logits = model(ids[:, :-1], past_key_values=cache).logits
    return cache, _nll(logits, ids[:, 1:])


def _filled(
    layers: list[Any], sources: list[KeyNormCache], copies: int, config: Any
) -> KeyNormCache:
    """A cache of these layers, with the pairs of all sources, the whole batch ``copies`` times."""
    for index, layer in enumerate(layers):
        if not isinstance(layer, KeyNormLayer):
            raise ValueError(
                f"stream_nll needs full attention in every layer, layer {index} has none"
            )
        held = [source.layer(index).pairs.ordered() for source in sources]
        layer.update(
            torch.cat([pairs.keys for pairs in held]).repeat(copies, 1, 1, 1),
            torch.cat([pairs.values for pairs in held]).repeat(copies, 1, 1, 1),
        )
    return KeyNormCache.of_layers(layers, config)


def _joint_rule(
    policies: list[Policy], windows: int, schedule: Schedule, device: torch.device
) -> Rule:
    """One rule for a batch in which ``windows`` rows after another follow each policy."""
    scores = [get_score(policy.score) for policy in policies]
    changing = [score.name for score in scores if not score.static]
    if changing:
        raise ValueError(f"a stream compares scores of single pairs, not {', '.join(changing)}")
    guards = [s.guards(p.sinks, p.recent) for s, p in zip(scores, policies, strict=True)]
    for sinks, recent in guards:
        check_guards(sinks, recent, schedule.target(cast(int, schedule.budget)))
    generators = [policy.generator() for policy in policies]

    def joint(state: LayerState) -> Tensor:
        parts = zip(
            scores,
            generators,
            state.keys.split(windows),
            state.values.split(windows),
            state.positions.split(windows),
            strict=True,
        )
        return torch.cat([s(LayerState(k, v, p, generator=g)) for s, g, k, v, p in parts])

    by_row = torch.tensor(guards, device=device).repeat_interleave(windows, dim=0)[..., None, None]
    return Rule(joint, static=True, sinks=by_row[:, 0], recent=by_row[:, 1])
