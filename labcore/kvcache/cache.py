"""The method as a transformers cache: pass it as ``past_key_values=`` to a model or `generate`.

Everything that depends on the cache interface of transformers (5.x) is in this file.

A new token's position is the number of tokens *seen*, not stored: ``get_seq_length`` says how many
were seen, and ``get_mask_sizes`` counts the stored ones as past. Replacing the tensors of a
``DynamicCache`` gets this wrong as soon as layer 0 is pruned, and nearly doubles perplexity.

A pair takes part in the step that creates it; dropping follows attention.
"""

import copy
import warnings
from collections.abc import Collection
from typing import Any

import torch
from jaxtyping import Float32, Int
from torch import Tensor
from transformers import Cache, DynamicCache
from transformers.cache_utils import DynamicLayer

from labcore.kvcache.attention import NAME
from labcore.kvcache.norms import check_guards, check_layers, key_norms
from labcore.kvcache.pairs import Rule, make_rule
from labcore.kvcache.schedule import Schedule, When, make_schedule
from labcore.kvcache.scores import Score, get_score
from labcore.kvcache.store import PairStore, SlotTables


class KeyNormLayer(DynamicLayer):
    """One full-attention layer of a :class:`KeyNormCache`; without a rule it keeps everything."""

    is_sliding = False
    is_croppable = False

    def __init__(
        self,
        rule: Rule | None,
        schedule: Schedule,
        *,
        tables: SlotTables | None = None,
        record: bool = False,
    ) -> None:
        super().__init__()
        self.schedule = schedule
        slots = schedule.slots if rule else None
        self.pairs = PairStore(rule, slots=slots, tables=tables, record=record)
        self._started = False

    @classmethod
    def holding(cls, pairs: PairStore, schedule: Schedule) -> "KeyNormLayer":
        """A layer that starts with these pairs."""
        layer = cls(pairs.rule, schedule)
        held = pairs.ordered()
        layer.lazy_initialization(held.keys, held.values)
        layer.pairs = pairs
        return layer

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Store new pairs; returns those to attend to, then drops what the schedule drops."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        self._start_decoding(key_states.shape[2])
        keys, values = self.pairs.add(key_states, value_states)
        if self.schedule.when == "prefill" and not self._started:
            self._started = True
            self.prune()
        elif self._started and self.schedule.budget is not None:
            self.prune()
        return keys, values

    def prune(self) -> None:
        """Drop what the schedule drops, now."""
        if self.pairs.rule is not None and self.pairs.stored:
            self.pairs.keep(self.schedule.target(self.pairs.stored))

    def get_seq_length(self) -> int:
        """Tokens seen."""
        return self.pairs.seen

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Keys in the coming step, and the position that the mask gives to the first of them."""
        self._start_decoding(query_length)
        return self.pairs.stored + query_length, self.pairs.seen - self.pairs.stored

    def reset(self) -> None:
        """Forget everything."""
        self.pairs.clear()
        self._started = False
        self.keys = self.values = None
        self.is_initialized = False

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Follow the beams."""
        self.pairs.select_rows(beam_idx)

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Repeat every batch row."""
        if self.pairs.seen:
            rows = torch.arange(self.pairs.ordered().keys.shape[0])
            self.pairs.select_rows(rows.repeat_interleave(repeats))

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep these batch rows."""
        self.pairs.select_rows(indices)

    def crop(self, tokens_to_remove: int) -> None:
        """Not possible: dropped pairs are gone, so the cache cannot go back to an earlier state."""
        raise NotImplementedError(
            "a compressed cache cannot be cropped: pairs dropped since then are gone; "
            "compress a fresh prefill instead (assisted decoding needs a DynamicCache)"
        )

    def _start_decoding(self, query_length: int) -> None:
        if self.schedule.when == "decode" and query_length == 1 and not self._started:
            self._started = True
            self.prune()


class KeyNormCache(Cache):
    """Keeps the pairs with the lowest key norms; exact positions for any set of skipped layers.

    Give either ``keep_ratio`` (prune once) or ``budget`` (roll). The published settings are
    ``keep_ratio=ρ`` after the prompt, and ``budget=1000, prune_to=980`` for language modelling.

    Args:
        config: The model's configuration.
        keep_ratio: Fraction of the pairs that stay, in (0, 1].
        budget: Most pairs that a layer holds after a step.
        prune_to: Pairs that stay when the budget is reached; the budget itself by default.
        score: A name in :data:`SCORES`, or a :class:`Score`, that needs no attention.
        skip_layers: Layers left whole.
        sinks: First positions that always stay, inside the number kept.
        recent: Newest pairs that always stay, inside the number kept. By default 0 for
            ``keep_ratio``, as published, and min(32, budget // 4) for ``budget``: our addition,
            without which a cache full of low norms evicts every new token at once.
        when: ``"prefill"`` drops at the end of the first pass; ``"decode"`` just before the first
            pass of a single token, which a prompt in chunks needs; ``"manual"`` only in
            :meth:`compress`.
        record: Keep the history of every pair (:attr:`history`).
        generator: Source of randomness, which ``score="random"`` needs.

    Raises:
        ValueError: Settings that contradict each other; the message says which.
    """

    def __init__(
        self,
        config: Any,
        *,
        keep_ratio: float | None = None,
        budget: int | None = None,
        prune_to: int | None = None,
        score: str | Score = "low_norm",
        skip_layers: Collection[int] = (0, 1),
        sinks: int = 0,
        recent: int | None = None,
        when: When = "prefill",
        record: bool = False,
        generator: torch.Generator | None = None,
    ) -> None:
        schedule = make_schedule(keep_ratio, budget, prune_to, when)
        if recent is None:
            recent = 0 if budget is None else min(32, budget // 4)
        rule = make_rule(get_score(score), sinks, recent, generator)
        if schedule.prune_to is not None:
            check_guards(rule.sinks, rule.recent, schedule.prune_to)
        self.config = config
        super().__init__(
            layers=make_layers(config, rule, schedule, skip_layers=skip_layers, record=record)
        )

    def compress(self) -> None:
        """Drop now, by the settings of this cache."""
        for layer in self._own():
            layer.prune()

    def get_mask_sizes(self, query_length: int, layer_idx: int) -> tuple[int, int]:
        """Keys in the coming step and their offset; only attention with a shared mask asks.

        Raises:
            ValueError: The layers hold different lengths, which one shared mask cannot fit.
        """
        lengths = {layer.get_mask_sizes(query_length)[0] for layer in self._own()}
        text = None if self.config is None else self.config.get_text_config(decoder=True)
        masks_one_token = getattr(text, "_attn_implementation", None) == "eager"
        if len(lengths) > 1 and (query_length > 1 or masks_one_token):
            raise ValueError(
                f"layers hold different lengths; load the model with attn={NAME!r} or use "
                "skip_layers=()"
            )
        return super().get_mask_sizes(query_length, layer_idx)

    def nbytes(self) -> int:
        """Bytes of the stored keys and values: Σ over layers of 2 · B · G · n · d · itemsize.

        A position costs 8 bytes a pair and head on top, a score of a rolling cache 8 more; room for
        new pairs is not counted.
        """
        others = [getattr(x, "keys", None) for x in self.layers if not isinstance(x, KeyNormLayer)]
        rest = sum(2 * keys.numel() * keys.element_size() for keys in others if keys is not None)
        return sum(layer.pairs.nbytes for layer in self._own()) + rest

    def kept_fraction(self) -> float:
        """Stored pairs over tokens seen, in all full-attention layers, skipped ones included."""
        seen = sum(layer.pairs.seen for layer in self._own())
        return sum(layer.pairs.stored for layer in self._own()) / seen if seen else 1.0

    def positions(self, layer: int) -> Int[Tensor, "b g n"]:
        """Original positions of the stored pairs, ascending."""
        return self.layer(layer).pairs.positions()

    def norms(self, layer: int) -> Float32[Tensor, "b g n"]:
        """Key norms of the stored pairs, oldest first."""
        return key_norms(self.layer(layer).pairs.ordered().keys)

    @property
    def history(self) -> list[Int[Tensor, "b g t"]]:
        """The life of every pair, one table a layer (``record=True``).

        Entry j says how many tokens had been seen when pair j was dropped, or -1 if it is stored.
        So pair j is in the cache after step t when j < t and its entry is -1 or more than t.
        """
        return [layer.pairs.dropped_at() for layer in self._own()]

    @classmethod
    def of_layers(cls, layers: list[Any], config: Any = None) -> "KeyNormCache":
        """A cache of these layers, at least one of them a :class:`KeyNormLayer`."""
        cache = cls.__new__(cls)
        cache.config = config
        Cache.__init__(cache, layers=layers)
        return cache

    def _own(self) -> list[KeyNormLayer]:
        return [layer for layer in self.layers if isinstance(layer, KeyNormLayer)]

    def layer(self, index: int) -> KeyNormLayer:
        """The full-attention layer of that index.

        Raises:
            ValueError: There is none.
        """
        check_layers((index,), len(self.layers))
        layer = self.layers[index]
        if not isinstance(layer, KeyNormLayer):
            raise ValueError(f"layer {index} ({layer}) is not full attention: no pairs here")
        return layer


NormCache = KeyNormCache  # the name under which compress returns one, with when="manual"


def make_layers(
    config: Any,
    rule: Rule | None,
    schedule: Schedule,
    *,
    skip_layers: Collection[int] = (),
    record: bool = False,
) -> list[Any]:
    """The library's layers for this model, the full-attention ones replaced by ours.

    Raises:
        ValueError: A skipped layer does not exist.
    """
    layers = DynamicCache(config=config).layers
    check_layers(skip_layers, len(layers))
    shared, passed_through = SlotTables(), []
    for index, layer in enumerate(layers):
        if type(layer) is DynamicLayer:
            own = None if index in skip_layers else rule
            layers[index] = KeyNormLayer(own, schedule, tables=shared, record=record)
        else:
            passed_through.append(f"{index} ({layer})")
    if passed_through:
        names = ", ".join(passed_through)
        warnings.warn(f"layers {names} are not full attention: left as they are", stacklevel=3)
    return layers


def fork(cache: Cache) -> Cache:
    """A second cache in the same state; what happens to one does not show in the other."""
    twin, tables = copy.copy(cache), SlotTables()
    twin.layers = [fork_layer(layer, tables) for layer in cache.layers]
    return twin


def fork_layer(layer: Any, tables: SlotTables) -> Any:
    """A copy of a cache layer, on which later changes to the original have no effect.

    The library's own layers never write to tensors that they hold, so theirs may be shared.
    """
    twin = copy.copy(layer)
    if isinstance(layer, KeyNormLayer):
        twin.pairs = layer.pairs.fork(tables)
    return twin
