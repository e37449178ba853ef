"""Checkpoints on disk, one tensor at a time: safetensors (one file or shards), or ``.pt`` weights.

Reading follows the index of a Hugging Face folder; writing streams finished tensors into shards
without ever holding one. Nothing is unpickled except by ``torch.load(weights_only=True)``.
"""

import json
import shutil
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
_PICKLED = (".pt", ".pth", ".bin")
_WEIGHTS = (".safetensors", *_PICKLED, ".index.json")
_CHUNK = 8 << 20


@dataclass(frozen=True)
class Checkpoint:
    """Where each tensor of a checkpoint is.

    Attributes:
        path: What was given.
        files: Tensor name -> file.
        shapes: Tensor name -> shape. dtypes: Tensor name -> torch's name of its dtype.
    """

    path: Path
    files: dict[str, Path]
    shapes: dict[str, tuple[int, ...]]
    dtypes: dict[str, str]

    @property
    def stamp(self) -> list[list[Any]]:
        """Name, size and time of every file: what has to be the same for a resume."""
        found = sorted(set(self.files.values()))
        return [[f.name, f.stat().st_size, f.stat().st_mtime_ns] for f in found]


def open_checkpoint(path: str | Path) -> Checkpoint:
    """Look into a folder with ``model.safetensors`` (or shards and an index), or into one file.

    Raises:
        FileNotFoundError: nothing there.
        ValueError: no checkpoint, a damaged one, or an index that points outside its folder.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"no checkpoint at {path}")
    if path.is_file():
        return _opened(path, [path])
    if (path / INDEX).exists():
        try:
            names = set(json.loads((path / INDEX).read_text())["weight_map"].values())
        except (ValueError, KeyError, AttributeError) as error:
            raise ValueError(f"{path / INDEX} is damaged: {error}") from error
        if bad := [n for n in names if Path(n).name != n]:
            raise ValueError(f"{path / INDEX} points outside its folder: {bad[0]}")
        return _opened(path, [path / name for name in sorted(names)])
    if (path / SINGLE).exists():
        return _opened(path, [path / SINGLE])
    found = sorted(path.glob("*.safetensors"))
    if len(found) != 1:
        raise ValueError(
            f"{path} has no {SINGLE}, no {INDEX} and {len(found)} other .safetensors files: give "
            "one file, or a folder with an index"
        )
    return _opened(path, found)


def _opened(path: Path, files: Iterable[Path]) -> Checkpoint:
    where: dict[str, Path] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    dtypes: dict[str, str] = {}
    for file in files:
        if file.suffix in _PICKLED:
            for name, value in _pickled(file).items():
                where[name], shapes[name] = file, tuple(value.shape)
                dtypes[name] = str(value.dtype).removeprefix("torch.")
            continue
        for name, entry in read_header(file)[0].items():
            where[name], shapes[name] = file, tuple(entry["shape"])
            dtypes[name] = _DTYPES.get(entry["dtype"], entry["dtype"])
    if not where:
        raise ValueError(f"{path} holds no tensor")
    return Checkpoint(path, where, shapes, dtypes)


def _pickled(file: Path) -> dict[str, Tensor]:
    loaded = torch.load(file, weights_only=True, map_location="cpu", mmap=True)
    if not isinstance(loaded, dict) or not all(isinstance(v, Tensor) for v in loaded.values()):
        raise ValueError(f"{file.name}: want a plain state dict of tensors")
    return loaded


def read_tensor(file: str | Path, name: str) -> Tensor:
    """One tensor of a file.

    Raises:
        ValueError: it is not in there.
    """
    from safetensors import SafetensorError, safe_open

    file = Path(file)
    if file.suffix in _PICKLED:
        return _pickled(file)[name].clone()
    try:
        with safe_open(file, framework="pt") as opened:
            value: Tensor = opened.get_tensor(name)
    except SafetensorError as error:
        raise ValueError(f"{file.name}: {name} cannot be read ({error})") from error
    return value


_DTYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U8": "uint8",
    "BOOL": "bool",
    "C64": "complex64",
}


def read_header(file: Path) -> tuple[dict[str, dict[str, Any]], int]:
    """The entries of a safetensors file, and where its data starts.

    Raises:
        ValueError: it is no safetensors file.
    """
    with file.open("rb") as stream:
        first = stream.read(8)
        length = struct.unpack("<Q", first)[0] if len(first) == 8 else -1
        if not 2 <= length <= min(100 << 20, file.stat().st_size - 8):
            raise ValueError(f"{file.name} is no safetensors file")
        try:
            header = json.loads(stream.read(length))
        except ValueError as error:
            raise ValueError(f"{file.name} is no safetensors file ({error})") from error
    header.pop("__metadata__", None)
    return header, 8 + length


def write_shards(parts: Mapping[str, Path], folder: Path, max_bytes: int) -> list[Path]:
    """Stream one-tensor files into shards of at most ``max_bytes``, with an index if several.

    Args:
        parts: Tensor name -> safetensors file that holds it alone, in the order to write.
        folder: Where to write; it must exist.
        max_bytes: Of a shard's data; a larger tensor gets a shard of its own.
    """
    headers = {name: read_header(file) for name, file in parts.items()}
    sizes = {name: headers[name][0][name]["data_offsets"][1] for name in parts}
    groups: list[list[str]] = [[]]
    for name in parts:
        if groups[-1] and sum(sizes[n] for n in groups[-1]) + sizes[name] > max_bytes:
            groups.append([])
        groups[-1].append(name)
    files: list[Path] = []
    weight_map: dict[str, str] = {}
    for number, group in enumerate(groups, 1):
        label = SINGLE if len(groups) == 1 else f"model-{number:05d}-of-{len(groups):05d}"
        file = folder / (label if len(groups) == 1 else f"{label}.safetensors")
        _write_shard(file, group, parts, headers)
        files.append(file)
        weight_map |= dict.fromkeys(group, file.name)
    if len(groups) > 1:
        index = {"metadata": {"total_size": sum(sizes.values())}, "weight_map": weight_map}
        (folder / INDEX).write_text(json.dumps(index, indent=2, sort_keys=True))
    return files


def _write_shard(
    file: Path,
    names: list[str],
    parts: Mapping[str, Path],
    headers: Mapping[str, tuple[dict[str, dict[str, Any]], int]],
) -> None:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name in names:
        entry = headers[name][0][name]
        size = entry["data_offsets"][1]
        header[name] = {**entry, "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with file.open("wb") as out:
        out.write(struct.pack("<Q", len(text)) + text)
        for name in names:
            with parts[name].open("rb") as part:
                part.seek(headers[name][1])
                shutil.copyfileobj(part, out, _CHUNK)


def copy_companions(base: Path, folder: Path) -> None:
    """Copy what lies beside the weights: configuration, tokenizer, licence."""
    if not base.is_dir():
        return
    for file in sorted(base.iterdir()):
        hidden = file.name.startswith(".")
        if file.is_file() and not hidden and not file.name.endswith(_WEIGHTS):
            shutil.copy2(file, folder / file.name)
