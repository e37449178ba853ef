"""What the lab does with a clip of somebody's own: encode it, shorten it, let the model answer.

Plain data comes back, so that a worker process can send it.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from labcore.runs import Progress, silent
from labcore.speech import exhibits
from labcore.speech.audio import check_audio
from labcore.speech.encoders import make_encoder, transcript
from labcore.speech.experiment import LIVE, load_result
from labcore.speech.settings import ENCODERS, LMS


@dataclass(frozen=True)
class Heard:
    """One clip, heard by both encoders and through the adapters that the lab brings along.

    Attributes:
        strips: Encoder -> frames as colours (t, 3).
        transcripts: Encoder -> its own transcript.
        arrays: ``w/<adapter>``, and ``alpha`` and ``symbols`` where an adapter has them.
        answers: Adapter -> task -> the language model's answer.
    """

    strips: dict[str, np.ndarray] = field(default_factory=dict)
    transcripts: dict[str, str] = field(default_factory=dict)
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    answers: dict[str, dict[str, str]] = field(default_factory=dict)


def hear(sound: np.ndarray, progress: Progress = silent) -> Heard:
    """Everything that the page shows of a clip, 16 kHz mono, at most 30 s.

    Raises:
        ValueError: a clip that cannot be used (:func:`labcore.speech.audio.check_audio`).
        AssetError: a model is not on this machine.
    """
    sound = check_audio(sound)
    steps = len(ENCODERS) + len(LIVE)
    found, frames = Heard(), torch.zeros(0)
    for done, name in enumerate(ENCODERS):
        encoder = make_encoder(name)
        here = encoder.encode([sound]).features
        found.strips[name] = exhibits.strip(here[0])
        found.transcripts[name] = transcript(encoder, sound)
        if name == exhibits.ENCODER:
            frames = here
        progress(done + 1, steps, name)
    for done, kind in enumerate(LIVE):
        seen: dict[str, Any] = exhibits.look(trained_model(kind), frames)
        found.arrays.update({f"{k}/{kind}": v for k, v in seen["arrays"].items()})
        found.answers[kind] = seen["answers"]
        progress(len(ENCODERS) + done + 1, steps, kind)
    return found


def trained_model(kind: str) -> Any:
    """The committed adapter of this kind between the conformer and its language model."""
    start = f"live/{kind}/"
    arrays = load_result().arrays
    weights = {k.removeprefix(start): v for k, v in arrays.items() if k.startswith(start)}
    return exhibits.trained(kind, weights, LMS[0])
