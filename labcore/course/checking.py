"""Exercises and their checks: each keeps its reference and the wrong answers it knows.

A check looks at the student's object, never at its text: it exists, can be called, and gives the
shape, type and values of the reference on fixed and on freshly drawn inputs, then has the stated
properties. A registered wrong answer brings its own hint when the student's answer equals it.

The registry below is the one piece of module state. It is filled by importing a notebook's module
in ``labcore.course.checks``, and each id is written once; nothing else ever changes it.
"""

import difflib
import importlib
import pkgutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from labcore.course import checks
from labcore.course.comparing import EXACT, LINALG, CheckFailed, Tolerance, band, close
from labcore.course.exercise import Case, Draw, Exercise, Property, Wrong, call, draw_cases
from labcore.course.trial import Trial

__all__ = [
    "EXACT",
    "LINALG",
    "CheckFailed",
    "Exercise",
    "Result",
    "Tolerance",
    "UnknownExercise",
    "Wrong",
    "band",
    "call",
    "close",
    "exercises",
    "find",
    "register",
    "run",
]


@dataclass(frozen=True)
class Result:
    """What a check found: the line for the student and the mistake it recognised, if any."""

    passed: bool
    message: str
    matched_wrong: str | None = None


class UnknownExercise(ValueError):
    """No such exercise; the message names the nearest ones."""


_REGISTRY: dict[str, Exercise] = {}


def register(
    exercise_id: str,
    *,
    reference: Any,
    cases: Sequence[Case | Draw] = (),
    properties: Sequence[Property] = (),
    wrong: Sequence[Wrong] = (),
    points: int = 1,
    hints: Sequence[str] = (),
    tolerance: Tolerance = LINALG,
    use: Callable[..., Any] = call,
    compare: bool = True,
) -> None:
    """Add one exercise; called when a module of ``labcore.course.checks`` is imported.

    Args:
        exercise_id: ``"P06.1"``.
        reference: The right function. Without ``cases``: the right value, or a function of no
            arguments that computes it.
        cases: Arguments to try: a tuple (positional), a dict (by name), or a function of a
            ``numpy`` Generator that draws one of those. Draw float64 where possible.
        properties: Functions ``(answer, rng)`` that return None, or say what does not hold.
        wrong: Known mistakes, at least two, each with its hint.
        points: For grading.
        hints: At most three, from vague to precise, for ``lab.hint``.
        tolerance: ``EXACT``, ``LINALG``, ``band(0.03)`` or any :class:`Tolerance`.
        use: ``use(answer, *case)`` gives what is compared; for answers that are classes, or text
            such as an einsum pattern. Defaults to calling the answer.
        compare: False when many answers are right and the properties alone decide.

    Raises:
        ValueError: The id is registered already, or there are more than three hints.
    """
    if exercise_id in _REGISTRY:
        raise ValueError(f"{exercise_id} is registered already: ids are unique; restart the kernel")
    if len(hints) > 3:
        raise ValueError(f"{exercise_id} has {len(hints)} hints: at most three, vague to precise")
    _REGISTRY[exercise_id] = Exercise(
        exercise_id,
        reference,
        tuple(cases),
        tuple(properties),
        tuple(wrong),
        points,
        tuple(hints),
        tolerance,
        use,
        compare,
    )


def exercises(notebook_id: str) -> list[Exercise]:
    """All exercises of one notebook, its module imported if need be.

    Raises:
        UnknownExercise: No module of checks belongs to that id.
    """
    _load(notebook_id)
    return [e for key, e in _REGISTRY.items() if key.split(".")[0] == notebook_id]


def find(exercise_id: str) -> Exercise:
    """The exercise of that id.

    Raises:
        UnknownExercise: There is none; the nearest ids are listed.
    """
    notebook_id = exercise_id.split(".")[0]
    known = [e.id for e in exercises(notebook_id)]
    if exercise_id not in known:
        near = difflib.get_close_matches(exercise_id, known, n=3, cutoff=0.0)
        raise UnknownExercise(f"no exercise {exercise_id!r}; did you mean {', '.join(near)}?")
    return _REGISTRY[exercise_id]


def _load(notebook_id: str) -> None:
    names = [m.name for m in pkgutil.iter_modules(checks.__path__)]
    mine = [n for n in names if n.split("_")[0] == notebook_id.lower()]
    if not mine:
        ids = sorted(n.split("_")[0].upper() for n in names)
        near = difflib.get_close_matches(notebook_id.upper(), ids, n=3, cutoff=0.0)
        raise UnknownExercise(f"no checks for {notebook_id!r}; nearest: {', '.join(near)}")
    for name in mine:
        importlib.import_module(f"{checks.__name__}.{name}")


def run(exercise_id: str, obj: Any, *, fresh: int | None = None) -> Result:
    """Check one answer.

    Args:
        exercise_id: ``"P06.1"``.
        obj: The student's function, class or value.
        fresh: Seed of the drawn inputs; teachers set their own when they grade.

    Raises:
        UnknownExercise: There is no such exercise.
    """
    exercise = find(exercise_id)
    trial = Trial(exercise, obj, draw_cases(exercise, fresh))
    if obj is None or obj is Ellipsis or trial.is_empty():
        return Result(False, f"{exercise_id} is still empty: write your answer, then run this cell")
    try:
        trial.check()
        _check_properties(exercise, obj, fresh)
    except CheckFailed as failure:
        match = trial.match()
        hint = f"\n  Hint: {match.hint}" if match else ""
        return Result(False, f"{exercise_id}, {failure}{hint}", match.name if match else None)
    return Result(True, f"{exercise_id} passed")


def _check_properties(exercise: Exercise, obj: Any, fresh: int | None) -> None:
    for number, holds in enumerate(exercise.properties):
        rng = np.random.default_rng([fresh or 0, 1000 + number])
        try:
            complaint = holds(obj, rng)
        except CheckFailed:
            raise
        except Exception as error:
            complaint = f"your code stopped with {type(error).__name__}: {error}"
        if complaint:
            raise CheckFailed(f"a property does not hold: {complaint}")
