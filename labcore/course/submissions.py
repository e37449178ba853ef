"""Read a notebook that a student handed in: which one it is, and where its answers stand.

Editors drop metadata and students retype cells, so a cell is known by its tag, by its id, by the
comment ``# exercise P06.1`` in its first lines, or by the check it calls; any of them will do.
"""

import ast
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MAX_BYTES = 20 * 2**20
MARK = re.compile(r"^\s*#\s*exercise\s+((?:B\d\d|BA|BB|P\d\d)\.\d+[a-z]?)\b", re.MULTILINE)
CHECK = re.compile(r"lab\.check\(\s*[\"']((?:B\d\d|BA|BB|P\d\d)\.\d+[a-z]?)[\"']")
NAME = re.compile(r"(?:^|[^A-Za-z0-9])(B\d\d|BA|BB|P\d\d)_")
ON_SCREEN = ("check", "show", "explore", "hint")  # of the lab; nobody looks while grading


class SubmissionError(ValueError):
    """A file that is not a notebook of this lab; the message says why."""


@dataclass(frozen=True)
class Cell:
    """A code cell: its text, the exercise it answers and those it checks."""

    source: str
    answers: str | None
    checks: tuple[str, ...]


@dataclass(frozen=True)
class Submission:
    """One notebook of one student."""

    student: str
    path: Path
    notebook: str
    cells: tuple[Cell, ...]

    @property
    def answered(self) -> set[str]:
        """Ids of the exercises whose cell was found."""
        return {cell.answers for cell in self.cells if cell.answers}


def files(folder: Path) -> list[Path]:
    """The notebooks below a folder, links and checkpoints left out.

    Raises:
        FileNotFoundError: there is no such folder, or no notebook in it.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder {folder}: name the one that holds the submissions")
    found = [
        path
        for path in sorted(folder.rglob("*.ipynb"))
        if ".ipynb_checkpoints" not in path.parts and path.is_file() and not path.is_symlink()
    ]
    if not found:
        raise FileNotFoundError(f"no notebook below {folder}: one folder a student is expected")
    return found


def student_of(path: Path, folder: Path) -> str:
    """The first folder below ``folder``; for a notebook right in it, the file's name."""
    inside = path.relative_to(folder)
    return inside.parts[0] if len(inside.parts) > 1 else path.stem


def read(path: Path, student: str) -> Submission:
    """Read one notebook.

    Raises:
        SubmissionError: too large, not a notebook, or of no known work.
    """
    if path.stat().st_size > MAX_BYTES:
        raise SubmissionError(f"larger than {MAX_BYTES >> 20} MB: hand it in without outputs")
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        cells = tuple(_cells(data))
    except (UnicodeDecodeError, json.JSONDecodeError, TypeError, KeyError, AttributeError) as error:
        raise SubmissionError(f"not a notebook ({type(error).__name__}): save it again") from None
    notebook = _notebook(data, path, cells)
    return Submission(student, path, notebook, cells)


def _cells(data: Mapping[str, Any]) -> Iterator[Cell]:
    for cell in data["cells"]:
        if cell["cell_type"] != "code":
            continue
        text = cell["source"]
        source = text if isinstance(text, str) else "".join(text)
        yield Cell(source, _answers(cell, source), tuple(dict.fromkeys(CHECK.findall(source))))


def _answers(cell: Mapping[str, Any], source: str) -> str | None:
    if marked := MARK.search(source):
        return marked[1]
    if CHECK.search(source):
        return None
    for tag in cell.get("metadata", {}).get("tags", ()):
        if str(tag).startswith("exercise:"):
            return str(tag).partition(":")[2]
    id = str(cell.get("id", ""))
    return id.removesuffix("-exercise").replace("-", ".") if id.endswith("-exercise") else None


def _notebook(data: Mapping[str, Any], path: Path, cells: tuple[Cell, ...]) -> str:
    about = data.get("metadata", {}).get("lab", {})
    found = [str(about["id"])] if "id" in about else []
    found += [cell.answers.split(".")[0] for cell in cells if cell.answers]
    found += [id.split(".")[0] for cell in cells for id in cell.checks]
    if not found and (named := NAME.search(path.name)):
        found = [named[1]]
    if not found:
        raise SubmissionError("no exercise of this lab in it: keep the lines '# exercise P06.1'")
    return found[0]


def runnable(source: str) -> ast.Module:
    """The statements of a cell without those that only show or check something.

    Lines of magics (``%``, ``!``) are left out.

    Raises:
        SyntaxError: it is not Python.
    """
    try:
        tree = ast.parse(source)
    except SyntaxError:
        plain = [("#" + s if s.lstrip()[:1] in ("%", "!") else s) for s in source.split("\n")]
        tree = ast.parse("\n".join(plain))
    tree.body = [node for node in tree.body if not _only_shows(node)]
    return tree


def _only_shows(node: ast.stmt) -> bool:
    if not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)):
        return False
    called = node.value.func
    return (
        isinstance(called, ast.Attribute)
        and isinstance(called.value, ast.Name)
        and called.value.id == "lab"
        and called.attr in ON_SCREEN
    )


def checked_expression(source: str, exercise: str) -> str | None:
    """What a check cell hands in: ``keep`` of ``lab.check("P06.1", keep)``.

    >>> checked_expression('lab.check("P06.1", keep)', "P06.1")
    'keep'
    """
    for node in ast.walk(ast.parse(source)):
        if (
            isinstance(node, ast.Call)
            and ast.unparse(node.func) == "lab.check"
            and len(node.args) == 2
            and isinstance(node.args[0], ast.Constant)
            and node.args[0].value == exercise
        ):
            return ast.unparse(node.args[1])
    return None
