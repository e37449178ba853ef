"""Merge checkpoints that do not fit into memory: one tensor at a time, resumed after a kill.

The unit of work is one tensor. It is read from the base and from each task in turn; a task's
difference is reduced to its factors at once and dropped, so memory is one difference and (m + n) r
numbers, whatever the number of tasks. Finished tensors are part files; the driver streams them into
shards. The bytes are the same whichever engine ran: each worker computes on one thread.
"""

import hashlib
import json
import math
import os
import shutil
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from labcore.grid import TaskResult, run_grid
from labcore.merging.baselines import MERGERS
from labcore.merging.files import (
    Checkpoint,
    copy_companions,
    open_checkpoint,
    read_tensor,
    write_shards,
)
from labcore.merging.memory import PeakMemory
from labcore.merging.tsv import MergeReport, TsvOptions, merge_factors, merge_vectors
from labcore.merging.vectors import MatrixPolicy, TaskVector, apply, difference
from labcore.runs import Progress, replacing, silent

ENGINES: tuple[str, ...] = ("serial", "threads", "processes", "dask")
_UNITS = {"KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "B": 1}
_FACTORED = ("tsv_m", "rank_cut")
_FLOATS = ("float64", "float32", "float16", "bfloat16")


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
        options: For the merger, JSON-able: rank, vector_rule, orthogonalize, on_zero_rank, tol,
            method, report of :class:`TsvOptions`, "exclude" of :class:`MatrixPolicy`; or the
            baseline's own.
        progress: Called after each tensor; may raise :class:`labcore.runs.Cancelled`.

    Returns:
        One row a parameter, and the most memory that one tensor took.

    Raises:
        FileExistsError: ``out`` is there already.
        FileNotFoundError: a checkpoint is not there.
        ValueError: names, shapes or dtypes that do not fit, non-finite entries, a bad option, or a
            resume with other options or changed files.
    """
    chosen = _checked(finetuned, tasks, method, alpha, dtype, workers, engine)
    out = Path(out)
    if out.exists():
        raise FileExistsError(f"{out} is there already: give a new folder")
    opened = {"base": open_checkpoint(base)}
    opened |= {task: open_checkpoint(path) for task, path in chosen.items()}
    notes = _fits(opened, list(chosen))
    plan: dict[str, Any] = {
        "method": method,
        "alpha": float(alpha),
        "dtype": dtype,
        "options": dict(options or {}),
        "stamps": {label: found.stamp for label, found in opened.items()},
    }
    _merger(method, plan["options"])  # a bad option fails now, not in a worker
    parts = out.parent / f".{out.name}.parts"
    _prepare(parts, plan, resume)
    entries = _entries(opened, list(chosen), plan, parts)
    done = _run(entries, parts, workers, engine, address, progress)
    rows = {entry["name"]: task.values for entry, task in zip(entries, done, strict=True)}
    ordered = {name: Path(rows[name]["part"]) for name in opened["base"].files}
    whole = out.parent / f".{out.name}.whole"
    shutil.rmtree(whole, ignore_errors=True)
    whole.mkdir(parents=True)
    copy_companions(Path(base), whole)
    write_shards(ordered, whole, size_of(max_shard))
    os.replace(whole, out)
    shutil.rmtree(parts, ignore_errors=True)
    table = [row for name in ordered for row in rows[name]["rows"]]
    return MergeReport(table, max(int(r["peak_bytes"]) for r in rows.values()), notes)


def size_of(text: str | int) -> int:
    """Bytes of "2GB", "500 MB", "1GiB" or a number.

    >>> size_of("2GB"), size_of(7)
    (2000000000, 7)

    Raises:
        ValueError: no positive size.
    """
    number, unit = str(text).strip().upper(), "B"
    for known in sorted(_UNITS, key=len, reverse=True):
        if number.endswith(known):
            number, unit = number.removesuffix(known), known
            break
    try:
        size = int(float(number) * _UNITS[unit])
    except ValueError:
        size = 0
    if size < 1:
        raise ValueError(f"max_shard: want a size as 2GB or 500MB, got {text!r}")
    return size


def _checked(
    finetuned: Mapping[str, str | Path],
    tasks: tuple[str, ...] | None,
    method: str,
    alpha: float,
    dtype: str | None,
    workers: int,
    engine: str,
) -> dict[str, Path]:
    if not finetuned:
        raise ValueError("finetuned: want at least one task, got none")
    unknown = [task for task in tasks or () if task not in finetuned]
    if unknown or tasks == ():
        raise ValueError(f"tasks: unknown {unknown}; known are {', '.join(finetuned)}")
    if method not in MERGERS:
        raise ValueError(f"method must be one of {', '.join(MERGERS)}, got {method!r}")
    if not math.isfinite(alpha):
        raise ValueError(f"alpha must be finite, got {alpha}")
    if dtype is not None and dtype not in _FLOATS:
        raise ValueError(f"dtype must be one of {', '.join(_FLOATS)}, got {dtype!r}")
    if engine not in ENGINES:
        raise ValueError(f"engine must be one of {', '.join(ENGINES)}, got {engine!r}")
    if workers < 1:
        raise ValueError(f"workers must be at least 1, got {workers}")
    return {task: Path(path) for task, path in finetuned.items() if not tasks or task in tasks}


def _fits(opened: Mapping[str, Checkpoint], tasks: list[str]) -> list[str]:
    """Refuse what cannot be merged, from the headers alone; say which dtypes are mixed."""
    base, notes = opened["base"], []
    for task in tasks:
        odd = sorted(set(base.files) ^ set(opened[task].files))
        if odd:
            raise ValueError(
                f"base and {task} differ in {len(odd)} names: {', '.join(odd[:5])}; give "
                "checkpoints of one architecture"
            )
        for name, shape in base.shapes.items():
            if opened[task].shapes[name] != shape:
                raise ValueError(
                    f"{name}: shapes differ, base {shape}, {task} {opened[task].shapes[name]}"
                )
            kinds = (base.dtypes[name], opened[task].dtypes[name])
            if any("complex" in kind for kind in kinds):
                raise ValueError(f"{name}: complex tensors are not merged ({task})")
            if kinds[0] in _FLOATS and kinds[1] not in _FLOATS:
                raise ValueError(f"{name}: {kinds[1]} in {task}; want a real floating dtype")
            if kinds[0] != kinds[1]:
                notes.append(f"{name}: {kinds[0]} in base, {kinds[1]} in {task}")
    return notes


def _prepare(parts: Path, plan: Mapping[str, Any], resume: bool) -> None:
    """A folder for finished tensors that belongs to this very plan."""
    text = json.dumps(plan, sort_keys=True, indent=1)
    manifest = parts / "plan.json"
    if parts.exists() and not resume:
        shutil.rmtree(parts)
    if manifest.exists() and manifest.read_text() != text:
        raise ValueError(
            f"{parts} holds an unfinished merge with other options or checkpoints: repeat that "
            "one, or start anew with resume=False"
        )
    parts.mkdir(parents=True, exist_ok=True)
    with replacing(manifest) as file:
        file.write_text(text)


def _entries(
    opened: Mapping[str, Checkpoint], tasks: list[str], plan: Mapping[str, Any], parts: Path
) -> list[dict[str, Any]]:
    """One grid entry a tensor, largest first: paths and options, never tensors."""
    base = opened["base"]

    def cost(name: str) -> int:
        shape = base.shapes[name]
        return math.prod(shape) * (min(shape) if len(shape) == 2 else 1)

    return [
        {
            "name": name,
            "base": str(base.files[name].absolute()),
            "finetuned": [[t, str(opened[t].files[name].absolute())] for t in tasks],
            "method": plan["method"],
            "alpha": plan["alpha"],
            "dtype": plan["dtype"],
            "options": plan["options"],
            "parts": str(parts.absolute()),
        }
        for name in sorted(base.files, key=lambda n: (-cost(n), n))
    ]


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
    with PeakMemory() as memory, one_thread():
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


def hash_of(name: str) -> int:
    """A number of a name that is the same in every process."""
    return int(hashlib.sha256(name.encode()).hexdigest()[:12], 16)


def _merger(method: str, options: Mapping[str, Any]) -> TsvOptions | None:
    """Options of a factored method; None for the others."""
    if method not in _FACTORED:
        return None
    cut = {"orthogonalize": False, "vector_rule": "sum"} if method == "rank_cut" else {}
    given = {**cut, **options}
    if "exclude" in given:
        given["policy"] = MatrixPolicy(exclude=tuple(given.pop("exclude")))
    try:
        return TsvOptions(**given)
    except TypeError as error:
        raise ValueError(f"options of {method}: {error}") from error


def _delta(
    name: str, base: Tensor, finetuned: list[list[str]], method: str, options: Mapping[str, Any]
) -> tuple[Tensor, list[dict[str, Any]]]:
    """The merged difference of one tensor, and its rows of the report."""
    kinds = sorted({str(base.dtype).removeprefix("torch.")})

    def deltas() -> Iterator[tuple[str, Tensor]]:
        for task, file in finetuned:
            yield task, difference(name, base, read_tensor(file, name), task)

    how = _merger(method, options)
    if how is None:
        more = dict(options)
        if method == "ties":
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


_THREADS = threading.Lock()


@contextmanager
def one_thread() -> Iterator[None]:
    """One BLAS thread: the same bytes everywhere, and no spinning on busy cores."""
    from threadpoolctl import threadpool_limits

    with _THREADS:
        if torch.get_num_threads() != 1:
            torch.set_num_threads(1)
    with threadpool_limits(1):
        yield
