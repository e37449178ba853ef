"""How much of a cache stays, and when the rest is dropped: once, in bursts, or at every step."""

from dataclasses import dataclass
from typing import Literal, cast, get_args

from labcore.kvcache.norms import check_keep_ratio, n_keep

When = Literal["prefill", "decode", "manual"]


@dataclass(frozen=True)
class Schedule:
    """How much stays, and when pairs are dropped.

    Attributes:
        keep_ratio: Fraction that one prune keeps (regime 1).
        budget: Pairs from which a rolling cache drops (regimes 2 and 3).
        prune_to: Pairs that stay then; equal to the budget, one pair leaves with each new one.
        when: When dropping starts: at the end of the first pass, just before the first pass of a
            single token (so that a prompt may come in chunks), or when told.
    """

    keep_ratio: float | None = None
    budget: int | None = None
    prune_to: int | None = None
    when: When = "prefill"

    @property
    def slots(self) -> int | None:
        """Pairs that the buffers of a rolling cache must hold, the newest included."""
        if self.budget is None or self.when == "manual":
            return None
        return self.budget + (self.prune_to == self.budget)

    def target(self, stored: int) -> int:
        """How many of the stored pairs stay."""
        if self.keep_ratio is not None:
            return n_keep(stored, self.keep_ratio)
        reached = self.budget is not None and stored >= self.budget
        return self.prune_to if reached and self.prune_to is not None else stored


def make_schedule(
    keep_ratio: float | None, budget: int | None, prune_to: int | None, when: str
) -> Schedule:
    """A schedule from the settings that people give.

    Raises:
        ValueError: Both or neither of ``keep_ratio`` and ``budget``; a number out of range;
            ``prune_to`` above the budget or without one; an unknown ``when``.

    >>> make_schedule(None, 1000, 980, "prefill").target(1000)
    980
    """
    if (keep_ratio is None) == (budget is None):
        raise ValueError(f"give either keep_ratio or budget, got {keep_ratio=} and {budget=}")
    if when not in get_args(When):
        raise ValueError(f"when must be one of {', '.join(get_args(When))}, got {when!r}")
    if budget is None:
        if prune_to is not None:
            raise ValueError(f"prune_to={prune_to} goes with budget, not with keep_ratio")
        check_keep_ratio(cast(float, keep_ratio))
        return Schedule(keep_ratio=keep_ratio, when=cast(When, when))
    prune_to = budget if prune_to is None else prune_to
    if budget < 1 or prune_to < 1:
        raise ValueError(f"budget and prune_to must be at least 1, got {budget=}, {prune_to=}")
    if prune_to > budget:
        raise ValueError(f"prune_to={prune_to} exceeds budget={budget}")
    return Schedule(budget=budget, prune_to=prune_to, when=cast(When, when))
