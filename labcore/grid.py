"""Grids of small tasks, on the cores of this machine (loky) or on a Dask cluster.

The same task gives the same bytes whatever the engine, the order and the number of workers: its
id is a hash of what it is, its seed a function of that id, and its file holds no clock reading.
A finished task is on disk before the next one counts, so a killed grid resumes where it was.
"""

import hashlib
import io
import json
import traceback
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from labcore.runs import DAMAGE, Progress, ResultError, replacing, silent


@dataclass(frozen=True)
class TaskResult:
    """One task of a grid: its parameters and seed, and what it returned or how it failed."""

    id: str
    params: dict[str, Any]
    seed: int
    values: dict[str, Any]
    error: str | None = None


def task_id(fn: Callable[..., Any], params: Mapping[str, Any], data_version: str = "") -> str:
    """SHA-256 of the function's name, the parameters and the data version.

    Raises:
        TypeError: a parameter is not JSON-able.
    """
    try:
        canonical = json.dumps(params, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise TypeError(f"grid parameters must be JSON-able scalars or lists: {error}") from error
    name = f"{fn.__module__}.{fn.__qualname__}"
    return hashlib.sha256(f"{name}\n{canonical}\n{data_version}".encode()).hexdigest()


def task_seed(seed: int, identity: str) -> int:
    """The seed of a task: a function of the grid's seed and the task alone."""
    sequence = np.random.SeedSequence([seed, int(identity[:16], 16)])
    return int(sequence.generate_state(1)[0])


def run_grid(
    fn: Callable[..., Mapping[str, Any]],
    grid: Iterable[Mapping[str, Any]],
    *,
    out: str | Path,
    n_jobs: int = 2,
    cluster: str | None = None,
    seed: int = 0,
    data_version: str = "",
    on_error: Literal["record", "raise"] = "record",
    progress: Progress = silent,
) -> list[TaskResult]:
    """Run ``fn(**params, seed=...)`` for each entry of ``grid``, keeping each result on disk.

    A finished task is skipped on the next call, so an interrupted grid resumes. ``fn`` returns a
    dict of JSON-able scalars and numpy arrays; send paths, never tensors, as parameters.

    Args:
        fn: An importable function.
        grid: Parameter dicts, JSON-able.
        out: Folder of the results: ``<id>.json`` and, if there are arrays, ``<id>.npz``.
        n_jobs: Worker processes on this machine (loky); 1 runs in this process.
        cluster: ``None`` for this machine, ``"local"`` for a Dask cluster made here, or the
            address of a running Dask scheduler (``"tcp://host:8786"``).
        seed: Seed of the grid; a task's own seed does not depend on order or engine.
        data_version: Enters the task ids, so that new data means new tasks.
        on_error: Record a failing task and go on, or raise its error.
        progress: Called after each task; may raise :class:`Cancelled`.

    Returns:
        One :class:`TaskResult` for each entry, in the grid's order.

    Raises:
        TypeError: parameters that are not JSON-able.
        ValueError: a duplicate entry, or ``n_jobs`` below 1.
        RuntimeError: a task failed and ``on_error="raise"``.
    """
    if n_jobs < 1:
        raise ValueError(f"n_jobs must be at least 1, got {n_jobs}")
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    entries = [dict(params) for params in grid]
    tasks = {task_id(fn, params, data_version): params for params in entries}
    if len(tasks) != len(entries):
        raise ValueError("the grid lists the same parameters twice: remove the duplicates")
    todo = {i: p for i, p in tasks.items() if not (folder / f"{i}.json").exists()}
    done = len(tasks) - len(todo)
    progress(done, len(tasks), "resumed" if done else "starting")
    jobs = [(fn, i, params, task_seed(seed, i)) for i, params in todo.items()]
    failed: dict[str, TaskResult] = {}
    for task in _engine(jobs, n_jobs, cluster):
        done += 1
        if task.error is None:
            _write_task(folder, task)
        elif on_error == "raise":
            raise RuntimeError(f"task {task.params} failed:\n{task.error}")
        else:
            failed[task.id] = task
        progress(done, len(tasks), ", ".join(f"{k}={v}" for k, v in task.params.items()))
    return [failed[i] if i in failed else _read_task(folder, i, p) for i, p in tasks.items()]


Job = tuple[Callable[..., Mapping[str, Any]], str, dict[str, Any], int]


def _run_task(job: Job) -> TaskResult:
    fn, identity, params, seed = job
    try:
        values = dict(fn(**params, seed=seed))
    except Exception:  # a grid records any failure of a task, with its traceback, and goes on
        return TaskResult(identity, params, seed, {}, traceback.format_exc())
    return TaskResult(identity, params, seed, values)


def _engine(jobs: list[Job], n_jobs: int, cluster: str | None) -> Iterator[TaskResult]:
    if not jobs:
        return iter(())
    if cluster is not None:
        return _on_dask(jobs, n_jobs, cluster)
    if n_jobs == 1:
        return map(_run_task, jobs)
    return _on_loky(jobs, n_jobs)


def _on_loky(jobs: list[Job], n_jobs: int) -> Iterator[TaskResult]:
    from joblib import Parallel, delayed
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    left = {job[1]: job for job in jobs}
    try:
        runner = Parallel(n_jobs=n_jobs, backend="loky", return_as="generator_unordered")
        for task in runner(delayed(_run_task)(job) for job in jobs):
            del left[task.id]
            yield task
    except TerminatedWorkerError:
        for job in left.values():  # alone, each: the one that kills its worker is found and named
            yield _alone(job)


def _alone(job: Job) -> TaskResult:
    from joblib import Parallel, delayed
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    try:
        (task,) = Parallel(n_jobs=2, backend="loky")([delayed(_run_task)(job)])
    except TerminatedWorkerError:
        return _died(job)
    return task


def _died(job: Job) -> TaskResult:
    return TaskResult(job[1], job[2], job[3], {}, "worker died (out of memory?)")


def _on_dask(jobs: list[Job], n_jobs: int, cluster: str) -> Iterator[TaskResult]:
    try:
        from distributed import Client, KilledWorker, LocalCluster, as_completed
    except ImportError as error:
        raise RuntimeError("a Dask cluster needs: pip install 'labcore[cluster]'") from error

    local = None
    if cluster == "local":
        local = LocalCluster(n_workers=n_jobs, threads_per_worker=1, dashboard_address=None)
    try:
        with Client(local or cluster, timeout="10s") as client:
            futures = {client.submit(_run_task, job, pure=False): job for job in jobs}
            for future in as_completed(futures):
                try:
                    yield future.result()
                except KilledWorker:
                    yield _died(futures[future])
    finally:
        if local is not None:
            local.close()


def _write_task(folder: Path, task: TaskResult) -> None:
    arrays = {k: v for k, v in task.values.items() if isinstance(v, np.ndarray)}
    scalars = {k: v for k, v in task.values.items() if k not in arrays}
    meta = {"params": task.params, "seed": task.seed, "values": scalars, "arrays": sorted(arrays)}
    text = json.dumps(meta, sort_keys=True, indent=1)
    if arrays:
        with replacing(folder / f"{task.id}.npz") as part:
            part.write_bytes(_npz(arrays))
    with replacing(folder / f"{task.id}.json") as part:  # last: its presence means "finished"
        part.write_text(text)


def _npz(arrays: Mapping[str, np.ndarray]) -> bytes:
    """An uncompressed npz whose bytes depend on the arrays alone (no time stamps)."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in sorted(arrays):
            member = io.BytesIO()
            np.lib.format.write_array(member, arrays[name], allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), member.getvalue())
    return buffer.getvalue()


def _read_task(folder: Path, identity: str, params: dict[str, Any]) -> TaskResult:
    path = folder / f"{identity}.json"
    try:
        meta = json.loads(path.read_text())
        values = dict(meta["values"])
        if meta["arrays"]:
            with np.load(folder / f"{identity}.npz", allow_pickle=False) as file:
                values |= {name: file[name] for name in meta["arrays"]}
    except DAMAGE as error:
        raise ResultError(f"{path} is damaged: delete it and run the grid again") from error
    return TaskResult(identity, params, int(meta["seed"]), values)
