"""What a page and a notebook need of the committed clips, without torch."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from labcore.runs import Result, Table
from labcore.speech import corpus
from labcore.speech.labels import TRAINED_ON, label
from labcore.speech.names import ADAPTERS, ALL, ALPHABET, ENCODERS, SPLITS
from labcore.speech.tables import among


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


def confounds(result: Result) -> Table:
    """What differs between the levels of the factors besides their names: sizes, what they read."""
    cells = [r for r in result.tables["cells"] if not r["variant"]]
    rows: Table = []
    for name in dict.fromkeys(r["encoder"] for r in cells):
        count = next(r["encoder_parameters"] for r in cells if r["encoder"] == name)
        rows.append({"part": label(name), "parameters": f"{count / 1e6:.1f} M, frozen",
                     "what else differs": TRAINED_ON[name]})  # fmt: skip
    for name in dict.fromkeys(r["adapter"] for r in cells):
        here = [r for r in cells if r["adapter"] == name]
        counts = _range([r["parameters"] / 1e6 for r in here])
        speeds = _range([r["positions_a_second_test"] for r in here])
        rows.append({"part": label(name), "parameters": f"{counts} M",
                     "what else differs": f"{speeds} positions a second"})  # fmt: skip
    for name in dict.fromkeys(r["lm"] for r in cells):
        rows.append({"part": label(name), "parameters": label(name).split()[-1] + ", frozen",
                     "what else differs": TRAINED_ON[name]})  # fmt: skip
    return rows


def _range(values: list[float]) -> str:
    low, high = f"{min(values):.1f}", f"{max(values):.1f}"
    return low if low == high else f"{low} to {high}"


def variants(result: Result) -> Table:
    """Every ablation and control, the cell of the grid that it changes first; a row a test set."""
    rows: Table = []
    for named in dict.fromkeys(r["variant"] for r in result.tables["cells"] if r["variant"]):
        (cell, *_) = result.where("cells", variant=named)
        levels = {k: cell[k] for k in ("encoder", "adapter", "lm")}
        for variant in ("", named):
            (steps,) = {r["steps"] for r in result.where("cells", variant=variant, **levels)}
            for split in SPLITS:
                at = {"variant": variant, "split": split, "repeat": 0} | levels
                scores = {r["task"]: r for r in result.where("scores", **at)}
                if "asr" in scores:
                    name = f"{variant or 'as in the grid'} ({cell['encoder']}, {cell['adapter']})"
                    rows.append({"what": name, "split": split, "steps": steps, **scores})
    return list({(r["what"], r["split"]): r for r in rows}.values())


def variants_said(result: Result) -> Table:
    """The same, as a page and a notebook print it."""
    return [
        {"what": r["what"], "test": label(r["split"]), "words": r["asr"]["words"],
         "steps": r["steps"], "WER": f"{r['asr']['wer']:.2f}",
         "Italian: WER": f"{r['st']['wer']:.2f}", "chrF": f"{r['st']['chrf']:.2f}",
         "exact": f"{r['st']['exact']:.2f}"}
        for r in variants(result)
    ]  # fmt: skip


def shares_among(
    result: Result, *, design: str, task: str, split: str, adapters: Sequence[str]
) -> tuple[Table, Table, str]:
    """The tables ``shares`` and ``gaps`` with some adapters only, and the name they go by there.

    Args:
        result: A committed result.
        design: As in the table, all factors or one language model.
        task: ``asr``, ``st`` or ``nearest``.
        split: ``test`` or ``real``.
        adapters: Which to keep; at least one.

    Raises:
        ValueError: no adapter is kept.
    """
    plan = result.config
    lms = plan["lms"] if design == ALL else [design]
    levels = {"encoder": plan["encoders"], "adapter": plan["adapters"], "language model": lms}
    at = {"design": design, "task": task, "split": split}
    at["adapters"] = ", ".join(a for a in plan["adapters"] if a in adapters)
    shares, gaps = among(
        result.arrays[f"errors/{design}/{task}/{split}"], result.arrays[f"words/{task}/{split}"],
        levels, adapters, resamples=plan["resamples"],
    )  # fmt: skip
    return [at | r for r in shares], [at | r for r in gaps], at["adapters"]
