"""The cluttered canvas: pictures in which the patches that matter are known.

A canvas is 7 x 7 cells of 7 x 7 pixels, one cell a token. One MNIST digit (4 x 4 cells) stands at
one of 16 places; six cells without its ink hold fragments of other digits. A fragment looks like a
piece of the digit: only what stands around it tells them apart. :attr:`Canvases.digit` says which
tokens hold the labelled digit's ink, so that precision and recall of a selection can be measured.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from labcore.assets import fetch
from labcore.assets.images import mnist

CELL, GRID = 7, 7
SIZE, TOKENS = CELL * GRID, GRID * GRID
FRAGMENTS = 6
PLACES = (GRID - 3) ** 2
PHOTOS = ("china", "flower")
_INK = 128  # a cell holds ink when its darkest pixel is at least this


@dataclass(frozen=True)
class Canvases:
    """A batch of canvases.

    Attributes:
        images: (b, 1, 49, 49), 0 = paper, 1 = ink.
        labels: Class of the digit (b,).
        digit: Tokens that hold ink of the labelled digit (b, 49).
        clutter: Tokens that hold a fragment of another digit (b, 49).
    """

    images: Float[Tensor, "b 1 y x"]
    labels: Int[Tensor, " b"]
    digit: Bool[Tensor, "b t"]
    clutter: Bool[Tensor, "b t"]

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: slice) -> "Canvases":
        """Some of the canvases."""
        return Canvases(self.images[rows], self.labels[rows], self.digit[rows], self.clutter[rows])


@dataclass(frozen=True)
class Pool:
    """Digits that canvases are made of: pictures (n, 28, 28) of bytes, and classes (n,)."""

    pictures: UInt8[Tensor, "n 28 28"]
    labels: Int[Tensor, " n"]

    def canvases(
        self, count: int, generator: torch.Generator, *, fragments: int = FRAGMENTS
    ) -> Canvases:
        """Draw ``count`` canvases.

        Args:
            count: How many.
            generator: Decides digits, places and clutter.
            fragments: Cells that hold a piece of another digit.

        Raises:
            ValueError: no canvas, or more fragments than the digit surely leaves room for.
        """
        if count < 1:
            raise ValueError(f"count={count}: ask for at least one canvas")
        if not 0 <= fragments <= TOKENS - 16:
            raise ValueError(f"fragments={fragments} must lie in 0..{TOKENS - 16}")
        chosen = torch.randint(len(self.labels), (count,), generator=generator)
        cells = torch.zeros(count, GRID, GRID, CELL, CELL, dtype=torch.uint8)
        place = torch.randint(PLACES, (count,), generator=generator)
        row, column = place // (GRID - 3), place % (GRID - 3)
        span, every = torch.arange(4), torch.arange(count)[:, None, None]
        pieces = self.pictures[chosen].view(count, 4, CELL, 4, CELL).transpose(2, 3)
        rows, columns = row[:, None, None] + span[:, None], column[:, None, None] + span
        cells[every, rows, columns] = pieces
        digit = cells.flatten(3).amax(-1).flatten(1) >= _INK
        cells = cells.flatten(1, 2)
        clutter = torch.zeros_like(digit)
        if fragments:
            lot = torch.rand(count, TOKENS, generator=generator).masked_fill(digit, -1)
            where = lot.topk(fragments, dim=-1).indices
            cells.scatter_(
                1,
                where[..., None, None].expand(-1, -1, CELL, CELL),
                self._fragments(count, fragments, generator),
            )
            clutter.scatter_(1, where, True)
        images = (
            cells.view(count, GRID, GRID, CELL, CELL).transpose(2, 3).reshape(count, SIZE, SIZE)
        )
        return Canvases(images[:, None].float() / 255, self.labels[chosen], digit, clutter)

    def _fragments(
        self, count: int, fragments: int, generator: torch.Generator
    ) -> UInt8[Tensor, "b f 7 7"]:
        """Windows out of the middle of other digits, where ink is likely."""
        shape = (count, fragments, 1, 1)
        source = torch.randint(len(self.labels), shape, generator=generator)
        y, x = (torch.randint(7, 15, shape, generator=generator) for _ in range(2))
        span = torch.arange(CELL)
        return self.pictures[source, y + span[:, None], x + span]


@cache
def pool(split: str) -> Pool:
    """The digits of a split: 55 000 for training, 5000 for validation, 10 000 for testing.

    Training and validation come from MNIST's training set, testing from its test set; no digit,
    not even a fragment, is in two of them.

    Raises:
        ValueError: another split than "train", "validation", "test".
        AssetError: MNIST is not here and cannot be fetched.
    """
    if split not in ("train", "validation", "test"):
        raise ValueError(f'split must be "train", "validation" or "test", got {split!r}')
    pictures, labels = mnist("test" if split == "test" else "train")
    part = {"train": slice(55_000), "validation": slice(55_000, None), "test": slice(None)}[split]
    return Pool(
        torch.from_numpy(pictures[part].copy()), torch.from_numpy(labels[part].astype(np.int64))
    )


@cache
def photo(name: str = "china") -> UInt8[np.ndarray, "y x 3"]:
    """One of two photographs, 427 x 640 pixels, red, green, blue from 0 to 255. Needs Pillow.

    Raises:
        ValueError: another name than "china" or "flower".
        AssetError: the picture is not here and cannot be fetched.
    """
    if name not in PHOTOS:
        raise ValueError(f"name must be one of {PHOTOS}, got {name!r}")
    from PIL import Image

    with Image.open(fetch("digits-photos")[f"{name}.jpg"]) as picture:
        return np.asarray(picture.convert("RGB")).copy()
