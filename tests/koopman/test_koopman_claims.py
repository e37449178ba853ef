"""Verdicts follow from the numbers: made-up scores in which a claim is true, half true, false."""

import numpy as np
import pytest

from labcore import claims, runs
from labcore.claims.koopman import CLAIMS
from labcore.koopman.names import NAMES, TARGETS
from labcore.runs import Result

BY_ID = {claim.id.removeprefix("koopman-"): claim for claim in CLAIMS}


def made(skill: float = 0.9, flip: float = 0.0, **means: dict[str, float]) -> Result:
    """A result whose scores have the given means over ten graphs; 0.5 where nothing is given."""
    rng = np.random.default_rng(0)
    arrays = {}
    for target in TARGETS:
        scores = np.stack(
            [
                np.full(10, means.get(target, {}).get(name, 0.5)) + 0.01 * rng.normal(size=10)
                for name in NAMES
            ]
        )
        arrays[f"n@0/{target}"] = scores.astype(np.float32)
    row = {"network": "n", "seed": 0}
    flips = [
        {**row, "degree": d, "aggregate": a, "graphs": 10, "range": flip, "worst": flip, "sd": 0.0}
        for d in (2, 3)
        for a in ("frobenius", "signed_sum")
    ]
    training = [{**row, "skill": skill, "complex_leading": False}]
    clock = runs.record("koopman", {"flips": 8}, seeds=[0], command="test")
    return clock.result(arrays=arrays, tables={"training": training, "flips": flips})


@pytest.mark.parametrize(
    ("claim", "dmd", "others", "verdict"),
    [
        ("nodes", 0.9, {"degree": 0.6, "input_flag": 0.7}, "holds"),
        ("nodes", 0.9, {"degree": 0.6, "input_flag": 1.0}, "holds in part"),
        ("nodes", 0.5, {"degree": 0.6, "input_flag": 1.0}, "does not hold here"),
    ],
)
def test_nodes_are_judged_beside_the_input(
    claim: str, dmd: float, others: dict[str, float], verdict: str
) -> None:
    finding = BY_ID[claim].measure(made(node_auc={"dmd": dmd, **others}))
    assert finding.verdict == verdict
    assert f"{dmd:.2f}" in finding.measured or dmd == 0.5


def test_times_need_more_than_saying_yes_always() -> None:
    high = made(time_auc={"dmd": 0.9}, time_f1_window={"dmd": 0.9, "always": 0.8})
    assert BY_ID["times"].measure(high).verdict == "holds"
    low = made(time_auc={"dmd": 0.9, "count_change": 0.95}, time_f1_window={"always": 0.8})
    assert BY_ID["times"].measure(low).verdict == "holds in part"


def test_flips_and_linearity() -> None:
    assert BY_ID["edge-weight"].measure(made(flip=0.0)).verdict == "holds"
    assert BY_ID["edge-weight"].measure(made(flip=0.3)).verdict == "does not hold here"
    assert BY_ID["linear"].measure(made(skill=0.9)).verdict == "holds"
    assert BY_ID["linear"].measure(made(skill=0.3)).verdict == "does not hold here"


def test_a_tie_is_not_better() -> None:
    assert BY_ID["over-pca"].measure(made()).verdict == "does not hold here"
    assert BY_ID["over-saliency"].measure(made(node_auc={"dmd": 0.9})).verdict == "holds in part"


def test_every_claim_is_judged_on_the_committed_result() -> None:
    rows = claims.table("koopman")
    assert [row["id"] for row in rows] == [claim.id for claim in CLAIMS]
    for row in rows:
        assert row["verdict"] in claims.VERDICTS
        assert "nan" not in row["measured"]
        assert row["baselines"]
