"""Claims of the book's chapters 8 to 13, and the course's own figures; see :mod:`.book`."""

from typing import Any

import numpy as np

from labcore.claims import Claim, Finding
from labcore.runs import Result

BOOK = "arXiv 2404.17625"
UNTESTED = Finding("not measured", "none", "0 runs", ())


def rows_of(result: Result, name: str) -> list[dict[str, Any]]:
    """A table of the result; empty where its chapter was not run."""
    return result.tables.get(name, [])


def numbers_of(result: Result, chapter: str) -> dict[str, dict[str, Any]]:
    """The rows of a chapter's table ``numbers``, by what they measure."""
    return {row["what"]: row for row in rows_of(result, f"{chapter}/numbers")}


def _column(rows: list[dict[str, Any]], key: str, **wanted: Any) -> np.ndarray:
    return np.array([row[key] for row in rows if wanted.items() <= row.items()])


def _course(result: Result) -> Finding:
    known = numbers_of(result, "b04")
    if not known:
        return UNTESTED
    train, held, test = (
        int(known[f"right, {part}, lr 10"]["measured"]) for part in ("train", "validation", "test")
    )
    majority = int(known["right, test, always Adelie"]["measured"])
    return Finding(
        measured=f"learning rate 10: {train} of 205, {held} of 68, {test} of 69 right",
        baselines=f"always Adelie {majority} of 69",
        sample="342 penguins, the course's split",
        passed=(held == 68, test == 67, majority == 31),
    )


def _context(result: Result) -> Finding:
    bits = _column(rows_of(result, "b08/cnn"), "bits")
    known = numbers_of(result, "b08")
    if not len(bits):
        return UNTESTED
    table = known["bits, add-one bigram, last tenth"]["measured"]
    return Finding(
        measured=f"{bits.mean():.3f} bits a character ({bits.min():.3f} to {bits.max():.3f})",
        baselines=f"a table of pairs {table:.3f}, all 73 characters alike {np.log2(73):.3f}",
        sample=f"last tenth of the novel, {len(bits)} seeds",
        passed=(bool((bits < table - 0.5).all()),),
    )


def _skips(result: Result) -> Finding:
    rows = rows_of(result, "b09/runs")
    deep = {
        kind: _column(rows, "accuracy", kind=kind, depth=20)
        for kind in ("plain", "residual", "residual + norm")
    }
    if not len(deep["plain"]):
        return UNTESTED
    shallow = _column(rows, "accuracy", kind="residual + norm", depth=2)
    return Finding(
        measured="20 layers: "
        + ", ".join(f"{kind} {found.mean():.3f}" for kind, found in deep.items()),
        baselines=f"2 layers with skips and norms {shallow.mean():.3f}; a coin of ten sides 0.1",
        sample=f"597 digits, {len(shallow)} seeds",
        passed=(
            bool((deep["plain"] < 0.15).all()),
            bool((deep["residual"] > 0.8).all()),
            bool(deep["residual + norm"].mean() > shallow.mean() - 0.02),
        ),
    )


def _sink(result: Result) -> Finding:
    if "b10/weights" not in result.arrays:
        return UNTESTED
    weights = result.arrays["b10/weights"].astype(np.float64)
    mass, alike = weights[:, :, -1, 0].mean(1), 1 / weights.shape[-1]
    half = len(mass) // 2
    return Finding(
        measured=f"the last token's weight on the first: layer 0 {mass[0]:.3f}, first half of the "
        f"layers {mass[:half].mean():.3f}, second half {mass[half:].mean():.3f}, most "
        f"{mass.max():.3f} in layer {int(mass.argmax())}",
        baselines=f"all tokens alike {alike:.3f}",
        sample=f"one sentence of {weights.shape[-1]} tokens, {weights.shape[1]} heads a layer",
        passed=(bool(mass[0] < 2 * alike), bool(mass[half:].mean() > 0.5)),
    )


def _bias(result: Result) -> Finding:
    gpt = rows_of(result, "b11/gpt")
    cnn = _column(rows_of(result, "b08/cnn"), "bits")
    plain, shifted = (_column(gpt, "bits", model=m) for m in ("plain", "token shift"))
    if not (len(plain) and len(cnn)):
        return UNTESTED
    table = numbers_of(result, "b08")["bits, add-one bigram, last tenth"]
    return Finding(
        measured=f"bits a character: convolution {cnn.mean():.3f} in 300 steps, decoder "
        f"{plain.mean():.3f} in 400, with token shift {shifted.mean():.3f}",
        baselines=f"a table of pairs {table['measured']:.3f}",
        sample=f"last tenth of the novel, {len(plain)} seeds",
        passed=(bool(cnn.max() < plain.min() - 0.1), bool(shifted.max() < plain.min() - 0.1)),
    )


def _cache(result: Result) -> Finding:
    clock = rows_of(result, "b11/clock")
    if len(clock) < 4:
        return UNTESTED
    ratio = np.array([row["whole"] / row["cached"] for row in clock])
    tokens = [row["tokens"] for row in clock]
    weight = np.array([row["bytes"] for row in clock]) / np.array(tokens)
    return Finding(
        measured="CPU time without over with a cache: "
        + ", ".join(f"{r:.1f} at {t}" for r, t in zip(ratio, tokens, strict=True)),
        baselines="no cache: 1",
        sample="an untrained decoder of 4 layers, median of 3 runs, one thread",
        passed=(bool((np.diff(ratio) > 0).all()), bool(ratio[-1] > 4), bool(np.ptp(weight) == 0)),
    )


def _smoothing(result: Result) -> Finding:
    rows = rows_of(result, "b12/gcn")
    few, many = (_column(rows, "accuracy", depth=depth) for depth in (2, 16))
    if not (len(few) and len(many)):
        return UNTESTED
    alone = numbers_of(result, "b12").get("accuracy of 2 layers that do not see the graph")
    blind = f"the same network without the graph {alone['measured']:.3f}, " if alone else ""
    return Finding(
        measured=f"2 layers {few.mean():.3f} ({few.min():.3f} to {few.max():.3f}), 16 layers "
        f"{many.mean():.3f}",
        baselines=f"{blind}one club for all 0.5",
        sample=f"34 members, 2 labels, {len(few)} seeds",
        passed=(bool((few > 0.9).all()), bool((many < 0.6).all())),
    )


def _selective(result: Result) -> Finding:
    rows = rows_of(result, "b13/copying")
    chosen, fixed = (_column(rows, "accuracy", selective=kind) for kind in (True, False))
    if not len(chosen):
        return UNTESTED
    return Finding(
        measured=f"selective {chosen.mean():.3f} ({chosen.min():.3f} to {chosen.max():.3f}), "
        f"time-invariant {fixed.mean():.3f} ({fixed.min():.3f} to {fixed.max():.3f})",
        baselines="a random symbol 0.167",
        sample=f"4 symbols of 1000 sequences, {len(chosen)} seeds",
        passed=(bool((chosen > 0.95).all()), bool((fixed < 0.5).all())),
    )


CLAIMS: tuple[Claim, ...] = (
    Claim("book-course", "The course's penguin classifier, trained again",
          "teaching-materials of the author, laboratory 2, 2026",
          "best validation at learning rate 10 with 68/68, test 67/69, majority 31/69",
          "softmax regression, 200 steps", "the three counts are the same", _course),
    Claim("book-context", "A causal convolution knows more than a table of pairs",
          f"{BOOK}, sections 8.2 and 8.3", "qualitatively", "300 steps on the novel",
          "more than half a bit a character below the table of pairs on every seed", _context),
    Claim("book-skips", "Residual connections keep deep networks trainable",
          f"{BOOK}, section 9.4", "qualitatively", "64 units wide, 8 epochs on 1200 digits",
          "at 20 layers (1) the plain network stays below 15 % on every seed, (2) the residual one "
          "is above 80 %, (3) with norms it is at most 2 points below its 2-layer self", _skips),
    Claim("book-sink", "Deep layers park their attention on the first token",
          f"{BOOK}, chapter 10; arXiv 2309.17453", "qualitatively", "SmolLM2-135M, as it is",
          "the last token's mean weight on the first (1) is below twice the uniform one in layer "
          "0, (2) is above one half on average in the second half of the layers", _sink),
    Claim("book-bias", "Inductive bias wins at small budgets",
          f"{BOOK}, chapters 10 and 11", "qualitatively", "300 and 400 steps on the novel",
          "on all seeds (1) the convolution is more than 0.1 bits below the plain decoder, (2) so "
          "is the decoder whose attention sees half of the token before", _bias),
    Claim("book-cache", "A key-value cache removes the recomputation, at a price in memory",
          f"{BOOK}, section 11.2", "one power of the length less", "32 to 512 tokens",
          "(1) the ratio of CPU times grows with every doubling, (2) to more than 4, (3) while the "
          "bytes a token stay the same", _cache),
    Claim("book-smoothing", "A little smoothing along edges helps, a lot erases",
          f"{BOOK}, chapter 12", "qualitatively", "graph convolutions on the karate club",
          "(1) two layers are above 90 % on every seed, (2) sixteen below 60 % on every seed",
          _smoothing),
    Claim("book-selective", "A time-invariant layer fails at selective copying, a selective passes",
          f"{BOOK}, section 13.4; arXiv 2312.00752, section 3.1", "fails, solves",
          "two layers of 32 features, 800 steps",
          "(1) the selective network repeats more than 95 % of the symbols on every seed, (2) the "
          "time-invariant one less than half", _selective),
)  # fmt: skip
