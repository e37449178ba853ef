"""One worker process of the app's pool, and the job that it runs."""

import os
import pickle
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from typing import Any, Literal

from app.ui.catalogue import ROOT
from labcore.runtime import THREAD_VARIABLES

State = Literal["queued", "running", "done", "failed", "cancelled"]
ACTIVE = ("queued", "running")


@dataclass
class Job:
    """One piece of work and what is known of it.

    Attributes:
        key: Hash of the call.
        label: What it computes, for people.
        state: Where it stands.
        done, total, note: The last progress report.
        value: What the function returned, when ``state`` is ``"done"``.
        error: Why it failed; ``speaks`` when the sentence is written for people.
        watchers: Session -> when it last looked.
    """

    key: str
    label: str
    call: bytes = field(repr=False)
    reports: bool = False
    state: State = "queued"
    done: int = 0
    total: int = 0
    note: str = ""
    value: Any = None
    error: str = ""
    speaks: bool = False
    trace: str = ""
    watchers: dict[str, float] = field(default_factory=dict)
    started: float = 0.0

    @property
    def active(self) -> bool:
        """Whether it still waits or runs."""
        return self.state in ACTIVE


class Slot:
    """One place in the pool: a worker process, replaced when it dies or has done its tasks."""

    def __init__(self, tasks: int) -> None:
        self.job: Job | None = None
        self._tasks, self._left = tasks, 0
        self._process: subprocess.Popen[bytes] | None = None
        self._stopping = False

    def run(self, job: Job) -> None:
        """Send the job to the process and follow it to its end."""
        self._stopping = False
        process = self._ready()
        try:
            self._send(process, ("run", job.call, job.reports))
            while job.state == "running":
                _note(job, pickle.load(process.stdout))  # type: ignore[arg-type]  # noqa: S301
        except (EOFError, OSError, pickle.UnpicklingError):
            self._left = 0  # a dying process may still look alive: the next job gets a new one
            if self._stopping:
                job.state = "cancelled"
                return
            job.error = "The worker died (out of memory?): try again with smaller settings."
            job.speaks, job.state = True, "failed"
        except (ImportError, AttributeError) as error:
            job.error, job.state = f"the result cannot be read here: {error}", "failed"

    def stop(self, grace: float) -> None:
        """Ask the job to stop at its next step; kill the worker if it does not."""
        process, job = self._process, self.job
        if process is None or job is None:
            return
        self._stopping = True
        try:
            self._send(process, ("stop",))
        except OSError:
            return
        timer = threading.Timer(grace, lambda: job.active and process.kill())
        timer.daemon = True
        timer.start()

    def kill(self) -> None:
        """End the process."""
        if self._process:
            self._stopping = True
            self._process.kill()
            self._process.wait()

    def _ready(self) -> "subprocess.Popen[bytes]":
        process = self._process
        if process and process.poll() is None and self._left > 0:
            self._left -= 1
            return process
        if process:
            process.kill()
            process.wait()
        self._left = self._tasks - 1
        self._process = _start()
        return self._process

    @staticmethod
    def _send(process: "subprocess.Popen[bytes]", message: tuple[Any, ...]) -> None:
        assert process.stdin is not None
        pickle.dump(message, process.stdin)
        process.stdin.flush()


def _start() -> "subprocess.Popen[bytes]":
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    env = {**os.environ, **dict.fromkeys(THREAD_VARIABLES, "1")}
    return subprocess.Popen(
        [sys.executable, "-m", "app.worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
        env={**env, "PYTHONPATH": os.pathsep.join(paths)},
    )


def _note(job: Job, message: tuple[Any, ...]) -> None:
    """Write a worker's message into the job; the state comes last, others read without the lock."""
    kind, *rest = message
    if kind == "progress":
        job.done, job.total, job.note = rest
    elif kind == "done":
        job.value = pickle.loads(rest[0])  # noqa: S301  from our own worker
        job.state = "done"
    elif kind == "failed":
        job.speaks, job.error, job.trace = rest
        job.state = "failed"
    else:
        job.state = "cancelled"
