"""What one layer keeps: buffers that grow, or the slots of a rolling cache.

A cache that only grows (after one prune, or in a layer that is left whole) makes room for 256 pairs
at a time instead of copying everything for each token. A rolling cache whose slots are full takes a
seat in a :class:`labcore.kvcache.slots.SlotTable`, where a pair leaves with each new one.
"""

from collections.abc import Hashable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from labcore.kvcache.norms import select
from labcore.kvcache.pairs import Pairs, Rule
from labcore.kvcache.slots import Seat, SlotTable, check_finite

ROOM = 256  # pairs of room made when a growing buffer is full
SlotTables = dict[Hashable, SlotTable]  # one for each device and shape of key and value


class PairStore:
    """The pairs of one layer, and how many tokens it has seen.

    Args:
        rule: What decides which pairs stay; None keeps everything.
        slots: Size of the buffers of a rolling cache, from which one pair leaves with each new one
            when they are full; None lets them grow.
        tables: Shared by the layers of a cache, whose heads choose together.
        record: Keep the history of every pair, for :meth:`dropped_at`.

    Attributes:
        seen: Tokens that arrived, dropped ones included: the position of the next token.
    """

    def __init__(
        self,
        rule: Rule | None = None,
        *,
        slots: int | None = None,
        tables: SlotTables | None = None,
        record: bool = False,
    ) -> None:
        self.rule, self.slots, self.record = rule, slots, record
        self.tables: SlotTables = {} if tables is None else tables
        self._seat: Seat | None = None
        self.clear()

    def clear(self) -> None:
        """Forget every pair."""
        if self._seat is not None:
            self._seat.table.dismiss()
        self.seen = 0
        self._buffers: Pairs | None = None
        self._filled = 0  # pairs from the start of the buffers, in ascending position; or slots
        self._seat = None
        self._dropped_at: Tensor | None = None

    @classmethod
    def holding(cls, pairs: Pairs, seen: int, rule: Rule | None = None) -> "PairStore":
        """A store of these pairs, given in ascending position.

        They are not copied, and never written: there is no room behind them, so the first new pair
        moves the store to buffers of its own.
        """
        store = cls(rule)
        store._buffers, store._filled, store.seen = pairs, pairs.size, seen
        return store

    def fork(self, tables: SlotTables | None = None) -> "PairStore":
        """A second store with the same pairs and rule, on which later changes have no effect."""
        twin = PairStore(self.rule, slots=self.slots, tables=tables, record=self.record)
        if self._buffers is not None:
            # A growing store never writes to pairs that it holds, so these may be shared.
            pairs = self.ordered()
            twin._buffers = pairs if self.slots is None else pairs.map(torch.clone)
        twin._filled, twin.seen, twin._dropped_at = self.stored, self.seen, self._dropped_at
        return twin

    @property
    def stored(self) -> int:
        """Pairs held for every row and head."""
        return self._filled - (self._seat is not None)

    @property
    def nbytes(self) -> int:
        """Bytes of the stored keys and values; room and the free slot not counted."""
        if self._buffers is None:
            return 0
        parts = (self._buffers.keys, self._buffers.values)
        return sum(part[:, :, : self.stored].numel() * part.element_size() for part in parts)

    def add(
        self, keys: Float[Tensor, "b g q d"], values: Float[Tensor, "b g q e"]
    ) -> tuple[Float[Tensor, "b g n d"], Float[Tensor, "b g n e"]]:
        """Store new pairs; returns all pairs that this step attends to, in no particular order.

        What is returned stays intact when pairs are dropped right afterwards.

        Raises:
            ValueError: No new pair, another batch or head shape than before, keys that are not
                finite, or keys that require a gradient.
        """
        self._check(keys)
        if self._seat is not None and self._seat.open and keys.shape[2] == 1:
            pairs = self._held()
            slot = self._seat.free()
            pairs.keys.scatter_(2, slot, keys)
            pairs.values.scatter_(2, _fitted(slot, values), values)
            self._seat.arrive(keys, values)
        else:
            check_finite(keys, self.seen)
            self._append(keys, values)
            pairs = self._held().first(self._filled)
        self.seen += keys.shape[2]
        if self.record:
            self._extend_history(keys)
        return pairs.keys, pairs.values

    def keep(self, k: int) -> None:
        """Drop all but the best ``k`` pairs of every row and head; nothing if no more are stored.

        Raises:
            ValueError: The guards of the rule exceed ``k``.
        """
        if self.rule is None or k >= self.stored:
            return
        buffers, rule = self._held(), self.rule
        if buffers.scores is not None and k + 1 == self._filled == self.slots:
            table = self._table(buffers, rule)
            note = self._note if self.record else None
            features = buffers.keys.shape[-1]
            self._seat = table.enter(buffers.positions, buffers.scores, features, note)
            return
        pairs = self.ordered()
        scores = rule.scores(*pairs[:3]) if pairs.scores is None else pairs.scores
        index = select(scores, k, positions=pairs.positions, sinks=rule.sinks, recent=rule.recent)
        if self.record:
            dropped = torch.ones_like(pairs.positions, dtype=torch.bool).scatter_(2, index, False)
            self._note(pairs.positions[dropped].view(*index.shape[:2], -1))
        self._load(pairs.take(index))

    def ordered(self) -> Pairs:
        """The stored pairs, oldest first."""
        if self._seat is None:
            return self._held().first(self._filled)
        positions = self._seated_positions(self._seat)
        held = self._held()._replace(positions=self._seat.positions, scores=self._seat.scores)
        return held.take(positions.argsort(dim=2)[..., : self.stored])

    def positions(self) -> Int[Tensor, "b g n"]:
        """Original positions of the stored pairs, ascending."""
        if self._seat is None:
            return self._held().positions[..., : self._filled]
        return self._seated_positions(self._seat).sort(dim=2).values[..., : self.stored]

    def dropped_at(self) -> Int[Tensor, "b g t"]:
        """For every token seen: how many had been seen when its pair was dropped; -1 if it stays.

        Raises:
            ValueError: The store does not record.
        """
        if self._dropped_at is None:
            raise ValueError("no history: make the cache with record=True, then run the model")
        if self._seat is not None:
            self._seat.free()  # the last choice may not have been made yet
        return self._dropped_at

    def select_rows(self, index: Int[Tensor, " rows"]) -> None:
        """Keep these batch rows, in this order, repeated where asked, with all that is theirs."""

        def rows(part: Tensor) -> Tensor:
            return part.index_select(0, index.to(part.device))

        self._leave()
        if self._buffers is not None:
            self._buffers = self._buffers.first(self._filled).map(rows)
        self._dropped_at = None if self._dropped_at is None else rows(self._dropped_at)

    def _append(self, keys: Tensor, values: Tensor) -> None:
        self._leave()
        b, g, q, _ = keys.shape
        positions = torch.arange(self.seen, self.seen + q, device=keys.device).expand(b, g, q)
        scores = None
        if self.rule is not None and self.rule.static and self.slots is not None:
            scores = self.rule.scores(keys, values, positions)  # once, for as long as it is stored
        new = Pairs(keys, values, positions, scores)
        buffers = new.first(0) if self._buffers is None else self._buffers
        need = self._filled + q
        if need > buffers.size:
            room = 0 if self._buffers is None else ROOM  # a prompt fits exactly
            size = self.slots if self.slots is not None and need <= self.slots else need + room
            buffers = buffers.first(self._filled).with_room(size)
        buffers.write(self._filled, new)
        self._buffers, self._filled = buffers, need

    def _load(self, pairs: Pairs) -> None:
        """Hold exactly these pairs, given in ascending position."""
        self._buffers = pairs.with_room(max(pairs.size, self.slots or 0))
        self._filled, self._seat = pairs.size, None

    def _leave(self) -> None:
        """Give up the seat; the pairs go back into ascending position."""
        if self._seat is not None:
            if self._seat.open:
                self._seat.table.close()
            self._load(self.ordered())

    def _table(self, pairs: Pairs, rule: Rule) -> SlotTable:
        key = (pairs.keys.device, pairs.keys.shape[-1], pairs.values.shape[-1])
        return self.tables.setdefault(key, SlotTable(rule))

    def _seated_positions(self, seat: Seat) -> Tensor:
        """Positions by slot; the free slot comes behind all others."""
        free = seat.free()[..., 0]
        return seat.positions.scatter(2, free, self.seen)

    def _extend_history(self, keys: Tensor) -> None:
        born = torch.full(keys.shape[:3], -1, dtype=torch.int64, device=keys.device)
        old = self._dropped_at
        self._dropped_at = born if old is None else torch.cat([old, born], dim=2)

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
                f"keys {tuple(keys.shape)} do not fit a cache of {tuple(held)}: reset() it"
            )


def _fitted(slot: Tensor, values: Tensor) -> Tensor:
    """The slot, repeated over the features of a value."""
    return slot if slot.shape[-1] == values.shape[-1] else slot[..., :1].expand_as(values)
