"""The regions and metadata by which nbgrader knows solutions, tests and points.

The lab's markers map one to one: a solution region becomes nbgrader's, a check cell becomes a
locked grade cell whose hidden part repeats the check on inputs that students have not seen.
"""

import ast
from typing import Any

from labcore.course import checking
from labcore.course.markup import BEGIN, END, Cell

SCHEMA = 3
HIDDEN_SEED = 2404  # graders change it in their copy of the source tree


def metadata(cell: Cell) -> dict[str, Any]:
    """nbgrader's entry for a cell; empty for cells it should leave alone.

    Raises:
        UnknownExercise: The cell checks an exercise that is not registered.
    """
    if name := cell.named("exercise"):
        return {"nbgrader": _entry(name, "exercise", solution=True)}
    if name := cell.named("check"):
        points = checking.find(name).points
        return {"nbgrader": _entry(name, "check", grade=True, locked=True, points=points)}
    if "setup" in cell.tags:
        return {"nbgrader": _entry("setup", "cell", locked=True)}
    return {}


def _entry(name: str, role: str, **given: bool | int) -> dict[str, Any]:
    flags = {"grade": False, "solution": False, "locked": False, "task": False}
    return {
        **flags,
        **given,
        "grade_id": f"{name.replace('.', '-')}-{role}",
        "schema_version": SCHEMA,
    }


def text(cell: Cell) -> str:
    """A cell's text with nbgrader's markers; a check also runs on hidden inputs."""
    if cell.named("check"):
        hidden = "\n".join(_hidden_checks(cell.text))
        return f"{cell.text}\n### BEGIN HIDDEN TESTS\n{hidden}\n### END HIDDEN TESTS"
    marks = {BEGIN: "### BEGIN SOLUTION", END: "### END SOLUTION"}
    lines = cell.text.split("\n")
    return "\n".join(
        line.replace(line.strip(), marks.get(line.strip(), line.strip()))
        if line.strip() in marks
        else line
        for line in lines
    )


def _hidden_checks(code: str) -> list[str]:
    calls = []
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "lab.check":
            node.keywords.append(ast.keyword("fresh", ast.Constant(HIDDEN_SEED)))
            calls.append(ast.unparse(node))
    return calls
