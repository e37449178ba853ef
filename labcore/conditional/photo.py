"""Merging the tokens of a photograph inside a real, pre-trained ViT-S (DINOv2, patch 14).

The network is not trained further. In every block but the last the r most similar pairs of tokens
become one; a token is described by its keys, as published (arXiv 2210.09461).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from labcore.assets.dinov2 import DEPTH, HEADS, HIDDEN, MEAN, PATCH, STD, vit_s_state
from labcore.assets.fetching import fetch
from labcore.blocks.vit import VisionTransformer, ViTConfig
from labcore.conditional.vision import run_reduced
from labcore.runs import Progress, silent

PHOTOS = ("china", "flower")
SIDE = 336
GRID = SIDE // PATCH
PAIRS = (0, 8, 16, 24, 32, 40, 48)  # merged in each block, of 576 patches


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


@cache
def vit_s(side: int = SIDE) -> VisionTransformer:
    """The real ViT-S for pictures of this size, read once a process.

    Raises:
        AssetError: the asset ``vit-s-dinov2`` is not here and cannot be fetched.
    """
    config = ViTConfig(
        image_size=side, patch_size=PATCH, in_channels=3, hidden_size=HIDDEN, depth=DEPTH,
        num_heads=HEADS, mlp_ratio=4.0, layer_scale=True,
    )  # fmt: skip
    model = VisionTransformer(config)
    model.load_state_dict(vit_s_state(side))
    return model.eval().requires_grad_(False)


def photograph(name: str) -> UInt8[np.ndarray, "side side 3"]:
    """A photograph that comes with the lab ("china" or "flower"), cut to a square.

    Raises:
        ValueError: another name.
        AssetError: it is not here and cannot be fetched.
    """
    if name not in PHOTOS:
        raise ValueError(f"name must be one of {', '.join(PHOTOS)}, got {name!r}")
    from PIL import Image

    with Image.open(fetch("digits-photos")[f"{name}.jpg"]) as picture:
        return square(np.array(picture.convert("RGB")))


def square(image: UInt8[np.ndarray, "y x 3"], side: int = SIDE) -> UInt8[np.ndarray, "s s 3"]:
    """The middle of a picture, as a square of ``side`` pixels.

    Raises:
        ValueError: a picture without pixels.
    """
    short = min(image.shape[:2])
    if short < 1:
        raise ValueError(f"the picture has shape {image.shape}: give one with pixels")
    top, left = (image.shape[0] - short) // 2, (image.shape[1] - short) // 2
    values = torch.from_numpy(image[top : top + short, left : left + short].copy())
    moved = values.permute(2, 0, 1)[None].float()
    scaled = torch.nn.functional.interpolate(
        moved, (side, side), mode="bilinear", antialias=True, align_corners=False
    )
    return scaled[0].permute(1, 2, 0).round().clamp(0, 255).to(torch.uint8).numpy()


def as_input(pictures: Float[Tensor, "b 3 y x"]) -> Float[Tensor, "b 3 y x"]:
    """Pictures with values 0 to 1, standardised as the ViT-S was trained."""
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (MEAN, STD))
    return (pictures - mean) / std


def pixels(picture: UInt8[np.ndarray, "y x 3"]) -> Float[Tensor, "1 3 y x"]:
    """A photograph as the ViT-S reads it."""
    return as_input(torch.from_numpy(picture.copy()).permute(2, 0, 1)[None].float() / 255)


@torch.no_grad()
def merge_groups(
    picture: UInt8[np.ndarray, "side side 3"], *, progress: Progress = silent
) -> dict[int, Int[np.ndarray, " p"]]:
    """For every number of pairs a block in ``PAIRS``, the group of each patch after all blocks."""
    groups = {}
    for done, r in enumerate(PAIRS):
        progress(done, len(PAIRS), f"{r} pairs a block")
        source = run_reduced(vit_s(), pixels(picture), "merging", r / GRID**2).source
        assert source is not None
        groups[r] = source[0, 1:].numpy().astype(np.int16)
    progress(len(PAIRS), len(PAIRS), "done")
    return groups


def merge_upload(
    image: UInt8[np.ndarray, "y x 3"], *, progress: Progress = silent
) -> tuple[np.ndarray, dict[int, np.ndarray]]:
    """A photograph of one's own, cut to a square, with its groups; for a page's worker.

    Raises:
        ValueError: a picture without pixels.
        AssetError: the ViT-S is not here and cannot be fetched.
    """
    picture = square(image)
    return picture, merge_groups(picture, progress=progress)


def paint(picture: UInt8[np.ndarray, "side side 3"], groups: Int[np.ndarray, " p"]) -> MergedPhoto:
    """Every group of merged patches in its mean colour.

    Raises:
        ValueError: not one group a patch.
    """
    n, side = round(len(groups) ** 0.5), picture.shape[0]
    if n * n != len(groups) or side % n:
        raise ValueError(f"{len(groups)} groups do not tile a picture of {side} pixels")
    patch = side // n
    cells = picture.reshape(n, patch, n, patch, 3).astype(np.float64).mean((1, 3)).reshape(-1, 3)
    _, own = np.unique(groups, return_inverse=True)
    size = np.bincount(own)
    mean = np.stack([np.bincount(own, cells[:, c]) for c in range(3)], axis=1) / size[:, None]
    flat = mean[own].reshape(n, 1, n, 1, 3).repeat(patch, 1).repeat(patch, 3)
    painted = flat.reshape(side, side, 3).round().astype(np.uint8)
    return MergedPhoto(picture, painted, len(size), len(groups), own)


def kept_photo(arrays: Mapping[str, np.ndarray], name: str, r: int) -> MergedPhoto:
    """A photograph of the committed result, merged r pairs a block.

    Raises:
        ValueError: not in this result.
    """
    if f"photo/{name}/{r}" not in arrays:
        raise ValueError(f"no photograph {name!r} with {r} pairs a block: have {PHOTOS}, {PAIRS}")
    return paint(arrays[f"photo/{name}"], arrays[f"photo/{name}/{r}"])
