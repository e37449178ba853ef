"""Stored pairs, for every row and head, and the rule that orders them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor

from labcore.kvcache.norms import Guard
from labcore.kvcache.scores import LayerState, Score

ULP = 2.0**-52  # relative step of float64


class Pairs(NamedTuple):
    """Keys and values ``(b, g, n, d)``, original positions and scores ``(b, g, n)``."""

    keys: Tensor
    values: Tensor
    positions: Tensor
    scores: Tensor | None = None

    @property
    def size(self) -> int:
        """Pairs of every row and head."""
        return self.keys.shape[2]

    def map(self, change: Callable[[Tensor], Tensor]) -> "Pairs":
        """The same change made to each tensor."""
        scores = None if self.scores is None else change(self.scores)
        return Pairs(change(self.keys), change(self.values), change(self.positions), scores)

    def first(self, n: int) -> "Pairs":
        """Views of the first ``n`` pairs."""
        return self if n == self.size else self.map(lambda part: part[:, :, :n])

    def take(self, index: Int[Tensor, "b g k"]) -> "Pairs":
        """The pairs at ``index``, in that order, every row and head its own."""
        return self.map(lambda part: part.gather(2, _over_features(index, part)))

    def write(self, start: int, new: "Pairs") -> None:
        """Put new pairs at ``start``, in place."""
        for part, fresh in zip(self, new, strict=True):
            if part is not None and fresh is not None:
                part[:, :, start : start + new.size] = fresh

    def with_room(self, size: int) -> "Pairs":
        """A copy at the start of buffers for ``size`` pairs."""
        return self.map(lambda part: _with_room(part, size))


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

    def scores(
        self,
        keys: Float[Tensor, "b g n d"],
        values: Float[Tensor, "b g n e"],
        positions: Int[Tensor, "b g n"],
    ) -> Float64[Tensor, "b g n"]:
        """Scores of these pairs, nudged so that no two are equal: the lower position wins.

        A float32 score has 29 bits to spare in float64. The nudge, one unit in the last place for
        each position, moves no score past another one that differs in float32.
        """
        state = LayerState(keys, values, positions, generator=self.generator)
        exact = self.score(state).double()
        return exact.addcmul(exact.abs(), positions * ULP, value=-1.0)


def make_rule(score: Score, sinks: int, recent: int, generator: torch.Generator | None) -> Rule:
    """The rule of a cache that sees keys and values only.

    Raises:
        ValueError: The score needs attention, the special tokens or a seed.
    """
    seeded = score.needs == "generator" and generator is not None
    if score.needs is not None and not seeded:
        raise score.lacking()
    sinks, recent = score.guards(sinks, recent)
    return Rule(score, score.static, sinks, recent, generator)


def _over_features(index: Tensor, part: Tensor) -> Tensor:
    """The index, repeated over the features when ``part`` has them."""
    return index if part.ndim == 3 else index[..., None].expand(*index.shape, part.shape[-1])


def _with_room(part: Tensor, size: int) -> Tensor:
    # Made outside inference mode, so that a later step may write to it in any mode.
    with torch.inference_mode(False):
        buffer = part.new_empty((*part.shape[:2], size, *part.shape[3:]))
    buffer[:, :, : part.shape[2]] = part
    return buffer
