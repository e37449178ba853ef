"""The way through nbgrader: a right, an untouched and a tampered notebook, graded by that tool.

Runs once ``lab bench --setup-peers nbgrader`` has installed it.
"""

import copy
import csv
import json
import os
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

import pytest

from bench import peers
from labcore.course import building, commands

CONFIG = """
c = get_config()
c.CourseDirectory.course_id = "lab"
c.ExecutePreprocessor.timeout = 60
"""
Notebook = dict[str, Any]


@pytest.fixture
def course(demo: Path, tmp_path: Path) -> Path:
    """A course folder with the demo as its one assignment."""
    if not peers.is_ready("nbgrader"):
        pytest.skip("install the peer: ./lab bench --setup-peers nbgrader")
    source = tmp_path / "lab" / "src" / "book" / demo.name
    source.parent.mkdir(parents=True)
    source.write_text(demo.read_text())
    folder = tmp_path / "course"
    assert commands.build_nbgrader(tmp_path / "lab", folder) == []
    (folder / "nbgrader_config.py").write_text(CONFIG)
    return folder


def nbgrader(folder: Path, *words: str) -> str:
    """Run one of its commands; what it said."""
    kernels = Path(sysconfig.get_path("data")) / "share" / "jupyter"
    command = [str(peers.python("nbgrader")), "-m", "nbgrader", *words]
    path = f"{peers.python('nbgrader').parent}{os.pathsep}{os.environ['PATH']}"  # it calls alembic
    variables = {**os.environ, "JUPYTER_PATH": str(kernels), "PATH": path}
    done = subprocess.run(
        command, cwd=folder, env=variables, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stderr


def submit(folder: Path, student: str, notebook: Notebook) -> None:
    path = folder / "submitted" / student / "B99" / "B99_demo.ipynb"
    building.write_text(path, json.dumps(notebook))


def solved(release: Notebook, demo: Path, tmp_path: Path) -> Notebook:
    """The released notebook with the lab's own answers written in."""
    building.build(demo, tmp_path / "solution.ipynb", kind="solution", parts=False)
    cells = json.loads((tmp_path / "solution.ipynb").read_text())["cells"]
    answers = {c["id"]: c["source"] for c in cells if c["id"].endswith("-exercise")}
    made = copy.deepcopy(release)
    for cell in made["cells"]:
        cell["source"] = answers.pop(cell["id"], cell["source"])
    assert not answers
    return made


def tampered(release: Notebook) -> Notebook:
    """Checks that praise, over empty answers."""
    made = copy.deepcopy(release)
    for cell in made["cells"]:
        if "lab.check" in "".join(cell["source"]):
            cell["source"] = "print('passed')"
    return made


@pytest.mark.timeout(600)
def test_full_nothing_and_nothing(course: Path, demo: Path, tmp_path: Path) -> None:
    nbgrader(course, "generate_assignment", "B99")
    release = json.loads((course / "release" / "B99" / "B99_demo.ipynb").read_text())
    text = json.dumps(release)
    assert "HIDDEN" not in text
    assert "shifted" not in text
    submit(course, "ann", solved(release, demo, tmp_path))
    submit(course, "bob", release)
    submit(course, "eve", tampered(release))
    nbgrader(course, "autograde", "B99")
    nbgrader(course, "generate_feedback", "B99")
    nbgrader(course, "export")
    with (course / "grades.csv").open() as file:
        scores = {row["student_id"]: float(row["score"]) for row in csv.DictReader(file)}
    assert scores == {"ann": 3.0, "bob": 0.0, "eve": 0.0}
    pages = sorted((course / "feedback").glob("*/B99/B99_demo.html"))
    assert len(pages) == 3
