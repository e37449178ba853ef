"""Verdicts follow from the numbers: results in which a claim is true, in part, and false."""

from typing import Any

import pytest

from labcore import claims, runs
from labcore.claims.conditional import CLAIMS, NARROW, SPARSE, WIDE
from labcore.runs import Result

BY_ID = {claim.id.removeprefix("conditional-"): claim for claim in CLAIMS}
SEEDS = (0, 1, 2)
Rows = list[dict[str, Any]]


def result_with(**tables: Any) -> Result:
    return runs.record("conditional", {}, seeds=SEEDS, command="test").result(
        arrays={}, tables=tables
    )


def over_seeds(**row: Any) -> Rows:
    """One row a seed; small differences between seeds, equal for all rows."""
    return [{"seed": s, "test": 9, "train": 9, **row} for s in SEEDS]


def mixture(sparse: float, wide: float, narrow: float) -> dict[str, Rows]:
    arms = ((SPARSE, sparse, 0.26), (WIDE, wide, 1.0), (NARROW, narrow, 0.25))
    return {
        "mixture": [
            row
            for arm, accuracy, ratio in arms
            for row in over_seeds(arm=arm, accuracy=accuracy, layer_ratio=ratio, ratio=0.6)
        ]
    }


def tokens(**methods: float) -> dict[str, Rows]:
    rows = [
        row
        for method, accuracy in methods.items()
        for ratio in (0.2, 0.5)
        for row in over_seeds(
            method=method.replace("_", " "), amount=ratio, ratio=ratio, accuracy=accuracy
        )
    ]
    return {"tokens": rows, "token_base": over_seeds(accuracy=0.9, chance=0.1, ink=0.2)}


def with_a_method_that_cannot(**methods: float) -> dict[str, Rows]:
    """Merging and random selection stop at half of the FLOPs."""
    found = tokens(**methods)
    found["tokens"] = [
        row
        for row in found["tokens"]
        if row["ratio"] > 0.4 or row["method"] not in ("merging", "random")
    ]
    return found


def with_vit(joint: float, real: float) -> dict[str, Rows]:
    """Exits of the small networks, and of a pre-trained one."""
    found = exits(joint, joint)
    found["feature_budgets"] = over_seeds(budget=1 / 3, ratio=0.33, accuracy=real)
    found["feature_heads"] = [
        row
        for head, accuracy in ((1, 0.5), (12, 0.8))
        for row in over_seeds(head=head, accuracy=accuracy)
    ]
    found["feature_oracle"] = over_seeds(accuracy=0.95)
    return found


def exits(joint: float, separate: float, spent: float = 0.33) -> dict[str, Rows]:
    tables: dict[str, Rows] = {"budgets": [], "whole": [], "oracle": [], "heads": []}
    for training, accuracy in (("joint", joint), ("separate", separate)):
        of = {"training": training, "calibrated": True}
        tables["budgets"] += over_seeds(**of, budget=1 / 3, ratio=spent, accuracy=accuracy)
        tables["whole"] += over_seeds(**of, accuracy=0.8)
        tables["oracle"] += over_seeds(training=training, heads=6, accuracy=0.9)
        tables["heads"] += over_seeds(training=training, head=1, accuracy=0.7)
    return tables


def experts(bits: float, untrained: float, domain: float) -> dict[str, Rows]:
    of = {"arm": SPARSE, "layer": 4, "shuffled_bits": 0.01}
    rows = over_seeds(**of, tokens="patches", trained=True, class_bits=bits, domain_bits=0)
    rows += over_seeds(**of, tokens="patches", trained=False, class_bits=untrained, domain_bits=0)
    rows += over_seeds(**of, tokens="class token", trained=True, class_bits=1, domain_bits=domain)
    return {"experts": rows}


def kept(learned: float, attention: float) -> dict[str, Rows]:
    found = tokens(x=0.5)
    found["tokens"] = [
        row
        for method, precision in (("learned", learned), ("class attention", attention),
                                  ("random", 0.2))
        for row in over_seeds(method=method, amount=0.5, precision=precision, recall=0.5, kept=0.3)
    ]  # fmt: skip
    return found


def upcycled(ours: float, scratch: float, dense: float) -> dict[str, Rows]:
    cells = (("digits", "mixture", ours), ("scratch", "mixture", scratch),
             ("digits", "dense", dense), ("scratch", "dense", 0.1))  # fmt: skip
    return {
        "upcycling": [
            row
            for start, kind, accuracy in cells
            for row in over_seeds(start=start, kind=kind, accuracy=accuracy, gap_at_start=1e-7)
        ]
    }


def loads(one: float, two: float) -> dict[str, Rows]:
    rows = []
    for k, free in ((1, one), (2, two)):
        for layer in (2, 4):
            of = {"layer": layer, "tokens": "patches", "trained": True}
            rows += over_seeds(arm=f"top-{k}, no balance", largest=free, **of)
            rows += over_seeds(arm=f"top-{k}, balanced", largest=0.3, **of)
    return {"experts": rows}


def gradients(score: float, through: float, cold: float, cold_sd: float = 9.0) -> dict[str, Rows]:
    def row(name: str, tau: float, bias: float, sd: float) -> Rows:
        return over_seeds(estimator=name, categories=2, tau=tau, bias=bias, sd=sd,
                          noise_of_bias=0.01, draws=100)  # fmt: skip

    return {
        "estimators": [
            *row("score function", 1, score, 3), *row("straight-through", 1, through, 1),
            *row("Gumbel-softmax", 0.1, cold, cold_sd), *row("Gumbel-softmax", 5, 0.8, 0.1),
            *row("score function, best baseline", 1, 0.0, 0.2),
        ]
    }  # fmt: skip


CASES = [
    ("efficiency-experts", mixture(0.9, 0.91, 0.8), "holds"),
    ("efficiency-experts", mixture(0.9, 0.91, 0.9), "holds in part"),
    ("efficiency-experts", mixture(0.8, 0.9, 0.85), "does not hold here"),
    ("efficiency-tokens", tokens(random=0.3, merging=0.89, learned=0.9), "holds"),
    ("efficiency-tokens", tokens(random=0.9, merging=0.7, learned=0.9), "holds in part"),
    ("efficiency-tokens", tokens(random=0.9, merging=0.7), "does not hold here"),
    ("efficiency-tokens", with_a_method_that_cannot(random=0.3, merging=0.1, learned=0.9), "holds"),
    ("efficiency-exits", exits(0.79, 0.8), "holds"),
    ("efficiency-exits", with_vit(0.79, 0.79), "holds"),
    ("efficiency-exits", with_vit(0.79, 0.6), "holds in part"),
    ("efficiency-exits", exits(0.79, 0.7), "holds in part"),
    ("efficiency-exits", exits(0.79, 0.8, spent=0.5), "does not hold here"),
    ("explainability-experts", experts(0.5, 0.1, 0.7), "holds"),
    ("explainability-experts", experts(0.5, 0.6, 0.2), "holds in part"),
    ("explainability-experts", experts(0.0, 0.1, 0.2), "does not hold here"),
    ("explainability-tokens", kept(0.5, 0.4), "holds"),
    ("explainability-tokens", kept(0.5, 0.25), "holds in part"),
    ("explainability-tokens", kept(0.2, 0.1), "does not hold here"),
    ("transfer-upcycling", upcycled(0.8, 0.7, 0.75), "holds"),
    ("transfer-upcycling", upcycled(0.8, 0.7, 0.85), "holds in part"),
    ("transfer-upcycling", upcycled(0.6, 0.7, 0.8), "does not hold here"),
    ("collapse", loads(0.9, 0.6), "holds"),
    ("collapse", loads(0.9, 0.2), "holds in part"),
    ("collapse", loads(0.2, 0.2), "does not hold here"),
    ("estimators", gradients(0.001, 0.5, 0.1), "holds"),
    ("estimators", gradients(0.5, 0.5, 0.1), "holds in part"),
]


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
        assert "holds" in verdicts, name
        assert verdicts & {"holds in part", "does not hold here"}, name


def test_one_seed_proves_no_difference() -> None:
    rows = [row for row in upcycled(0.8, 0.7, 0.75)["upcycling"] if row["seed"] == 0]
    assert BY_ID["transfer-upcycling"].measure(result_with(upcycling=rows)).verdict != "holds"


def test_claims_of_the_committed_result_show_numbers_baselines_and_samples() -> None:
    rows = claims.table("conditional")
    assert {row["id"] for row in rows} == {claim.id for claim in CLAIMS}
    for row in rows:
        assert row["seeds"] == [0, 1, 2]
        assert all(any(c.isdigit() for c in row[key]) for key in ("measured", "scale", "baselines"))
