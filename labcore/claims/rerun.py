"""Every quick experiment once more, and which verdicts it would change.

Each topic runs as ``lab run TOPIC --quick`` in a process of its own, as many at once as asked; its
result is judged by the same rules as the committed one.
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labcore.claims import Claim, claims_of
from labcore.runs import Result, committed
from labcore.works import built_topics

NOT_THERE = (KeyError, IndexError, ValueError, ZeroDivisionError)
Row = dict[str, Any]


@dataclass(frozen=True)
class Run:
    """How a topic's quick experiment ended."""

    topic: str
    seconds: float
    result: Result | None
    problem: str


def rerun(
    topics: Sequence[str] = (), *, jobs: int = 2, report: Callable[[str], None] = print
) -> list[Row]:
    """Run the quick experiments and judge them beside the committed results.

    Args:
        topics: Which; all built ones by default.
        jobs: Topics at once.
        report: Called with one line a topic.

    Returns:
        One row a claim: ``id, work, committed, quick, changed, measured, seconds``. A claim that
        the quick experiment does not measure says so and counts as unchanged.
    """
    chosen = [topic for topic in (topics or built_topics()) if claims_of(topic)]
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(jobs) as pool:
        rows: list[Row] = []
        for run in pool.map(lambda topic: _run(topic, Path(folder) / topic), chosen):
            found = _judged(run)
            changed = sum(row["changed"] for row in found)
            report(f"{run.topic}: {run.seconds:.0f} s, {changed} of {len(found)} verdicts changed")
            rows += found
    return rows


def _run(topic: str, out: Path) -> Run:
    start = time.perf_counter()
    command = [sys.executable, "-m", "labcore.cli", "run", topic, "--quick", "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - start
    if done.returncode:
        said = done.stderr.strip().splitlines()[-1:] or [f"code {done.returncode}"]
        return Run(topic, seconds, None, said[0])
    return Run(topic, seconds, Result.load(out / "quick.npz"), "")


def _judged(run: Run) -> list[Row]:
    known = committed(run.topic)
    return [_row(claim, run, known) for claim in claims_of(run.topic)]


def _row(claim: Claim, run: Run, known: Result) -> Row:
    before = claim.measure(known).verdict
    row = {"id": claim.id, "work": run.topic, "committed": before}
    if run.result is None:
        quick, measured = "the run failed", run.problem
    else:
        try:
            finding = claim.measure(run.result)
            quick, measured = finding.verdict, finding.measured
        except NOT_THERE as error:
            quick, measured = "not in the quick experiment", f"{type(error).__name__}: {error}"
    judged = quick not in ("the run failed", "not in the quick experiment")
    return row | {
        "quick": quick,
        "changed": judged and quick != before,
        "measured": measured,
        "seconds": round(run.seconds, 1),
    }
