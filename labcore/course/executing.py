"""Execute a notebook and see what nbmake does not: errors and missing plots inside widgets.

An exception in a widget's callback does not fail an executed notebook; it sits in the widget's
state. So the state is searched, every cell that shows a figure must have left one, and (through
the environment) ``lab.explore`` tries each control at both ends.
"""

import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

from labcore.course.anatomy import shows_figure
from labcore.course.lab import STATIC, SWEEP

PLOT = "application/vnd.plotly.v1+json"
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
WIDGET_STATE = "application/vnd.jupyter.widget-state+json"
ANSI = re.compile(r"\x1b\[[0-9;]*m")
START_SECONDS = 120  # for a kernel to answer on a busy machine
TAIL_LINES = 12


class NotebookError(RuntimeError):
    """A notebook failed: which file, which cell (or script line), and the traceback's end."""

    def __init__(self, path: Path, cell_id: str, tail: str) -> None:
        super().__init__(f"{path}: {cell_id}: {tail}")
        self.path, self.cell_id, self.tail = path, cell_id, tail


@dataclass(frozen=True)
class Run:
    """A finished execution.

    Attributes:
        cells: Seconds per code cell, by cell id.
        seconds: Wall time, with the start of the kernel.
        cpu_seconds: CPU time of the kernel and what it started; 0 where the system does not say.
        outputs: What each code cell left, by cell id; figures inside widgets are listed with them.
        widget_errors: ``(cell id, error)`` of each; a run comes back with any only when it is not
            strict.
        missing_plots: Ids of cells that show a figure and left none; likewise.
        printed: All text on standard output.
    """

    cells: Mapping[str, float]
    seconds: float
    cpu_seconds: float
    outputs: Mapping[str, list[Any]]
    widget_errors: tuple[tuple[str, str], ...] = ()
    missing_plots: tuple[str, ...] = ()
    printed: str = ""


def execute(path: Path, *, timeout: float = 120, strict: bool = True, static: bool = False) -> Run:
    """Run a notebook in a kernel of its own, one thread, and look at everything it left.

    A kernel that dies is given one more try, and so is one that fell silent: now and then a message
    between client and kernel never comes, and both wait. Noise on standard error is no failure.

    Args:
        path: The notebook; it is not changed.
        timeout: Seconds per cell.
        strict: Fail on errors in widgets and on missing plots, instead of listing them.
        static: Draw for a page without a kernel: controls become frames.

    Raises:
        NotebookError: A cell raised, ran too long or killed its kernel twice; a widget's callback
            raised; a cell that shows a figure left none.
    """
    attempt = _Attempt(path, timeout, {SWEEP: "1"} | ({STATIC: "1"} if static else {}))
    try:
        run = attempt.run()
    except DeadKernelError:
        attempt = _Attempt(path, timeout, attempt.variables)
        try:
            run = attempt.run()
        except DeadKernelError as error:
            raise NotebookError(path, attempt.current, f"{error}, twice: memory?") from None
    if strict and run.widget_errors:
        raise NotebookError(path, *run.widget_errors[0])
    if strict and run.missing_plots:
        raise NotebookError(path, run.missing_plots[0], "this cell shows a figure but left no plot")
    return run


@dataclass
class _Attempt:
    """One kernel's life."""

    path: Path
    timeout: float
    variables: dict[str, str]
    current: str = "kernel start"
    seconds: dict[str, float] = field(default_factory=dict)

    def run(self) -> Run:
        notebook = nbformat.read(self.path, as_version=4)
        client = NotebookClient(
            notebook,
            timeout=self.timeout,
            startup_timeout=START_SECONDS,
            shutdown_kernel="immediate",
            extra_arguments=["--log-level=ERROR"],
            resources={"metadata": {"path": str(self.path.parent)}},
            on_cell_execute=self._begin,
            on_cell_executed=self._end,
        )
        start, spent = time.perf_counter(), _children_seconds()
        try:
            client.execute(env=environment(**self.variables))
        except DeadKernelError:
            raise DeadKernelError("the kernel died") from None
        except CellTimeoutError:
            if _children_seconds() - spent < self.timeout / 2:
                raise DeadKernelError("the kernel fell silent") from None
            tail = f"still running after {self.timeout:g} s, stopped"
            raise NotebookError(self.path, self.current, tail) from None
        except CellExecutionError as error:
            raise NotebookError(self.path, self.current, tail_of(error.traceback)) from None
        return self._report(notebook, time.perf_counter() - start, _children_seconds() - spent)

    def _begin(self, cell: Any, cell_index: int) -> None:
        self.current = cell.id
        self.seconds[cell.id] = time.perf_counter()

    def _end(self, cell: Any, cell_index: int, execute_reply: Any) -> None:
        self.seconds[cell.id] = time.perf_counter() - self.seconds[cell.id]

    def _report(self, notebook: Any, seconds: float, cpu_seconds: float) -> Run:
        widgets = notebook.metadata.get("widgets", {}).get(WIDGET_STATE, {}).get("state", {})
        code = [cell for cell in notebook.cells if cell.cell_type == "code"]
        outputs = {cell.id: list(_flat(cell.outputs, widgets)) for cell in code}
        everywhere = {
            f"widget {name}": w["state"].get("outputs", ()) for name, w in widgets.items()
        }
        errors = {e: cell for cell, e in _errors(everywhere)} | {e: c for c, e in _errors(outputs)}
        missing = [c.id for c in code if _wants_plot(c) and not any(map(is_plot, outputs[c.id]))]
        left = (o for found in outputs.values() for o in found)
        printed = (o["text"] for o in left if o.get("name") == "stdout")
        return Run(
            self.seconds,
            seconds,
            cpu_seconds,
            outputs,
            tuple((cell, error) for error, cell in errors.items()),
            tuple(missing),
            "".join(printed),
        )


def is_plot(output: Mapping[str, Any]) -> bool:
    """True for an output that holds a plotly figure."""
    return PLOT in output.get("data", {})


def environment(**variables: str) -> dict[str, str]:
    """This process's environment for a notebook: one thread, no drawing outside the notebook."""
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    plain = {"PLOTLY_RENDERER": "plotly_mimetype", "PYTHONHASHSEED": "0"}
    kept = {k: v for k, v in os.environ.items() if k not in (STATIC, SWEEP)}
    return {**kept, **threads, **plain, **variables}


def _children_seconds() -> float:
    used = os.times()
    return used.children_user + used.children_system


def _flat(outputs: Iterable[Any], widgets: Mapping[str, Any]) -> Iterator[Any]:
    """A cell's outputs, those inside its widgets after the widget that holds them."""
    for output in outputs:
        yield output
        view = output.get("data", {}).get(WIDGET_VIEW)
        if view:
            yield from _inside(view["model_id"], widgets)


def _inside(model: str, widgets: Mapping[str, Any]) -> Iterator[Any]:
    state = widgets.get(model, {}).get("state", {})
    yield from _flat(state.get("outputs", ()), widgets)
    for child in state.get("children", ()):
        yield from _inside(child.removeprefix("IPY_MODEL_"), widgets)


def _wants_plot(cell: Any) -> bool:
    if "centrepiece" in cell.metadata.get("tags", ()):
        return True
    try:
        return shows_figure(cell.source)
    except SyntaxError:  # a notebook of someone else, with magics
        return False


def _errors(outputs: Mapping[str, Iterable[Any]]) -> Iterator[tuple[str, str]]:
    for name, found in outputs.items():
        for output in found:
            if output["output_type"] == "error":
                yield name, f"{output['ename']}: {output['evalue']}"


def tail_of(traceback: str) -> str:
    """The last lines of a traceback, without colours."""
    lines = [line.rstrip() for line in ANSI.sub("", traceback).splitlines() if line.strip()]
    return "\n".join(lines[-TAIL_LINES:])
