"""Selection without training on photographs: class attention of a real ViT-S (DINOv2, patch 14).

The picture's middle square is resized to 224 x 224: 256 patches. A patch's score is the attention
that the class token pays it, averaged over heads and over the last four of the twelve layers.
"""

import math
from functools import cache
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8

from labcore.assets.dinov2 import DEPTH, HEADS, HIDDEN, MEAN, PATCH, STD, vit_s_state
from labcore.blocks.class_attention import class_attention
from labcore.blocks.vit import Block, VisionTransformer, ViTConfig
from labcore.runs import Progress, Table, silent
from labcore.tokens.data import PHOTOS, photo
from labcore.tokens.link import flops

SIDE = 224
SHARE = 0.25
CONFIG = ViTConfig(
    image_size=SIDE, patch_size=PATCH, in_channels=3, hidden_size=HIDDEN, depth=DEPTH,
    num_heads=HEADS, mlp_ratio=4.0, layer_scale=True,
)  # fmt: skip


@cache
def vit_s() -> VisionTransformer:
    """The real ViT-S, read once a process.

    Raises:
        AssetError: the asset ``vit-s-dinov2`` is not here and cannot be fetched.
    """
    model = VisionTransformer(CONFIG)
    model.load_state_dict(vit_s_state(SIDE))
    return model.eval().requires_grad_(False)


def square(picture: UInt8[np.ndarray, "y x 3"]) -> UInt8[np.ndarray, "224 224 3"]:
    """The middle square of a picture, resized.

    Raises:
        ValueError: a side shorter than one patch.
    """
    height, width = picture.shape[:2]
    side = min(height, width)
    if side < PATCH:
        raise ValueError(f"the picture has {height} x {width} pixels: at least {PATCH} are needed")
    top, left = (height - side) // 2, (width - side) // 2
    crop = torch.from_numpy(picture[top : top + side, left : left + side].copy())
    small = F.interpolate(
        crop.permute(2, 0, 1)[None].float(), size=(SIDE, SIDE), mode="bilinear", antialias=True
    )
    return small[0].permute(1, 2, 0).round().clamp(0, 255).byte().numpy()


@torch.no_grad()
def class_attention_map(
    picture: UInt8[np.ndarray, "224 224 3"], layers: tuple[int, ...] = (8, 9, 10, 11)
) -> Float[np.ndarray, " 256"]:
    """Attention of the class token to each patch, mean over heads and ``layers`` (0-based)."""
    model = vit_s()
    pixels = torch.from_numpy(picture.copy()).float() / 255
    x = model.embed(((pixels - torch.tensor(MEAN)) / torch.tensor(STD)).permute(2, 0, 1)[None])
    rows = []
    for number, block in enumerate(model.blocks):
        if number in layers:
            query, key, _ = cast(Block, block).attn.heads(cast(Block, block).norm1(x))
            rows.append(class_attention(query, key)[0])
        x = block(x)
    return torch.stack(rows).mean(0).numpy()


def close_up() -> tuple[dict[str, np.ndarray], dict[str, Table]]:
    """Both photographs with their maps, and how much attention the best quarter holds."""
    arrays: dict[str, np.ndarray] = {}
    table: Table = []
    for name in PHOTOS:
        picture = square(photo(name))
        found = class_attention_map(picture)
        arrays[f"photo/{name}"] = picture
        arrays[f"attention/{name}"] = found.astype(np.float32)
        best = np.sort(found)[::-1][: int(SHARE * len(found))]
        table.append({"photo": name, "share": SHARE, "held": float(best.sum() / found.sum())})
    return arrays, {"photographs": table}


def real_size(share: float, split: int = 3) -> tuple[float, float]:
    """GFLOPs of the real ViT-S on a photograph: all patches, and a share of them after ``split``.

    Only a cost: the maps read layers 9 to 12, so a device that draws them has run the network.

    >>> whole, part = real_size(0.25)
    >>> round(whole / part, 1)
    2.3
    """
    tokens = math.ceil(share * CONFIG.num_patches)
    whole, part = (sum(flops(CONFIG, split, n)) / 1e9 for n in (CONFIG.num_patches, tokens))
    return whole, part


def look(
    picture: UInt8[np.ndarray, "y x 3"], *, progress: Progress = silent
) -> tuple[np.ndarray, np.ndarray]:
    """A picture of one's own: its middle square and the attention map, for a page's worker."""
    progress(0, 2, "loading ViT-S")
    vit_s()
    progress(1, 2, "looking")
    middle = square(picture)
    found = class_attention_map(middle)
    progress(2, 2, "done")
    return middle, found
