"""Which part matters: exact sums of squares of a balanced table, and the gap between bests.

Y[s, a, l, r] = μ + main effects + interactions (+ residual over repeats). A share is
η² = SS / SS_total. With one repeat the highest interaction is all that is left over, so it IS the
residual; with more repeats both are given. Shares and gaps of bests may disagree: show both.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from jaxtyping import Real

Array = Real[np.ndarray, "..."]
LOW, HIGH = 0.01, 1.5  # rates are clipped to this before the logit


@dataclass(frozen=True)
class Share:
    """One line of the decomposition: which factors, sum of squares, share of the total."""

    term: str
    sum_squares: float
    share: float


def variance_shares(
    table: Array, factors: Sequence[str], residual: str = "three_way"
) -> list[Share]:
    """Exact decomposition of a balanced table.

    Args:
        table: One axis a factor, in order; with ``residual="repeats"`` one more axis, the repeats.
        factors: Names of the factors.
        residual: ``"three_way"``: one score a cell, so the highest interaction is the residual.
            ``"repeats"``: the last axis holds repeats; their spread is the residual.

    Raises:
        ValueError: axes and names that do not match, one repeat, or a missing score (named).
    """
    if residual not in ("three_way", "repeats"):
        raise ValueError(f'residual is "three_way" or "repeats", got {residual!r}')
    values = np.asarray(table, dtype=np.float64)
    extra = int(residual == "repeats")
    if values.ndim != len(factors) + extra:
        wanted = f"{len(factors)} factors" + (" and repeats" if extra else "")
        raise ValueError(f"the table has {values.ndim} axes: {wanted} want {len(factors) + extra}")
    _refuse_holes(values, factors)
    if extra and values.shape[-1] < 2:
        raise ValueError('one repeat has no spread: use residual="three_way"')
    cells = values.mean(axis=-1) if extra else values
    repeats = values.shape[-1] if extra else 1
    sums = {term: repeats * ss for term, ss in _sums(cells).items()}
    found = {_name(term, factors): ss for term, ss in sums.items()}
    if extra:
        found["residual"] = float(((values - cells[..., None]) ** 2).sum())
    else:
        top = _name(tuple(range(len(factors))), factors)
        found[f"{top} (= residual)"] = found.pop(top)
    total = sum(found.values())
    return [Share(k, v, v / total if total > 0 else 0.0) for k, v in found.items()]


def _refuse_holes(values: Array, factors: Sequence[str]) -> None:
    holes = np.argwhere(~np.isfinite(values))
    if len(holes):
        names = [*factors, "repeat"][: values.ndim]
        where = ", ".join(f"{n} {i}" for n, i in zip(names, holes[0], strict=True))
        raise ValueError(f"the table is not balanced: no score for {where}; run that cell")


def _sums(cells: Array) -> dict[tuple[int, ...], float]:
    """Sum of squares of each set of axes, by inclusion and exclusion of marginal means."""
    axes = range(cells.ndim)
    effects: dict[tuple[int, ...], Array] = {(): np.full_like(cells, cells.mean())}
    sums = {}
    for size in range(1, cells.ndim + 1):
        for term in combinations(axes, size):
            others = tuple(a for a in axes if a not in term)
            mean = np.broadcast_to(cells.mean(axis=others, keepdims=True), cells.shape)
            below = [effects[t] for n in range(size) for t in combinations(term, n)]
            effects[term] = mean - sum(below)
            sums[term] = float((effects[term] ** 2).sum())
    return sums


def _name(term: tuple[int, ...], factors: Sequence[str]) -> str:
    return " x ".join(factors[i] for i in term)


def gap_of_best(
    table: Array, factors: Sequence[str], levels: Mapping[str, Sequence[str]], low: bool = True
) -> list[dict[str, Any]]:
    """The study's contrast: the best score of each level of a factor, and the gap between levels.

    Args:
        table: One score a cell (average repeats first).
        factors: Names of its axes.
        levels: Names of each factor's levels.
        low: Whether a low score is good.
    """
    rows = []
    for axis, factor in enumerate(factors):
        others = tuple(a for a in range(table.ndim) if a != axis)
        best = table.min(axis=others) if low else table.max(axis=others)
        order = np.argsort(best if low else -best)
        rows.append(
            {
                "factor": factor,
                "best_level": levels[factor][order[0]],
                "best": float(best[order[0]]),
                "worst_level": levels[factor][order[-1]],
                "worst": float(best[order[-1]]),
                "gap": float(abs(best[order[-1]] - best[order[0]])),
                "gap_to_second": float(abs(best[order[1]] - best[order[0]])),
            }
        )
    return rows


def clipped_logit(rate: Array) -> Array:
    """Logit of an error rate over its largest counted value, so that saturation adds up better.

    Rates are clipped to [0.01, 1.5] and divided by 1.51.

    >>> bool(clipped_logit(np.array(0.0)) == clipped_logit(np.array(0.01)))
    True
    """
    share = np.clip(rate, LOW, HIGH) / (HIGH + LOW)
    return np.asarray(np.log(share / (1 - share)))


def pooled_rate(errors: Array, words: Array) -> Array:
    """Error rate of sets of clips: all errors over all words, over the last axis."""
    return np.asarray(errors.sum(axis=-1) / words.sum(axis=-1))


def bootstrap_shares(
    errors: Array,
    words: Real[np.ndarray, " clips"],
    factors: Sequence[str],
    *,
    resamples: int = 1000,
    seed: int = 0,
    logit: bool = False,
    level: float = 0.95,
) -> list[dict[str, Any]]:
    """Shares with intervals: clips and repeats are drawn again, the same clips in every cell.

    Clips are paired across cells; the repeats (seeds) of each cell are drawn by themselves, so the
    interval holds both which clips were tested and how a cell's training fell out.

    Args:
        errors: Word errors (..., repeats, clips), one axis a factor first.
        words: Reference words of each clip.
        factors: Names of the factors.
        resamples: How many times.
        seed: Of the draws.
        logit: Decompose the clipped logit instead of the rate.
        level: Of the interval.
    """
    rng = np.random.default_rng(seed)
    repeats, clips = errors.shape[-2:]
    mode = "repeats" if repeats > 1 else "three_way"

    def shares(table: Array) -> dict[str, float]:
        scores = clipped_logit(table) if logit else table
        scores = scores if repeats > 1 else scores[..., 0]
        return {s.term: s.share for s in variance_shares(scores, factors, mode)}

    point = shares(pooled_rate(errors, words))
    draws: dict[str, list[float]] = {term: [] for term in point}
    cells = int(np.prod(errors.shape[:-2]))
    flat = errors.reshape(cells, repeats, clips)
    for _ in range(resamples):
        chosen = rng.integers(clips, size=clips)
        rates = flat[:, :, chosen].sum(axis=-1) / words[chosen].sum()
        which = rng.integers(repeats, size=(cells, repeats))
        drawn = np.take_along_axis(rates, which, axis=1).reshape(errors.shape[:-1])
        for term, value in shares(drawn).items():
            draws[term].append(value)
    tail = 100 * (1 - level) / 2
    return [
        {
            "term": term,
            "share": point[term],
            "low": float(np.percentile(values, tail)),
            "high": float(np.percentile(values, 100 - tail)),
        }
        for term, values in draws.items()
    ]
