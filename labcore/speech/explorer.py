"""What a page and a notebook need of the committed clips, without torch."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from labcore.runs import Result
from labcore.speech import corpus
from labcore.speech.names import ADAPTERS, ALPHABET, ENCODERS


@dataclass(frozen=True)
class ClipView:
    """One exhibited clip.

    Attributes:
        number: In the corpus.
        text: What is said.
        voice: Who says it.
        split: ``test``, ``real`` or ``exhibit``.
        says: Encoder -> its own transcript.
        strips: Encoder -> frames as colours.
        maps: Adapter -> W (t, n).
        alpha: CIF's weight of each frame.
        symbols: The CTC adapter's character of each frame.
        answers: Adapter -> task -> the language model's answer.
    """

    number: int
    text: str
    voice: str
    split: str
    says: dict[str, str]
    strips: dict[str, np.ndarray]
    maps: dict[str, np.ndarray]
    alpha: Float[np.ndarray, " t"]
    symbols: list[str]
    answers: dict[str, dict[str, str]]


def exhibit_names(result: Result) -> dict[str, int]:
    """Label -> number of every exhibited clip, for a menu."""
    return {f"{r['voice']}: {r['text']}": int(r["clip"]) for r in result.tables["exhibits"]}


def clip_view_of(result: Result, number: int) -> ClipView:
    """Everything that is shown of a clip.

    Raises:
        ValueError: no such exhibit.
    """
    rows = result.where("exhibits", clip=number)
    if not rows:
        known = sorted(r["clip"] for r in result.tables["exhibits"])
        raise ValueError(f"clip {number} is no exhibit: choose one of {known}")
    arrays, row = result.arrays, rows[0]
    answers = {
        r["adapter"]: {task: r[task] for task in corpus.TASKS}
        for r in result.where("answers", clip=number)
    }
    return ClipView(
        number=number,
        text=row["text"],
        voice=row["voice"],
        split=row["split"],
        says={name: row[f"{name}_says"] for name in ENCODERS},
        strips={name: arrays[f"strip/{name}/{number}"] for name in ENCODERS},
        maps={kind: arrays[f"w/{kind}/{number}"].astype(np.float32) for kind in ADAPTERS},
        alpha=arrays[f"alpha/cif/{number}"].astype(np.float64),
        symbols=characters(arrays[f"symbols/ctc/{number}"]),
        answers=answers,
    )


def characters(symbols: np.ndarray) -> list[str]:
    """The CTC head's symbols as text; 0 is the blank.

    >>> characters(np.array([0, 1, 27]))
    ['∅', 'a', '␣']
    """
    return ["∅" if s == 0 else ALPHABET[s - 1].replace(" ", "␣") for s in symbols.tolist()]


def nearest_of(result: Result, number: int, kind: str) -> dict[str, Any]:
    """The nearest tokens of a clip's positions: tokens, cosines, and the seconds they stand for."""
    rows = result.where("nearest", clip=number, adapter=kind)
    w = result.arrays[f"w/{kind}/{number}"].astype(np.float64)
    weight = np.maximum(w.sum(axis=0), 1e-9)
    centres = (w * (np.arange(len(w)) + 0.5)[:, None]).sum(axis=0) / weight / 50.0
    return {
        "tokens": [r["tokens"].split("\t") for r in rows],
        "cosines": result.arrays[f"cosine/{kind}/{number}"].astype(np.float64),
        "centres": centres,
    }
