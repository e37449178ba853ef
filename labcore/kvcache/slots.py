"""Which pair each head gives up next, decided once a step for all layers together.

Attention does not care in which order pairs are stored, so a rolling cache need not keep them in
order. Each layer has ``budget + 1`` slots. A step writes the new pair over the slot that was given
up last time and attends to the whole buffer; then the next slot to give up is the one with the
lowest score. Nothing is concatenated, sorted or gathered, so that a step moves O(C + d) numbers a
head instead of O(C·d).

The choice needs a dozen small operations, whose fixed cost would be paid in every layer. It is not
needed before the next step, though: so the layers hand in their new pairs, and the first one that
comes back makes the choice for all of them at once, the heads of all layers laid side by side.

:func:`rolling_reference` is the same rule by sorting a list of pairs; tests hold the two equal.
"""

import math
from collections.abc import Callable, Iterator, Sequence

import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor

from labcore.kvcache.norms import Guard
from labcore.kvcache.pairs import Rule

Note = Callable[[Tensor], None]


class Seat:
    """One layer in a :class:`SlotTable`: its slots are full, and one of them is always given up.

    Args:
        table: The table.
        positions: Original positions of the pairs in the slots ``(b, g, s)``.
        scores: Their scores ``(b, g, s)``.
        note: Told the positions of dropped pairs, when somebody keeps a history.

    Attributes:
        open: Whether the seat still takes part; a closed one may only be read.
    """

    def __init__(
        self, table: "SlotTable", positions: Tensor, scores: Tensor, note: Note | None
    ) -> None:
        self.table, self.positions, self.scores, self.note = table, positions, scores, note
        self.open = True
        self.owed = True  # a choice
        self.arrived: tuple[Tensor, Tensor] | None = None
        self.given_up: Tensor | None = None

    def free(self) -> Int[Tensor, "b g 1 d"]:
        """The slot that each head gave up, repeated over the features of a key."""
        if self.owed:
            self.table.settle()
        assert self.given_up is not None
        return self.given_up

    def arrive(self, key: Float[Tensor, "b g 1 d"], value: Float[Tensor, "b g 1 e"]) -> None:
        """A pair was written to the free slot; its position and score are not needed yet."""
        self.arrived, self.owed = (key, value), True


class SlotTable:
    """The seats of all layers whose heads choose together.

    Args:
        rule: What decides which pairs stay; its score must be static.
    """

    _positions: Tensor  # (b, Σg, s), like the scores; once the heads are laid side by side
    _scores: Tensor
    _free: Tensor  # (b, Σg, 1)

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self._seats: list[Seat] = []
        self.dismiss()

    def enter(
        self,
        positions: Int[Tensor, "b g s"],
        scores: Float64[Tensor, "b g s"],
        features: int,
        note: Note | None = None,
    ) -> Seat:
        """A seat for a layer whose slots have just been filled, with keys of so many features."""
        if self._laid_out:
            self.close()
        self._features = features
        self._seats.append(Seat(self, positions, scores, note))
        return self._seats[-1]

    def settle(self) -> None:
        """Take in the pairs that arrived, and choose the next slot to give up, for every head.

        Raises:
            ValueError: Only some layers have had their turn, or new keys are not finite.
        """
        if not all(seat.owed for seat in self._seats):
            raise ValueError(
                "some layers have seen one token more than others: a forward pass is under way or "
                "was interrupted; reset() the cache"
            )
        if self._laid_out:
            self._take_in([seat.arrived for seat in self._seats if seat.arrived is not None])
        else:
            self._lay_out()
        self._choose()

    def close(self) -> None:
        """Settle, then let every layer leave; each still knows what it holds."""
        if any(seat.owed for seat in self._seats):
            self.settle()
        self.dismiss()

    def dismiss(self) -> None:
        """Let every layer leave at once, as a reset does."""
        for seat in self._seats:
            seat.open = False
        self._seats = []
        self._laid_out = False
        self._newest = self._features = 0

    def _lay_out(self) -> None:
        """Lay the heads of all layers side by side; every seat keeps a view of its own."""
        with torch.inference_mode(False):  # a later step may write to them in any mode
            self._positions = torch.cat([seat.positions for seat in self._seats], dim=1)
            self._scores = torch.cat([seat.scores for seat in self._seats], dim=1)
        views = zip(self._split(self._positions), self._split(self._scores), strict=True)
        for seat, (own_positions, own_scores) in zip(self._seats, views, strict=True):
            seat.positions, seat.scores = own_positions, own_scores
        self._newest = int(self._positions.max())
        self._laid_out = True

    def _take_in(self, arrived: list[tuple[Tensor, Tensor]]) -> None:
        """Write positions and scores of the new pairs, computed for all layers together."""
        self._newest += 1
        keys = torch.cat([key for key, _ in arrived], dim=1)
        values = torch.cat([value for _, value in arrived], dim=1)
        check_finite(keys, self._newest)
        positions = torch.full_like(self._free, self._newest)
        self._positions.scatter_(2, self._free, positions)
        self._scores.scatter_(2, self._free, self.rule.scores(keys, values, positions))

    def _choose(self) -> None:
        """Give up the lowest score of every head that no guard holds."""
        scores, rule = self._scores, self.rule
        if _guards(rule.sinks):
            scores = scores.masked_fill(self._positions < rule.sinks, math.inf)
        if _guards(rule.recent):
            scores = scores.masked_fill(self._positions > self._newest - rule.recent, math.inf)
        self._free = scores.argmin(dim=2, keepdim=True)
        wide = self._free[..., None].expand(*self._free.shape, self._features)
        for seat, given_up in zip(self._seats, self._split(wide), strict=True):
            seat.given_up, seat.owed, seat.arrived = given_up, False, None
            if seat.note is not None:
                seat.note(seat.positions.gather(2, given_up[..., 0]))

    def _split(self, stacked: Tensor) -> tuple[Tensor, ...]:
        return stacked.split([seat.positions.shape[1] for seat in self._seats], dim=1)


def check_finite(keys: Tensor, position: int) -> None:
    """Raise ``ValueError`` when a key, the first of them at ``position``, holds NaN or infinity."""
    if not math.isfinite(keys.sum(dtype=torch.float32)):  # finite only if every entry is
        raise ValueError(f"keys from position {position} on hold NaN or infinity")


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


def _guards(guard: Guard) -> bool:
    return isinstance(guard, Tensor) or guard > 0
