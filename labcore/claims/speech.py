"""Claims of "How to Connect Speech Foundation Models and Large Language Models?".

Verdini et al., Interspeech 2025, arXiv 2409.17044. The rules were written before the full run was
looked at. Shares are η² of an exact decomposition of error rates, with 95 % intervals from drawing
clips again (and trainings, where there are several); one part a task and test set. The encoder is
confounded with its size and training data, here as in the study.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from labcore.claims import Claim, Finding
from labcore.runs import Result, Table
from labcore.speech.names import ALL, SPLITS, SUBSETS
from labcore.speech.settings import Config

PAPER = "arXiv 2409.17044"
PLAN = Config.full()
SCALE = (
    "Whisper tiny.en and a 2 M Conformer; SmolLM2-135M and Gemma-3-270M; spoken digit strings, "
    f"{PLAN.steps} steps of {PLAN.batch} clips for both tasks in turns"
)
TASKS = ("asr", "st")
FIVE, CLOCK = tuple(SUBSETS)
NEGLIGIBLE = 0.05  # a share below this is little


def _places(result: Result) -> Iterator[tuple[str, str]]:
    for task in TASKS:
        for split in SPLITS:
            if result.where("shares", task=task, split=split):
                yield task, split


def _share(result: Result, task: str, split: str, term: str, adapters: str = FIVE
           ) -> dict[str, Any]:  # fmt: skip
    (row,) = result.where("shares", design=ALL, task=task, split=split, term=term,
                          adapters=adapters, scale="rate")  # fmt: skip
    return row


def _said(row: dict[str, Any]) -> str:
    return f"{row['share']:.0%} ({row['low']:.0%} to {row['high']:.0%})"


def _baselines(result: Result) -> str:
    """Error rates of the trivial readers: no language model, and a scrambled one."""
    rows = result.where("scores", task="nearest", split="test", variant="", repeat=0)
    nearest = [r["wer"] for r in rows]
    said = f"nearest token without LM {min(nearest):.2f} to {max(nearest):.2f}" if nearest else ""
    scrambled = result.where("scores", task="asr", split="test",
                             variant="scrambled language model")  # fmt: skip
    if scrambled:
        said += f"; scrambled LM {scrambled[0]['wer']:.2f}"
    return said


def _sample(result: Result) -> str:
    words = {s: int(result.arrays[f"words/asr/{s}"].sum()) for s in SPLITS}
    repeats = zip(result.config["lms"], result.config["repeats"], strict=True)
    trained = ", ".join(f"{count} with {lm}" for lm, count in repeats)
    return (
        f"{words['test']} + {words['real']} words; trainings a cell: {trained} (all factors "
        f"together: the first {min(result.config['repeats'])} of each); {_untrained(result)}"
    )


def _untrained(result: Result) -> str:
    """How many cells of the whole design are not trained, per task and test set."""
    rows = {(r["task"], r["split"]): r for r in result.where("shares", design=ALL, adapters=FIVE)}
    said = [f"{t} {s} {rows[t, s]['untrained']}" for t, s in _places(result)]
    return f"cells not trained of {rows[next(_places(result))]['cells']}: {', '.join(said)}"


def _each(
    result: Result, judge: Callable[[str, str], tuple[bool, str]], baselines: str | None = None
) -> Finding:
    """One part a task and test set."""
    passed, measured = [], []
    for task, split in _places(result):
        good, said = judge(task, split)
        passed.append(good)
        measured.append(f"{task} {split}: {said}")
    return Finding(
        "; ".join(measured) or "no grid with a language model",
        _baselines(result) if baselines is None else baselines,
        _sample(result),
        tuple(passed),
    )


def _encoder_first(result: Result) -> Finding:
    def judge(task: str, split: str) -> tuple[bool, str]:
        rows = {f: _share(result, task, split, f) for f in ("encoder", "adapter", "language model")}
        others = max(rows["adapter"]["share"], rows["language model"]["share"])
        said = ", ".join(f"{f} {_said(r)}" for f, r in rows.items())
        return rows["encoder"]["share"] > others, said

    return _each(result, judge)


def _encoder_gap(result: Result) -> Finding:
    def judge(task: str, split: str) -> tuple[bool, str]:
        gaps = {
            r["factor"]: r
            for r in result.where("gaps", design=ALL, task=task, split=split, adapters=FIVE)
        }
        encoder, lm = gaps["encoder"], gaps["language model"]
        said = (
            f"encoder {encoder['gap']:.3f} ({encoder['best_level']} ahead), language model "
            f"{lm['gap']:.3f} ({lm['best_level']} ahead)"
        )
        return encoder["gap"] > lm["gap"], said

    return _each(result, judge)


def _lm_little(result: Result) -> Finding:
    def judge(task: str, split: str) -> tuple[bool, str]:
        row = _share(result, task, split, "language model")
        return row["high"] < NEGLIGIBLE, _said(row)

    return _each(result, judge)


def _adapter_moderate(result: Result) -> Finding:
    def judge(task: str, split: str) -> tuple[bool, str]:
        row = _share(result, task, split, "adapter")
        encoder = _share(result, task, split, "encoder")
        clock = _share(result, task, split, "adapter", CLOCK)
        moderate = row["low"] > NEGLIGIBLE and row["share"] < encoder["share"]
        return moderate, f"{_said(row)}, without CIF and CTC {_said(clock)}"

    return _each(result, judge)


def _depends_on_pair(result: Result) -> Finding:
    def judge(task: str, split: str) -> tuple[bool, str]:
        rows = result.where("scores", task=task, split=split, variant="")
        winners = _winners(rows)
        pair = [_share(result, task, split, "encoder x adapter"),
                _share(result, task, split, "adapter x language model")]  # fmt: skip
        interacts = any(r["low"] > NEGLIGIBLE for r in pair)
        said = ", ".join(f"{e} + {lm} {a}" for (e, lm), a in winners.items())
        parts = ", ".join(f"{r['term'].replace(' x ', ' × ')} {_said(r)}" for r in pair)
        return len(set(winners.values())) > 1 and interacts, f"best {said}; {parts}"

    return _each(result, judge)


def _winners(rows: Table) -> dict[tuple[str, str], str]:
    """Best adapter of each pair, by the mean error rate over trainings."""
    found = {}
    for pair in dict.fromkeys((r["encoder"], r["lm"]) for r in rows):
        here = [r for r in rows if (r["encoder"], r["lm"]) == pair]
        means = {
            a: float(np.mean([r["wer"] for r in here if r["adapter"] == a]))
            for a in dict.fromkeys(r["adapter"] for r in here)
        }
        found[pair] = min(means, key=lambda a: means[a])
    return found


def _content_behind(result: Result) -> Finding:
    def judge(task: str, split: str) -> tuple[bool, str]:
        rows = result.where("scores", task=task, split=split, variant="")
        mean = {
            a: float(np.mean([r["wer"] for r in rows if r["adapter"] == a]))
            for a in dict.fromkeys(r["adapter"] for r in rows)
        }
        behind = min(mean["cif"], mean["ctc"]) > max(mean["base"], mean["wlq"])
        return behind, ", ".join(f"{a} {v:.2f}" for a, v in mean.items())

    return _each(result, judge)


def _compression(result: Result) -> Finding:
    """Frames a position of the clockwork adapters, and their order for the content-based ones."""
    rows = [r for r in result.tables["cells"] if not r["variant"]]
    mean = {
        a: float(np.mean([r["frames_a_position_test"] for r in rows if r["adapter"] == a]))
        for a in dict.fromkeys(r["adapter"] for r in rows)
    }
    return Finding(
        measured=", ".join(f"{a} {v:.1f}" for a, v in mean.items()) + " frames a position",
        baselines="no compression 1",
        sample=f"{len(rows)} cells, unseen synthetic voices",
        passed=(
            3.5 <= mean["conv"] <= 4,
            12 <= mean["wlq"] <= 17,
            mean["cif"] > mean["wlq"] > mean["ctc"] > mean["conv"],
        ),
    )


def _listens(result: Result) -> Finding:
    """Whether the language model uses the sound: the meter at the last step, per cell."""
    rows = [r for r in result.tables["curves"] if not r["variant"] and "listens_asr" in r]
    last = max(r["step"] for r in rows)
    ends = [r for r in rows if r["step"] == last]
    values = np.array([r["listens_asr"] for r in ends])
    return Finding(
        measured=f"loss with another clip's sound minus with the right one: {values.mean():.2f} "
        f"nats a token, {values.min():.2f} to {values.max():.2f} over cells",
        baselines="0 when the sound is ignored",
        sample=f"{len(values)} trainings, 8 clips of the validation voices, step {last}",
        passed=(bool((values > 0.1).all()),),
    )


CLAIMS: tuple[Claim, ...] = (
    Claim(
        id="speech-encoder",
        claim="The speech encoder is the pivotal part: of the three it explains most",
        source=f"{PAPER}, abstract",
        published="SeamlessM4T ahead of Whisper by more than 2 COMET and about 1 WER",
        scale=SCALE,
        rule="the encoder's share of variance is larger than the adapter's and the language "
        "model's; one part a task and test set",
        measure=_encoder_first,
    ),
    Claim(
        id="speech-encoder-gap",
        claim="Choosing the better encoder gains more than choosing the better language model",
        source=f"{PAPER}, comparison of best configurations",
        published="gap of the best: encoders more than 2 COMET, language models less than 0.2",
        scale=SCALE,
        rule="gap between the best cells of the two encoders larger than between those of the two "
        "language models; one part a task and test set",
        measure=_encoder_gap,
    ),
    Claim(
        id="speech-language-model",
        claim="The choice of language model matters little",
        source=f"{PAPER}, abstract",
        published="best Mistral against best Llama: less than 0.2 on both metrics",
        scale=SCALE,
        rule="upper end of the interval of its share below 5 %; one part a task and test set",
        measure=_lm_little,
    ),
    Claim(
        id="speech-adapter",
        claim="The adapter has a moderate influence",
        source=f"{PAPER}, abstract",
        published="moderate impact on performance",
        scale=SCALE,
        rule="lower end of the interval of its share above 5 %, and the share below the encoder's; "
        "one part a task and test set",
        measure=_adapter_moderate,
    ),
    Claim(
        id="speech-pair",
        claim="The best adapter depends on the pair of encoder and language model",
        source=f"{PAPER}, abstract",
        published="no universal winner over the four pairs",
        scale=SCALE,
        rule="the pairs' best adapters (mean error rate) are not all the same, and an interaction "
        "with the adapter has an interval above 5 %; one part a task and test set",
        measure=_depends_on_pair,
    ),
    Claim(
        id="speech-content-adapters",
        claim="The content-based compressors, CIF and CTC, are behind no compression and WLQ",
        source=f"{PAPER}, results",
        published="Base and WLQ competitive, CIF and CTC consistently behind",
        scale=SCALE,
        rule="mean error rate over pairs: both CIF and CTC above both Base and WLQ; one part a "
        "task and test set",
        measure=_content_behind,
    ),
    Claim(
        id="speech-compression",
        claim="Frames a position, at 50 frames a second: Conv 4, CTC 13, WLQ 16, CIF 25",
        source=f"{PAPER}, compression factors with Whisper",
        published="4, 13, 16, 25",
        scale=SCALE,
        rule="(1) Conv between 3.5 and 4; (2) WLQ between 12 and 17 (short clips end in part "
        "windows); (3) the order CIF > WLQ > CTC > Conv",
        measure=_compression,
    ),
    Claim(
        id="speech-listens",
        claim="A frozen language model learns to use sound through a trained adapter alone",
        source=f"{PAPER}, the method",
        published="competitive recognition and translation, adapter trained only",
        scale=SCALE,
        rule="at the end every training of the grid loses more than 0.1 nats a token when it gets "
        "another clip's sound",
        measure=_listens,
    ),
)
