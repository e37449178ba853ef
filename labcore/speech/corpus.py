"""The committed corpora: digit strings and commands by synthetic voices, and real recordings.

Voices of the test set are never heard in training, and no test string is said there. ``real`` holds
recordings of a person, joined from single digits. Two training voices are held back as ``valid``:
settings are chosen on them, never on a test set. Made by :mod:`labcore.speech.synthesis`.
"""

import hashlib
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from labcore.runs import replacing
from labcore.speech import audio

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
ITALIAN = ("zero", "uno", "due", "tre", "quattro", "cinque", "sei", "sette", "otto", "nove")
TASKS = ("asr", "st")
WORDS = ("digits", "commands")
VALID_VOICES = ("espeak:en-gb+f2", "flite:slt")  # one of each synthesiser, as in the test set
_FOLDER = Path(__file__).parent / "results"
_FILES = {"digits": "corpus.npz", "commands": "commands.npz"}


@dataclass(frozen=True)
class Corpus:
    """Clips and what is said in them.

    Attributes:
        clips: One row a clip: ``split`` (train, valid, test, real, exhibit), ``voice``, ``text``,
            and ``italian`` where the translation is not by digits.
        sounds: The clips themselves, 8 kHz.
        voices: One row a voice that was tried: error rates of both encoders' own transcripts, and
            whether it was kept.
    """

    clips: list[dict[str, Any]]
    sounds: list[np.ndarray]
    voices: list[dict[str, Any]]

    def where(self, split: str) -> list[int]:
        """Numbers of the clips of a split.

        Raises:
            ValueError: no such split.
        """
        found = [i for i, clip in enumerate(self.clips) if clip["split"] == split]
        if not found:
            splits = sorted({clip["split"] for clip in self.clips})
            raise ValueError(f"no split {split!r}: the corpus has {splits}")
        return found

    def sound(self, number: int) -> audio.Sound:
        """A clip at 16 kHz, as the encoders want it."""
        return audio.resample(self.sounds[number], audio.TELEPHONE)

    def answer(self, number: int, task: str) -> str:
        """What is to be written: the words (``asr``) or their translation (``st``)."""
        clip = self.clips[number]
        text = str(clip["text"])
        if task == "asr":
            return text
        return str(clip["italian"]) if "italian" in clip else translate(text)


def translate(text: str) -> str:
    """Digit words to Italian, exact by grammar.

    >>> translate("seven one")
    'sette uno'

    Raises:
        ValueError: a word is no digit.
    """
    try:
        return " ".join(ITALIAN[DIGITS.index(word)] for word in text.split())
    except ValueError:
        raise ValueError(f"{text!r} holds a word that is no digit: {', '.join(DIGITS)}") from None


def save(corpus: Corpus, path: Path) -> Path:
    """Write the clips in mu-law, with their tables."""
    codes = [audio.compand(sound) for sound in corpus.sounds]
    tables = json.dumps({"clips": corpus.clips, "voices": corpus.voices}, sort_keys=True)
    with replacing(path) as part, part.open("wb") as file:
        np.savez_compressed(
            file,
            codes=np.concatenate(codes),
            ends=np.cumsum([len(c) for c in codes]),
            tables=np.frombuffer(tables.encode(), np.uint8),
        )
    return path


@cache
def load(words: str = "digits") -> Corpus:
    """A committed corpus: ``"digits"`` or ``"commands"``.

    Raises:
        ValueError: another name.
    """
    if words not in _FILES:
        raise ValueError(f"no corpus {words!r}: choose one of {', '.join(WORDS)}")
    with np.load(_FOLDER / _FILES[words], allow_pickle=False) as file:
        tables = json.loads(bytes(file["tables"]).decode())
        pieces = np.split(file["codes"], file["ends"][:-1])
    for clip in tables["clips"]:
        if clip["split"] == "train" and clip["voice"] in VALID_VOICES:
            clip["split"] = "valid"
    return Corpus(tables["clips"], [audio.expand(piece) for piece in pieces], tables["voices"])


def fingerprint(sound: audio.Sound) -> str:
    """SHA-256 of a clip's samples, for the key of what is computed from it."""
    return hashlib.sha256(np.ascontiguousarray(sound, np.float32).tobytes()).hexdigest()
