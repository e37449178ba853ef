"""Frozen speech encoders behind one face, and features that are computed once.

A feature's key is a hash of the encoder's name and options and of the audio, and a file that was
changed on disk is computed again: the features are stored with their own hash.
"""

import hashlib
import json
import math
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from labcore.assets import cache_root, fetch
from labcore.runs import replacing
from labcore.speech import conformer, whisper
from labcore.speech.audio import SAMPLE_RATE, check_audio


@dataclass(frozen=True)
class EncoderOutput:
    """Frames of a batch of clips: ``features`` (b, t, d), zero after each clip's ``lengths``."""

    features: Float[Tensor, "b t d"]
    lengths: Int[Tensor, " b"]


@runtime_checkable
class SpeechEncoder(Protocol):
    """A frozen speech encoder.

    Attributes:
        name: What its features are kept under, options included.
        dim: Width of a frame.
        frame_rate: Frames a second.
        parameters: Weights that it has.
    """

    name: str
    dim: int
    frame_rate: float
    parameters: int

    def encode(self, clips: Sequence[np.ndarray]) -> EncoderOutput:
        """Frames of some clips (16 kHz mono float)."""
        ...


class _Encoder:
    """What the two encoders share: checks, one clip at a time, padding."""

    name: str
    dim: int
    parameters: int
    frame_rate = 50.0

    def frames(self, audio: Float[Tensor, " samples"]) -> Float[Tensor, "t d"]:
        raise NotImplementedError

    @torch.no_grad()
    def encode(self, clips: Sequence[np.ndarray]) -> EncoderOutput:
        """Frames of some clips; each is encoded by itself, so a batch changes nothing.

        Raises:
            ValueError: no clip, or one that is empty, too long, not one-dimensional or not finite.
        """
        if not len(clips):
            raise ValueError("no clip to encode: give at least one")
        found = [self.frames(torch.from_numpy(check_audio(np.asarray(c)))) for c in clips]
        lengths = torch.tensor([len(f) for f in found])
        return EncoderOutput(torch.nn.utils.rnn.pad_sequence(found, batch_first=True), lengths)


class WhisperEncoder(_Encoder):
    """The encoder of Whisper tiny.en (an attention decoder was trained on it): 4 layers, 384 wide.

    Args:
        pad: ``"none"`` encodes what is there; ``"30s"`` pads with silence to 30 s first, as in
            training, and keeps the frames of the clip.
        tail_seconds: Silence added at the end when nothing else is.
    """

    def __init__(self, pad: str = "none", tail_seconds: float = 0.0):
        if pad not in ("none", "30s"):
            raise ValueError(f'pad must be "none" or "30s", got {pad!r}')
        if tail_seconds < 0:
            raise ValueError(f"tail_seconds must not be negative, got {tail_seconds}")
        self.pad, self.tail = pad, int(tail_seconds * SAMPLE_RATE)
        self.model = _whisper()
        self.dim = self.model.encoder.norm.normalized_shape[0]
        self.parameters = sum(p.numel() for p in self.model.encoder.parameters())
        self.name = f"whisper-tiny.en/{pad}/{tail_seconds:g}"

    def frames(self, audio: Tensor) -> Tensor:
        """Frames of one clip, one every 20 ms."""
        length = max(-(-(len(audio) + self.tail) // (2 * whisper.HOP)), 1)
        padded = whisper.FULL_SAMPLES if self.pad == "30s" else 2 * whisper.HOP * length
        out = self.model.encoder(whisper.log_mel(audio, padded)[None])[0]
        return out[:length]


class ConformerCTCEncoder(_Encoder):
    """A Conformer trained on phonemes with CTC: 4 blocks, 144 wide."""

    def __init__(self) -> None:
        self.model, self.names = _conformer()
        self.dim = conformer.DIM
        self.parameters = sum(p.numel() for p in self.model.blocks.parameters())
        self.parameters += sum(p.numel() for p in self.model.stem.parameters())
        self.name = "conformer-ctc"

    def frames(self, audio: Tensor) -> Tensor:
        """Frames of one clip, one every 20 ms."""
        short = conformer.WINDOW - len(audio)  # reflection wants more than half a window
        if short > 0:
            audio = torch.nn.functional.pad(audio, (0, short))
        return self.model(audio[None])[0]


class HubEncoder(_Encoder):
    """The speech encoder of a transformers model: Whisper, SeamlessM4T, Wav2Vec2, HuBERT, ...

    What pads every clip to one length, as Whisper's features do, has the clip's own frames kept.

    Args:
        model: The whole model or its encoder; frozen here.
        extractor: Its feature extractor.
        name: What its features are kept under.

    Raises:
        ValueError: the model wants another sample rate.
    """

    PROBE = 8  # seconds of silence that tell the frame rate

    def __init__(self, model: Any, extractor: Any, name: str):
        if extractor.sampling_rate != SAMPLE_RATE:
            raise ValueError(
                f"{name} hears {extractor.sampling_rate} Hz, the lab's clips have {SAMPLE_RATE}: "
                "choose another model"
            )
        part = getattr(model, "speech_encoder", None) or (
            model.get_encoder() if model.config.is_encoder_decoder else model
        )
        self.model, self.extractor = part.eval().requires_grad_(False), extractor
        self.padded = getattr(extractor, "n_samples", 0)  # samples; 0 pads nothing
        seconds = self.padded / SAMPLE_RATE or self.PROBE
        with torch.no_grad():
            probe = self._all_frames(torch.zeros(int(seconds * SAMPLE_RATE)))
        self.dim, self.frame_rate = probe.shape[1], round(len(probe) / seconds, 2)
        self.parameters = sum(p.numel() for p in self.model.parameters())
        self.name = name

    @classmethod
    def load(cls, source: str) -> "HubEncoder":
        """From a hub id or a folder, for instance ``openai/whisper-large-v3``."""
        from transformers import AutoFeatureExtractor, AutoModel

        extractor = AutoFeatureExtractor.from_pretrained(source)
        return cls(AutoModel.from_pretrained(source), extractor, source)

    def frames(self, audio: Tensor) -> Tensor:
        """Frames of one clip."""
        if 0 < self.padded < len(audio):
            raise ValueError(
                f"{self.name} hears {self.padded / SAMPLE_RATE:g} s at a time, the clip lasts "
                f"{len(audio) / SAMPLE_RATE:.1f} s: cut it"
            )
        found = self._all_frames(audio)
        own = math.ceil(len(audio) / SAMPLE_RATE * self.frame_rate) if self.padded else len(found)
        return found[: max(own, 1)]

    def _all_frames(self, audio: Tensor) -> Tensor:
        inputs = self.extractor(audio.numpy(), sampling_rate=SAMPLE_RATE, return_tensors="pt")
        return self.model(**inputs).last_hidden_state[0].float()


MAX_TOKENS = 40  # of a transcript
ENCODERS = {"whisper": WhisperEncoder, "conformer": ConformerCTCEncoder}


def make_encoder(name: str, **options: Any) -> WhisperEncoder | ConformerCTCEncoder | HubEncoder:
    """An encoder by its short name, or by the hub id or folder of a transformers model.

    Raises:
        ValueError: unknown name.
    """
    if "/" in name:
        return HubEncoder.load(name)
    if name not in ENCODERS:
        raise ValueError(
            f"unknown encoder {name!r}: choose one of {', '.join(ENCODERS)}, or a hub id or folder"
        )
    return ENCODERS[name](**options)


def transcript(
    encoder: WhisperEncoder | ConformerCTCEncoder | HubEncoder, audio: np.ndarray
) -> str:
    """What the encoder's own head makes of a clip: Whisper's words, the Conformer's phonemes.

    Raises:
        ValueError: an encoder without a head.
    """
    sound = torch.from_numpy(check_audio(audio))
    if isinstance(encoder, WhisperEncoder):
        return _words().decode(encoder.model.transcribe(sound, MAX_TOKENS)).strip()
    if isinstance(encoder, HubEncoder):
        raise ValueError(f"{encoder.name} is an encoder only: it has no transcript of its own")
    with torch.no_grad():
        symbols = encoder.model.head(encoder.frames(sound)).argmax(-1).tolist()
    return conformer.collapse(symbols, encoder.names)


@cache
def _whisper() -> whisper.Whisper:
    return whisper.load_whisper(fetch("whisper")["model.bin"])


@cache
def _words() -> Any:
    from tokenizers import Tokenizer

    return Tokenizer.from_file(str(fetch("whisper")["tokenizer.json"]))


@cache
def _conformer() -> tuple[conformer.Conformer, tuple[str, ...]]:
    files = fetch("conformer")
    model = conformer.load_conformer(files["asr_waveform.hama"])
    return model, conformer.phonemes(files["g2p_vocab.json"])


class FeatureStore:
    """Features on disk, float16, computed once for each encoder and clip.

    Args:
        folder: Where they are kept; the user's cache by default.
    """

    def __init__(self, folder: Path | None = None):
        self.folder = folder or cache_root() / "speech-features"

    def path(self, encoder: SpeechEncoder, audio: np.ndarray) -> Path:
        """Where the features of a clip are or go."""
        text = f"{encoder.name}\n".encode() + np.ascontiguousarray(audio, np.float32).tobytes()
        key = hashlib.sha256(text).hexdigest()
        return self.folder / key[:2] / f"{key}.npz"

    def get(self, encoder: SpeechEncoder, clips: Sequence[np.ndarray]) -> list[Tensor]:
        """Frames (t, d) of each clip, float16."""
        return [self._one(encoder, clip) for clip in clips]

    def _one(self, encoder: SpeechEncoder, clip: np.ndarray) -> Tensor:
        path = self.path(encoder, clip)
        stored = _checked(path)
        if stored is not None:
            return torch.from_numpy(stored)
        frames = encoder.encode([clip]).features[0].half().numpy()
        digest = hashlib.sha256(frames.tobytes()).hexdigest()
        with replacing(path) as part, part.open("wb") as file:
            np.savez(file, frames=frames, meta=np.frombuffer(json.dumps(digest).encode(), np.uint8))
        return torch.from_numpy(frames)


def _checked(path: Path) -> np.ndarray | None:
    """The stored frames if they are there and whole."""
    if not path.exists():
        return None
    try:
        with np.load(path, allow_pickle=False) as file:
            frames = file["frames"]
            digest = json.loads(bytes(file["meta"]).decode())
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    return frames if hashlib.sha256(frames.tobytes()).hexdigest() == digest else None
