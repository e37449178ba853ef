"""The lab's own machinery: a class on one server, notebooks built and executed.

Peers: the same page as a plain Streamlit script with default settings (:mod:`bench.load`);
nbgrader's ``generate_assignment`` for a student's copy; nbmake for executing the notebooks.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bench import load, peers
from labcore import assets
from labcore.course import building, commands
from labcore.runs import Progress, silent

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = ROOT / "notebooks"
PAGE = "b04"  # one slider, one figure
ASSET = "smollm2-135m"
QUICK = ("B02", "B04", "B06", "BA")
LIMIT = ("none: the goal is in seconds", "")
FRAME_GOAL, FETCH_GOAL, KERNELS_GOAL, BOOK_GOAL = 3.0, 0.05, 600.0, 180.0
Row = dict[str, Any]


def rows(progress: Progress | None = None, quick: bool = False) -> list[Row]:
    """All races; ``quick`` has ten sessions and a few notebooks instead of all."""
    report = progress or silent
    table: list[Row] = []
    races = (crowds, first_frame, second_fetch, student_copies, execution)
    for done, race in enumerate(races):
        table += race(quick)
        report(done + 1, len(races), race.__name__)
    return table


def row(
    name: str, peer: tuple[str, str], ours: float, theirs: float, goal: float, agreement: str
) -> Row:
    """One line of the table."""
    ratio = theirs / ours
    return {
        "name": name,
        "work": "course",
        "peer": peer[0],
        "peer_version": peer[1],
        "ours_s": round(ours, 4),
        "peer_s": round(theirs, 4),
        "ratio": round(ratio, 2),
        "goal": goal,
        "agreement": agreement,
        "threads": 1,
    }


def crowds(quick: bool) -> list[Row]:
    """Many sessions on one process: this app against a plain one, in turns."""
    sessions, moves = (10, 3) if quick else (30, 4)
    ours, plain = (load.measure(kind, PAGE, sessions, moves, 1.0, 0) for kind in ("ours", "plain"))
    for found in (ours, plain):
        if len(found.moves.seconds) + len(found.moves.failed) < sessions:
            raise RuntimeError(f"only {len(found.moves.seconds)} moves were answered")
    peer = ("plain Streamlit script, same page, same libraries loaded", version("streamlit"))
    said = (
        f"{len(ours.moves.seconds)} and {len(plain.moves.seconds)} moves answered, "
        f"{len(ours.moves.failed)} and {len(plain.moves.failed)} sessions failed"
    )
    table = [row("CPU of a light re-run", peer, ours.cpu_ms / 1e3, plain.cpu_ms / 1e3, 4, said)]
    for share, goal in ((50, 8), (95, 3)):
        values = (found.moves.percentile(share) for found in (ours, plain))
        table.append(
            row(f"{sessions} sessions, 1 s think time, p{share}", peer, *values, goal, said)
        )
    return table


def first_frame(quick: bool) -> list[Row]:
    """From the address to a drawn figure in a real browser, on a warm server."""
    chromium = os.environ.get("LAB_CHROMIUM") or shutil.which("chromium")
    if chromium is None:
        return []
    from playwright.sync_api import sync_playwright

    with load.server("ours") as (port, _), sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        seconds = []
        for _ in range(3):
            page = browser.new_context().new_page()
            start = time.perf_counter()
            page.goto(f"http://127.0.0.1:{port}/{PAGE}")
            page.locator("svg.main-svg").first.wait_for()
            seconds.append(time.perf_counter() - start)
        browser.close()
    said = f"of three new browsers {', '.join(f'{s:.2f} s' for s in seconds)}"
    return [row("first interactive frame, warm server", LIMIT, min(seconds), FRAME_GOAL, 1, said)]


def second_fetch(quick: bool) -> list[Row]:
    """Asking for an asset that is here: no subprocess, no second hashing of its files."""
    if assets.status(ASSET) != "ready":
        return []
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        assets.fetch(ASSET, offline=True)
        seconds.append(time.perf_counter() - start)
    said = f"{ASSET}, {assets.registry()[ASSET].size / 1e6:.0f} MB"
    return [row("second fetch of an asset", LIMIT, min(seconds), FETCH_GOAL, 1, said)]


def student_copies(quick: bool) -> list[Row]:
    """A student's notebook: our builder against nbgrader's, each notebook by itself."""
    if not peers.is_ready("nbgrader"):
        return []
    chosen = commands.sources(NOTEBOOKS, QUICK[:2] if quick else QUICK)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        start = time.perf_counter()
        for source in chosen:
            building.build(source, folder / "ours" / f"{source.stem}.ipynb")
        ours = (time.perf_counter() - start) / len(chosen)
        (folder / "nbgrader_config.py").write_text(
            'c = get_config()\nc.CourseDirectory.course_id = "lab"\n'
        )
        commands.build_nbgrader(NOTEBOOKS, folder, [s.name.split("_")[0] for s in chosen])
        start = time.perf_counter()
        for source in chosen:
            _nbgrader(folder, "generate_assignment", source.name.split("_")[0])
        theirs = (time.perf_counter() - start) / len(chosen)
        for source in chosen:
            released = folder / "release" / source.name.split("_")[0] / f"{source.stem}.ipynb"
            counts = [_empty(p) for p in (folder / "ours" / f"{source.stem}.ipynb", released)]
            if len(set(counts)) != 1:
                raise RuntimeError(f"{source.stem}: {counts} empty answers in the two copies")
    peer = ("nbgrader generate_assignment", "0.9.6")
    said = f"{len(chosen)} notebooks, as many empty answers in both copies"
    return [row("student copy of a notebook", peer, ours, theirs, 20, said)]


def _nbgrader(folder: Path, *words: str) -> None:
    python = peers.python("nbgrader")
    kernels = Path(sysconfig.get_path("data")) / "share" / "jupyter"
    path = f"{python.parent}{os.pathsep}{os.environ['PATH']}"
    command = [str(python), "-m", "nbgrader", *words]
    variables = {**os.environ, "JUPYTER_PATH": str(kernels), "PATH": path}
    subprocess.run(command, cwd=folder, env=variables, capture_output=True, check=True)


def _empty(path: Path) -> int:
    cells = json.loads(path.read_text())["cells"]
    return sum("raise NotImplementedError" in "".join(cell["source"]) for cell in cells)


def execution(quick: bool) -> list[Row]:
    """All solutions: the script lane, a core each, its warm-up included, against nbmake."""
    chosen = commands.sources(NOTEBOOKS, QUICK if quick else ())
    names = [source.name.split("_")[0] for source in chosen]
    lines: list[str] = []
    start = time.perf_counter()
    problems = commands.execute_all(NOTEBOOKS, names=names, fast=True, report=lines.append)
    ours = time.perf_counter() - start
    if problems:
        raise RuntimeError(problems[0])
    copies = [str(commands.copy_of(NOTEBOOKS, source, "solution")) for source in chosen]
    theirs, theirs_cpu = _nbmake(copies)
    said = (
        f"{len(chosen)} notebooks pass in both; CPU {sum(map(_cpu_seconds, lines)):.0f} s "
        f"(without the warm-up) against {theirs_cpu:.0f} s"
    )
    peer = ("pytest --nbmake", version("nbmake"))
    table = [row("all notebooks executed", peer, ours, theirs, 4, said)]
    if not quick:
        book = sum(_cpu_seconds(line) for line in lines if line.startswith("B"))
        table += [
            row("all notebooks in kernels of their own", LIMIT, theirs, KERNELS_GOAL, 1, said),
            row("the book's notebooks, CPU of their code", LIMIT, book, BOOK_GOAL, 1, said),
        ]
    return table


def _nbmake(copies: list[str], tries: int = 3) -> tuple[float, float]:
    """Wall and CPU seconds of a run of nbmake in which no kernel was lost.

    Now and then nbmake waits for a kernel whose last message never came; such a run is not timed.

    Raises:
        RuntimeError: a notebook failed otherwise, or kernels were lost in every run.
    """
    nbmake = (sys.executable, "-m", "pytest", "--nbmake", "--nbmake-timeout=120")
    for _ in range(tries):
        start, before = time.perf_counter(), _children_seconds()
        done = subprocess.run(
            [*nbmake, "-o", "addopts=", "-p", "no:cacheprovider", *copies],
            cwd=ROOT,
            env=os.environ | {"COLUMNS": "250"},  # or the summary leaves out the reason
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode == 0:
            return time.perf_counter() - start, _children_seconds() - before
        failed = [line for line in done.stdout.splitlines() if line.startswith("FAILED")]
        if not failed or not all("NBMAKE INTERNAL ERROR" in line for line in failed):
            break
    raise RuntimeError(done.stdout[-500:])


def _cpu_seconds(line: str) -> float:
    """What a line of :func:`.commands.execute_all` says: ``B04: 0.5 s, 0.4 of 30 s of CPU``."""
    found = re.search(r"([\d.]+) of \d+ s of CPU", line)
    return float(found[1]) if found else 0.0


def _children_seconds() -> float:
    used = os.times()
    return used.children_user + used.children_system
