"""One mixture layer out of a published checkpoint: Mixtral, OLMoE and Qwen3-MoE in safetensors.

Only the layer's own tensors are read, from the shards that hold them. Which gates these families
use is written in their ``config.json``.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from labcore.conditional.moe import MoELayer


@dataclass(frozen=True)
class _Names:
    """Where a family keeps a layer: router, and an expert's gate, up and down matrices."""

    folder: str
    gate: str
    up: str
    down: str


_FAMILIES = {
    "mixtral": _Names("block_sparse_moe", "w1", "w3", "w2"),
    "olmoe": _Names("mlp", "gate_proj", "up_proj", "down_proj"),
    "qwen3_moe": _Names("mlp", "gate_proj", "up_proj", "down_proj"),
}


def read_layer(folder: Path | str, layer: int = 0) -> MoELayer:
    """The mixture of one layer, ready to run.

    Args:
        folder: A checkpoint's folder: ``config.json`` and one or more ``.safetensors`` files.
        layer: Which layer, from 0.

    Raises:
        FileNotFoundError: the folder has no configuration or no weights.
        ValueError: a family that is not known, or no mixture in this layer.
    """
    folder = Path(folder)
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(f"{folder} has no config.json: give a checkpoint's folder")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    family = config.get("model_type")
    if family not in _FAMILIES:
        raise ValueError(f"model_type {family!r} is not known: choose from {', '.join(_FAMILIES)}")
    names = _FAMILIES[family]
    found = dict(_tensors(folder, f"model.layers.{layer}.{names.folder}."))
    experts = int(config.get("num_local_experts") or config.get("num_experts") or 0)
    wanted = ["gate.weight"] + [
        f"experts.{e}.{part}.weight"
        for e in range(experts)
        for part in (names.gate, names.up, names.down)
    ]
    missing = [name for name in wanted if name not in found]
    if not experts or missing:
        raise ValueError(
            f"layer {layer} of {folder} is no mixture of {experts} experts: {len(missing)} of "
            f"{len(wanted)} tensors are missing{': ' + missing[0] if missing else ''}"
        )
    return _layer(found, names, config, experts)


def _layer(found: dict[str, Tensor], names: _Names, config: dict[str, Any], e: int) -> MoELayer:
    def stacked(part: str) -> Tensor:
        return torch.stack([found[f"experts.{i}.{part}.weight"].float().T for i in range(e)])

    gate, up, down = (stacked(part) for part in (names.gate, names.up, names.down))
    always = config["model_type"] == "mixtral"  # the others say whether they renormalise
    layer = MoELayer(
        gate.shape[1], gate.shape[2], e, int(config["num_experts_per_tok"]), gated=True,
        renormalize=always or bool(config.get("norm_topk_prob", False)),
    )  # fmt: skip
    router = layer.router.weight
    with torch.no_grad():
        router.copy_(found["gate.weight"].float())  # type: ignore[operator]
        layer.experts.w1.copy_(torch.cat((gate, up), dim=2))
        layer.experts.w2.copy_(down)
    return layer


def _tensors(folder: Path, start: str) -> Iterator[tuple[str, Tensor]]:
    """Every tensor whose name begins with ``start``, without it."""
    shards = sorted(folder.glob("*.safetensors"))
    if not shards:
        raise FileNotFoundError(f"{folder} has no .safetensors file: fetch the weights first")
    for shard in shards:
        with safe_open(shard, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 (no mapping)
                if name.startswith(start):
                    yield name.removeprefix(start), file.get_tensor(name)
