from collections.abc import Callable
from pathlib import Path

import pytest

from labcore.course import anatomy, markup
from labcore.course.anatomy import AnatomyError

Edit = Callable[[str, str], Path]


def test_front_matter_of_the_demo(demo: Path) -> None:
    front = anatomy.check(markup.parse(demo))
    assert front.title == "B99 · A demo: how warm is a softmax?"
    assert front.reference.startswith("Chapter 4.2")
    assert (front.reading, front.exercises) == (5, 10)
    assert front.prerequisites == ("B02", "B04")
    assert front.goals == (
        "Turn scores into probabilities without overflow.",
        "Say what a temperature does, in one sentence.",
    )


MISSING = {
    "title": ("# # B99 · A demo", "# ## B99", "part 1: title"),
    "id": ("# # B99 · A demo", "# # A demo", "part 1: id"),
    "reference": ("*Chapter 4.2 of the book;", "*Somewhere;", "part 1: reference"),
    "minutes": ("Reading: 5 min.", "", "part 1: minutes"),
    "prerequisites": ("Prerequisites: B02, B04.", "", "part 1: prerequisites"),
    "goals": ("**Goals**", "**Aims**", "part 1: goals.*found 0"),
    "four goals": ("# - Say", "# - Two.\n# - Three.\n# - Say", "part 1: goals.*found 4"),
    "setup": ('tags=["setup"]', "", "part 2: exactly one"),
    "start": ('labcore.start("B99"', 'labcore.start("B98"', "part 2: setup must call"),
    "recap": ("## Recap", "## Theory", "part 3: no heading"),
    "centre-piece": ('tags=["centrepiece"]', "", "part 6: exactly one"),
    "no figure": ("lab.explore(figure", "print(figure", "part 6: .* must call"),
    "conclusion": ("<details>", "<div>", "part 6: fold"),
    "statement": ("(5 min, difficulty 1). Write", "Write", "part 7: the cell before B99.1"),
    "check call": ('lab.check("B99.2"', 'print("B99.2"', 'part 7: .* lab.check."B99.2"'),
    "where": ("## Where this goes", "## Bye", "part 8: no heading"),
    "links": ("Back to B04, forward to B10.", "", "part 8: link"),
    "question": ("choose its own temperature?", "choose.", "part 8: ask"),
    "long prose": ("The exponential overflows", "word " * 121, "prose cell of 12. words"),
    "long code": ("warmest = 4.0", "warmest = 4.0\n" * 26, "code cell of 26 lines"),
    "empty": ("# The exponential overflows: infinity over infinity is no number.\n", "", "empty"),
}


@pytest.mark.parametrize("case", MISSING)
def test_each_missing_part_is_named(case: str, edited: Edit) -> None:
    old, new, message = MISSING[case]
    with pytest.raises(AnatomyError, match=message) as caught:
        anatomy.check(markup.parse(edited(old, new)))
    assert all(line.split(":")[1].isdigit() for line in str(caught.value).splitlines())


def test_all_problems_at_once(edited: Edit) -> None:
    path = edited("## Recap", "## Theory")
    path.write_text(path.read_text().replace("**Goals**", "**Aims**"))
    with pytest.raises(AnatomyError) as caught:
        anatomy.check(markup.parse(path))
    assert len(str(caught.value).splitlines()) == 2


def test_recap_without_an_equation(edited: Edit) -> None:
    path = edited("## Recap", "## Recap")
    path.write_text(path.read_text().replace("$", ""))
    with pytest.raises(AnatomyError, match="part 3: the recap has no equation"):
        anatomy.check(markup.parse(path))


def test_no_equality_of_short_and_library_version(edited: Edit) -> None:
    path = edited("close(softmax_by_logs(scores), softmax(scores), what=", "print(")
    path.write_text(path.read_text().replace("assert np.allclose(", "print("))
    with pytest.raises(AnatomyError, match="part 4: no code cell asserts"):
        anatomy.check(markup.parse(path))


def test_too_few_and_too_many_cells(edited: Edit) -> None:
    extra = "\n\n# %% [markdown]\n# More.\n" * 40
    with pytest.raises(AnatomyError, match=r"\d\d cells .*: 25 to 60"):
        anatomy.check(markup.parse(edited("# Ask in class", extra.strip() + "\n# Ask in class")))
    path = edited("# %%", "# %%")
    path.write_text("# %%\nx = 1\n")
    with pytest.raises(AnatomyError, match="1 cells"):
        anatomy.check(markup.parse(path))


def test_folded_hints_do_not_count(demo: Path) -> None:
    source = markup.parse(demo)
    counted = [c for c in source.cells if not (c.named("hint") or c.named("solution-text"))]
    assert len(counted) == len(source.cells) - 3
