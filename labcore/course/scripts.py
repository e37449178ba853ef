"""The fast lane: notebook sources as plain scripts, in processes that have their imports already.

A server process imports the heavy packages once and forks a child a script, so that a script costs
what its own cells cost. Each child is a fresh namespace; nothing leaks from one to the next.
"""

import json
import multiprocessing
import os
import re
import runpy
import sys
import tempfile
import time
import traceback
from functools import cache
from multiprocessing.context import ForkServerContext
from pathlib import Path

from labcore.course import markup
from labcore.course.building import cell_id
from labcore.course.executing import NotebookError, Run, environment, tail_of
from labcore.course.lab import SWEEP

WARM = (  # also what plotly, ipywidgets and torch's optimizers import at their first use
    "labcore.course.lab",
    "plotly.io._renderers",
    "plotly.subplots",
    "ipywidgets",
    "networkx",
    "scipy.stats",
    "torch._dynamo",
    "transformers.modeling_utils",
)


@cache
def _context() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(WARM))
    return context


def execute_script(path: Path, *, timeout: float = 120) -> Run:
    """Run a source as a plain script, in a process of its own, without a kernel.

    Raises:
        NotebookError: It failed, with the id of the cell it stopped in, or took too long.
    """
    # a renderer that draws nothing by itself
    variables = environment(**{SWEEP: "1", "PLOTLY_RENDERER": "browser"})
    with tempfile.TemporaryDirectory(prefix="script-") as folder:
        out = Path(folder)
        child = _context().Process(target=_run, args=(path.resolve(), out, variables))
        child.start()  # the first one waits for the server's imports
        start = time.perf_counter()
        child.join(timeout)
        if child.is_alive():
            child.kill()
            child.join()
            tail = f"still running after {timeout:g} s, stopped"
            raise NotebookError(path, "script", tail)
        said, errors = ((out / name).read_text(errors="replace") for name in ("out", "err"))
        if child.exitcode:
            raise NotebookError(path, _script_cell(path, errors), tail_of(errors))
        spent = json.loads((out / "spent").read_text())
    return Run({}, time.perf_counter() - start, float(spent), {}, printed=said)


def _run(path: Path, out: Path, variables: dict[str, str]) -> None:
    """In the child: run the script, leave its text, its traceback and its CPU seconds in files."""
    os.environ.clear()
    os.environ.update(variables)
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(out / name, os.O_WRONLY | os.O_CREAT), number)
    os.chdir(path.parent)
    sys.argv = [str(path)]
    try:
        runpy.run_path(str(path), run_name="__main__")
    except BaseException:
        traceback.print_exc()
        sys.exit(1)
    finally:
        sys.stdout.flush()
        used = os.times()
        spent = used.user + used.system + used.children_user + used.children_system
        (out / "spent").write_text(json.dumps(spent))


def _script_cell(path: Path, stderr: str) -> str:
    """The id of the cell that a script stopped in, else its line, from the traceback."""
    lines = re.findall(rf'File "{re.escape(str(path.resolve()))}", line (\d+)', stderr)
    if not lines:
        return "script"
    where = int(lines[0])  # the outermost frame: the cell that was being run
    try:
        source = markup.parse(path)
    except (markup.SourceError, SyntaxError):
        return f"line {where}"
    inside = [c for c in source.cells if c.line <= where]
    return f"{cell_id(source, inside[-1])} (line {int(lines[-1])})" if inside else f"line {where}"
