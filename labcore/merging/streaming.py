"""Merge checkpoints that do not fit into memory: one tensor at a time, resumed after a kill.

The unit of work is one tensor. It is read from the base and from each task in turn; a task's
difference is reduced to its factors at once and dropped, so memory is one difference and (m + n) r
numbers, whatever the number of tasks. Finished tensors are part files; the driver streams them into
shards. The bytes are the same whichever engine ran: each worker computes on one thread.
"""

import os
import shutil
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from threadpoolctl import threadpool_limits
from torch import Tensor

from labcore.grid import TaskResult, run_grid
from labcore.merging.baselines import MERGERS
from labcore.merging.files import copy_companions, open_checkpoint, read_tensor, write_shards
from labcore.merging.memory import PeakMemory
from labcore.merging.options import MergeReport
from labcore.merging.plan import (
    chosen_tasks,
    entries,
    fit,
    hash_of,
    prepare,
    size_of,
    tsv_options,
)
from labcore.merging.tsv import merge_factors, merge_vectors
from labcore.merging.vectors import TaskVector, apply, difference
from labcore.runs import Progress, replacing, silent


def merge_checkpoints(
    base: str | Path,
    finetuned: Mapping[str, str | Path],
    out: str | Path,
    method: str = "tsv_m",
    *,
    alpha: float = 1.0,
    dtype: str | None = None,
    max_shard: str | int = "2GB",
    workers: int = 1,
    engine: str = "serial",
    address: str = "local",
    resume: bool = True,
    tasks: tuple[str, ...] | None = None,
    options: Mapping[str, Any] | None = None,
    progress: Progress = silent,
) -> MergeReport:
    """Merge Hugging Face style checkpoints into a new folder, in bounded memory.

    Nothing appears at ``out`` until the merge is whole. A killed merge leaves its finished tensors
    in ``.<out>.parts`` beside it and goes on from them.

    Args:
        base: Folder with ``model.safetensors`` or shards and their index, or one file.
        finetuned: Task name -> checkpoint of the same architecture.
        out: New folder; configuration and tokenizer files of the base are copied into it.
        method: A name in ``MERGERS``; TIES trims each tensor by itself here.
        alpha: Scale of what is added to the base.
        dtype: Of the written tensors, as "bfloat16"; the base's by default.
        max_shard: Largest shard, bytes or as "2GB".
        workers: Threads or processes, one BLAS thread each.
        engine: Where tensors are merged: "serial", "threads", "processes" or "dask".
        address: With "dask", the scheduler ("tcp://host:8786"), or "local".
        resume: Go on from finished tensors; False starts anew.
        tasks: Which of ``finetuned`` to use, all by default.
        options: For the merger, JSON-able: fields of :class:`TsvOptions` and of
            :class:`MatrixPolicy`, or the baseline's own.
        progress: Called after each tensor; may raise :class:`labcore.runs.Cancelled`.

    Returns:
        One row a parameter, and the most memory that one tensor took.

    Raises:
        FileExistsError: ``out`` is there already.
        FileNotFoundError: a checkpoint is not there.
        ValueError: names, shapes or dtypes that do not fit, non-finite entries, a bad option, or a
            resume with other options or changed files.
    """
    chosen = chosen_tasks(finetuned, tasks, method, alpha, dtype, workers, engine)
    out = Path(out)
    if out.exists():
        raise FileExistsError(f"{out} is there already: give a new folder")
    opened = {"base": open_checkpoint(base)}
    opened |= {task: open_checkpoint(path) for task, path in chosen.items()}
    notes = fit(opened, list(chosen))
    plan: dict[str, Any] = {
        "method": method,
        "alpha": float(alpha),
        "dtype": dtype,
        "options": dict(options or {}),
        "stamps": {label: found.stamp for label, found in opened.items()},
    }
    how = tsv_options(method, plan["options"])  # a bad option fails now, not in a worker
    parts = out.parent / f".{out.name}.parts"
    prepare(parts, plan, resume)
    todo = entries(opened, list(chosen), plan, parts)
    with threads_restored():
        done = _run(todo, parts, workers, engine, address, progress)
    rows = {entry["name"]: task.values for entry, task in zip(todo, done, strict=True)}
    ordered = {name: Path(rows[name]["part"]) for name in opened["base"].files}
    whole = out.parent / f".{out.name}.whole"
    shutil.rmtree(whole, ignore_errors=True)
    whole.mkdir(parents=True)
    copy_companions(Path(base), whole)
    write_shards(ordered, whole, size_of(max_shard))
    os.replace(whole, out)
    shutil.rmtree(parts, ignore_errors=True)
    table = [row for name in ordered for row in rows[name]["rows"]]
    peak = max(int(r["peak_bytes"]) for r in rows.values())
    choices = plan["options"] if how is None else how.choices
    return MergeReport(table, peak, notes, {"merger": method, "alpha": alpha, **choices})


def _run(
    entries: list[dict[str, Any]],
    parts: Path,
    workers: int,
    engine: str,
    address: str,
    progress: Progress,
) -> list[TaskResult]:
    def grid(some: list[dict[str, Any]], report: Progress) -> list[TaskResult]:
        cluster = address if engine == "dask" else None
        jobs = workers if engine in ("processes", "dask") else 1
        return run_grid(merge_one, some, out=parts, n_jobs=jobs, cluster=cluster, progress=report)

    if engine == "threads":
        done: list[TaskResult] = []
        with ThreadPoolExecutor(workers) as pool:
            for (task,) in pool.map(lambda entry: grid([entry], silent), entries):
                done.append(task)
                progress(len(done), len(entries), str(task.params["name"]))
    else:
        told = iter(range(len(entries) + 1))
        done = grid(entries, lambda n, total, _: progress(n, total, f"tensor {next(told)}"))
    for task in done:
        if task.error is not None:
            last = task.error.strip().splitlines()[-1]
            raise ValueError(f"{task.params['name']}: {last.removeprefix('ValueError: ')}")
    return done


def merge_one(
    name: str,
    base: str,
    finetuned: list[list[str]],
    method: str,
    alpha: float,
    dtype: str | None,
    options: Mapping[str, Any],
    parts: str,
    seed: int = 0,
) -> dict[str, Any]:
    """Merge one tensor and write it as a part file; what runs in a worker.

    Raises:
        ValueError: the tensors do not fit or have non-finite entries.
    """
    from safetensors.torch import save_file

    began = time.perf_counter()
    one_thread()
    with PeakMemory() as memory:
        held = read_tensor(base, name)
        if held.is_floating_point():
            delta, rows = _delta(name, held, finetuned, method, options)
            value = apply({name: held}, {name: delta}, alpha)[name]
            value = value if dtype is None else value.to(getattr(torch, dtype))
        else:
            value, rows = held, [{"parameter": name, "kind": "skip", "rank": 0}]
        part = Path(parts) / f"{hash_of(name):012x}.safetensors"
        with replacing(part) as file:
            save_file({name: value.contiguous()}, file)
    seconds = time.perf_counter() - began
    rows = [{**row, "seconds": seconds / len(rows)} for row in rows]
    return {"part": str(part), "rows": rows, "peak_bytes": memory.peak}


def _delta(
    name: str, base: Tensor, finetuned: list[list[str]], method: str, options: Mapping[str, Any]
) -> tuple[Tensor, list[dict[str, Any]]]:
    """The merged difference of one tensor, and its rows of the report."""
    kinds = sorted({str(base.dtype).removeprefix("torch.")})

    def deltas() -> Iterator[tuple[str, Tensor]]:
        for task, file in finetuned:
            yield task, difference(name, base, read_tensor(file, name), task)

    how = tsv_options(method, options)
    if how is None:
        more = dict(options)
        if method == "ties" and more.get("trim") != "mergekit":
            more["trim"] = "tensor"
        if method == "dare":
            more["seed"] = hash_of(f"{more.get('seed', 0)} {name}")
        taus = {task: TaskVector({name: delta}) for task, delta in deltas()}
        row = {"parameter": name, "kind": method, "rank": 0, "dtypes": kinds}
        return MERGERS[method](taus, **more)[name], [row]
    k = how.rank_of(name, base, len(finetuned))
    if k == 0:
        row = {"parameter": name, "kind": "vector", "rank": 0, "dtypes": kinds}
        return merge_vectors([delta for _, delta in deltas()], how), [row]
    weights = how.policy.blocks(name, base)
    found: list[list[Any]] = [[] for _ in weights]
    for task, delta in deltas():
        for number, block in enumerate(how.policy.blocks(name, delta)):
            found[number].append(how.reduce(f"{task}: {name}", block, k, weights[number]))
    merged = [merge_factors(name, group, k, how) for group in found]
    dense = torch.cat([part.float() for part, _ in merged]).view(base.shape)
    return dense, [row | {"dtypes": kinds} for _, row in merged]


def one_thread() -> None:
    """One BLAS thread from here on: the same bytes everywhere, and no spinning on busy cores."""
    if torch.get_num_threads() != 1:
        torch.set_num_threads(1)
    threadpool_limits(1)


@contextmanager
def threads_restored() -> Iterator[None]:
    """Give this process its number of threads back, whatever its workers set."""
    before = torch.get_num_threads()
    with threadpool_limits(1):
        try:
            yield
        finally:
            torch.set_num_threads(before)
