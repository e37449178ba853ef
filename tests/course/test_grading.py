"""Grading: right, empty and tampered notebooks, hostile cells, files that are not notebooks."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from labcore.course import building, grading, submissions
from labcore.course.grading import Limits
from labcore.course.submissions import SubmissionError

QUICK = Limits(cell_seconds=2.0, cpu_seconds=20, memory=3 * 2**30)
Edit = Callable[[dict[str, Any]], None]


@pytest.fixture
def hand_in(demo: Path, tmp_path: Path) -> Callable[..., Path]:
    """Write the demo, solved or empty and then edited, as a student's file."""

    def write(student: str, edit: Edit = lambda nb: None, kind: str = "solution") -> Path:
        path = tmp_path / "in" / student / "B99_demo.ipynb"
        building.build(demo, path, kind=kind, parts=False)  # type: ignore[arg-type]
        notebook = json.loads(path.read_text())
        edit(notebook)
        path.write_text(json.dumps(notebook))
        return path

    return write


def source_of(cell: dict[str, Any]) -> str:
    return "".join(cell["source"])


def replace_answer(notebook: dict[str, Any], id: str, text: str) -> None:
    (cell,) = [c for c in notebook["cells"] if source_of(c).startswith(f"# exercise {id}")]
    cell["source"] = f"# exercise {id}\n{text}"


def grade(folder: Path, demo: Path, **given: Any) -> dict[tuple[str, str], dict[str, Any]]:
    rows = grading.grade(folder, [demo], fresh=11, limits=QUICK, report=lambda s: None, **given)
    return {(row["student"], row["exercise"]): row for row in rows}


def insert(*codes: str, at: int = 3) -> Edit:
    def edit(notebook: dict[str, Any]) -> None:
        for code in codes:
            cell = {"cell_type": "code", "source": code, "metadata": {}, "outputs": []}
            notebook["cells"].insert(at, cell | {"execution_count": None})

    return edit


def bare(notebook: dict[str, Any]) -> None:
    """What some editors leave: no metadata, no ids."""
    notebook["metadata"] = {}
    for cell in notebook["cells"]:
        cell["metadata"] = {}
        cell.pop("id", None)


def unchecked(notebook: dict[str, Any]) -> None:
    """Check cells that praise instead of checking, over wrong answers."""
    for cell in notebook["cells"]:
        if "lab.check" in source_of(cell):
            cell["source"] = "lab.check = lambda *_: print('passed')"
    replace_answer(notebook, "B99.1", "def stable_softmax(scores):\n    return scores")
    replace_answer(notebook, "B99.2", "larger = 0.5")


def test_full_nothing_and_nothing(hand_in, demo, tmp_path) -> None:
    hand_in("ann")
    hand_in("bob", kind="student")
    hand_in("eve", unchecked)
    rows = grade(tmp_path / "in", demo, jobs=2)
    points = {student: 0 for student, _ in rows}
    for (student, _), row in rows.items():
        points[student] += row["points"]
    assert points == {"ann": 3, "bob": 0, "eve": 0}
    assert rows["bob", "B99.1"]["message"].startswith("B99.1 is still empty")
    assert "differs" in rows["eve", "B99.2"]["message"]


def test_metadata_may_be_lost_and_cells_moved(hand_in, demo, tmp_path) -> None:
    def renamed(notebook: dict[str, Any]) -> None:
        bare(notebook)
        extra = insert("def helper(s):\n    return s - s.max(axis=-1, keepdims=True)", at=0)
        extra(notebook)
        text = (
            "def stable_softmax(scores):\n    w = np.exp(helper(scores))\n"
            "    return w / w.sum(axis=-1, keepdims=True)"
        )
        replace_answer(notebook, "B99.1", text)

    path = hand_in("ann", renamed)
    path.rename(path.with_name("my homework (2).ipynb"))
    rows = grade(tmp_path / "in", demo)
    assert [row["points"] for row in rows.values()] == [2, 1]


def test_an_answer_to_the_shown_inputs_only_is_found_out(hand_in, demo, tmp_path) -> None:
    def learnt(notebook: dict[str, Any]) -> None:
        text = (
            "from labcore.course.checking import find\n"
            "from labcore.course.exercise import draw_cases\n"
            "KNOWN = [(c.args[0], find('B99.1').reference(c.args[0]))\n"
            "         for c in draw_cases(find('B99.1'), None)]\n"
            "def stable_softmax(scores):\n"
            "    for seen, answer in KNOWN:\n"
            "        if seen.shape == scores.shape and (seen == scores).all():\n"
            "            return answer\n"
            "    return np.full(scores.shape, 1 / scores.shape[-1])"
        )
        replace_answer(notebook, "B99.1", text)

    hand_in("eve", learnt)
    rows = grade(tmp_path / "in", demo)
    assert rows["eve", "B99.1"]["points"] == 0
    assert "random input" in rows["eve", "B99.1"]["message"]


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import labcore.course.checking as c\nc.run = lambda *a, **k: c.Result(True, '')",
         "checking.run was replaced"),
        ("np.isclose = lambda *a, **k: np.array(True)", "numpy.isclose was replaced"),
        ("import labcore.course.trial as t\nt.Trial.check = lambda self: None",
         "Trial.check was replaced"),
        ("import os\nos._exit(0)", "ended the process"),
        ("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)", "stopped"),
    ],
)  # fmt: skip
def test_tampering_gives_nothing(hand_in, demo, tmp_path, code: str, said: str) -> None:
    def edit(notebook: dict[str, Any]) -> None:
        replace_answer(notebook, "B99.2", f"{code}\nlarger = 3 / 4")

    hand_in("eve", edit)
    rows = grade(tmp_path / "in", demo)
    assert [row["points"] for row in rows.values()] == [0, 0]
    assert all(said in row["message"] for row in rows.values())


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("while True:\n    pass", "still running after 2 s"),
        ("while True:\n    try:\n        import time; time.sleep(9)\n    except Exception: pass",
         "still running after 2 s"),
        ("block = np.ones(2**31)", "needs more than 3.0 GiB"),
        ("raise SystemExit", "tried to end the process"),
        ("1 +", "SyntaxError"),
        ("undefined", "NameError"),
    ],
)  # fmt: skip
def test_one_bad_cell_costs_one_exercise(hand_in, demo, tmp_path, code: str, said: str) -> None:
    hand_in("ann", lambda notebook: replace_answer(notebook, "B99.1", code))
    rows = grade(tmp_path / "in", demo)
    assert rows["ann", "B99.1"]["points"] == 0
    assert said in rows["ann", "B99.1"]["message"]
    assert rows["ann", "B99.2"]["points"] == 1


def test_magics_and_prints_do_no_harm(hand_in, demo, tmp_path) -> None:
    hand_in("ann", insert('%matplotlib inline\n!ls\nprint(\'{"id": "B99.1"}\')'))
    assert [row["points"] for row in grade(tmp_path / "in", demo).values()] == [2, 1]


def test_files_that_are_not_notebooks(demo, tmp_path) -> None:
    folder = tmp_path / "in"
    (folder / "cut").mkdir(parents=True)
    (folder / "cut" / "a.ipynb").write_text('{"cells": [')
    (folder / "list").mkdir()
    (folder / "list" / "a.ipynb").write_text("[1, 2]")
    (folder / "other.ipynb").write_text('{"cells": [], "metadata": {}}')
    (folder / "link.ipynb").symlink_to(demo)
    rows = grade(folder, demo)
    assert {student for student, _ in rows} == {"cut", "list", "other"}
    assert "not a notebook" in rows["cut", ""]["message"]
    assert "keep the lines '# exercise" in rows["other", ""]["message"]
    with pytest.raises(FileNotFoundError, match="name the one that holds the submissions"):
        grade(tmp_path / "nowhere", demo)


def test_a_huge_file_is_not_read(tmp_path, monkeypatch) -> None:
    path = tmp_path / "a.ipynb"
    path.write_text(" " * 100)
    monkeypatch.setattr(submissions, "MAX_BYTES", 50)
    with pytest.raises(SubmissionError, match="hand it in without outputs"):
        submissions.read(path, "ann")


def test_the_table_is_written_whole_and_runs_nothing(tmp_path) -> None:
    row = dict.fromkeys(grading.COLUMNS, 1) | {"student": "=cmd()", "message": "two\nlines, one"}
    grading.to_csv([row], tmp_path / "g.csv")
    (read,) = csv.DictReader((tmp_path / "g.csv").open())
    assert read["student"] == "'=cmd()"
    assert read["message"] == "two\nlines, one"
    assert list(tmp_path.iterdir()) == [tmp_path / "g.csv"]


def test_a_student_sees_what_passes(hand_in, demo) -> None:
    path = hand_in("ann", lambda nb: replace_answer(nb, "B99.2", "larger = 0.25"))
    rows = grading.check_file(path, [demo], limits=QUICK)
    assert [row["points"] for row in rows] == [2, 0]
    assert "that is the other option" in rows[1]["message"]
    with pytest.raises(FileNotFoundError, match="no file"):
        grading.check_file(path.with_name("x.ipynb"), [demo])
