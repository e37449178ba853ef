"""What the experiments read: digits and clothes in one stream, clothes alone, canvases."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from labcore.assets.images import FASHION_CLASSES, fashion_mnist, mnist

MEAN, STD = 0.2, 0.33  # of both data sets together, about
CLASSES = (*(str(digit) for digit in range(10)), *FASHION_CLASSES)
CANVAS, CELL, FRAGMENTS = 49, 7, 6


@dataclass(frozen=True)
class Pictures:
    """Pictures with their classes.

    Attributes:
        images: (n, 1, side, side), standardised.
        labels: (n,).
        ink: Of canvases: which patches hold ink of the labelled digit (n, patches).
    """

    images: Float[Tensor, "n 1 side _side"]
    labels: Int[Tensor, " n"]
    ink: Bool[Tensor, "n p"] | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def part(self, start: int, stop: int) -> "Pictures":
        """Rows from ``start`` to ``stop``."""
        ink = None if self.ink is None else self.ink[start:stop]
        return Pictures(self.images[start:stop], self.labels[start:stop], ink)


def mixed_stream(split: str, count: int, seed: int) -> Pictures:
    """Digits (classes 0 to 9) and clothes (10 to 19), half of each, in random order."""
    rng = np.random.default_rng(seed)
    images, labels = [], []
    for shift, (pool, classes) in ((0, mnist(split)), (10, fashion_mnist(split))):
        rows = rng.choice(len(pool), count // 2, replace=False)
        images.append(pool[rows])
        labels.append(classes[rows].astype(np.int64) + shift)
    order = rng.permutation(2 * (count // 2))
    return _pictures(np.concatenate(images)[order], np.concatenate(labels)[order])


def one_domain(name: str, split: str, count: int, seed: int) -> Pictures:
    """``count`` digits ("mnist") or clothes ("fashion"), classes 0 to 9, in random order.

    Raises:
        ValueError: another name.
    """
    if name not in ("mnist", "fashion"):
        raise ValueError(f'name must be "mnist" or "fashion", got {name!r}')
    pool, labels = mnist(split) if name == "mnist" else fashion_mnist(split)
    rows = np.random.default_rng(seed).choice(len(pool), count, replace=False)
    return _pictures(pool[rows], labels[rows].astype(np.int64))


def canvases(split: str, count: int, seed: int) -> Pictures:
    """Cluttered canvases: one digit at one of 16 places, six fragments of others, 49 patches.

    A canvas has 49x49 pixels. The digit's corner lies on the grid of patches (7 pixels), so it
    covers 16 of 49 patches; fragments of 7x7 pixels of other digits fall anywhere on that grid
    outside of the digit. Which patches hold ink of the labelled digit is known.
    """
    rng = np.random.default_rng(seed)
    pool, classes = mnist(split)
    side = CANVAS // CELL
    grid = np.zeros((count, side, CELL, side, CELL), dtype=np.uint8)
    ink = np.zeros((count, side, side), dtype=bool)
    rows = rng.integers(len(pool), size=(count, 1 + FRAGMENTS))
    corners = rng.integers(side - 3, size=(count, 2))
    cells = pool.reshape(-1, 4, CELL, 4, CELL)
    for i in range(count):
        top, left = corners[i]
        digit = cells[rows[i, 0]]
        grid[i, top : top + 4, :, left : left + 4] = digit
        ink[i, top : top + 4, left : left + 4] = (digit > 64).any(axis=(1, 3))
        outside = np.ones((side, side), dtype=bool)
        outside[top : top + 4, left : left + 4] = False
        places = rng.choice(np.flatnonzero(outside), FRAGMENTS, replace=False)
        for place, row in zip(places, rows[i, 1:], strict=True):
            a, b = rng.integers(1, 3, size=2)  # the middle of a digit: seldom empty
            grid[i, place // side, :, place % side] = cells[row, a, :, b]
    images = grid.reshape(count, CANVAS, CANVAS)
    found = _pictures(images, classes[rows[:, 0]].astype(np.int64))
    return Pictures(found.images, found.labels, torch.from_numpy(ink.reshape(count, -1)))


def to_bytes(images: Float[Tensor, "n 1 side _side"]) -> np.ndarray:
    """Standardised pictures as bytes (n, side, side), for results and figures."""
    back = (images[:, 0] * STD + MEAN) * 255
    return back.round().clamp(0, 255).to(torch.uint8).numpy()


def _pictures(images: np.ndarray, labels: np.ndarray) -> Pictures:
    values = torch.from_numpy(images.astype(np.float32) / 255)
    return Pictures(((values - MEAN) / STD)[:, None], torch.from_numpy(labels))
