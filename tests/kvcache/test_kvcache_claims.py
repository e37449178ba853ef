"""Verdicts follow from the numbers: results in which a claim is true, half true and false."""

import math
from typing import Any

import pytest

from labcore import claims, runs
from labcore.claims.kvcache import CLAIMS
from labcore.runs import Result

BY_ID = {claim.id.removeprefix("kvcache-"): claim for claim in CLAIMS}


def result_with(**tables: Any) -> Result:
    clock = runs.record("kvcache", {}, seeds=[0], command="test")
    return clock.result(arrays={}, tables=tables)


def maps(loss: float, layers: float, recency: float, suffix: str = "") -> list[dict[str, Any]]:
    return [
        {"text": "moby", "length": 64, "measure": f"{name}{suffix}", "heads": 12, "mean": mean,
         "sd": 0.1, "good_heads": layers, "good_layers": layers}
        for name, mean in (("relative_alr", loss), ("recency", recency), ("spearman", 0.3))
    ]  # fmt: skip


def prune(**nll: tuple[float, ...]) -> list[dict[str, Any]]:
    return [
        {"policy": policy.replace("_guards", "+guards"), "text": str(text), "nll": value,
         "length": 64, "tokens": 8, "keep_ratio": 1.0 if policy == "full" else 0.5}
        for policy, values in nll.items()
        for text, value in enumerate(values)
    ]  # fmt: skip


def rolling(full: float, *ours: float) -> list[dict[str, Any]]:
    return [
        {"tokens": 10 * (setting + 1), "budget": 8, "prune_to": 8, "policy": policy, "text": text,
         "nll": nll}
        for setting, nll_of_ours in enumerate(ours)
        for policy, nll in (("full", full), ("low_norm", nll_of_ours))
        for text in ("x", "y")
    ]  # fmt: skip


def passkey(**found: tuple[float, float]) -> list[dict[str, Any]]:
    """By filler: accuracy of the full cache and of the rule, over ten trials."""
    return [
        {"filler": filler, "question": "after", "policy": policy, "keep_ratio": ratio,
         "exact": trial < 10 * share}
        for filler, (full, ours) in found.items()
        for policy, ratio, share in (("full", 1.0, full), ("low_norm", 0.1, ours))
        for trial in range(10)
    ]  # fmt: skip


def needle(full: float, ours: float) -> list[dict[str, Any]]:
    return [
        {"policy": policy, "keep_ratio": ratio, "accuracy": accuracy}
        for policy, ratio, accuracy in (("full", 1.0, full), ("low_norm", 0.5, ours))
        for _ in range(3)
    ]


FIVE = math.log(1.05)
CASES = [
    ("correlation", {"maps": maps(0.5, 0.9, 1.0)}, "holds"),
    ("correlation", {"maps": maps(0.5, 0.9, 0.4)}, "holds in part"),
    ("correlation", {"maps": maps(1.2, 0.3, 1.0)}, "does not hold here"),
    ("correlation-without-sink", {"maps": maps(0.7, 0.6, 0.9, "_without_first")}, "holds"),
    ("correlation-without-sink", {"maps": maps(0.7, 0.4, 0.9, "_without_first")}, "holds in part"),
    ("correlation-without-sink", {"maps": maps(1.1, 0.4, 0.9, "_without_first")},
     "does not hold here"),
    ("half-language-modelling", {"prune": prune(full=(3.0, 3.2), low_norm=(3.04, 3.22))}, "holds"),
    ("half-language-modelling", {"prune": prune(full=(3.0, 3.2), low_norm=(3.2, 3.4))},
     "does not hold here"),
    ("rolling", {"rolling": rolling(3.0, 3.0 + FIVE / 2, 3.01)}, "holds"),
    ("rolling", {"rolling": rolling(3.0, 3.0 + FIVE / 2, 3.0 + 2 * FIVE)}, "holds in part"),
    ("rolling", {"rolling": rolling(3.0, 4.0, 5.0)}, "does not hold here"),
    ("controls", {"prune": prune(low_norm=(3.0, 3.1), high_norm=(4.0, 4.2), random=(3.6, 3.8))},
     "holds"),
    ("controls", {"prune": prune(low_norm=(3.0, 3.1), high_norm=(4.0, 4.2), random=(2.9, 3.2))},
     "holds in part"),
    ("controls", {"prune": prune(low_norm=(5.0, 5.1), high_norm=(4.0, 4.2), random=(3.6, 3.8))},
     "does not hold here"),
    # better with nothing guarded, no better with equal guards
    ("controls", {"prune": prune(low_norm=(3.0, 3.1), random=(3.6, 3.8),
                                 low_norm_guards=(3.0, 3.2), random_guards=(3.0, 3.19))},
     "holds in part"),
    ("special-tokens", {"prune": prune(low_norm=(3.0, 3.1), special=(3.6, 3.8))}, "holds"),
    ("special-tokens", {"prune": prune(low_norm=(3.0, 3.1), special=(2.9, 3.0))},
     "does not hold here"),
    ("half-needle", {"needle": needle(0.9, 0.86)}, "holds"),
    ("half-needle", {"needle": needle(0.9, 0.5)}, "does not hold here"),
    ("half-needle", {"needle": needle(0.3, 0.3)}, "not testable here"),
    ("tenth-passkey", {"passkey": passkey(repeat=(1.0, 1.0), prose=(0.9, 0.9))}, "holds"),
    ("tenth-passkey", {"passkey": passkey(repeat=(1.0, 1.0), prose=(0.9, 0.0))}, "holds in part"),
    ("tenth-passkey", {"passkey": passkey(repeat=(1.0, 0.8), prose=(0.9, 0.0))},
     "does not hold here"),
    ("tenth-passkey", {"passkey": passkey(repeat=(1.0, 1.0), prose=(0.2, 0.0))}, "holds"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "tables", "verdict"), CASES)
def test_the_verdict_follows_from_the_numbers(
    name: str, tables: dict[str, Any], verdict: str
) -> None:
    finding = BY_ID[name].measure(result_with(**tables))
    assert finding.verdict == verdict
    assert any(character.isdigit() for character in finding.measured)


def test_every_claim_is_tested_both_ways() -> None:
    for name in BY_ID:
        verdicts = {verdict for case, _, verdict in CASES if case == name}
        assert {"holds", "does not hold here"} <= verdicts, name


def test_a_difference_within_its_error_is_no_difference() -> None:
    noisy = prune(low_norm=(3.0, 3.6), special=(3.5, 3.5))
    assert BY_ID["special-tokens"].measure(result_with(prune=noisy)).verdict != "holds"
    alone = prune(low_norm=(3.0,), special=(9.0,))  # one window has no error to judge by
    assert BY_ID["special-tokens"].measure(result_with(prune=alone)).verdict != "holds"


def test_claims_of_the_committed_result_show_numbers_baselines_and_samples() -> None:
    rows = claims.table("kvcache")
    assert {row["id"] for row in rows} == {claim.id for claim in CLAIMS}
    for row in rows:
        assert row["baselines"]
        assert "0 trials" not in row["scale"]
        assert all(any(c.isdigit() for c in row[key]) for key in ("measured", "scale"))
