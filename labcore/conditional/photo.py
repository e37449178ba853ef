"""Merging the patches of a photograph by their own pixels: the matching, without a model.

A network would match its keys; here a patch is described by its pixels, shrunk to 2x2 colours, and
a little of its place. What is seen is the matching: alike neighbours become one token.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int, UInt8

from labcore.conditional.matching import merge_picture

SIDE, PATCH, PLACE = 224, 8, 0.15


@dataclass(frozen=True)
class MergedPhoto:
    """A photograph before and after merging.

    Attributes:
        picture: The photograph, cut to a square (side, side, 3).
        painted: Every group of patches in its mean colour.
        tokens: Groups that are left. patches: Patches at the start.
        groups: Group of each patch.
    """

    picture: UInt8[np.ndarray, "side side 3"]
    painted: UInt8[np.ndarray, "side side 3"]
    tokens: int
    patches: int
    groups: Int[np.ndarray, " p"]


def square(image: UInt8[np.ndarray, "y x 3"], side: int = SIDE) -> UInt8[np.ndarray, "s s 3"]:
    """The middle of a picture, as a square of ``side`` pixels.

    Raises:
        ValueError: a picture without pixels.
    """
    if min(image.shape[:2]) < 1:
        raise ValueError(f"the picture has shape {image.shape}: give one with pixels")
    short = min(image.shape[:2])
    top, left = (image.shape[0] - short) // 2, (image.shape[1] - short) // 2
    values = torch.from_numpy(image[top : top + short, left : left + short].copy())
    moved = values.permute(2, 0, 1)[None].float()
    scaled = torch.nn.functional.interpolate(moved, (side, side), mode="area")
    return scaled[0].permute(1, 2, 0).round().to(torch.uint8).numpy()


def merge_photo(image: UInt8[np.ndarray, "y x 3"], r: int, rounds: int) -> MergedPhoto:
    """Merge r pairs of patches a round, and paint each group in its mean colour.

    Args:
        image: A photograph. r: Pairs a round. rounds: Number of rounds.

    Raises:
        ValueError: r < 0 or no round.
    """
    if rounds < 1:
        raise ValueError(f"rounds must be at least 1, got {rounds}")
    picture = square(image)
    n = SIDE // PATCH
    cells = torch.from_numpy(picture).float().div(255).view(n, PATCH, n, PATCH, 3)
    quarter = cells.view(n, 2, PATCH // 2, n, 2, PATCH // 2, 3).mean((2, 5))  # (n, 2, n, 2, 3)
    colours = quarter.permute(0, 2, 1, 3, 4).reshape(n * n, 12)
    axis = torch.linspace(-1, 1, n)
    place = torch.stack(torch.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2)
    groups = merge_picture(torch.cat((colours, PLACE * place), 1), r, rounds)[-1]
    mean = cells.mean((1, 3)).reshape(n * n, 3)
    count = int(groups.max()) + 1
    total = torch.zeros(count, 3).index_add(0, groups, mean)
    size = torch.bincount(groups, minlength=count)[:, None]
    painted = (total / size)[groups].view(n, 1, n, 1, 3).expand(n, PATCH, n, PATCH, 3)
    flat = painted.reshape(SIDE, SIDE, 3).mul(255).round().to(torch.uint8).numpy()
    return MergedPhoto(picture, flat, count, n * n, groups.numpy())
