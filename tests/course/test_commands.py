import json
import shutil
from pathlib import Path

import pytest

from labcore.course import commands


@pytest.fixture
def root(demo: Path, tmp_path: Path) -> Path:
    """A folder of notebooks with one source."""
    (tmp_path / "src" / "book").mkdir(parents=True)
    shutil.copy(demo, tmp_path / "src" / "book")
    return tmp_path


def test_build_then_check(root: Path) -> None:
    copies = [root / kind / "book" / "B99_demo.ipynb" for kind in ("solution", "student")]
    assert len(commands.build_all(root, check=True)) == 2
    assert not any(path.exists() for path in copies)
    assert commands.build_all(root) == []
    assert all(path.exists() for path in copies)
    assert commands.build_all(root, check=True) == []
    copies[1].write_text(copies[1].read_text().replace("Watch", "watch"))
    (problem,) = commands.build_all(root, check=True)
    assert f"{copies[1]} is stale" in problem


def test_orphans_and_shared_ids_and_broken_sources(root: Path) -> None:
    commands.build_all(root)
    extra = root / "student" / "book" / "B98_gone.ipynb"
    extra.write_text("{}")
    assert commands.build_all(root) == [f"{extra} has no source: delete it"]
    extra.unlink()
    twin = root / "src" / "book" / "B99_twin.py"
    twin.write_text("# %%\nx = 1\n")
    problems = commands.build_all(root)
    assert f"{twin}:1: id B99 is also that of" in problems[0]
    assert f"{twin}:1: part 1: title" in problems[1]


def test_names_choose_sources(root: Path) -> None:
    assert [p.stem for p in commands.sources(root, ["B99"])] == ["B99_demo"]
    with pytest.raises(ValueError, match="no notebook P66; there are B99"):
        commands.execute_all(root, names=["P66"])


def test_execute_reports_and_collects(root: Path) -> None:
    lines: list[str] = []
    (problem,) = commands.execute_all(root, report=lines.append)
    assert "B99_demo.ipynb" in problem
    assert lines == ["B99_demo: failed"]
    lines.clear()
    assert commands.execute_all(root, fast=True, report=lines.append) == []
    assert "of 30 s of CPU" in lines[0]
    source = root / "src" / "book" / "B99_demo.py"
    source.write_text(source.read_text().replace("larger = 3 / 4", "larger = 1 / 4"))
    (problem,) = commands.execute_all(root, fast=True, report=lines.append)
    assert "B99-2-check" in problem
    assert "that is the other option" in problem


def test_budget_is_enforced(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("labcore.course.lab.BOOK_BUDGET", 0)
    (problem,) = commands.execute_all(root, fast=True, report=lambda line: None)
    assert "s of CPU, the budget is 0" in problem


def test_export_wants_built_copies(root: Path) -> None:
    (problem,) = commands.export_all(root, root / "site")
    assert "is missing: run 'lab notebooks build'" in problem


def test_nbgrader_tree(root: Path) -> None:
    assert commands.build_nbgrader(root, root / "course") == []
    data = json.loads((root / "course" / "source" / "B99" / "B99_demo.ipynb").read_text())
    assert sum("nbgrader" in cell["metadata"] for cell in data["cells"]) == 5
