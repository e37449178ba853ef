"""One submission in a process of its own: ``python -m labcore.course.grader``.

A :class:`Task` comes as JSON on standard input; one JSON line an exercise goes out. The student's
cells run under limits of time, memory and file size, without their check cells; what those would
have checked is kept, and checked afterwards on fresh inputs. A cell that fails does not stop the
next ones. Functions of numpy, torch and the lab that were replaced meanwhile are noticed.

This stops accidents and simple tricks. It is no sandbox: whoever grades notebooks of people they
do not trust does it in a container or a throw-away account.
"""

import json
import os
import signal
import sys
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from labcore.course.submissions import runnable

WATCHED = ("builtins", "numpy", "torch", "labcore")


@dataclass(frozen=True)
class Task:
    """What the worker is told.

    Attributes:
        notebook: Id of the notebook.
        setup: Trusted text of its set-up cell.
        cells: ``(text, exercise or None, exercises checked here)`` of the student, in order.
        wanted: Exercise id -> trusted expression of what is handed in.
        fresh: Seed of the drawn inputs.
        cell_seconds: Wall seconds a cell, or a check, may take.
        cpu_seconds: CPU seconds in all.
        memory: Bytes of private memory.
    """

    notebook: str
    setup: str
    cells: tuple[tuple[str, str | None, tuple[str, ...]], ...]
    wanted: dict[str, str]
    fresh: int
    cell_seconds: float
    cpu_seconds: int
    memory: int

    def to_json(self) -> str:
        """As text for the worker's standard input."""
        return json.dumps(asdict(self))


class TooLong(BaseException):
    """A cell that was stopped; not an Exception, so that student code does not catch it."""


def main() -> int:
    """Run the task on standard input."""
    task = Task(**json.load(sys.stdin))
    out = os.fdopen(os.dup(1), "w")
    quiet = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(quiet, number)
    _limit(task)
    for row in run(task):
        print(json.dumps(row), file=out)
    out.flush()
    os._exit(0)  # threads and exit handlers of the student's code have no say


def run(task: Task) -> Iterator[dict[str, Any]]:
    """Run the cells, then check what they left; one row an exercise."""
    from labcore.course import checking

    checking.exercises(task.notebook)
    module = types.ModuleType("__main__")
    sys.modules["__main__"] = module
    space = vars(module)
    exec(compile(task.setup, "<setup>", "exec"), space)  # noqa: S102 - the lab's own text
    check, before = checking.run, _functions()
    found, trouble = _answers(task, space)
    changed = [name for name, was in _functions(before).items() if before[name] != was]
    for id in task.wanted:
        row = {"id": id, "passed": False}
        if changed:
            names = ", ".join(changed[:3])
            yield {**row, "message": f"{names} was replaced while the notebook ran"}
        elif id not in found:
            yield {**row, "message": trouble.get(id, f"{id}: its answer was not found")}
        else:
            result = _limited(lambda id=id: check(id, found[id], fresh=task.fresh), task)
            if isinstance(result, str):
                yield {**row, "message": f"{id}: {result}"}
            else:
                yield {**row, "passed": result.passed, "message": result.message}


def _answers(task: Task, space: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """What each exercise's expression gives after its cells, and why there is none."""
    found: dict[str, Any] = {}
    trouble: dict[str, str] = {}
    for number, (source, answers, checks) in enumerate(task.cells, start=1):
        said = _run_cell(source, f"<cell {number}>", space, task)
        if answers in task.wanted and said:
            trouble[answers] = f"{answers}: its cell stopped: {said}"
        for id in task.wanted:
            if id == answers or id in checks:
                _capture(id, task, space, found)
    for id in task.wanted:
        if id not in found and id not in trouble:
            _capture(id, task, space, found)
    return found, trouble


def _capture(id: str, task: Task, space: dict[str, Any], found: dict[str, Any]) -> None:
    try:
        found[id] = eval(task.wanted[id], space)  # noqa: S307 - the lab's own expression
    except Exception:  # not defined (yet): another cell may do it
        return


def _run_cell(source: str, name: str, space: dict[str, Any], task: Task) -> str:
    """Run one cell; empty, or what stopped it."""
    try:
        code = compile(runnable(source), name, "exec")
    except (SyntaxError, ValueError) as error:
        return f"{type(error).__name__}: {error}"
    result = _limited(lambda: exec(code, space), task)  # noqa: S102 - what grading is about
    return result if isinstance(result, str) else ""


def _limited(call: Callable[[], Any], task: Task) -> Any:
    """What the call gives, or a text that says what stopped it."""
    try:
        with _seconds(task.cell_seconds):
            return call()
    except TooLong:
        return f"still running after {task.cell_seconds:g} s, stopped"
    except MemoryError:
        return f"needs more than {task.memory / 2**30:.1f} GiB of memory"
    except NotImplementedError as error:
        return f"still empty ({error})"
    except SystemExit:
        return "the cell tried to end the process"
    except BaseException as error:
        return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


@contextmanager
def _seconds(limit: float) -> Iterator[None]:
    def ring(*_: object) -> None:
        raise TooLong

    signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, limit, 1.0)  # again, for code that swallows the first
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _limit(task: Task) -> None:
    import resource

    for kind, amount in (
        (resource.RLIMIT_CPU, task.cpu_seconds),
        (resource.RLIMIT_DATA, task.memory),
        (resource.RLIMIT_FSIZE, 64 * 2**20),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(kind, (amount, amount))


def _functions(known: dict[str, Any] | None = None) -> dict[str, tuple[int, int]]:
    """Identity of every function and class that checks lean on, by full name.

    Args:
        known: Look only at these names, after the student's code.
    """
    found: dict[str, tuple[int, int]] = {}
    for name, module in list(sys.modules.items()):
        if name.split(".")[0] not in WATCHED or not isinstance(module, types.ModuleType):
            continue
        for attribute, value in list(vars(module).items()):
            full = f"{name}.{attribute}"
            if known is not None and full not in known:
                continue
            if known is not None or callable(value):
                found[full] = _identity(value)
            if isinstance(value, type) and name.startswith("labcore.course"):
                for inner, method in list(vars(value).items()):
                    if callable(method):
                        found[f"{full}.{inner}"] = _identity(method)
    return found if known is None else {k: v for k, v in found.items() if k in known}


def _identity(value: Any) -> tuple[int, int]:
    return id(value), id(getattr(value, "__code__", None))


if __name__ == "__main__":
    sys.exit(main())
