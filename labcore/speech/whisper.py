"""Whisper, read straight from CTranslate2's ``model.bin``: the real encoder, and its own decoder.

Radford et al., "Robust speech recognition via large-scale weak supervision", 2022. The file is a
flat list of named arrays, so no engine is needed. The encoder may run on the frames that a clip
really has (``pad="none"``, the default elsewhere in this topic) or on 30 s as it was trained.
"""

import math
import struct
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from labcore.speech.layers import MultiHead

SAMPLE_RATE, HOP, WINDOW, MELS = 16_000, 160, 400, 80
FULL_SAMPLES = 30 * SAMPLE_RATE
_DTYPES = {0: "<f4", 1: "i1", 2: "<i2", 3: "<i4", 4: "<f2"}
START, NO_TIMESTAMPS, END = 50257, 50362, 50256  # of the English-only vocabulary


def read_variables(data: bytes) -> dict[str, np.ndarray]:
    """The arrays of a CTranslate2 ``model.bin``, by name; aliases are resolved.

    Raises:
        ValueError: the bytes are not such a file, or are cut short.
    """
    view, at = memoryview(data), 0

    def take(form: str) -> Any:
        nonlocal at
        (value,) = struct.unpack_from(f"<{form}", view, at)
        at += struct.calcsize(f"<{form}")
        return value

    def text() -> str:
        nonlocal at
        size = take("H")
        raw = bytes(view[at : at + size])
        at += size
        return raw.rstrip(b"\0").decode()

    found: dict[str, np.ndarray] = {}
    try:
        version, kind, _ = take("I"), text(), take("I")
        if version != 6 or kind != "WhisperSpec":
            raise ValueError(f"wanted a WhisperSpec of version 6, got {kind!r} {version}")
        for _ in range(take("I")):
            name, rank = text(), take("B")
            shape = tuple(take("I") for _ in range(rank))
            code, size = take("B"), take("I")
            values = np.frombuffer(view[at : at + size], _DTYPES[code])
            found[name] = values.reshape(shape)
            at += size
        for _ in range(take("I")):
            alias, target = text(), text()
            found[alias] = found[target]
    except (struct.error, UnicodeDecodeError, KeyError, ValueError) as error:
        raise ValueError(f"no CTranslate2 Whisper model ({error}): give its model.bin") from error
    return found


def mel_filters(bins: int = WINDOW // 2 + 1) -> Float[np.ndarray, "mel bins"]:
    """Slaney's mel filters, area-normalised, for 16 kHz: what Whisper was trained with."""
    low, step = 1000.0, 200.0 / 3

    def mel(hertz: np.ndarray) -> np.ndarray:
        above = low / step + np.log(np.maximum(hertz, low) / low) * 27 / math.log(6.4)
        return np.where(hertz < low, hertz / step, above)

    def hertz(value: np.ndarray) -> np.ndarray:
        above = low * np.exp(math.log(6.4) / 27 * (value - low / step))
        return np.where(value < low / step, value * step, above)

    top = mel(np.array(SAMPLE_RATE / 2.0))
    edges = hertz(np.linspace(0.0, float(top), MELS + 2))
    centres = np.linspace(0, SAMPLE_RATE / 2, bins)
    width = np.diff(edges)[:, None]
    rising = (centres - edges[:-2, None]) / width[:-1]
    falling = (edges[2:, None] - centres) / width[1:]
    filters = np.maximum(0, np.minimum(rising, falling))
    area = 2.0 / (edges[2:] - edges[:MELS])
    return np.asarray(filters * area[:, None])


def log_mel(audio: Float[Tensor, " samples"], pad_to: int | None = None) -> Float[Tensor, "mel t"]:
    """Whisper's input: log-mel power, 10 ms a frame, clipped to 8 decades below its maximum.

    Args:
        audio: Mono, 16 kHz, in [-1, 1].
        pad_to: Samples to pad with silence to; None pads nothing.
    """
    if pad_to is not None:
        audio = F.pad(audio[:pad_to], (0, max(pad_to - len(audio), 0)))
    spectrum = torch.stft(
        audio, WINDOW, HOP, window=torch.hann_window(WINDOW), center=True, return_complex=True
    )
    power = spectrum[:, :-1].abs() ** 2
    mel = torch.from_numpy(mel_filters()).float() @ power
    log = mel.clamp_min(1e-10).log10()
    return (torch.maximum(log, log.max() - 8.0) + 4.0) / 4.0


class Block(nn.Module):
    """Pre-norm Transformer block; with ``cross`` it also reads the encoder's frames."""

    def __init__(self, dim: int, heads: int, cross: bool):
        super().__init__()
        self.attn_norm = nn.LayerNorm(dim)
        self.attn = MultiHead(dim, heads)
        self.cross_norm = nn.LayerNorm(dim) if cross else None
        self.cross = MultiHead(dim, heads) if cross else None
        self.ffn_norm = nn.LayerNorm(dim)
        self.ffn = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))

    def forward(self, x: Tensor, frames: Tensor | None = None) -> Tensor:
        """One block; attention is causal where there are frames to read."""
        x = x + self.attn(self.attn_norm(x), causal=self.cross is not None)
        if self.cross is not None and self.cross_norm is not None:
            x = x + self.cross(self.cross_norm(x), frames)
        return x + self.ffn(self.ffn_norm(x))


class Encoder(nn.Module):
    """Two convolutions (the second halves the rate to 50 Hz), positions, Transformer blocks."""

    def __init__(self, dim: int, layers: int, heads: int, positions: int = 1500):
        super().__init__()
        self.conv1 = nn.Conv1d(MELS, dim, 3, padding=1)
        self.conv2 = nn.Conv1d(dim, dim, 3, stride=2, padding=1)
        self.positions = nn.Parameter(torch.zeros(positions, dim))
        self.blocks = nn.ModuleList(Block(dim, heads, cross=False) for _ in range(layers))
        self.norm = nn.LayerNorm(dim)

    def forward(self, mel: Float[Tensor, "b mel t2"]) -> Float[Tensor, "b t d"]:
        """Frames, one every 20 ms.

        Raises:
            ValueError: more than 30 s.
        """
        x = F.gelu(self.conv2(F.gelu(self.conv1(mel)))).transpose(1, 2)
        if x.shape[1] > len(self.positions):
            raise ValueError(
                f"{x.shape[1] / 50:.1f} s of audio: Whisper has positions for "
                f"{len(self.positions) / 50:.0f} s, cut it into shorter clips"
            )
        x = x + self.positions[: x.shape[1]]
        for block in self.blocks:
            x = block(x)
        return self.norm(x)


class Decoder(nn.Module):
    """Whisper's own language model: causal, reads the frames by cross-attention."""

    def __init__(self, vocabulary: int, dim: int, layers: int, heads: int, positions: int = 448):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, dim)
        self.positions = nn.Parameter(torch.zeros(positions, dim))
        self.blocks = nn.ModuleList(Block(dim, heads, cross=True) for _ in range(layers))
        self.norm = nn.LayerNorm(dim)

    def forward(self, tokens: Tensor, frames: Tensor) -> Float[Tensor, "b n v"]:
        """Logits of the next token after each of ``tokens``."""
        x = self.embedding(tokens) + self.positions[: tokens.shape[1]]
        for block in self.blocks:
            x = block(x, frames)
        return self.norm(x) @ self.embedding.weight.T


class Whisper(nn.Module):
    """Encoder and decoder."""

    def __init__(self, dim: int, layers: int, heads: int, vocabulary: int):
        super().__init__()
        self.encoder = Encoder(dim, layers, heads)
        self.decoder = Decoder(vocabulary, dim, layers, heads)

    @torch.no_grad()
    def transcribe(self, audio: Float[Tensor, " samples"], max_tokens: int = 100) -> list[int]:
        """Greedy tokens for a clip, padded to 30 s as the model was trained."""
        frames = self.encoder(log_mel(audio, FULL_SAMPLES)[None])
        tokens = [START, NO_TIMESTAMPS]
        for _ in range(max_tokens):
            logits = self.decoder(torch.tensor([tokens]), frames)[0, -1]
            logits[END + 1 :] = -torch.inf  # special tokens and timestamps are not text
            if len(tokens) == 2:  # as published: neither an end nor a blank comes first
                logits[[END, 220]] = -torch.inf
            best = int(logits.argmax())
            if best == END:
                break
            tokens.append(best)
        return tokens[2:]


def load_whisper(source: str | Path | bytes, dtype: torch.dtype = torch.float32) -> Whisper:
    """A Whisper model from the path or the bytes of a CTranslate2 ``model.bin``, frozen.

    Raises:
        ValueError: not such a file, or arrays are missing or left over.
    """
    data = source if isinstance(source, bytes) else Path(source).read_bytes()
    found = read_variables(data)
    vocabulary, dim = found["decoder/embeddings/weight"].shape
    layers = sum(name.endswith("self_attention/linear_0/weight") for name in found) // 2
    model = Whisper(dim, layers, int(found["encoder/num_heads"]), vocabulary)
    state = {ours: torch.from_numpy(found[its].astype("f4")) for ours, its in _names(layers)}
    model.load_state_dict(_merged(state, dim), strict=True)
    return model.to(dtype).eval().requires_grad_(False)


def _names(layers: int) -> list[tuple[str, str]]:
    """(our name, its name in the file) of every array."""
    pairs = [
        ("encoder.positions", "encoder/position_encodings/encodings"),
        ("decoder.positions", "decoder/position_encodings/encodings"),
        ("decoder.embedding.weight", "decoder/embeddings/weight"),
    ]
    linear: list[tuple[str, str]] = [(f"encoder.{c}", f"encoder/{c}") for c in ("conv1", "conv2")]
    norms = [(f"{side}.norm", f"{side}/layer_norm") for side in ("encoder", "decoder")]
    for side in ("encoder", "decoder"):
        for i in range(layers):
            ours, its = f"{side}.blocks.{i}", f"{side}/layer_{i}"
            for mine, theirs in (
                ("attn", "self_attention"),
                ("ffn", "ffn"),
                ("cross", "attention"),
            ):
                if mine == "cross" and side == "encoder":
                    continue
                norms.append((f"{ours}.{mine}_norm", f"{its}/{theirs}/layer_norm"))
            linear += [
                (f"{ours}.attn.qkv", f"{its}/self_attention/linear_0"),
                (f"{ours}.attn.out", f"{its}/self_attention/linear_1"),
                (f"{ours}.ffn.0", f"{its}/ffn/linear_0"),
                (f"{ours}.ffn.2", f"{its}/ffn/linear_1"),
            ]
            if side == "decoder":
                linear += [
                    (f"{ours}.cross.q", f"{its}/attention/linear_0"),
                    (f"{ours}.cross.kv", f"{its}/attention/linear_1"),
                    (f"{ours}.cross.out", f"{its}/attention/linear_2"),
                ]
    for ours, its in linear:
        pairs += [(f"{ours}.weight", f"{its}/weight"), (f"{ours}.bias", f"{its}/bias")]
    for ours, its in norms:
        pairs += [(f"{ours}.weight", f"{its}/gamma"), (f"{ours}.bias", f"{its}/beta")]
    return pairs


def _merged(state: dict[str, Tensor], dim: int) -> dict[str, Tensor]:
    """Cross-attention's q and k, v as one ``qkv``, as in self-attention."""
    merged = {}
    for name, value in state.items():
        if ".cross.q." in name:
            other = state[name.replace(".cross.q.", ".cross.kv.")]
            merged[name.replace(".cross.q.", ".cross.qkv.")] = torch.cat([value, other])
        elif ".cross.kv." not in name:
            merged[name] = value
    return merged
