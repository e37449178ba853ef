"""Read a notebook's text source: percent cells, their tags, and the marked solutions.

The source is a plain Python script (jupytext "percent" format). This module says what it holds
and refuses, with file and line, what cannot be built; :mod:`labcore.course.anatomy` judges whether
the parts of a notebook are there, :mod:`labcore.course.building` writes the notebooks.
"""

import ast
import difflib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import jupytext

PLAIN_TAGS = ("setup", "centrepiece", "optional", "teacher", "parameters")
ID_TAGS = ("exercise", "check", "hint", "solution-text")
BEGIN, END = "# SOLUTION", "# END SOLUTION"
FILE = re.compile(r"(?P<id>B\d\d|BA|BB|P\d\d)_(?P<slug>[a-z0-9_]+)\.py")
EXERCISE_ID = re.compile(r"(?P<notebook>B\d\d|BA|BB|P\d\d)\.\d+[a-z]?")
CELL = re.compile(r"# ?%%(\s|$)")
NEARLY = re.compile(r"\s*#+\s*(end)?\W*solution\s*:?\s*", re.IGNORECASE)


class SourceError(ValueError):
    """A source that cannot be built; the message begins with file and line."""

    def __init__(self, path: Path, line: int, message: str) -> None:
        super().__init__(f"{path}:{line}: {message}")
        self.path, self.line = path, line


@dataclass(frozen=True)
class Cell:
    """One cell of a source: its text without the percent line, its tags, where it begins."""

    kind: Literal["code", "markdown"]
    text: str
    tags: tuple[str, ...]
    line: int
    position: int

    def named(self, tag: str) -> str | None:
        """The exercise id that ``tag`` carries here: ``P06.1`` for ``exercise:P06.1``."""
        found = (t.split(":", 1)[1] for t in self.tags if t.split(":", 1)[0] == tag and ":" in t)
        return next(found, None)

    @property
    def solved(self) -> str:
        """The text with the solutions in and their markers out."""
        return "\n".join(line for line in self.text.split("\n") if line.strip() not in (BEGIN, END))

    @property
    def unsolved(self) -> str:
        """The text with one ``raise NotImplementedError`` in place of each solution."""
        name = self.named("exercise")
        kept: list[str] = []
        inside = False
        for line in self.text.split("\n"):
            if line.strip() == BEGIN:
                inside = True
                kept.append(f'{_indent(line)}raise NotImplementedError("{name}: your answer here")')
            elif line.strip() == END:
                inside = False
            elif not inside:
                kept.append(line)
        return "\n".join(kept)

    @property
    def solutions(self) -> list[str]:
        """The marked lines, one string a region."""
        regions = re.findall(rf"(?ms)^\s*{BEGIN}\n(.*?)^\s*{END}$", self.text)
        return [r.rstrip("\n") for r in regions]


@dataclass(frozen=True)
class Source:
    """A parsed source. ``group`` is its folder: ``book`` or ``papers``."""

    path: Path
    group: str
    id: str
    slug: str
    cells: tuple[Cell, ...]

    @cached_property
    def exercises(self) -> tuple[str, ...]:
        """Exercise ids in the order they are asked."""
        return tuple(name for cell in self.cells if (name := cell.named("exercise")))

    def error(self, line: int, message: str) -> SourceError:
        """An error that points into this source."""
        return SourceError(self.path, line, message)


def parse(path: Path) -> Source:
    """Read one source.

    Raises:
        SourceError: The file's name, a marker, a tag, an id or the Python of a cell is not right.
    """
    name = FILE.fullmatch(path.name)
    if name is None:
        raise SourceError(path, 1, "a source is named like B04_linear_models.py or P06_kv_cache.py")
    text = path.read_text(encoding="utf-8")
    if text.startswith("# ---"):
        raise SourceError(path, 1, "drop the header: the builder writes the notebook's metadata")
    for number, line in enumerate(text.split("\n"), start=1):
        if "\t" in line:
            raise SourceError(path, number, "tab character: indent with spaces")
    cells = tuple(_cells(path, text))
    source = Source(path, path.parent.name, name["id"], name["slug"], cells)
    for cell in cells:
        _check_tags(source, cell)
        _check_markers(source, cell)
        _check_python(source, cell)
    _check_ids(source)
    return source


def _cells(path: Path, text: str) -> Iterator[Cell]:
    starts = [n for n, line in enumerate(text.split("\n"), start=1) if CELL.match(line)]
    read = jupytext.reads(text, fmt="py:percent").cells
    if len(read) != len(starts):
        why = "text before the first '# %%', or a '# %%' inside a string"
        first = starts[0] if starts else 1
        raise SourceError(path, first, f"{len(starts)} cell lines but {len(read)} cells: {why}")
    for position, (cell, line) in enumerate(zip(read, starts, strict=True)):
        if cell.cell_type not in ("code", "markdown"):
            raise SourceError(
                path, line, f"{cell.cell_type} cells are not used: code or [markdown]"
            )
        tags = tuple(cell.metadata.get("tags", ()))
        yield Cell(cell.cell_type, cell.source, tags, line, position)


def _check_tags(source: Source, cell: Cell) -> None:
    for tag in cell.tags:
        name, colon, value = tag.partition(":")
        if name not in (ID_TAGS if colon else PLAIN_TAGS):
            known = [*PLAIN_TAGS, *(f"{t}:<id>" for t in ID_TAGS)]
            near = difflib.get_close_matches(tag, known, n=1, cutoff=0.0)[0]
            raise source.error(cell.line, f"unknown tag {tag!r}; did you mean {near!r}?")
        if not colon:
            continue
        found = EXERCISE_ID.fullmatch(value)
        if found is None or found["notebook"] != source.id:
            raise source.error(cell.line, f"{tag!r}: an id here looks like {source.id}.1")
    wanted = {"exercise": "code", "check": "code", "hint": "markdown", "solution-text": "markdown"}
    for name, kind in wanted.items():
        if cell.named(name) and cell.kind != kind:
            raise source.error(cell.line, f"a cell tagged {name}:<id> must be a {kind} cell")


def _check_markers(source: Source, cell: Cell) -> None:
    opened: tuple[int, str] | None = None
    for number, line in enumerate(cell.text.split("\n"), start=cell.line + 1):
        mark = line.strip()
        if mark == BEGIN:
            if opened:
                raise source.error(number, f"nested {BEGIN}: the one of line {opened[0]} is open")
            opened = (number, _indent(line))
        elif mark == END:
            if not opened:
                raise source.error(number, f"{END} without {BEGIN}")
            if _indent(line) != opened[1]:
                raise source.error(number, f"{END} is indented unlike its {BEGIN}")
            opened = None
        elif cell.kind == "code" and NEARLY.fullmatch(line):
            raise source.error(number, f"write this marker as {BEGIN!r} or {END!r}: {mark!r}")
    if opened:
        raise source.error(opened[0], f"unclosed {BEGIN}: no {END} before the end of the cell")
    marked = BEGIN in (line.strip() for line in cell.text.split("\n"))
    if marked and not cell.named("exercise"):
        raise source.error(cell.line, f"{BEGIN} in a cell that is not tagged exercise:<id>")
    if cell.named("exercise") and not marked:
        raise source.error(cell.line, f"exercise {cell.named('exercise')} has no {BEGIN}")


def _check_python(source: Source, cell: Cell) -> None:
    if cell.kind != "code":
        return
    for text, copy in ((cell.text, "solution"), (cell.unsolved, "student")):
        try:
            ast.parse(text)
        except SyntaxError as error:
            line = cell.line + (error.lineno or 1 if copy == "solution" else 0)
            raise source.error(line, f"not plain Python in the {copy} copy: {error.msg}") from None


def _check_ids(source: Source) -> None:
    seen: dict[str, int] = {}
    for cell in source.cells:
        for tag in cell.tags:
            if tag in seen and ":" in tag and not tag.startswith("hint:"):
                raise source.error(cell.line, f"duplicate id: {tag} is also on line {seen[tag]}")
            seen.setdefault(tag, cell.line)
    for tag, line in seen.items():
        name, _, value = tag.partition(":")
        if name in ID_TAGS and value not in source.exercises:
            raise source.error(line, f"{tag}: there is no cell tagged exercise:{value}")
    for value in source.exercises:
        asked, checked = seen[f"exercise:{value}"], seen.get(f"check:{value}")
        if checked is None or checked < asked:
            raise source.error(asked, f"exercise {value} has no check:{value} cell after it")
        hints = sum(c.named("hint") == value for c in source.cells)
        if hints > 3:
            raise source.error(asked, f"exercise {value} has {hints} hints: at most three")


def _indent(line: str) -> str:
    return line[: len(line) - len(line.lstrip())]
