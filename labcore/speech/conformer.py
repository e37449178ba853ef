"""A Conformer phoneme recogniser (CTC, 2 M parameters), read from the ``.hama`` container.

Gulati et al., "Conformer", 2020. English and Korean phonemes, 191 classes, one frame every 20 ms.
The weights are an exported graph with the batch norms folded in; the forward pass is written here.
"""

import json
import struct
from itertools import groupby
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from labcore.speech.layers import MultiHead

_DTYPES = {0: "<f4", 1: "<f2"}
HOP, WINDOW, DIM, HEADS, BLOCKS, KERNEL = 160, 400, 144, 4, 4, 31


def read_container(data: bytes) -> dict[str, np.ndarray]:
    """The arrays of a ``.hama`` file, by name and in file order.

    Raises:
        ValueError: the bytes are not such a file, or are cut short.
    """
    if data[:6] != b"HAMAPK":
        raise ValueError(f"no HAMAPK container, it starts with {data[:6]!r}: give a .hama file")
    entries, at = [], 12
    try:
        (count,) = struct.unpack_from("<I", data, 8)
        for _ in range(count):
            (size,) = struct.unpack_from("<H", data, at)
            name = data[at + 2 : at + 2 + size].decode()
            at += 2 + size
            code, rank = data[at], data[at + 1]
            shape = struct.unpack_from(f"<{rank}I", data, at + 2)
            at += 2 + 4 * rank
            offset, nbytes = struct.unpack_from("<QQ", data, at)
            at += 16
            entries.append((name, _DTYPES[code], shape, offset, nbytes))
        start = len(data) - max(offset + nbytes for *_, offset, nbytes in entries)
        if start < at:
            raise ValueError("it is cut short")
        return {
            name: np.frombuffer(data[start + o : start + o + n], code).reshape(shape)
            for name, code, shape, o, n in entries
        }
    except (struct.error, IndexError, KeyError, UnicodeDecodeError, ValueError) as error:
        raise ValueError(f"damaged .hama file ({error}): fetch it again") from error


class FeedForward(nn.Module):
    """LayerNorm, linear, SiLU, linear."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(DIM)
        self.fc1, self.fc2 = nn.Linear(DIM, 4 * DIM), nn.Linear(4 * DIM, DIM)

    def forward(self, x: Tensor) -> Tensor:
        """Half of a macaron."""
        return self.fc2(F.silu(self.fc1(self.norm(x))))


class ConvModule(nn.Module):
    """LayerNorm, gated pointwise, depthwise over 31 frames, SiLU, pointwise."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(DIM)
        self.pointwise1 = nn.Conv1d(DIM, 2 * DIM, 1)
        self.depthwise = nn.Conv1d(DIM, DIM, KERNEL, padding=KERNEL // 2, groups=DIM)
        self.pointwise2 = nn.Conv1d(DIM, DIM, 1)

    def forward(self, x: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
        """Local mixing."""
        x = F.glu(self.pointwise1(self.norm(x).transpose(1, 2)), dim=1)
        return self.pointwise2(F.silu(self.depthwise(x))).transpose(1, 2)


class ConformerBlock(nn.Module):
    """Half feed-forward, attention without positions, convolution, half feed-forward, norm."""

    def __init__(self) -> None:
        super().__init__()
        self.ffn1, self.ffn2, self.conv = FeedForward(), FeedForward(), ConvModule()
        self.attn_norm, self.norm = nn.LayerNorm(DIM), nn.LayerNorm(DIM)
        self.attn = MultiHead(DIM, HEADS)

    def forward(self, x: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
        """One block."""
        x = x + 0.5 * self.ffn1(x)
        x = x + self.attn(self.attn_norm(x))
        x = x + self.conv(x)
        return self.norm(x + 0.5 * self.ffn2(x))


class Conformer(nn.Module):
    """Log-mel front end, a strided stem, four blocks, and the phoneme head."""

    mel: Tensor
    real: Tensor
    imag: Tensor

    def __init__(self, classes: int, bins: int, mels: int):
        super().__init__()
        self.register_buffer("mel", torch.zeros(bins, mels))
        self.register_buffer("real", torch.zeros(bins, 1, WINDOW))
        self.register_buffer("imag", torch.zeros(bins, 1, WINDOW))
        self.stem = nn.Conv1d(mels, DIM, 3, stride=2, padding=1)
        self.blocks = nn.ModuleList(ConformerBlock() for _ in range(BLOCKS))
        self.head = nn.Linear(DIM, classes)

    def log_mel(self, audio: Float[Tensor, "b samples"]) -> Float[Tensor, "b mel t2"]:
        """Natural log of mel power, 10 ms a frame."""
        x = F.pad(audio[:, None], (WINDOW // 2, WINDOW // 2), mode="reflect")
        power = F.conv1d(x, self.real, stride=HOP) ** 2 + F.conv1d(x, self.imag, stride=HOP) ** 2
        return (self.mel.T @ power).clamp_min(1e-10).log()

    def forward(self, audio: Float[Tensor, "b samples"]) -> Float[Tensor, "b t d"]:
        """Frames, one every 20 ms."""
        x = F.gelu(self.stem(self.log_mel(audio))).transpose(1, 2)
        for block in self.blocks:
            x = block(x)
        return x


def load_conformer(source: str | Path | bytes) -> Conformer:
    """The Conformer from the path or bytes of ``asr_waveform.hama``, frozen.

    Raises:
        ValueError: not such a file, or arrays are missing or left over.
    """
    data = source if isinstance(source, bytes) else Path(source).read_bytes()
    found = {k: torch.from_numpy(v.astype("f4")) for k, v in read_container(data).items()}
    bins, mels = found["mel_fb"].shape
    model = Conformer(len(found["acoustic_model.model.proj.bias"]), bins, mels)
    model.load_state_dict(_named(found), strict=True)
    return model.eval().requires_grad_(False)


def _named(found: dict[str, Tensor]) -> dict[str, Tensor]:
    """The exported names as ours: what has no name of its own comes in file order."""
    state = {
        "mel": found["mel_fb"],
        "real": found["stft_real_kernel"],
        "imag": found["stft_imag_kernel"],
    }
    convs = [v for k, v in found.items() if k.startswith("onnx::Conv")]
    matrices = [v.T for k, v in found.items() if k.startswith("onnx::MatMul")]
    state["stem.weight"], state["stem.bias"] = convs[:2]
    for i in range(BLOCKS):
        block = f"blocks.{i}"
        state[f"{block}.conv.depthwise.weight"] = convs[2 + 2 * i]
        state[f"{block}.conv.depthwise.bias"] = convs[3 + 2 * i]
        order = ("ffn1.fc1", "ffn1.fc2", "attn.qkv", "attn.out", "ffn2.fc1", "ffn2.fc2")
        for name, matrix in zip(order, matrices[6 * i : 6 * i + 6], strict=True):
            state[f"{block}.{name}.weight"] = matrix
    for name, value in found.items():
        ours = name.removeprefix("acoustic_model.model.")
        if ours == name:
            continue
        ours = ours.replace("attn.in_proj_bias", "attn.qkv.bias")
        ours = ours.replace("attn.out_proj", "attn.out").replace("proj.", "head.")
        state[ours] = value[..., 0] if ours == "head.weight" else value
    return state


def phonemes(path: str | Path) -> tuple[str, ...]:
    """The names of the 191 classes: the vocabulary's, a word boundary, the blank (last)."""
    names = json.loads(Path(path).read_text(encoding="utf-8"))["decoder"]
    return (*names, "|", "")


def collapse(symbols: list[int], names: tuple[str, ...]) -> str:
    """The CTC reading of a frame-wise labelling: repeats once, blanks dropped.

    >>> collapse([0, 0, 2, 1, 2, 1], ("a", "b", ""))
    'a b b'
    """
    return " ".join(names[s] for s, _ in groupby(symbols) if names[s])
