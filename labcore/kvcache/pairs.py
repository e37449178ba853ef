"""Stored pairs: a key, its value, its original position and its score, for every row and head."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor


class Pairs(NamedTuple):
    """Keys and values ``(b, g, n, d)``, original positions and scores ``(b, g, n)``."""

    keys: Tensor
    values: Tensor
    positions: Tensor
    scores: Tensor | None = None

    def map(self, change: Callable[[Tensor], Tensor]) -> "Pairs":
        """The same change made to each tensor."""
        return Pairs(*(None if part is None else change(part) for part in self))  # type: ignore[arg-type]

    def first(self, n: int) -> "Pairs":
        """Views of the first ``n`` pairs."""
        return self.map(lambda part: part[:, :, :n])

    def take(self, index: Int[Tensor, "b g k"]) -> "Pairs":
        """The pairs at ``index``, in that order, every row and head its own."""
        return self.map(lambda part: part.gather(2, _like(index, part)))

    def put(self, index: Int[Tensor, "b g k"], pairs: "Pairs") -> None:
        """Write ``pairs`` over those at ``index``, in place."""
        for part, new in zip(self, pairs, strict=True):
            if part is not None and new is not None:
                part.scatter_(2, _like(index, part), new)

    def with_room(self, size: int) -> "Pairs":
        """A copy at the start of buffers for ``size`` pairs."""
        return self.map(lambda part: _with_room(part, size))


def _like(index: Tensor, part: Tensor) -> Tensor:
    """The index, repeated over the features when ``part`` has them."""
    return (
        index if part.ndim == index.ndim else index[..., None].expand(*index.shape, part.shape[-1])
    )


def _with_room(part: Tensor, size: int) -> Tensor:
    # Made outside inference mode, so that a later step may write to it in any mode.
    with torch.inference_mode(False):
        buffer = part.new_empty((*part.shape[:2], size, *part.shape[3:]))
    buffer[:, :, : part.shape[2]] = part
    return buffer
