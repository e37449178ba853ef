"""One answer tried on the inputs of an exercise, and the mistake it may match."""

import copy
import inspect
from dataclasses import dataclass, field
from typing import Any

from labcore.course.comparing import CheckFailed, Tolerance, brief, compare, fail
from labcore.course.exercise import Drawn, Exercise, Wrong, call


@dataclass
class Trial:
    """One answer tried on all cases; outcomes are kept so that mistakes can be matched."""

    exercise: Exercise
    obj: Any
    cases: list[Drawn]
    failed: int | None = None
    outcomes: dict[int, Any] = field(default_factory=dict)

    def outcome(self, index: int) -> Any:
        """What the answer gives on one case: a value, or the exception it ended with."""
        if index not in self.outcomes:
            self.outcomes[index] = attempt(self.exercise, self.obj, self.cases[index])
        return self.outcomes[index]

    def is_empty(self) -> bool:
        """True for a starter cell that nobody has filled in."""
        if self.exercise.wants_value:
            return False
        ready = self.exercise.use is not call or _signature_problem(self.obj, self.cases[0]) == ""
        return ready and isinstance(self.outcome(0), NotImplementedError)

    def check(self) -> None:
        """Signature, shape, type and values, case by case.

        Raises:
            CheckFailed: At the first thing that is not right.
        """
        exercise = self.exercise
        if exercise.wants_value:
            if exercise.compare:
                compare(self.obj, exercise.answer(exercise.reference), "answer", exercise.tolerance)
            return
        for index, case in enumerate(self.cases):
            self.failed = index
            if exercise.use is call and (problem := _signature_problem(self.obj, case)):
                fail(problem, f"{_parameters(exercise.reference)}", _parameters(self.obj))
            self._check_case(case, self.outcome(index))
        self.failed = None

    def _check_case(self, case: Drawn, got: Any) -> None:
        shown = f"\n  with {_shown(case)}"
        exercise = self.exercise
        want = attempt(exercise, exercise.reference, case) if exercise.compare else None
        if isinstance(want, Exception):  # not the student's fault
            raise RuntimeError(f"the reference of {exercise.id} stops on {case.label}") from want
        if isinstance(got, Exception):
            what = f"{type(got).__name__}: {got}"
            raise CheckFailed(f"{case.label}: your code stopped with {what}{shown}") from got
        if not exercise.compare:
            return
        try:
            compare(got, want, case.label, exercise.tolerance)
        except CheckFailed as failure:
            raise CheckFailed(f"{failure}{shown}") from None

    def match(self) -> Wrong | None:
        """The registered mistake that gives what the student's answer gives, if there is one."""
        scores = [self._agreement(w) for w in self.exercise.wrong]
        if not scores or max(scores) == 0:
            return None
        return self.exercise.wrong[scores.index(max(scores))]

    def _agreement(self, wrong: Wrong) -> int:
        exercise = self.exercise
        if exercise.wants_value:
            return int(_same(self.obj, exercise.answer(wrong.fn), exercise.tolerance))
        theirs = [attempt(exercise, wrong.fn, case) for case in self.cases]
        agree = [_same(self.outcome(i), t, exercise.tolerance) for i, t in enumerate(theirs)]
        decisive = all(agree) if self.failed is None else agree[self.failed]
        return sum(agree) if decisive else 0


def attempt(exercise: Exercise, answer: Any, case: Drawn) -> Any:
    """The outcome of one use: its value, or the exception it ended with."""
    args, kwargs = copy.deepcopy((case.args, case.kwargs))  # an answer may spoil its inputs
    try:
        return exercise.use(answer, *args, **kwargs)
    except Exception as error:
        return error


def _same(one: Any, other: Any, tolerance: Tolerance) -> bool:
    if isinstance(one, Exception) or isinstance(other, Exception):
        return type(one) is type(other) and str(one) == str(other)
    try:
        compare(one, other, "answer", tolerance)
    except CheckFailed:
        return False
    return True


def _signature_problem(obj: Any, case: Drawn) -> str:
    """Empty when ``obj`` can be called with the case's arguments."""
    if not callable(obj):
        return f"a function is wanted, not its result ({brief(obj)})"
    try:
        inspect.signature(obj).bind(*case.args, **case.kwargs)
    except TypeError as error:
        return f"the function cannot be called as in the exercise: {error}"
    except ValueError:  # built-in functions do not tell their signature
        return ""
    return ""


def _parameters(obj: Any) -> str:
    try:
        return str(inspect.signature(obj))
    except (TypeError, ValueError):
        return brief(obj)


def _shown(case: Drawn) -> str:
    named = [f"{k}={brief(v, 60)}" for k, v in case.kwargs.items()]
    return ", ".join([*(brief(v, 60) for v in case.args), *named])
