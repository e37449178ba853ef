"""Grade a folder of submitted notebooks: fresh inputs, limits, a table of points.

Each submission runs in a process of its own (:mod:`labcore.course.grader`); nothing of the
student's notebook but the answers decides, and the checks and their expressions come from the
lab's own source.
"""

import csv
import io
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labcore.course import checking, markup, submissions
from labcore.course.building import write_text
from labcore.course.grader import Task
from labcore.course.submissions import Submission, SubmissionError

COLUMNS = ("student", "notebook", "exercise", "points", "of", "message", "fresh", "file")
Row = dict[str, Any]
KEPT = ("PATH", "HOME", "LANG", "LAB_CACHE", "LAB_ASSETS", "LAB_CHECKS", "PYTHONPATH", "TMPDIR")


@dataclass(frozen=True)
class Limits:
    """What one submission may use.

    Attributes:
        cell_seconds: Wall seconds a cell or a check.
        cpu_seconds: CPU seconds in all.
        memory: Bytes of private memory.
    """

    cell_seconds: float = 60.0
    cpu_seconds: int = 240
    memory: int = 4 * 2**30


def grade(
    folder: Path,
    sources: Sequence[Path],
    *,
    fresh: int,
    limits: Limits | None = None,
    jobs: int = 1,
    report: Callable[[str], None] = print,
) -> list[Row]:
    """Grade every notebook below a folder, one folder a student.

    Args:
        folder: The submissions.
        sources: The lab's notebook sources.
        fresh: Seed of the inputs that checks draw; students have not seen it.
        limits: What one submission may use.
        jobs: Submissions at once.
        report: Called with one line a submission.

    Returns:
        One row an exercise, with :data:`COLUMNS`; a file that cannot be read is one row of 0.

    Raises:
        FileNotFoundError: no such folder, or no notebook in it.
    """
    paths = submissions.files(folder)
    known = {path.name.split("_")[0]: path for path in sources}
    limits = limits or Limits()

    def one(path: Path) -> list[Row]:
        rows = list(_grade_file(path, folder, known, fresh, limits))
        got, of = (sum(row[key] for row in rows) for key in ("points", "of"))
        report(f"{rows[0]['student']}: {rows[0]['notebook'] or path.name}: {got} of {of}")
        return rows

    with ThreadPoolExecutor(max_workers=max(1, jobs)) as pool:
        return [row for rows in pool.map(one, paths) for row in rows]


def check_file(path: Path, sources: Sequence[Path], *, limits: Limits | None = None) -> list[Row]:
    """A student's own look at a notebook: the same checks, on the inputs they can see.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not a notebook of this lab.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}")
    known = {source.name.split("_")[0]: source for source in sources}
    found = submissions.read(path, path.stem)
    return list(_grade(found, path.name, known, None, limits or Limits()))


def to_csv(rows: Sequence[Row], path: Path) -> None:
    """Write the table, under a temporary name first. Text that a spreadsheet would run is quoted.

    Raises:
        OSError: the file cannot be written.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({key: _harmless(row[key]) for key in COLUMNS})
    write_text(path, text.getvalue())


def _harmless(value: Any) -> Any:
    dangerous = isinstance(value, str) and value[:1] in ("=", "+", "-", "@")
    return f"'{value}" if dangerous else value


def _grade_file(
    path: Path, folder: Path, known: dict[str, Path], fresh: int, limits: Limits
) -> Iterator[Row]:
    student, file = submissions.student_of(path, folder), str(path.relative_to(folder))
    try:
        found = submissions.read(path, student)
        yield from _grade(found, file, known, fresh, limits)
    except ValueError as error:
        said = str(error)
        yield dict(zip(COLUMNS, (student, "", "", 0, 0, said, fresh, file), strict=True))


def _grade(
    found: Submission, file: str, known: dict[str, Path], fresh: int | None, limits: Limits
) -> Iterator[Row]:
    if found.notebook not in known:
        raise SubmissionError(f"no notebook {found.notebook} in this lab")
    source = markup.parse(known[found.notebook])
    task = _task(source, found, fresh or 0, limits)
    results, end = _run(task)
    for id in source.exercises:
        of = checking.find(id).points
        row = results.get(id, {"passed": False, "message": f"{id}: {end}"})
        if id not in found.answered and not row["passed"]:
            row = {**row, "message": f"{id}: no cell with the line '# exercise {id}' was found"}
        points = of if row["passed"] else 0
        said = " ".join(str(row["message"]).split())
        values = (found.student, found.notebook, id, points, of, said, fresh, file)
        yield dict(zip(COLUMNS, values, strict=True))


def _task(source: markup.Source, found: Submission, fresh: int, limits: Limits) -> Task:
    setup = next(cell.text for cell in source.cells if "setup" in cell.tags)
    wanted = {}
    for cell in source.cells:
        if id := cell.named("check"):
            expression = submissions.checked_expression(cell.text, id)
            if expression is None:
                raise ValueError(f"{source.path}:{cell.line}: no call lab.check({id!r}, answer)")
            wanted[id] = expression
    cells = tuple((cell.source, cell.answers, cell.checks) for cell in found.cells)
    return Task(
        source.id, setup, cells, wanted, fresh, limits.cell_seconds, limits.cpu_seconds,
        limits.memory,
    )  # fmt: skip


def _run(task: Task) -> tuple[dict[str, Any], str]:
    """Results by exercise id, and how the process ended if it said nothing."""
    wall = task.cpu_seconds + 4 * task.cell_seconds
    with tempfile.TemporaryDirectory(prefix="grade-") as folder:
        try:
            done = subprocess.run(
                [sys.executable, "-W", "ignore", "-m", "labcore.course.grader"],
                input=task.to_json(),
                capture_output=True,
                text=True,
                timeout=wall,
                cwd=folder,
                env=_environment(),
                start_new_session=True,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return {}, f"the notebook ran longer than {wall:g} s and was stopped"
    try:
        rows = [json.loads(line) for line in done.stdout.splitlines()]
    except json.JSONDecodeError:
        return {}, "the notebook wrote where results are written"
    if not rows:
        return {}, _ended(done.returncode, done.stderr, task)
    return {row["id"]: row for row in rows}, ""


def _ended(code: int, stderr: str, task: Task) -> str:
    import signal

    if code in (-signal.SIGXCPU, -signal.SIGKILL):
        return f"the notebook used more than {task.cpu_seconds} CPU seconds and was stopped"
    last = stderr.strip().splitlines()[-1:] or ["no message"]
    return f"the notebook ended the process (code {code}; {last[0][:200]})"


def _environment() -> dict[str, str]:
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    kept = {name: os.environ[name] for name in KEPT if name in os.environ}
    return {**kept, **threads, "LAB_OFFLINE": "1", "PLOTLY_RENDERER": "browser"}
