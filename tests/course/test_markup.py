import ast
from collections.abc import Callable
from pathlib import Path

import jupytext
import pytest

from labcore.course import markup
from labcore.course.markup import SourceError

Edit = Callable[[str, str], Path]


def test_cells_are_those_of_jupytext(demo: Path) -> None:
    ours = [(c.kind, c.text) for c in markup.parse(demo).cells]
    theirs = [(c.cell_type, c.source) for c in jupytext.read(demo, fmt="py:percent").cells]
    assert ours == theirs


def test_lines_point_at_the_percent_lines(demo: Path) -> None:
    lines = demo.read_text().split("\n")
    source = markup.parse(demo)
    assert all(lines[c.line - 1].startswith("# %%") for c in source.cells)
    assert source.exercises == ("B99.1", "B99.2")
    assert (source.id, source.slug, source.group) == ("B99", "demo", "data")


def test_the_two_forms_of_an_exercise(demo: Path) -> None:
    cell = next(c for c in markup.parse(demo).cells if c.named("exercise") == "B99.1")
    assert "SOLUTION" not in cell.solved
    assert "    return weights / weights.sum(axis=-1, keepdims=True)" in cell.solved
    assert cell.unsolved.rstrip().endswith(
        '    raise NotImplementedError("B99.1: your answer here")'
    )
    assert '"""Softmax over the last axis."""' in cell.unsolved
    assert len(cell.solutions) == 1
    assert cell.solutions[0].startswith("    shifted = ")


TWO_REGIONS = """def f(x):
    # SOLUTION
    y = x
    # END SOLUTION
    return y


# SOLUTION
z = f(1)
# END SOLUTION"""


def test_two_regions_at_two_depths() -> None:
    cell = markup.Cell("code", TWO_REGIONS, ("exercise:B99.1",), 1, 0)
    assert cell.solutions == ["    y = x", "z = f(1)"]
    message = 'raise NotImplementedError("B99.1: your answer here")'
    assert cell.unsolved == f"def f(x):\n    {message}\n    return y\n\n\n{message}"
    ast.parse(cell.unsolved)


BROKEN = {
    "unclosed": ("    # END SOLUTION\n", "", r":\d+: unclosed # SOLUTION"),
    "nested": (
        "    weights = np.exp(shifted)\n",
        "    # SOLUTION\n    weights = np.exp(shifted)\n",
        r"nested # SOLUTION: the one of line \d+ is open",
    ),
    "end only": ("    # SOLUTION\n", "", "# END SOLUTION without"),
    "indent": ("    # END SOLUTION", "# END SOLUTION", "indented unlike"),
    "misspelt": ("    # SOLUTION\n", "    #Solution:\n", "write this marker as"),
    "no exercise": ('tags=["exercise:B99.1"]', "", "not tagged exercise"),
    "no solution": (
        "# SOLUTION\nlarger = 3 / 4\n# END SOLUTION\n",
        "",
        "exercise B99.2 has no # SOLUTION",
    ),
    "duplicate exercise": ("exercise:B99.2", "exercise:B99.1", "duplicate id: exercise:B99.1"),
    "duplicate check": ("check:B99.2", "check:B99.1", "duplicate id: check:B99.1"),
    "unknown exercise": ("hint:B99.1", "hint:B99.7", "no cell tagged exercise:B99.7"),
    "no check": ('tags=["check:B99.2"]', "", "has no check:B99.2 cell after it"),
    "foreign id": ("check:B99.2", "check:B98.2", "an id here looks like B99.1"),
    "unknown tag": ('"centrepiece"', '"centerpiece"', "did you mean 'centrepiece'"),
    "kind": ('[markdown] tags=["hint:B99.1"]', 'tags=["hint:B99.1"]', "must be a markdown cell"),
    "tab": ("    return weights / weights.sum()", "\treturn 1", "tab character"),
    "python": ("print(softmax(scores).round(3))", "print(", "not plain Python in the solution"),
    "magic": ("warmest = 4.0", "%timeit 4", "not plain Python"),
    "header": (
        "# %% [markdown]\n# # B99",
        "# ---\n# a: b\n# ---\n# %%\n# # B99",
        "drop the header",
    ),
    "raw": ('# %% tags=["parameters"]', "# %% [raw]", "raw cells are not used"),
    "text first": (
        "# %% [markdown]\n# # B99",
        "x = 1\n# %% [markdown]\n# # B99",
        "before the first",
    ),
    "in a string": ("warmest = 4.0", 'warmest = """\n# %% no cell\n"""', "inside a string"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_refusals_name_file_and_line(case: str, edited: Edit) -> None:
    old, new, message = BROKEN[case]
    path = edited(old, new)
    with pytest.raises(SourceError, match=message) as caught:
        markup.parse(path)
    assert str(caught.value).startswith(f"{path}:{caught.value.line}: ")


def test_the_line_is_that_of_the_mistake(edited: Edit) -> None:
    path = edited("    return weights / weights.sum()", "\treturn 1")
    with pytest.raises(SourceError) as caught:
        markup.parse(path)
    assert "\t" in path.read_text().split("\n")[caught.value.line - 1]
    path = edited("    # END SOLUTION\n", "")
    with pytest.raises(SourceError) as caught:
        markup.parse(path)
    assert path.read_text().split("\n")[caught.value.line - 1].strip() == "# SOLUTION"


def test_four_hints_are_too_many(edited: Edit) -> None:
    hint = '# %% [markdown] tags=["hint:B99.1"]\n# Think.\n\n'
    path = edited('# %% [markdown] tags=["hint:B99.1"]', hint * 2 + hint.split("\n")[0])
    with pytest.raises(SourceError, match="has 4 hints: at most three"):
        markup.parse(path)


def test_the_file_name_carries_the_id(tmp_path: Path) -> None:
    path = tmp_path / "softmax.py"
    path.write_text("# %%\nx = 1\n")
    with pytest.raises(SourceError, match="named like B04_linear_models.py"):
        markup.parse(path)
