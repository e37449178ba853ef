"""Write the notebooks of a source: solution, student and nbgrader copies.

The same source always gives the same bytes: cell ids depend on the group, the notebook and the
cell's place, keys are sorted, and there are no outputs, execution counts or machine names.
"""

import difflib
import hashlib
import json
from pathlib import Path
from typing import Any, Literal

from labcore.course import anatomy, markup, nbgrader
from labcore.course.markup import Cell, Source
from labcore.runs import replacing

Kind = Literal["student", "solution", "nbgrader"]
Json = dict[str, Any]
KINDS = ("student", "solution", "nbgrader")
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}


def build(
    src: Path, out: Path, *, kind: Kind = "student", check: bool = False, parts: bool = True
) -> str:
    """Write one copy of a source, or with ``check`` only compare.

    Args:
        src: The percent source.
        out: The notebook file to write.
        kind: ``student`` has its answers taken out, ``solution`` is complete, ``nbgrader`` has
            that tool's regions and metadata.
        check: Leave ``out`` as it is.
        parts: Demand the anatomy; only fragments in tests go without.

    Returns:
        The difference between ``out`` as it was and as it should be; empty when they agree.

    Raises:
        SourceError: The source cannot be read.
        AnatomyError: Parts are missing or limits broken.
        ValueError: No such kind.
    """
    if kind not in KINDS:
        raise ValueError(f"kind {kind!r} is unknown: choose one of {', '.join(KINDS)}")
    source = markup.parse(src)
    front = anatomy.check(source) if parts else anatomy.front_matter(source)
    wanted = to_text(notebook(source, kind, front))
    present = out.read_text(encoding="utf-8") if out.exists() else ""
    if wanted == present:
        return ""
    if not check:
        write_text(out, wanted)
    lines = (present.splitlines(), wanted.splitlines())
    return "\n".join(difflib.unified_diff(*lines, str(out), f"from {src}", lineterm="", n=1))


def notebook(source: Source, kind: Kind, front: anatomy.Front) -> Json:
    """The notebook as nbformat 4.5 data."""
    about = {"id": source.id, "group": source.group, "copy": kind, **front.as_dict()}
    kept = [cell for cell in source.cells if _belongs(cell, kind)]
    return {
        "cells": [_cell(source, cell, kind) for cell in kept],
        "metadata": {"kernelspec": KERNEL, "lab": about, "language_info": {"name": "python"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }


def to_text(data: Json) -> str:
    """Notebook data as the text of its file, the same for the same data."""
    return json.dumps(data, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def cell_id(source: Source, cell: Cell) -> str:
    """The fixed id of a cell, the same in every copy; that of an exercise says which it is."""
    for tag in ("exercise", "check"):
        if name := cell.named(tag):
            return f"{name.replace('.', '-')}-{tag}"
    place = f"{source.group}/{source.id}/{cell.position}"
    digest = hashlib.sha256(place.encode()).hexdigest()[:6]
    return f"{source.id}-cell-{cell.position:02d}-{digest}"


def _belongs(cell: Cell, kind: Kind) -> bool:
    solution_only = "teacher" in cell.tags or cell.named("solution-text") is not None
    return kind == "solution" or not solution_only


def _cell(source: Source, cell: Cell, kind: Kind) -> Json:
    metadata: Json = {"tags": list(cell.tags)} if cell.tags else {}
    if kind == "nbgrader":
        metadata |= nbgrader.metadata(cell)
    data: Json = {
        "id": cell_id(source, cell),
        "cell_type": cell.kind,
        "metadata": metadata,
        "source": _text(source, cell, kind).strip("\n").splitlines(keepends=True),
    }
    if cell.kind == "code":
        data |= {"execution_count": None, "outputs": []}
    return data


def _text(source: Source, cell: Cell, kind: Kind) -> str:
    if name := cell.named("hint"):
        return _folded(source, cell, name)
    if kind == "nbgrader":
        text = nbgrader.text(cell)
    else:
        text = cell.unsolved if kind == "student" else cell.solved
    name = cell.named("exercise")
    # the comment lets an answer be found when a student's editor has dropped the metadata
    return f"# exercise {name}\n{text.strip(chr(10))}" if name else text


def _folded(source: Source, cell: Cell, name: str) -> str:
    hints = [c.position for c in source.cells if c.named("hint") == name]
    level = f"Hint {hints.index(cell.position) + 1} of {len(hints)} for {name}"
    text = cell.text.strip("\n")
    return f"<details>\n<summary>{level}</summary>\n\n{text}\n\n</details>"


def write_text(path: Path, text: str) -> None:
    """Write a file under a temporary name, then move it into place."""
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8", newline="\n")
