"""The arrays and the wiring of an ONNX file, read as data: no code, no ``onnx`` package.

An ONNX file is one protocol-buffer message. Of its fields only five matter here: the graph, its
initialisers (name, shape, float32 bytes) and its nodes (operation, inputs, outputs). Whatever a
length in the file promises is compared with the bytes that are there.
"""

import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from labcore.assets.errors import AssetCorrupt

_GRAPH, _NODE, _INITIALISER = 7, 1, 5  # of ModelProto, GraphProto, GraphProto
_INPUT, _OUTPUT, _OPERATION = 1, 2, 4  # of NodeProto
_DIMS, _TYPE, _NAME, _RAW = 1, 2, 8, 9  # of TensorProto
_FLOAT = 1
_MOST_NUMBERS = 200_000_000
_Span = tuple[int, int]


@dataclass(frozen=True)
class Node:
    """One operation of the graph."""

    operation: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True)
class OnnxData:
    """What an ONNX file holds: float32 initialisers by name, and its nodes in order."""

    arrays: dict[str, Float32[np.ndarray, "..."]]
    nodes: tuple[Node, ...]


def read_onnx(path: Path) -> OnnxData:
    """Read the float32 initialisers and the nodes of an ONNX file.

    Raises:
        FileNotFoundError: there is no such file.
        AssetCorrupt: the file is damaged or is no ONNX file.
    """
    with path.open("rb") as file:
        if path.stat().st_size == 0:
            raise AssetCorrupt(f"{path} is empty; fetch it again")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            try:
                return _read(data)
            except (IndexError, ValueError, UnicodeDecodeError) as error:
                raise AssetCorrupt(f"{path} is no ONNX file ({error}); fetch it again") from error


def _read(data: mmap.mmap) -> OnnxData:
    graphs = [span for number, span in _fields(data, (0, len(data))) if number == _GRAPH]
    if len(graphs) != 1 or isinstance(graphs[0], int):
        raise ValueError("it holds no graph")
    arrays, nodes = {}, []
    for number, value in _fields(data, graphs[0]):
        if isinstance(value, int):
            continue
        if number == _NODE:
            nodes.append(_node(data, value))
        elif number == _INITIALISER:
            name, array = _tensor(data, value)
            if array is not None:
                arrays[name] = array
    return OnnxData(arrays, tuple(nodes))


def _node(data: mmap.mmap, span: _Span) -> Node:
    operation, inputs, outputs = "", [], []
    for number, value in _fields(data, span):
        if isinstance(value, int):
            continue
        if number == _INPUT:
            inputs.append(_text(data, value))
        elif number == _OUTPUT:
            outputs.append(_text(data, value))
        elif number == _OPERATION:
            operation = _text(data, value)
    return Node(operation, tuple(inputs), tuple(outputs))


def _tensor(data: mmap.mmap, span: _Span) -> tuple[str, np.ndarray | None]:
    """Name and array of an initialiser; None for other types than float32."""
    shape: list[int] = []
    kind, name, raw = 0, "", None
    for number, value in _fields(data, span):
        if number == _DIMS:
            shape += [value] if isinstance(value, int) else list(_packed(data, value))
        elif number == _TYPE and isinstance(value, int):
            kind = value
        elif number == _NAME and not isinstance(value, int):
            name = _text(data, value)
        elif number == _RAW and not isinstance(value, int):
            raw = value
    if kind != _FLOAT or raw is None:
        return name, None
    count = 1
    for size in shape:
        count *= size
    if count > _MOST_NUMBERS or 4 * count != raw[1] - raw[0]:
        raise ValueError(f"{name} of shape {shape} has {raw[1] - raw[0]} bytes")
    return name, np.frombuffer(data[raw[0] : raw[1]], "<f4").reshape(shape)


def _text(data: mmap.mmap, span: _Span) -> str:
    return data[span[0] : span[1]].decode()


def _packed(data: mmap.mmap, span: _Span) -> Iterator[int]:
    at, end = span
    while at < end:
        value, at = _varint(data, at)
        yield value


def _fields(data: mmap.mmap, span: _Span) -> Iterator[tuple[int, int | _Span]]:
    """Field numbers with their value: a number, or where its bytes are."""
    at, end = span
    while at < end:
        key, at = _varint(data, at)
        number, kind = key >> 3, key & 7
        if kind == 0:
            value, at = _varint(data, at)
            yield number, value
            continue
        if kind == 2:
            size, at = _varint(data, at)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
        else:
            raise ValueError(f"wire type {kind} at byte {at}")
        if size > end - at:
            raise ValueError(f"a field of {size} bytes at byte {at} ends outside its message")
        yield number, (at, at + size)
        at += size


def _varint(data: mmap.mmap, at: int) -> tuple[int, int]:
    """A number in groups of seven bits, low ones first."""
    value = 0
    for shift in range(0, 64, 7):
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
    raise ValueError(f"a number without end at byte {at}")
