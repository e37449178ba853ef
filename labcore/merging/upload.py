"""Merge checkpoints that people upload: never unpickled, bounded in size, reported."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from safetensors.torch import save

from labcore import uploads
from labcore.merging.measure import place
from labcore.merging.tsv import tsv_merge
from labcore.merging.vectors import StateDict, apply, task_vector
from labcore.runs import Table

MOST_BYTES = 40 * uploads.MEGABYTE
MOST_NUMBERS = 10_000_000


@dataclass(frozen=True)
class Merged:
    """A merged checkpoint as a file, and the report."""

    data: bytes
    rows: Table
    tasks: tuple[str, ...]


def merge_uploads(
    files: Sequence[tuple[str, bytes]],
    *,
    base: str = "",
    alpha: float = 1.0,
    rank: int | None = None,
    whiten: bool = True,
    vector_rule: str = "mean",
) -> Merged:
    """TSV-Merge of uploaded ``.safetensors`` files of one architecture.

    Args:
        files: Name and content of each; two or more.
        base: Which of them is the base; the first by default.
        alpha: Scale of the merged update.
        rank: Components a task; r // T by default, at least one.
        whiten: Make the vectors of different tasks orthogonal.
        vector_rule: "mean" or "sum" for what is no matrix.

    Raises:
        UploadError: another kind of file, a damaged or too large one.
        ValueError: fewer than two files, a name twice, or checkpoints that do not fit.
    """
    names = [name for name, _ in files]
    if len(files) < 2:
        raise ValueError("files: want a base and at least one fine-tuned copy of it")
    if len(set(names)) < len(names):
        raise ValueError("files: two have the same name; rename one")
    base = base or names[0]
    if base not in names:
        raise ValueError(f"base {base!r} is not among the files: {', '.join(names)}")
    states = {name: _read(name, data) for name, data in files}
    origin = states.pop(base)
    taus = {name: task_vector(origin, state) for name, state in states.items()}
    options: dict[str, Any] = {"orthogonalize": whiten, "vector_rule": vector_rule}
    delta, report = tsv_merge(taus, rank=rank, base=origin, on_zero_rank="keep_one", **options)
    rows: Table = []
    for row in report.rows:
        if row["kind"] != "matrix":
            continue
        depth, part = place(row["parameter"])
        kept = {k: row[k] for k in ("parameter", "rank", "sti", "sti_normalized", "sti_whitened")}
        more = {k: row[k] for k in ("condition_left", "condition_right", "dropped")}
        rows.append({**kept, **more, "depth": depth, "part": part})
    return Merged(save(apply(origin, delta, alpha)), rows, tuple(states))


def _read(name: str, data: bytes) -> StateDict:
    if not name.lower().endswith(".safetensors"):
        raise uploads.UploadError(f"{name}: want a .safetensors file")
    arrays = uploads.read_tensors(data, name, max_bytes=MOST_BYTES, max_elements=MOST_NUMBERS)
    return {key: torch.from_numpy(value) for key, value in arrays.items()}
