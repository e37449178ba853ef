"""The frame of all chapters: its config, its parts, what is committed, and what pages say of it."""

from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from labcore.book import experiment, numbers
from labcore.book.experiment import CHAPTERS, Config
from labcore.book.numbers import Findings, number, shown, within
from labcore.runs import Cancelled, Result
from labcore.works import WORKS


def test_every_committed_figure_is_as_expected(committed: Result) -> None:
    off = [
        (name, row["what"], row["measured"], row["expected"])
        for name in CHAPTERS
        for row in committed.tables[f"{name}/numbers"]
        if not within(row)
    ]
    assert off == []


def test_chapters_are_the_works_of_the_book() -> None:
    assert set(CHAPTERS) == {work.page for work in WORKS if work.topic == "book"}
    assert set(experiment.chapters()) <= set(CHAPTERS)


def test_the_committed_file_is_small() -> None:
    files = list((Path(experiment.__file__).parent / "results").glob("*"))
    assert sum(f.stat().st_size for f in files) < 4_000_000


def chapter(value: float) -> ModuleType:
    def measure(config: Any, progress: Any) -> Findings:
        progress(1, 2, "half")
        found = {"numbers": [number("value", value + config.seed, value)]}
        return Findings({"line": np.arange(3.0)}, found)

    module = ModuleType("chapter")
    module.SECONDS, module.measure = 2, measure  # type: ignore[attr-defined]
    return module


@pytest.fixture
def two(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, ModuleType]:
    """Two chapters that cost nothing, and a cache of their own."""
    modules = {"b01": chapter(1.0), "ba": chapter(2.0)}
    monkeypatch.setenv("LAB_CACHE", str(tmp_path))
    monkeypatch.setattr(experiment, "chapters", lambda: tuple(modules))
    monkeypatch.setattr(experiment, "import_module", lambda name: modules[name.split(".")[-1]])
    monkeypatch.setattr(experiment.inspect, "getsource", lambda module: str(id(module)))
    return modules


def test_chapters_are_joined_under_their_names(two: dict[str, ModuleType]) -> None:
    seen: list[tuple[int, int, str]] = []
    result = experiment.run(Config.quick(seed=3), lambda *a: seen.append(a))
    assert set(result.arrays) == {"b01/line", "ba/line"}
    rows = experiment.summary(result)
    assert [(r["chapter"], r["measured"]) for r in rows] == [("b01", 4.0), ("ba", 5.0)]
    assert [r["part"] for r in result.tables["parts"]] == ["b01", "ba"]
    assert seen[0][:2] == (0, 4)
    assert seen[-1] == (4, 4, "done")
    assert any("ba: half" in label for _, _, label in seen)


def test_a_run_resumes_from_finished_chapters(two: dict[str, ModuleType]) -> None:
    def stop(done: int, total: int, label: str) -> None:
        if label == "ba":
            raise Cancelled

    with pytest.raises(Cancelled):
        experiment.run(Config.full(), stop)
    two["b01"].measure = None  # type: ignore[attr-defined]  # would fail if it were measured again
    result = experiment.run(Config.full())
    assert {"b01/numbers", "ba/numbers"} <= set(result.tables)


def test_changed_code_is_measured_again(two: dict[str, ModuleType]) -> None:
    assert experiment.run(Config.full()).tables["ba/numbers"][0]["measured"] == 2.0
    two["ba"] = chapter(7.0)
    assert experiment.run(Config.full()).tables["ba/numbers"][0]["measured"] == 7.0


@pytest.mark.parametrize("names", [(), ("b99",)])
def test_a_config_without_known_chapters_is_refused(names: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="name one"):
        Config(chapters=names)


def test_a_missing_result_names_the_command(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(experiment, "__file__", str(tmp_path / "experiment.py"))
    with pytest.raises(FileNotFoundError, match="lab run book --quick"):
        experiment.load_result("quick")


def test_rows_for_people() -> None:
    rows = [number("a", 1.0, 2.0, 0.5, spread=0.25), number("b", 3.0)]
    first, second = shown(rows)
    assert first == {"": "✘", "What": "a", "Measured": "1 ± 0.25", "Expected": "2 ± 0.5",
                     "Sample": "exact"}  # fmt: skip
    assert (second[""], second["Expected"]) == ("✔", "—")
    assert not within(number("nan", float("nan"), 1.0, 9.0))
    assert numbers.within(number("edge", 1.5, 1.0, 0.5))
