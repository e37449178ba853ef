"""CPU time of two ways of doing one piece of work, as a ratio: the two take turns."""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from labcore.runtime import limit_threads

BATCH = 64
Run = Callable[[Tensor], object]


@dataclass(frozen=True)
class Clock:
    """Median CPU seconds a batch of one way, and of the whole network."""

    ours: float
    whole: float

    @property
    def ratio(self) -> float:
        """Ours over the whole network's."""
        return self.ours / self.whole


@torch.no_grad()
def clock(ours: Run, whole: Run, batches: Sequence[Tensor]) -> Clock:
    """Time both on every batch but the first, which warms up; one thread.

    Raises:
        ValueError: fewer than two batches.
    """
    if len(batches) < 2:
        raise ValueError(
            f"at least two batches are needed (the first warms up), got {len(batches)}"
        )
    limit_threads(1)  # a second thread on a busy machine would be timed instead
    times: tuple[list[float], list[float]] = ([], [])
    for batch in batches:
        for work, kept in zip((ours, whole), times, strict=True):
            start = time.process_time()
            work(batch)
            kept.append(time.process_time() - start)
    return Clock(*(statistics.median(kept[1:]) for kept in times))


def batches_of(images: Tensor, count: int, size: int = BATCH) -> list[Tensor]:
    """``count`` batches of some pictures, again from the start when they run out.

    A few pictures make one smaller batch, which is then taken every time.
    """
    size = min(size, len(images))
    there = len(images) // size
    return [images[(i % there) * size : (i % there + 1) * size] for i in range(count)]
