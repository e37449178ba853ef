"""What is known about one exercise, and the inputs its answers are tried on."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from labcore.course.comparing import Tolerance

Case = tuple[Any, ...] | dict[str, Any]
Draw = Callable[[np.random.Generator], Case]
Property = Callable[[Any, np.random.Generator], str | None]
DRAWS = 2  # fresh inputs per drawing function and run


def call(answer: Any, *args: Any, **kwargs: Any) -> Any:
    """How an answer is used unless an exercise says otherwise: call it."""
    return answer(*args, **kwargs)


@dataclass(frozen=True)
class Wrong:
    """A mistake worth a hint: ``fn`` is the wrong function, or the wrong value."""

    name: str
    fn: Any
    hint: str


@dataclass(frozen=True)
class Exercise:
    """What :func:`register` keeps about one exercise."""

    id: str
    reference: Any
    cases: tuple[Case | Draw, ...]
    properties: tuple[Property, ...]
    wrong: tuple[Wrong, ...]
    points: int
    hints: tuple[str, ...]
    tolerance: Tolerance
    use: Callable[..., Any]
    compare: bool

    @property
    def wants_value(self) -> bool:
        """True when the answer is a number, array or text rather than something to call."""
        return not self.cases

    def answer(self, given: Any) -> Any:
        """``reference`` or a wrong ``fn`` as a student would hand it in."""
        return given() if self.wants_value and callable(given) else given


@dataclass(frozen=True)
class Drawn:
    """A case with its arguments drawn, and how a message calls it."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    label: str


def draw_cases(exercise: Exercise, fresh: int | None) -> list[Drawn]:
    """All inputs of an exercise; those that are drawn depend on ``fresh`` alone."""
    cases = []
    for number, case in enumerate(exercise.cases):
        if not callable(case):
            cases.append(_as_drawn(case, f"fixed input {number + 1}"))
            continue
        for draw in range(DRAWS):
            rng = np.random.default_rng([fresh or 0, number, draw])
            cases.append(_as_drawn(case(rng), f"random input {number + 1}.{draw + 1}"))
    return cases


def _as_drawn(case: Any, label: str) -> Drawn:
    if isinstance(case, Mapping):
        return Drawn((), dict(case), label)
    if isinstance(case, tuple):
        return Drawn(case, {}, label)
    raise TypeError(f"{label} must be a tuple or dict of arguments, got {type(case).__name__}")
