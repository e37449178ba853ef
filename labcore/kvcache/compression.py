"""Prune once, after a prompt: from one prefill to any number of compressed caches."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, cast

import torch
from jaxtyping import Bool
from torch import Tensor
from transformers import Cache
from transformers.cache_utils import DynamicLayer

from labcore.kvcache.cache import KeyNormCache, KeyNormLayer, fork_layer
from labcore.kvcache.norms import check_keep_ratio, check_layers, n_keep, select
from labcore.kvcache.pairs import Pairs, Rule
from labcore.kvcache.profile import AttentionProfile
from labcore.kvcache.schedule import Schedule
from labcore.kvcache.scores import LayerState, Score, get_score
from labcore.kvcache.store import PairStore


def compress(
    source: AttentionProfile | Cache,
    score: str | Score = "low_norm",
    *,
    keep_ratio: float,
    skip_layers: Collection[int] = (),
    sinks: int = 0,
    recent: int = 0,
    special: Bool[Tensor, "b n"] | None = None,
    generator: torch.Generator | None = None,
) -> KeyNormCache:
    """A compressed copy of a filled cache; the source stays as it was.

    Layers that lose nothing share their storage with the source until one of the two grows, so that
    a sweep over scores and ratios pays for one prefill.

    Args:
        source: A profile, which scores that read attention need, or any filled cache.
        score: A name in :data:`SCORES`, or a :class:`Score`.
        keep_ratio: Fraction of the pairs that stay in every layer that is not skipped.
        skip_layers: Layers left whole.
        sinks: First positions that always stay, inside the number kept.
        recent: Newest pairs that always stay, inside the number kept.
        special: Marks special tokens, which ``score="special"`` needs.
        generator: Source of randomness, which ``score="random"`` needs.

    Raises:
        ValueError: An empty cache, a bad ratio or layer, guards that exceed the pairs kept, or a
            score that lacks what it needs.
    """
    score = get_score(score)
    check_keep_ratio(keep_ratio)
    profile = source if isinstance(source, AttentionProfile) else None
    cache = source.cache if isinstance(source, AttentionProfile) else source
    check_layers(skip_layers, len(cache.layers))
    if not cache.get_seq_length():
        raise ValueError("the cache is empty: run the model on a prompt first")
    window = profile.window if profile else 0
    score.check_room(n_keep(cache.get_seq_length(), keep_ratio), window)
    sinks, recent = score.guards(sinks, recent, window)
    rule = Rule(score, score.static, sinks, recent, generator)
    layers: list[Any] = []
    for index, layer in enumerate(cache.layers):
        store = _store_of(layer, None if index in skip_layers else rule)
        if store is None:
            layers.append(fork_layer(layer, {}))
            continue
        if store.rule is not None:
            observed = _observed(profile, index) | {"special": special, "generator": generator}
            store = _pruned(store, store.rule, keep_ratio, observed)
        layers.append(KeyNormLayer.holding(store, Schedule(keep_ratio, when="manual")))
    return KeyNormCache.of_layers(layers, getattr(cache, "config", None))


@dataclass(frozen=True)
class Policy:
    """A score with its guards, by the name under which a comparison lists it.

    Random with the same guards is the control that every claim about a score must beat.

    >>> Policy("random", sinks=4, recent=16).score
    'random'
    """

    score: str = "low_norm"
    sinks: int = 0
    recent: int = 0
    seed: int = 0

    def generator(self) -> torch.Generator:
        """A fresh source of randomness from the seed."""
        return torch.Generator().manual_seed(self.seed)

    def compress(
        self,
        source: AttentionProfile | Cache,
        *,
        keep_ratio: float,
        skip_layers: Collection[int] = (),
        special: Bool[Tensor, "b n"] | None = None,
    ) -> KeyNormCache:
        """A compressed copy of a filled cache by this policy (:func:`compress`)."""
        return compress(
            source,
            self.score,
            keep_ratio=keep_ratio,
            skip_layers=skip_layers,
            sinks=self.sinks,
            recent=self.recent,
            special=special,
            generator=self.generator(),
        )


def _store_of(layer: Any, rule: Rule | None) -> PairStore | None:
    """What a full-attention layer holds, under a new rule; None for any other layer."""
    if isinstance(layer, KeyNormLayer):
        pairs = layer.pairs.fork().ordered()._replace(scores=None)
        return PairStore.holding(pairs, layer.pairs.seen, rule)
    if type(layer) is not DynamicLayer:
        return None
    keys, values = cast(Tensor, layer.keys), cast(Tensor, layer.values)
    positions = torch.arange(keys.shape[2], device=keys.device).expand(keys.shape[:3])
    return PairStore.holding(Pairs(keys, values, positions), keys.shape[2], rule)


def _observed(profile: AttentionProfile | None, layer: int) -> dict[str, Any]:
    """What the profile knows about the attention of one layer, with a batch axis."""
    if profile is None:
        return {}
    return {
        "received": profile.received[layer, None],
        "window_mean": profile.window_mean[layer, None],
        "last": profile.last[layer, None],
        "window": profile.window,
    }


def _pruned(store: PairStore, rule: Rule, keep_ratio: float, observed: dict[str, Any]) -> PairStore:
    """The same store with the best pairs only, in tensors of its own when any was dropped."""
    pairs, k = store.ordered(), n_keep(store.stored, keep_ratio)
    scores = rule.score(LayerState(pairs.keys, pairs.values, pairs.positions, **observed))
    index = select(scores, k, positions=pairs.positions, sinks=rule.sinks, recent=rule.recent)
    if k == store.stored:
        return store
    return PairStore.holding(pairs.take(index), store.seen, rule)
