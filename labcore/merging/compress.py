"""TSV-Compress: one base, and a few singular triples a task (arXiv 2412.00081, section 3).

The task must be known at inference; its own model is rebuilt at scale 1 and tasks are never mixed.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from labcore.merging.factors import Factors, truncated_svd
from labcore.merging.tsv import check_tasks
from labcore.merging.vectors import MatrixPolicy, TaskVector
from labcore.runs import replacing

Entry = Factors | Tensor


@dataclass(frozen=True)
class CompressedTasks:
    """Leading factors of every matrix of every task; what is no matrix is kept whole."""

    entries: dict[str, dict[str, Entry]]
    shapes: dict[str, tuple[int, ...]]

    def _of(self, task: str) -> dict[str, Entry]:
        if task not in self.entries:
            raise KeyError(f"unknown task {task!r}: known are {', '.join(self.entries)}")
        return self.entries[task]

    def task_vector(self, task: str) -> TaskVector:
        """The task's rebuilt difference.

        Raises:
            KeyError: unknown task; the known ones are listed.
        """
        return TaskVector(
            {
                n: e.dense().view(self.shapes[n]) if isinstance(e, Factors) else e
                for n, e in self._of(task).items()
            }
        )

    def bytes(self, task: str) -> int:
        """What the task takes: k (m + n + 1) numbers a matrix, and the rest whole."""
        return sum(
            e.nbytes if isinstance(e, Factors) else e.numel() * e.element_size()
            for e in self._of(task).values()
        )

    def ratio(self, task: str) -> float:
        """Bytes over those of the whole task vector in the same dtypes."""
        whole = 0
        for name, entry in self._of(task).items():
            tensor = entry.U if isinstance(entry, Factors) else entry
            whole += torch.Size(self.shapes[name]).numel() * tensor.element_size()
        return self.bytes(task) / whole

    def energy(self, task: str) -> float:
        """Share of the task's squared norm, over its matrices, that the kept triples hold."""
        kept = whole = 0.0
        for entry in self._of(task).values():
            if isinstance(entry, Factors) and entry.rank:
                held = float((entry.s.double() ** 2).sum())
                kept, whole = kept + held, whole + held / entry.energy
        return kept / whole if whole else 1.0

    def to_safetensors(self, path: str | Path) -> Path:
        """Write one file, under a temporary name first."""
        from safetensors.torch import save_file

        tensors: dict[str, Tensor] = {}
        for task, entries in self.entries.items():
            for name, entry in entries.items():
                key = f"{task}/{name}"
                if isinstance(entry, Factors):
                    parts = {"U": entry.U, "s": entry.s, "Vh": entry.Vh}
                    tensors |= {f"{key}/{p}": v.contiguous() for p, v in parts.items()}
                else:
                    tensors[f"{key}/whole"] = entry.contiguous()
        meta = {"shapes": json.dumps(self.shapes), "tasks": json.dumps(list(self.entries))}
        with replacing(Path(path)) as part:
            save_file(tensors, part, metadata=meta)
        return Path(path)

    @classmethod
    def from_safetensors(cls, path: str | Path) -> "CompressedTasks":
        """Read what :meth:`to_safetensors` wrote.

        Raises:
            ValueError: the file is no such file.
        """
        from safetensors import safe_open

        with safe_open(path, framework="pt") as file:
            meta = file.metadata() or {}
            if "shapes" not in meta or "tasks" not in meta:
                raise ValueError(f"{path}: not a TSV-Compress file; it has no shapes or tasks")
            loaded: dict[str, Tensor] = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        shapes = {n: tuple(s) for n, s in json.loads(meta["shapes"]).items()}
        entries: dict[str, dict[str, Entry]] = {t: {} for t in json.loads(meta["tasks"])}
        for task, kept in entries.items():
            for name in shapes:
                key = f"{task}/{name}"
                if f"{key}/whole" in loaded:
                    kept[name] = loaded[f"{key}/whole"]
                else:
                    kept[name] = Factors(
                        loaded[f"{key}/U"], loaded[f"{key}/s"], loaded[f"{key}/Vh"]
                    )
        return cls(entries, shapes)


def tsv_compress(
    task_vectors: Mapping[str, TaskVector],
    *,
    fraction: float | None = None,
    energy: float | None = None,
    policy: MatrixPolicy | None = None,
    dtype: torch.dtype = torch.float32,
) -> CompressedTasks:
    """Keep the leading triples of every matrix of every task, at least one.

    The authors' code decomposes ``text_projection`` here although its merge does not; ours has one
    policy for both.

    Args:
        task_vectors: Task name -> task vector.
        fraction: Share of the components, floor(r * fraction); 1 / T by default.
        energy: Instead: the fewest components with this share of each matrix's squared norm.
        policy: Which parameters are matrices; its ``split`` is not used here.
        dtype: What the factors are stored in.

    Raises:
        ValueError: no task, fraction or energy outside (0, 1], or both given.
    """
    check_tasks(task_vectors)
    if fraction is not None and energy is not None:
        raise ValueError("give fraction or energy, not both: each decides the rank")
    share = 1 / len(task_vectors) if fraction is None else fraction
    for label, wanted in (("fraction", share), ("energy", 1.0 if energy is None else energy)):
        if not 0 < wanted <= 1:
            raise ValueError(f"{label} must be in (0, 1], got {wanted}")
    policy = policy or MatrixPolicy()
    entries: dict[str, dict[str, Any]] = {task: {} for task in task_vectors}
    for task, tau in task_vectors.items():
        for name, value in tau.items():
            if policy.kind(name, value) != "matrix":
                entries[task][name] = value.clone()
                continue
            label = f"{task}: {name}"
            kept = _leading(value.flatten(1), share, energy, label)
            u, s, vh = (part.to(dtype) for part in (kept.U, kept.s, kept.Vh))
            entries[task][name] = Factors(u, s, vh, kept.energy, kept.dropped)
    first = next(iter(task_vectors.values()))
    return CompressedTasks(entries, {n: tuple(v.shape) for n, v in first.items()})


def _leading(matrix: Tensor, share: float, energy: float | None, label: str) -> Factors:
    """The kept triples of one matrix."""
    if energy is None:
        return truncated_svd(matrix, max(1, int(min(matrix.shape) * share + 1e-9)), name=label)
    full = truncated_svd(matrix, min(matrix.shape), name=label)
    if not full.rank:
        return full
    reached = (full.s**2).cumsum(0) / (full.s**2).sum()
    return full.truncate(int((reached < energy - 1e-12).sum()) + 1)
