"""What a merge of checkpoints is going to do: its arguments, checked before anything is read.

Headers alone tell whether checkpoints fit. The plan is written beside the finished tensors, so that
a resume is known to belong to the same merge.
"""

import hashlib
import json
import math
import shutil
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from labcore.merging.baselines import MERGERS
from labcore.merging.files import Checkpoint
from labcore.merging.options import TsvOptions
from labcore.merging.vectors import MatrixPolicy
from labcore.runs import replacing

ENGINES: tuple[str, ...] = ("serial", "threads", "processes", "dask")
FACTORED = ("tsv_m", "rank_cut")
_UNITS = {"KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "B": 1}
_FLOATS = ("float64", "float32", "float16", "bfloat16")


def chosen_tasks(
    finetuned: Mapping[str, str | Path],
    tasks: tuple[str, ...] | None,
    method: str,
    alpha: float,
    dtype: str | None,
    workers: int,
    engine: str,
) -> dict[str, Path]:
    """The checkpoints to merge, once every argument is known to be good.

    Raises:
        ValueError: no task, an unknown one, or an argument out of range.
    """
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


def fit(opened: Mapping[str, Checkpoint], tasks: list[str]) -> list[str]:
    """Refuse what cannot be merged, from the headers alone; say which dtypes are mixed.

    Raises:
        ValueError: names or shapes that differ, complex numbers, or an integer update.
    """
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


def prepare(parts: Path, plan: Mapping[str, Any], resume: bool) -> None:
    """A folder for finished tensors that belongs to this very plan.

    Raises:
        ValueError: the folder belongs to another plan.
    """
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


def entries(
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


def tsv_options(method: str, options: Mapping[str, Any]) -> TsvOptions | None:
    """Options of a method that works on factors; None for the others.

    Fields of :class:`MatrixPolicy` may stand among them.

    Raises:
        ValueError: an option that there is not.
    """
    if method not in FACTORED:
        return None
    cut = {"orthogonalize": False, "vector_rule": "sum"} if method == "rank_cut" else {}
    given = {**cut, **options}
    names = [field.name for field in fields(MatrixPolicy) if field.name in given]
    policy = {name: given.pop(name) for name in names}
    if "exclude" in policy:
        policy["exclude"] = tuple(policy["exclude"])
    try:
        return TsvOptions(policy=MatrixPolicy(**policy), **given)
    except TypeError as error:
        raise ValueError(f"options of {method}: {error}") from error


def hash_of(name: str) -> int:
    """A number of a name that is the same in every process."""
    return int(hashlib.sha256(name.encode()).hexdigest()[:12], 16)


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
