"""Long work outside the server process: a few workers, a queue, progress, stop. No Streamlit here.

A page that computes for seconds would hold up everybody's sliders, and Streamlit cannot interrupt
it. So such work goes to worker processes (:mod:`app.worker`), as many as cores but one. Equal jobs
are run once and their result is kept, so a class that presses the same button waits for one run.
"""

import hashlib
import os
import pickle
import re
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from typing import Any

from app.ui.slot import Job, Slot

_DOTTED = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")
PATIENCE = 60.0  # seconds after which a queued job that nobody watches is dropped


Function = Callable[..., Any] | str


def dotted(function: Function) -> str:
    """The name by which a worker imports a function: ``"package.module.name"``.

    A page may give the name itself, and then the server never imports the module.

    Raises:
        ValueError: the function is not importable by a worker.
    """
    if isinstance(function, str):
        if not _DOTTED.fullmatch(function):
            raise ValueError(f"{function!r} must read package.module.function")
        return function
    if function.__module__ == "__main__" or "<" in function.__qualname__:
        raise ValueError(
            f"{function.__qualname__} must be a top-level function of an importable module "
            "(labcore or app.tasks): a worker imports it by name"
        )
    return f"{function.__module__}.{function.__qualname__}"


def job_key(function: Function, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
    """The same for equal calls."""
    data = pickle.dumps((dotted(function), args, sorted(kwargs.items())))
    return hashlib.sha256(data).hexdigest()


class Pool:
    """Worker processes and their queue, shared by all sessions.

    Args:
        workers: How many; default one fewer than cores.
        tasks: Jobs a worker does before it is replaced, which gives its memory back.
        keep: Finished jobs to remember.
        grace: Seconds a job gets to stop by itself before its worker is killed.
    """

    def __init__(
        self, workers: int | None = None, *, tasks: int = 20, keep: int = 32, grace: float = 3.0
    ) -> None:
        self.workers = workers or max(1, (os.cpu_count() or 2) - 1)
        self._tasks, self._keep, self._grace = tasks, keep, grace
        self._jobs: OrderedDict[str, Job] = OrderedDict()
        self._queue: deque[Job] = deque()
        self._change = threading.Condition(threading.RLock())
        self._slots: list[Slot] = []
        self._closed = False

    def submit(
        self,
        function: Function,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        label: str,
        watcher: str,
        reports: bool = True,
    ) -> Job:
        """Queue a call, or join the equal one that is queued, running or done.

        Args:
            reports: Whether the function takes ``progress=`` (:data:`labcore.runs.Progress`).

        Raises:
            ValueError: the function is not importable, or the watcher has another active job.
        """
        kwargs = dict(kwargs or {})
        key = job_key(function, args, kwargs)
        with self._change:
            busy = self.active(watcher)
            if busy and busy.key != key:
                raise ValueError(f"one run at a time: {busy.label!r} is still going, stop it first")
            job = self._jobs.get(key)
            if job is None or job.state in ("failed", "cancelled"):
                call = pickle.dumps((dotted(function), args, kwargs))
                job = self._jobs[key] = Job(key, label, call, reports)
                self._queue.append(job)
                self._hire()
                self._change.notify()
            job.watchers[watcher] = time.monotonic()
            self._forget_old()
        return job

    def find(self, key: str, watcher: str) -> Job | None:
        """The job with this key, noting that ``watcher`` looks at it."""
        with self._change:
            job = self._jobs.get(key)
            if job and watcher in job.watchers:
                job.watchers[watcher] = time.monotonic()
            return job

    def active(self, watcher: str) -> Job | None:
        """The job that this session waits for."""
        with self._change:
            mine = (j for j in self._jobs.values() if j.active and watcher in j.watchers)
            return next(mine, None)

    def position(self, job: Job) -> int:
        """Place in the queue, 1 for the next one; 0 when it does not wait."""
        with self._change:
            return self._queue.index(job) + 1 if job in self._queue else 0

    def waiting(self) -> int:
        """Length of the queue."""
        return len(self._queue)

    def running(self) -> list[Job]:
        """The jobs that run now."""
        with self._change:
            return [job for job in self._jobs.values() if job.state == "running"]

    def stop(self, job: Job, watcher: str) -> None:
        """This session no longer wants the job; it ends when nobody else does."""
        with self._change:
            job.watchers.pop(watcher, None)
            if job.watchers or not job.active:
                return
            if job in self._queue:
                self._queue.remove(job)
                job.state = "cancelled"
                return
            slot = next((s for s in self._slots if s.job is job), None)
        if slot:
            slot.stop(self._grace)

    def forget(self, key: str) -> None:
        """Drop a finished job, so that the next submit runs it anew."""
        with self._change:
            if key in self._jobs and not self._jobs[key].active:
                del self._jobs[key]

    def close(self) -> None:
        """End all workers."""
        with self._change:
            self._closed = True
            self._change.notify_all()
            slots = list(self._slots)
        for slot in slots:
            slot.kill()

    def _hire(self) -> None:
        if len(self._slots) < min(self.workers, len(self._queue) + len(self.running())):
            slot = Slot(self._tasks)
            self._slots.append(slot)
            threading.Thread(target=self._serve, args=(slot,), daemon=True).start()

    def _serve(self, slot: Slot) -> None:
        while (job := self._next(slot)) is not None:
            slot.run(job)
            with self._change:
                slot.job = None

    def _next(self, slot: Slot) -> Job | None:
        with self._change:
            while True:
                self._change.wait_for(lambda: self._queue or self._closed)
                if self._closed:
                    return None
                job = self._queue.popleft()
                if time.monotonic() - max(job.watchers.values(), default=0) > PATIENCE:
                    job.state = "cancelled"
                    continue
                job.state, job.started, slot.job = "running", time.monotonic(), job
                return job

    def _forget_old(self) -> None:
        finished = [key for key, job in self._jobs.items() if not job.active]
        for key in finished[: max(0, len(self._jobs) - self._keep)]:
            del self._jobs[key]
