import io
import json
import time
import tokenize
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest

from labcore.course import building, markup
from labcore.course.anatomy import AnatomyError

KINDS = ("student", "solution", "nbgrader")


def read(path: Path) -> Any:
    return nbformat.read(path, as_version=4)


def tokens(code: str) -> list[str]:
    """The words of code, without layout and comments."""
    skipped = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT)
    found = tokenize.generate_tokens(io.StringIO(code).readline)
    return [t.string for t in found if t.type not in skipped and t.string]


@pytest.mark.parametrize("kind", KINDS)
def test_valid_notebook_and_same_bytes_twice(kind: Any, demo: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "a.ipynb", tmp_path / "b.ipynb"
    assert building.build(demo, first, kind=kind)
    building.build(demo, second, kind=kind)
    assert first.read_bytes() == second.read_bytes()
    notebook = read(first)
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "python3"
    assert len({cell.id for cell in notebook.cells}) == len(notebook.cells)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert cell.outputs == []
            assert cell.execution_count is None


def test_student_copy_has_no_solution_line(demo: Path, tmp_path: Path) -> None:
    building.build(demo, tmp_path / "s.ipynb", kind="student")
    cells = read(tmp_path / "s.ipynb").cells
    student = tokens("\n".join(c.source for c in cells if c.cell_type == "code"))
    for cell in markup.parse(demo).cells:
        for region in cell.solutions:
            for line in region.split("\n"):
                words = tokens(line.strip())
                windows = (student[i : i + len(words)] for i in range(len(student)))
                assert words not in windows, f"{line!r} is in the student copy"
    text = (tmp_path / "s.ipynb").read_text()
    assert "SOLUTION" not in text
    assert "Ask in class" not in text
    assert "shift cancels" not in text


def test_solution_copy_is_complete(demo: Path, tmp_path: Path) -> None:
    building.build(demo, tmp_path / "s.ipynb", kind="solution")
    text = (tmp_path / "s.ipynb").read_text()
    assert "SOLUTION" not in text
    assert "NotImplementedError" not in text
    assert "Ask in class" in text
    assert "shift cancels" in text


def test_copies_share_cell_ids_and_hints_are_folded(demo: Path, tmp_path: Path) -> None:
    for kind in ("student", "solution"):
        building.build(demo, tmp_path / f"{kind}.ipynb", kind=kind)
    student, solution = (read(tmp_path / f"{k}.ipynb").cells for k in ("student", "solution"))
    assert {c.id for c in student} < {c.id for c in solution}
    assert "B99-1-exercise" in {c.id for c in student}
    hints = [c.source for c in student if "hint:B99.1" in c.metadata.get("tags", [])]
    assert [h.split("\n")[1] for h in hints] == [
        "<summary>Hint 1 of 2 for B99.1</summary>",
        "<summary>Hint 2 of 2 for B99.1</summary>",
    ]
    starter = next(c for c in student if c.id == "B99-1-exercise")
    assert starter.source.startswith("# exercise B99.1\n")


def test_check_sees_one_changed_character(demo: Path, tmp_path: Path) -> None:
    out = tmp_path / "s.ipynb"
    building.build(demo, out)
    assert building.build(demo, out, check=True) == ""
    changed = out.read_text().replace("Watch the tallest bar", "Watch the tallest car")
    out.write_text(changed)
    difference = building.build(demo, out, check=True)
    assert "tallest car" in difference
    assert "tallest bar" in difference
    assert out.read_text() == changed
    assert not list(tmp_path.glob(".*"))


def test_check_of_a_missing_copy_writes_nothing(demo: Path, tmp_path: Path) -> None:
    assert building.build(demo, tmp_path / "s.ipynb", check=True)
    assert list(tmp_path.iterdir()) == []


def test_a_refused_source_leaves_the_copy(
    demo: Path, edited: Callable[[str, str], Path], tmp_path: Path
) -> None:
    out = tmp_path / "s.ipynb"
    building.build(demo, out)
    before = out.read_bytes()
    with pytest.raises(AnatomyError):
        building.build(edited("## Recap", "## Theory"), out)
    assert out.read_bytes() == before


def test_unknown_kind(demo: Path, tmp_path: Path) -> None:
    with pytest.raises(Exception, match="teacher"):
        building.build(demo, tmp_path / "s.ipynb", kind="teacher")  # type: ignore[arg-type]


def test_nbgrader_metadata(demo: Path, tmp_path: Path) -> None:
    building.build(demo, tmp_path / "g.ipynb", kind="nbgrader")
    cells = {c.id: c for c in read(tmp_path / "g.ipynb").cells}
    starter, check = cells["B99-1-exercise"], cells["B99-1-check"]
    flags = {"schema_version": 3, "task": False}
    assert starter.metadata.nbgrader == flags | {
        "grade": False,
        "solution": True,
        "locked": False,
        "grade_id": "B99-1-exercise",
    }
    assert check.metadata.nbgrader == flags | {
        "grade": True,
        "solution": False,
        "locked": True,
        "points": 2,
        "grade_id": "B99-1-check",
    }
    assert starter.source.count("    ### BEGIN SOLUTION\n") == 1
    assert starter.source.endswith("    ### END SOLUTION")
    hidden = check.source.split("### BEGIN HIDDEN TESTS\n")[1]
    assert hidden == "lab.check('B99.1', stable_softmax, fresh=2404)\n### END HIDDEN TESTS"
    ids = [c.metadata.nbgrader.grade_id for c in cells.values() if "nbgrader" in c.metadata]
    assert len(ids) == len(set(ids)) == 5
    text = json.dumps([c.source for c in cells.values()])
    assert "Ask in class" not in text
    assert "shift cancels" not in text


def test_building_is_quick(demo: Path, tmp_path: Path) -> None:
    building.build(demo, tmp_path / "warm.ipynb")
    start = time.process_time()
    building.build(demo, tmp_path / "s.ipynb")
    assert time.process_time() - start < 1.0  # nbgrader takes tens of seconds
