"""Word and character error rates, and chrF for translations.

The word error rate that the experiment reports is jiwer's; :func:`wer` says which words were
substituted, inserted and deleted, and a test holds the two together. COMET, the study's measure of
translations, needs a model that cannot be had offline: chrF (Popović, 2015) stands in.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class ErrorRate:
    """Errors a reference unit, and what they were; ``n`` units in the references."""

    rate: float
    substitutions: int
    insertions: int
    deletions: int
    n: int


def normalise(text: str) -> str:
    """Lower case, no punctuation, single blanks.

    >>> normalise("Seven,  TWO.")
    'seven two'
    """
    return " ".join(re.sub(r"[^\w\s']", " ", text.lower()).split())


def edits(reference: Sequence[str], answer: Sequence[str]) -> tuple[int, int, int]:
    """Fewest substitutions, insertions and deletions from reference to answer.

    >>> edits("a b c".split(), "a x c d".split())
    (1, 1, 0)
    """
    best = [(j, 0, j, 0) for j in range(len(answer) + 1)]  # cost, sub, ins, del
    for i, unit in enumerate(reference, 1):
        row = [(i, 0, 0, i)]
        for j, other in enumerate(answer, 1):
            c, s, n, d = best[j - 1]
            wrong = int(unit != other)
            ways = [(c + wrong, s + wrong, n, d)]
            c, s, n, d = row[j - 1]
            ways.append((c + 1, s, n + 1, d))
            c, s, n, d = best[j]
            ways.append((c + 1, s, n, d + 1))
            row.append(min(ways))
        best = row
    return best[-1][1:]


def wer(references: Sequence[str], answers: Sequence[str]) -> ErrorRate:
    """Word error rate of a set: all edits over all reference words.

    >>> wer(["a b c"], ["a x c d"]).rate
    0.6666666666666666

    Raises:
        ValueError: lists of different lengths, or a reference without words.
    """
    return _rate([r.split() for r in references], [a.split() for a in answers])


def cer(references: Sequence[str], answers: Sequence[str]) -> ErrorRate:
    """Character error rate of a set; arguments as :func:`wer`."""
    return _rate([list(r) for r in references], [list(a) for a in answers])


def _rate(references: Sequence[Sequence[str]], answers: Sequence[Sequence[str]]) -> ErrorRate:
    if len(references) != len(answers):
        raise ValueError(f"{len(references)} references and {len(answers)} answers: give as many")
    if not references or not all(references):
        raise ValueError("a reference is empty: give at least one word to each")
    counts = np.array([edits(r, a) for r, a in zip(references, answers, strict=True)])
    sub, ins, dele = (int(v) for v in counts.sum(axis=0))
    n = sum(len(r) for r in references)
    return ErrorRate((sub + ins + dele) / n, sub, ins, dele, n)


def word_errors(reference: str, answer: str) -> tuple[int, int]:
    """Errors and reference words of one clip, as jiwer counts them."""
    import jiwer

    if not answer:  # nothing said: every word is missing
        return len(reference.split()), len(reference.split())
    found = jiwer.process_words(reference, answer)
    errors = found.substitutions + found.insertions + found.deletions
    return errors, len(reference.split())


def chrf(references: Sequence[str], answers: Sequence[str], n: int = 6, beta: float = 2.0) -> float:
    """Character n-gram F-score of a set, 0 to 1; blanks do not count.

    >>> chrf(["sette uno"], ["sette uno"])
    1.0

    Raises:
        ValueError: lists of different lengths, or empty.
    """
    if len(references) != len(answers) or not references:
        raise ValueError(f"{len(references)} references and {len(answers)} answers: give as many")
    precisions, recalls = [], []
    for size in range(1, n + 1):
        same = said = wanted = 0
        for reference, answer in zip(references, answers, strict=True):
            ours, its = _grams(answer, size), _grams(reference, size)
            same += sum((ours & its).values())
            said += sum(ours.values())
            wanted += sum(its.values())
        if wanted:
            precisions.append(same / said if said else 0.0)
            recalls.append(same / wanted)
    p, r = float(np.mean(precisions)), float(np.mean(recalls))
    return 0.0 if p + r == 0 else (1 + beta**2) * p * r / (beta**2 * p + r)


def _grams(text: str, size: int) -> Counter[str]:
    letters = text.replace(" ", "")
    return Counter(letters[i : i + size] for i in range(len(letters) - size + 1))
