"""Experiments in parts: joined, resumed, refused, and honest about their seconds."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from labcore import parts
from labcore.parts import Findings, Part, fingerprint, run_experiment
from labcore.runs import Cancelled, Result


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(parts, "cache_root", lambda: tmp_path)
    return tmp_path


def silent(done: int, total: int, label: str) -> None:
    assert 0 <= done <= total


def steps(calls: list[str], names: str = "ab") -> list[Part]:
    def work(name: str) -> Any:
        def run(report: Any) -> Findings:
            calls.append(name)
            report(1, 2, "half")
            return Findings({f"{name}/x": np.arange(3)}, {"rows": [{"part": name}]})

        return run

    return [Part(name, 10, work(name)) for name in names]


def whole(given: list[Part], **options: Any) -> Result:
    settings = {"seeds": (0,), "command": "lab run kvcache", "resume": True, "progress": silent}
    return run_experiment("kvcache", {"size": 1}, given, **{**settings, **options})


def test_parts_are_joined_in_order_and_their_seconds_add_up() -> None:
    def derive(found: Findings) -> None:
        found.tables["count"] = [{"rows": len(found.tables["rows"])}]

    result = whole(steps([]), derive=derive)
    assert [row["part"] for row in result.tables["rows"]] == ["a", "b"]
    assert result.tables["count"] == [{"rows": 2}]
    assert set(result.arrays) == {"a/x", "b/x"}
    spent = result.tables["parts"]
    assert [row["part"] for row in spent] == ["a", "b"]
    assert result.provenance.seconds == pytest.approx(sum(row["seconds"] for row in spent))
    assert result.provenance.seeds == (0,)


def test_a_stopped_run_goes_on_after_its_finished_parts(cache: Path) -> None:
    def stop(done: int, total: int, label: str) -> None:
        if label.startswith("b"):
            raise Cancelled("enough")

    calls: list[str] = []
    with pytest.raises(Cancelled):
        whole(steps(calls), progress=stop)
    assert calls == ["a"]
    assert [path.stem for path in cache.rglob("*.npz")] == ["a"]
    result = whole(steps(calls))
    assert calls == ["a", "b"]
    assert set(result.arrays) == {"a/x", "b/x"}
    assert not list(cache.rglob("*.npz"))


def test_without_resume_nothing_is_kept(cache: Path) -> None:
    whole(steps([]), resume=False)
    assert not list(cache.rglob("*"))


def test_arrays_of_one_name_are_refused() -> None:
    found = Findings(arrays={"x": np.zeros(1)})
    both = [Part(name, 1, lambda report: found) for name in ("a", "b")]
    with pytest.raises(ValueError, match="an array 'x'"):
        whole(both, resume=False)


def test_a_fingerprint_follows_the_configuration() -> None:
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
    assert fingerprint({"a": 1}) != fingerprint({"a": 2})
