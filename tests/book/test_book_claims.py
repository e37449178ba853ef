"""Verdicts follow from numbers, and nothing is judged that was not measured."""

from typing import Any

import numpy as np
import pytest

from labcore.claims import Claim
from labcore.claims.book import CLAIMS
from labcore.runs import Result, record

BY_ID = {claim.id: claim for claim in CLAIMS}


def result(tables: dict[str, Any], **arrays: np.ndarray) -> Result:
    return record("book", {}, seeds=[0], command="test").result(arrays=arrays, tables=tables)


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda c: c.id)
def test_a_claim_is_judged_from_the_result(claim: Claim, committed: Result) -> None:
    assert claim.measure(result({})).verdict == "not testable here"
    found = claim.measure(committed)
    assert found.verdict != "not testable here"
    assert any(c.isdigit() for c in found.measured + found.baselines)


def test_ids_are_unique() -> None:
    assert len(BY_ID) == len(CLAIMS)


def copying(selective: float, fixed: float) -> Result:
    rows = [{"selective": kind, "seed": seed, "accuracy": value}
            for kind, value in ((True, selective), (False, fixed)) for seed in (0, 1)]  # fmt: skip
    return result({"b13/copying": rows})


def gcn(few: float, many: float) -> Result:
    rows = [{"depth": depth, "accuracy": value} for depth, value in ((2, few), (16, many))]
    return result({"b12/gcn": rows})


def skips(plain: float, residual: float, normed: float) -> Result:
    found = {"plain": plain, "residual": residual, "residual + norm": normed}
    rows = [{"kind": k, "depth": 20, "accuracy": v} for k, v in found.items()]
    rows.append({"kind": "residual + norm", "depth": 2, "accuracy": 0.95})
    return result({"b09/runs": rows})


def limits(measured: float) -> Result:
    return result({"b02/limits": [{"momentum": 0.0, "limit": 1.0, "measured": measured}]})


def clock(*ratios: float) -> Result:
    rows = [{"tokens": 32 * 2**i, "whole": ratio, "cached": 1.0, "bytes": 64 * 2**i}
            for i, ratio in enumerate(ratios)]  # fmt: skip
    return result({"b11/clock": rows})


def sink(first: float, late: float) -> Result:
    weights = np.zeros((4, 1, 5, 5))
    weights[:, 0, -1, 0] = first, first, late, late
    return result({}, **{"b10/weights": weights})


@pytest.mark.parametrize(
    ("id", "given", "verdict"),
    [
        ("book-selective", copying(0.99, 0.3), "holds"),
        ("book-selective", copying(0.99, 0.7), "holds in part"),
        ("book-selective", copying(0.6, 0.7), "does not hold here"),
        ("book-smoothing", gcn(0.95, 0.5), "holds"),
        ("book-smoothing", gcn(0.95, 0.9), "holds in part"),
        ("book-skips", skips(0.1, 0.9, 0.95), "holds"),
        ("book-skips", skips(0.9, 0.9, 0.95), "holds in part"),
        ("book-skips", skips(0.9, 0.5, 0.5), "does not hold here"),
        ("book-stability", limits(1.0), "holds"),
        ("book-stability", limits(1.2), "does not hold here"),
        ("book-cache", clock(1, 2, 3, 5), "holds"),
        ("book-cache", clock(1, 2, 1.5, 2), "holds in part"),
        ("book-cache", clock(1, 2, 3), "not testable here"),
        ("book-sink", sink(0.1, 0.9), "holds"),
        ("book-sink", sink(0.9, 0.9), "holds in part"),
        ("book-sink", sink(0.9, 0.1), "does not hold here"),
    ],
)
def test_a_verdict_follows_the_numbers(id: str, given: Result, verdict: str) -> None:
    assert BY_ID[id].measure(given).verdict == verdict
