"""How a pair leaves: slots for a rolling cache, growing buffers otherwise, and a plain reference.

Attention does not care in which order pairs are stored, so a rolling cache need not keep them in
order. :class:`PairStore` holds ``budget + 1`` slots. A step writes the new pair over the slot that
was given up last time, attends to the whole buffer, and then picks the next slot to give up: the
lowest score, and of equal scores the newest position. Nothing is concatenated, sorted or gathered,
so that a step moves O(C + d) numbers a head instead of O(C·d).

A cache that only grows (after one prune, or in a layer that is left whole) makes room for 256 pairs
at a time instead of copying everything for each token.

:func:`rolling_reference` is the rolling rule from an explicit list of pairs; tests hold them equal.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from labcore.kvcache.norms import Guard, select
from labcore.kvcache.pairs import Pairs
from labcore.kvcache.scores import LayerState

ROOM = 256  # pairs of room made when a growing buffer is full


@dataclass(frozen=True)
class Rule:
    """What decides which pairs stay.

    Attributes:
        score: From a :class:`LayerState` to ``(b, g, n)``, higher is kept.
        static: Whether a pair's score depends on that pair alone and never changes.
        sinks: Positions below this number always stay.
        recent: This many of the newest pairs always stay; one number, or one a row ``(b, 1, 1)``.
        generator: Source of randomness for the score.
    """

    score: Callable[[LayerState], Tensor]
    static: bool
    sinks: Guard = 0
    recent: Guard = 0
    generator: torch.Generator | None = None

    def scores(self, keys: Tensor, values: Tensor, positions: Tensor) -> Tensor:
        """Scores of these pairs, with the sinks lifted to infinity."""
        state = LayerState(keys, values, positions, generator=self.generator)
        return self.score(state).masked_fill(positions < self.sinks, math.inf)


class PairStore:
    """What one layer keeps, and how many tokens it has seen.

    Args:
        rule: What decides which pairs stay; None keeps everything.
        slots: Size of the buffers of a rolling cache; None lets them grow.
        record: Keep the history of every pair, for :meth:`dropped_at`.

    Attributes:
        seen: Tokens that arrived, dropped ones included: the position of the next token.
    """

    def __init__(
        self, rule: Rule | None = None, *, slots: int | None = None, record: bool = False
    ) -> None:
        self.rule, self.slots, self.record = rule, slots, record
        self.clear()

    def clear(self) -> None:
        """Forget every pair."""
        self.seen = 0
        self._buffers: Pairs | None = None
        self._filled = 0  # slots in use, counted from the start of the buffers
        self._free: Tensor | None = None  # the slot that each head gave up (b, g, 1)
        self._ascending = True
        self._dropped_at: Tensor | None = None

    @classmethod
    def holding(cls, pairs: Pairs, seen: int, rule: Rule | None = None) -> "PairStore":
        """A store of these pairs, given in ascending position.

        They are not copied, and never written: there is no room behind them, so the first new pair
        moves the store to buffers of its own.
        """
        store = cls(rule)
        store._buffers, store._filled, store.seen = pairs, pairs.keys.shape[2], seen
        return store

    def fork(self) -> "PairStore":
        """A second store with the same pairs and rule, on which later changes have no effect."""
        twin = PairStore(self.rule, slots=self.slots, record=self.record)
        if self._buffers is not None:
            # A growing store never writes to pairs that it holds, so these may be shared.
            pairs = self.ordered()
            twin._buffers = pairs if self.slots is None else pairs.map(torch.clone)
        twin._filled, twin.seen, twin._dropped_at = self.stored, self.seen, self._dropped_at
        return twin

    @property
    def stored(self) -> int:
        """Pairs held for every row and head."""
        return self._filled - (self._free is not None)

    def add(
        self, keys: Float[Tensor, "b g q d"], values: Float[Tensor, "b g q d"]
    ) -> tuple[Float[Tensor, "b g n d"], Float[Tensor, "b g n d"]]:
        """Store new pairs; returns all pairs that this step attends to, in no particular order.

        What is returned stays intact when pairs are dropped right afterwards.

        Raises:
            ValueError: No new pair, another batch or head shape than before, keys that are not
                finite, or keys that require a gradient.
        """
        self._check(keys)
        b, g, q, _ = keys.shape
        positions = torch.arange(self.seen, self.seen + q, device=keys.device).expand(b, g, q)
        new = Pairs(keys, values, positions, self._scores_on_arrival(keys, values, positions))
        if self._free is not None and q == 1:
            self._held().put(self._free, new)
            self._free = None
        else:
            self._append(new)
        self.seen += q
        if self.record:
            self._dropped_at = _joined(self._dropped_at, torch.full_like(positions, -1))
        held, n = self._held(), self._filled
        return held.keys[:, :, :n], held.values[:, :, :n]

    def keep(self, k: int) -> None:
        """Drop all but the best ``k`` pairs of every row and head; nothing if no more are stored.

        Raises:
            ValueError: The guards of the rule exceed ``k``.
        """
        if self.rule is None or k >= self.stored:
            return
        buffers = self._held()
        if (
            buffers.scores is not None
            and self._free is None
            and k + 1 == self._filled == self.slots
        ):
            self._free = self._victim(buffers.positions, buffers.scores, self.rule.recent)
            self._ascending = False
            self._note(buffers.positions.gather(2, self._free))
            return
        pairs, rule = self.ordered(), self.rule
        scores = rule.scores(*pairs[:3]) if pairs.scores is None else pairs.scores
        index = select(scores, k, positions=pairs.positions, sinks=rule.sinks, recent=rule.recent)
        dropped = torch.ones_like(pairs.positions, dtype=torch.bool).scatter_(2, index, False)
        self._note(pairs.positions[dropped].view(*index.shape[:2], -1))
        self._load(pairs.take(index))

    @property
    def nbytes(self) -> int:
        """Bytes of the stored keys and values; free slots and room not counted."""
        if self._buffers is None:
            return 0
        keys = self._buffers.keys
        return 2 * keys[:, :, : self.stored].numel() * keys.element_size()

    def positions(self) -> Int[Tensor, "b g n"]:
        """Original positions of the stored pairs, ascending."""
        positions = self._held().positions[..., : self._filled]
        if self._free is not None:
            positions = positions.scatter(2, self._free, self.seen)  # sorts behind all others
        return positions.sort(dim=-1).values[..., : self.stored]

    def ordered(self) -> Pairs:
        """The stored pairs, oldest first."""
        buffers = self._held().first(self._filled)
        if self._ascending:
            return buffers
        positions = buffers.positions
        if self._free is not None:
            positions = positions.scatter(2, self._free, self.seen)  # sorts behind all others
        return buffers.take(positions.argsort(dim=-1)[..., : self.stored])

    def dropped_at(self) -> Int[Tensor, "b g t"]:
        """For every token seen: how many had been seen when its pair was dropped; -1 if it stays.

        Raises:
            ValueError: The store does not record.
        """
        if self._dropped_at is None:
            raise ValueError("no history: make the cache with record=True, then run the model")
        return self._dropped_at

    def select_rows(self, index: Int[Tensor, " rows"]) -> None:
        """Keep these batch rows, in this order, repeated where asked, with all that is theirs."""

        def rows(part: Tensor) -> Tensor:
            return part.index_select(0, index.to(part.device))

        self._buffers = None if self._buffers is None else self._buffers.map(rows)
        self._free = None if self._free is None else rows(self._free)
        self._dropped_at = None if self._dropped_at is None else rows(self._dropped_at)

    def _scores_on_arrival(self, keys: Tensor, values: Tensor, positions: Tensor) -> Tensor | None:
        """Scores of new pairs, where a rolling cache can hold on to them."""
        if self.rule is None or not self.rule.static or self.slots is None:
            return None
        return self.rule.scores(keys, values, positions)

    def _victim(self, positions: Tensor, scores: Tensor, recent: Guard) -> Int[Tensor, "b g 1"]:
        """The slot to give up: the lowest score outside ``recent``, the newest of equal ones."""
        if isinstance(recent, Tensor) or recent > 0:
            scores = torch.where(positions < self.seen - recent, scores, math.inf)
        lowest = scores.amin(dim=-1, keepdim=True)
        return torch.where(scores == lowest, positions, -1).argmax(dim=-1, keepdim=True)

    def _append(self, new: Pairs) -> None:
        if self._free is not None:
            self._load(self.ordered())
        need = self._filled + new.keys.shape[2]
        room = 0 if self._buffers is None else ROOM  # a prompt fits exactly
        buffers = new.first(0) if self._buffers is None else self._buffers
        if need > buffers.keys.shape[2]:
            size = self.slots if self.slots is not None and need <= self.slots else need + room
            buffers = buffers.first(self._filled).with_room(size)
        for part, fresh in zip(buffers, new, strict=True):
            if part is not None and fresh is not None:
                part[:, :, self._filled : need] = fresh
        self._buffers, self._filled = buffers, need

    def _load(self, pairs: Pairs) -> None:
        """Hold exactly these pairs, given in ascending position."""
        size = pairs.keys.shape[2]
        self._buffers = pairs.with_room(max(size, self.slots or 0))
        self._filled, self._free, self._ascending = size, None, True

    def _note(self, positions: Tensor) -> None:
        if self._dropped_at is not None:
            self._dropped_at = self._dropped_at.scatter(2, positions, self.seen)

    def _held(self) -> Pairs:
        if self._buffers is None:
            raise ValueError("the cache is empty: run the model on a prompt first")
        return self._buffers

    def _check(self, keys: Tensor) -> None:
        if keys.shape[2] == 0:
            raise ValueError(
                f"no new token: input_ids are not longer than the {self.seen} tokens that this "
                "cache has seen; pass the whole sequence, the cached part included"
            )
        if keys.requires_grad:
            raise ValueError("this cache is for inference: run the model under torch.no_grad()")
        held = None if self._buffers is None else self._buffers.keys.shape
        if held is not None and (*held[:2], held[3]) != (*keys.shape[:2], keys.shape[3]):
            raise ValueError(
                f"keys {tuple(keys.shape)} do not fit a cache of {tuple(held)}: reset it"
            )
        if not math.isfinite(keys.sum(dtype=torch.float32)):  # finite only if every entry is
            raise ValueError(f"keys at position {self.seen} or later hold NaN or infinity")


def rolling_reference(
    scores: Sequence[float],
    *,
    budget: int,
    prune_to: int | None = None,
    sinks: int = 0,
    recent: int = 0,
) -> Iterator[list[int]]:
    """Positions that one head holds after each token, by sorting everything at every step.

    >>> list(rolling_reference([-1.0, -3.0, -2.0], budget=2))
    [[0], [0, 1], [0, 2]]
    """
    alive: list[int] = []
    for position in range(len(scores)):
        alive.append(position)
        if len(alive) >= budget:
            guarded = {p for p in alive if p < sinks} | set(alive[len(alive) - recent :])
            best_first = sorted(alive, key=lambda p: (p not in guarded, -scores[p], p))
            alive = sorted(best_first[: budget if prune_to is None else prune_to])
        yield list(alive)


def _joined(held: Tensor | None, new: Tensor) -> Tensor:
    return new if held is None else torch.cat([held, new], dim=-1)
