"""Whether a source has the parts of a notebook, in their order, within the limits.

1 title, reference, minutes, prerequisites, goals; 2 setup; 3 recap with equations; 4 code, from the
short version to the library's, and their equality; 6 the centre-piece; 7 exercises; 8 where this
goes. Parts 5 (predict) and 9 (optional) are the author's choice. All problems are reported at once.
"""

import ast
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from labcore.course.markup import Cell, Source

CELLS = (25, 60)
PROSE_WORDS = 120
CODE_LINES = 25
NOTEBOOK_ID = re.compile(r"\b(B\d\d|BA|BB|P\d\d)\b")
MATH = re.compile(r"\$\$.+?\$\$|\$[^$\n]+?\$", re.DOTALL)
EQUALITY = re.compile(r"\bassert\b|\bclose\(|allclose|assert_close|array_equal|torch\.equal")

Problem = tuple[int, str]


class AnatomyError(ValueError):
    """A source lacks parts or breaks limits: one line each, with file and line."""


@dataclass(frozen=True)
class Front:
    """What the first cells say about a notebook; the builder keeps it in the metadata."""

    title: str
    reference: str
    reading: int
    exercises: int
    prerequisites: tuple[str, ...]
    goals: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain data for the notebook's metadata."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}


def check(source: Source) -> Front:
    """Return the front matter of a source whose anatomy is right.

    Raises:
        AnatomyError: It is not; every problem is listed.
    """
    problems = [*_parts(source), *_limits(source), *_statements(source)]
    front = front_matter(source)
    problems = [*((1, f"part 1: {what}") for what in _missing_front(source, front)), *problems]
    if problems:
        raise AnatomyError("\n".join(f"{source.path}:{line}: {what}" for line, what in problems))
    return front


def front_matter(source: Source) -> Front:
    """Read the cells before ``setup``; what is absent stays empty or zero."""
    cells = source.cells
    setup = next((c.position for c in cells if "setup" in c.tags), len(cells))
    text = "\n".join(c.text for c in cells[:setup] if c.kind == "markdown")
    title = re.search(r"^# +(.+)$", text, re.MULTILINE)
    reference = re.search(r"^.*\b(?:chapter|appendix|paper|arXiv)\b.*$", text, re.I | re.MULTILINE)
    needs = re.search(r"prerequisites?\b(.*)$", text, re.I | re.MULTILINE)
    goals = re.search(r"goals?\b[^\n]*\n+((?:(?:[-*]|\d\.) .*\n?(?: +\S.*\n?)*)+)", text, re.I)
    listed = re.split(r"(?:^|\n)(?:[-*]|\d\.) ", goals[1].strip()) if goals else []
    return Front(
        title[1].strip() if title else "",
        reference[0].strip().strip("*") if reference else "",
        _minutes("reading", text),
        _minutes("exercises", text),
        tuple(NOTEBOOK_ID.findall(needs[1])) or (("none",) if needs else ()) if needs else (),
        tuple(" ".join(g.split()) for g in listed if g),
    )


def _minutes(what: str, text: str) -> int:
    found = re.search(rf"{what}\W+(\d+) *min", text, re.IGNORECASE)
    return int(found[1]) if found else 0


def _missing_front(source: Source, front: Front) -> Iterator[str]:
    if not front.title:
        yield "title: begin the first cell with '# Title'"
    elif source.id not in front.title:
        yield f"id: the title must hold {source.id}, as in '# {source.id} · Title'"
    if not front.reference:
        yield "reference: name the chapter, or the paper with its arXiv number"
    if not front.reading or not front.exercises:
        yield "minutes: write 'Reading: 20 min' and 'Exercises: 30 min'"
    if not front.prerequisites:
        yield "prerequisites: write 'Prerequisites: B10, B11' or 'Prerequisites: none'"
    if not 1 <= len(front.goals) <= 3:
        yield f"goals: a line 'Goals' and a list of one to three follows; found {len(front.goals)}"


def _parts(source: Source) -> Iterator[Problem]:
    cells = source.cells
    last = cells[-1].line if cells else 1
    setups = [c for c in cells if "setup" in c.tags]
    if len(setups) != 1:
        yield last, f"part 2: exactly one cell tagged setup is wanted, found {len(setups)}"
    for cell in setups:
        if f'labcore.start("{source.id}"' not in cell.text:
            yield cell.line, f'part 2: setup must call labcore.start("{source.id}", seed=0)'
    recap = _section(source, "recap")
    if not recap:
        yield last, "part 3: no heading 'Recap'"
    elif not any(MATH.search(c.text) for c in recap if c.kind == "markdown"):
        yield recap[0].line, "part 3: the recap has no equation between $ signs"
    yield from _code_part(source, last)
    yield from _centrepiece(source, last)
    yield from _outlook(source, last)


def _code_part(source: Source, last: int) -> Iterator[Problem]:
    own = [c for c in source.cells if c.kind == "code" and not c.tags]
    if not any(re.search(r"\blabcore\b", c.text) for c in own):
        yield last, "part 4: no code cell imports the method from labcore"
    if not any(EQUALITY.search(c.text) for c in own):
        yield last, "part 4: no code cell asserts that the short version equals labcore's"


def _centrepiece(source: Source, last: int) -> Iterator[Problem]:
    found = [c for c in source.cells if "centrepiece" in c.tags]
    if len(found) != 1:
        yield last, f"part 6: exactly one cell tagged centrepiece is wanted, found {len(found)}"
    for cell in found:
        if cell.kind != "code" or not shows_figure(cell.text):
            yield cell.line, "part 6: the centre-piece must call lab.explore(...) or lab.show(...)"
        around = source.cells[max(cell.position - 1, 0) : cell.position + 2]
        if not any(c.kind == "markdown" and "<details>" in c.text for c in around):
            yield cell.line, "part 6: fold what to conclude in <details> next to the centre-piece"


def _outlook(source: Source, last: int) -> Iterator[Problem]:
    section = _section(source, "where this goes")
    if not section:
        yield last, "part 8: no heading 'Where this goes'"
        return
    text = "\n".join(c.text for c in section)
    if not set(NOTEBOOK_ID.findall(text)) - {source.id}:
        yield section[0].line, "part 8: link other notebooks by their ids"
    if "?" not in text:
        yield section[0].line, "part 8: ask one open question"


def _section(source: Source, heading: str) -> list[Cell]:
    """The cells from a heading that contains the words to the next heading of its kind."""
    section: list[Cell] = []
    for cell in source.cells:
        head = re.match(r"#+ +(.*)", cell.text) if cell.kind == "markdown" else None
        if section and head:
            return section
        if section or (head and heading in head[1].lower()):
            section.append(cell)
    return section


def _limits(source: Source) -> Iterator[Problem]:
    counted = [c for c in source.cells if not (c.named("hint") or c.named("solution-text"))]
    low, high = CELLS
    if not low <= len(counted) <= high:
        note = "not counting folded hints and solution texts"
        yield 1, f"{len(counted)} cells ({note}): {low} to {high} are wanted"
    for cell in source.cells:
        if not cell.text.strip():
            yield cell.line, "empty cell"
        elif cell.kind == "markdown" and (n := words(cell.text)) > PROSE_WORDS:
            yield cell.line, f"prose cell of {n} words: at most {PROSE_WORDS}"
        elif cell.kind == "code" and (n := _lines(cell.solved)) > CODE_LINES:
            yield cell.line, f"code cell of {n} lines: at most {CODE_LINES}"


def _statements(source: Source) -> Iterator[Problem]:
    for cell in source.cells:
        name = cell.named("exercise")
        if name:
            before = source.cells[cell.position - 1] if cell.position else cell
            stated = before.kind == "markdown" and re.search(r"\d+ *min", before.text)
            if not stated or not re.search(r"difficulty\W*[123]\b", before.text, re.I):
                want = "minutes and difficulty 1 to 3 ('10 min, difficulty 2')"
                yield cell.line, f"part 7: the cell before {name} must state it, with {want}"
        name = cell.named("check")
        if name and f'lab.check("{name}"' not in cell.text:
            yield cell.line, f'part 7: this cell must call lab.check("{name}", ...)'


def words(markdown: str) -> int:
    """Words of prose: equations, HTML tags and link addresses do not count.

    >>> words("The norm $\\\\|k\\\\|$ of a [key](https://example.org) - <b>small</b>.")
    6
    """
    text = re.sub(r"\]\([^)]*\)", "]", MATH.sub(" ", markdown))
    return sum(any(c.isalnum() for c in word) for word in re.sub(r"<[^>]+>", " ", text).split())


def shows_figure(code: str) -> bool:
    """True when a cell's own statements call ``lab.show`` or ``lab.explore``.

    >>> shows_figure("lab.show(fig)"), shows_figure("def draw(f):\\n    lab.show(f)")
    (True, False)
    """
    waiting: list[ast.AST] = [ast.parse(code)]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.FunctionDef | ast.Lambda | ast.ClassDef):
            continue
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("lab.show", "lab.explore"):
            return True
        waiting.extend(ast.iter_child_nodes(node))
    return False


def _lines(code: str) -> int:
    return sum(bool(line.strip()) for line in code.split("\n"))
