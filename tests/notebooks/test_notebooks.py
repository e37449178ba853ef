"""Every notebook of the repository: its copies are in sync, its checks know right from wrong.

Executing the notebooks is the business of ``lab notebooks execute`` and of nbmake; these tests
start no kernel.
"""

from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest
import torch

from labcore.course import anatomy, building, checking, commands, markup
from labcore.course.checking import Exercise

ROOT = Path(__file__).resolve().parents[2] / "notebooks"
SOURCES = commands.sources(ROOT)
COPIES = [commands.copy_of(ROOT, path, kind) for path in SOURCES for kind in commands.COPIES]
MAX_BYTES = 200_000
SEEDS = range(20)


def named(path: Path) -> str:
    return f"{path.parents[1].name}-{path.stem}"


def ids() -> list[str]:
    return [id for path in SOURCES for id in markup.parse(path).exercises]


@pytest.fixture(params=ids())
def exercise(request: pytest.FixtureRequest) -> Exercise:
    """Each exercise that a source asks."""
    return checking.find(request.param)


def test_copies_are_in_sync() -> None:
    assert commands.build_all(ROOT, check=True) == []


@pytest.mark.parametrize("path", COPIES, ids=named)
def test_copies_hold_no_outputs(path: Path) -> None:
    assert path.stat().st_size < MAX_BYTES
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert "widgets" not in notebook.metadata
    assert notebook.metadata.kernelspec.name == "python3"
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert cell.outputs == []
            assert cell.execution_count is None


@pytest.mark.parametrize("path", SOURCES, ids=named)
def test_student_copy_keeps_no_solution(path: Path) -> None:
    source = markup.parse(path)
    student = building.notebook(source, "student", anatomy.front_matter(source))
    lines = {line.strip() for cell in student["cells"] for line in cell["source"]}
    for cell in source.cells:
        assert "SOLUTION" not in cell.unsolved
        if cell.named("exercise"):
            assert 'raise NotImplementedError("' in cell.unsolved
        if "teacher" in cell.tags or cell.named("solution-text"):
            assert cell.text.strip().split("\n")[0].strip() not in lines


@pytest.mark.parametrize("path", SOURCES, ids=named)
def test_source_and_checks_ask_the_same(path: Path) -> None:
    source = markup.parse(path)
    registered = {e.id: e for e in checking.exercises(source.id)}
    assert set(source.exercises) == set(registered)
    for id, known in registered.items():
        cells = [c.text for c in source.cells if c.named("hint") == id]
        assert cells or known.hints, f"{id} has no hint"
        if cells and known.hints:
            words = [[" ".join(text.split()) for text in texts] for texts in (cells, known.hints)]
            assert words[0] == words[1], f"{id}: write its hints once, in cells or in the checks"


def test_reference_passes_on_fresh_seeds(exercise: Exercise) -> None:
    for seed in SEEDS:
        result = checking.run(exercise.id, exercise.answer(exercise.reference), fresh=seed)
        assert result.passed, result.message


def test_empty_answer_is_named(exercise: Exercise) -> None:
    def empty(*args: object, **kwargs: object) -> None:
        raise NotImplementedError(exercise.id)

    for answer in (None, ...) if exercise.wants_value else (None, ..., empty):
        result = checking.run(exercise.id, answer)
        if answer is empty and exercise.use is not checking.call:
            assert not result.passed
        else:
            assert result.message.startswith(f"{exercise.id} is still empty")


def test_wrong_answers_get_their_own_hints(exercise: Exercise) -> None:
    assert len(exercise.wrong) >= 2
    assert len({w.hint for w in exercise.wrong}) == len(exercise.wrong)
    for wrong in exercise.wrong:
        for fresh in (None, 1):
            result = checking.run(exercise.id, exercise.answer(wrong.fn), fresh=fresh)
            assert not result.passed, f"{wrong.name} passes"
            assert result.matched_wrong == wrong.name, result.message
            assert wrong.hint in result.message


def written_otherwise(value: Any) -> Any:
    """The same value as another author's code would give it: other memory order, other scalars."""
    if isinstance(value, torch.Tensor):
        return torch.stack([value, value], dim=-1)[..., 0]
    if isinstance(value, np.ndarray) and value.ndim:
        return np.stack([value, value], axis=-1)[..., 0]
    if isinstance(value, bool | int | float):
        return np.asarray(value)[()]
    if isinstance(value, np.generic):
        return value.item()
    if type(value) in (tuple, list):
        return type(value)(written_otherwise(part) for part in value)
    return value


def test_a_right_answer_written_otherwise_passes(exercise: Exercise) -> None:
    right = exercise.answer(exercise.reference)
    if exercise.wants_value:
        answer = written_otherwise(right)
    elif exercise.use is checking.call:
        answer = lambda *args, **named: written_otherwise(right(*args, **named))  # noqa: E731
    else:
        pytest.skip("its answer is a class or a text, which a wrapper cannot write otherwise")
    result = checking.run(exercise.id, answer, fresh=3)
    assert result.passed, result.message


def test_links_between_notebooks_name_real_ones() -> None:
    from labcore.works import WORKS

    known = {work.id for work in WORKS}
    for path in SOURCES:
        for cell in markup.parse(path).cells:
            if cell.kind == "markdown":
                unknown = set(anatomy.NOTEBOOK_ID.findall(cell.text)) - known
                assert not unknown, f"{path}:{cell.line}: no notebook {unknown}"
