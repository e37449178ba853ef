"""Claims: verdicts come from the numbers; rows carry everything the contract names."""

import pytest

from labcore import claims, runs
from labcore.works import TOPICS, built_topics, is_built, work

COLUMNS = {
    "id", "work", "claim", "source", "published", "measured", "scale", "seeds", "baselines",
    "rule", "verdict", "result_file", "seconds",
}  # fmt: skip


@pytest.mark.parametrize(
    ("passed", "verdict"),
    [
        ((True, True), "holds"),
        ((True, False), "holds in part"),
        ((False, False), "does not hold here"),
        ((), "not testable here"),
    ],
)
def test_verdict_follows_from_the_parts(passed: tuple[bool, ...], verdict: str) -> None:
    assert claims.Finding("m", "b", "n", passed).verdict == verdict


def test_every_built_topic_has_claims_with_all_columns() -> None:
    assert built_topics()
    for topic in built_topics():
        rows = claims.table(topic)
        assert rows, f"{topic} has no claims"
        for row in rows:
            assert set(row) == COLUMNS
            assert row["work"] == topic
            assert row["verdict"] in claims.VERDICTS
            assert any(c.isdigit() for c in row["measured"])
            for column in ("claim", "source", "published", "scale", "baselines", "rule"):
                assert str(row[column]).strip(), f"{row['id']} says no {column}"
            assert row["seeds"], f"{row['id']} names no seed"
    ids = [row["id"] for row in claims.table()]
    assert len(ids) == len(set(ids))


def test_unknown_and_mismatched_topics() -> None:
    with pytest.raises(ValueError, match="topics are"):
        claims.claims_of("nonsense")
    with pytest.raises(ValueError, match="topics are"):
        is_built("nonsense")
    with pytest.raises(ValueError, match="topics are"):
        work("P99")
    other = runs.record("merging", {}, seeds=[0], command="").result(arrays={}, tables={})
    with pytest.raises(ValueError, match="'merging'"):
        claims.table("kvcache", result=other)


def test_works_are_consistent() -> None:
    from labcore.works import WORKS

    ids = [w.id for w in WORKS]
    assert len(ids) == len(set(ids))
    for row in WORKS:
        assert set(row.requires) <= set(ids), f"{row.id} requires something unknown"
        assert row.question.endswith("?")
    assert set(TOPICS) == {w.topic for w in WORKS}


def test_rerun_judges_by_the_same_rules(monkeypatch) -> None:
    from labcore.claims import rerun

    def run(topic, out):
        return rerun.Run(topic, 1.0, runs.committed(topic), "")

    monkeypatch.setattr(rerun, "_run", run)
    said: list[str] = []
    rows = rerun.rerun(["kvcache"], report=said.append)
    assert [row["quick"] for row in rows] == [r["verdict"] for r in claims.table("kvcache")]
    assert not any(row["changed"] for row in rows)
    assert said == [f"kvcache: 1 s, 0 of {len(rows)} verdicts changed"]


def test_rerun_tells_what_failed_and_what_is_not_measured(monkeypatch) -> None:
    from labcore.claims import rerun

    empty = runs.record("kvcache", {}, seeds=[0], command="").result(arrays={}, tables={})
    answers = iter((rerun.Run("kvcache", 1.0, None, "lab: no model"),
                    rerun.Run("kvcache", 1.0, empty, "")))  # fmt: skip
    monkeypatch.setattr(rerun, "_run", lambda topic, out: next(answers))
    failed = rerun.rerun(["kvcache"], report=lambda s: None)
    assert {row["quick"] for row in failed} == {"the run failed"}
    assert failed[0]["measured"] == "lab: no model"
    bare = rerun.rerun(["kvcache"], report=lambda s: None)
    assert {row["quick"] for row in bare} == {"not in the quick experiment"}
    assert not any(row["changed"] for row in failed + bare)
