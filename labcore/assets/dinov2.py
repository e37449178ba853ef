"""A real 12-layer ViT-S (DINOv2, patch 14), read as data out of the registered ONNX file.

Biases, norms, scales, patch projection and class token are stored by name. The 72 matrices are not:
each is stored transposed, as (in, out), and is named by the ``Add`` that follows its product, whose
other input is the bias. Positions are one constant for the class token and one for 37 x 37 patches.
Source of the architecture: Oquab et al., 2023, arXiv 2304.07193.
"""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from labcore.assets.errors import AssetCorrupt
from labcore.assets.fetching import Progress, fetch
from labcore.assets.onnx_data import OnnxData, read_onnx

ASSET = "vit-s-dinov2"
DEPTH, HIDDEN, HEADS, PATCH, GRID = 12, 384, 6, 14, 37
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of the pictures it was trained on
_PARTS = (
    ("norm1.weight", "norm1.weight"),
    ("norm1.bias", "norm1.bias"),
    ("attention.output.dense.bias", "attn.proj.bias"),
    ("layer_scale1.lambda1", "ls1.gamma"),
    ("norm2.weight", "norm2.weight"),
    ("norm2.bias", "norm2.bias"),
    ("mlp.fc1.bias", "mlp.fc1.bias"),
    ("mlp.fc2.bias", "mlp.fc2.bias"),
    ("layer_scale2.lambda1", "ls2.gamma"),
)
_MATRICES = (
    ("attention.output.dense.bias", "attn.proj.weight"),
    ("mlp.fc1.bias", "mlp.fc1.weight"),
    ("mlp.fc2.bias", "mlp.fc2.weight"),
)


def vit_s_state(image_size: int = 224, *, progress: Progress | None = None) -> dict[str, Tensor]:
    """Weights of the backbone under timm's names, positions resized to the picture.

    Args:
        image_size: Height and width in pixels, a multiple of 14.
        progress: Called with (bytes done, bytes in all) while the asset is fetched.

    Returns:
        A state dict for a ViT of width 384, depth 12, 6 heads, patch 14 with LayerScale, no head.

    Raises:
        ValueError: ``image_size`` is no positive multiple of 14.
        AssetError: the asset cannot be fetched, or the file holds something else.
    """
    if image_size <= 0 or image_size % PATCH:
        raise ValueError(f"image_size must be a positive multiple of {PATCH}, got {image_size}")
    path = fetch(ASSET, progress=progress)["vit-s-dinov2.onnx"]
    data = read_onnx(path)
    try:
        return _state(data, image_size // PATCH)
    except (KeyError, StopIteration) as error:
        raise AssetCorrupt(f"{path} holds no such backbone ({error}); fetch it again") from error


def _state(data: OnnxData, side: int) -> dict[str, Tensor]:
    named, matrices = data.arrays, _matrices_by_bias(data)
    embeddings = "backbone.embeddings."
    state: dict[str, Any] = {
        "cls_token": named[f"{embeddings}cls_token"],
        "patch_embed.proj.weight": named[f"{embeddings}patch_embeddings.projection.weight"],
        "patch_embed.proj.bias": named[f"{embeddings}patch_embeddings.projection.bias"],
        "norm.weight": named["backbone.layernorm.weight"],
        "norm.bias": named["backbone.layernorm.bias"],
    }
    for layer in range(DEPTH):
        start, into = f"backbone.encoder.layer.{layer}.", f"blocks.{layer}."
        joint = [f"{start}attention.attention.{name}.bias" for name in ("query", "key", "value")]
        state[f"{into}attn.qkv.bias"] = np.concatenate([named[name] for name in joint])
        state[f"{into}attn.qkv.weight"] = np.concatenate([matrices[name].T for name in joint])
        state |= {into + ours: named[start + theirs] for theirs, ours in _PARTS}
        state |= {into + ours: matrices[start + theirs].T for theirs, ours in _MATRICES}
    tensors = {name: torch.tensor(np.ascontiguousarray(a)) for name, a in state.items()}
    tensors["pos_embed"] = _positions(data, side)
    return tensors


def _matrices_by_bias(data: OnnxData) -> dict[str, np.ndarray]:
    """Each unnamed matrix under the name of the bias that is added to its product."""
    product = {}
    for node in data.nodes:
        if node.operation == "MatMul" and node.inputs[1] in data.arrays:
            product[node.outputs[0]] = data.arrays[node.inputs[1]]
    found = {}
    for node in data.nodes:
        if node.operation != "Add":
            continue
        for bias, result in (node.inputs, node.inputs[::-1]):
            if bias in data.arrays and result in product:
                found[bias] = product[result]
    return found


def _positions(data: OnnxData, side: int) -> Tensor:
    """Class position, then patch positions, bicubically resized to ``side`` x ``side``."""
    shapes = {array.shape: array for array in data.arrays.values()}
    first = torch.tensor(_first_of(data))
    patches = torch.tensor(shapes[(1, GRID * GRID, HIDDEN)])
    if side != GRID:
        grid = patches.view(1, GRID, GRID, HIDDEN).permute(0, 3, 1, 2)
        grid = F.interpolate(grid, size=(side, side), mode="bicubic", align_corners=False)
        patches = grid.permute(0, 2, 3, 1).reshape(1, side * side, HIDDEN)
    return torch.cat((first, patches), dim=1)


def _first_of(data: OnnxData) -> np.ndarray:
    """The class token's position: the constant in front of the resized ones."""
    name = next(
        node.inputs[0]
        for node in data.nodes
        if node.operation == "Concat"
        and node.inputs[0] in data.arrays
        and data.arrays[node.inputs[0]].shape == (1, 1, HIDDEN)
        and node.inputs[0] != "backbone.embeddings.cls_token"
    )
    return data.arrays[name]
