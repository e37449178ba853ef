"""Task vectors: what fine-tuning added to a model, as a mapping from names to tensors.

tau_t = theta_t - theta_0 (Ilharco et al., 2023). Integer tensors (position ids, counters) carry no
task and are left out. :class:`MatrixPolicy` says which parameters are decomposed as matrices.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

StateDict = Mapping[str, Tensor]
Kind = Literal["matrix", "vector", "skip"]


class TaskVector(Mapping[str, Tensor]):
    """Named differences that add, subtract and scale like one vector.

    >>> tau = TaskVector({"w": torch.tensor([3.0, 4.0])})
    >>> (2 * tau).norm(), tau.cosine(-1 * tau)
    (10.0, -1.0)
    """

    def __init__(self, tensors: StateDict) -> None:
        self._tensors = dict(tensors)

    def __getitem__(self, name: str) -> Tensor:
        return self._tensors[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    def __add__(self, other: "TaskVector") -> "TaskVector":
        check_same_keys({"left": self, "right": other})
        return TaskVector({name: self[name] + other[name] for name in self})

    def __sub__(self, other: "TaskVector") -> "TaskVector":
        return self + -1.0 * other

    def __mul__(self, scale: float) -> "TaskVector":
        return TaskVector({name: scale * value for name, value in self.items()})

    __rmul__ = __mul__

    def dot(self, other: "TaskVector") -> float:
        """Inner product over all entries, in float64."""
        check_same_keys({"left": self, "right": other})
        return sum(float((self[n].double() * other[n].double()).sum()) for n in self)

    def norm(self) -> float:
        """Euclidean norm over all entries."""
        return math.sqrt(self.dot(self))

    def cosine(self, other: "TaskVector") -> float:
        """Cosine with another task vector; 0 when one of them is zero."""
        scale = self.norm() * other.norm()
        return self.dot(other) / scale if scale else 0.0


@dataclass(frozen=True)
class MatrixPolicy:
    """Which parameters are decomposed, as in the authors' code: 2-D floating tensors.

    Attributes:
        exclude: Names containing one of these are treated as vectors.
        conv: "skip" treats 4-D kernels as vectors; "flatten" as (out, in*kh*kw) matrices.
        embeddings: False treats names containing "embed" as vectors.
        split: Name part -> number of equal row blocks, for fused projections.
    """

    exclude: tuple[str, ...] = ("text_projection",)
    conv: Literal["skip", "flatten"] = "skip"
    embeddings: bool = True
    split: Mapping[str, int] | None = field(default=None)

    def kind(self, name: str, tensor: Tensor) -> Kind:
        """How this parameter is merged: "matrix", "vector", or "skip" (integers)."""
        if not tensor.is_floating_point():
            return "skip"
        excluded = any(part in name for part in self.exclude)
        if excluded or (not self.embeddings and "embed" in name):
            return "vector"
        if tensor.ndim == 2 or (tensor.ndim == 4 and self.conv == "flatten"):
            return "matrix"
        return "vector"

    def blocks(self, name: str, tensor: Tensor) -> tuple[Tensor, ...]:
        """The matrices that a parameter is decomposed as: one, or ``split`` row blocks.

        Raises:
            ValueError: the rows do not divide into that many blocks.
        """
        matrix = tensor.flatten(1)
        parts = next((n for key, n in (self.split or {}).items() if key in name), 1)
        if parts < 1 or len(matrix) % parts:
            raise ValueError(
                f"{name}: split into {parts} blocks does not divide {len(matrix)} rows"
            )
        return matrix.chunk(parts)


def task_vector(base: StateDict, finetuned: StateDict, *, strict: bool = True) -> TaskVector:
    """fine-tuned minus base, in float32 at least; integer tensors are left out.

    Raises:
        ValueError: other names (with ``strict``) or shapes, non-finite or complex entries.
    """
    if strict:
        check_same_keys({"base": base, "finetuned": finetuned})
    return TaskVector(
        {
            name: difference(name, base[name], finetuned[name])
            for name in base
            if name in finetuned and not _is_integer(name, base[name])
        }
    )


def difference(name: str, base: Tensor, finetuned: Tensor, task: str = "fine-tuned") -> Tensor:
    """One checked difference, in the wider dtype of the two and float32.

    ``task`` names the second checkpoint in errors.

    Raises:
        ValueError: other shape, non-finite entries, an integer or a complex tensor.
    """
    if base.shape != finetuned.shape:
        raise ValueError(
            f"{name}: shapes differ, base {tuple(base.shape)}, {task} {tuple(finetuned.shape)}"
        )
    for label, value in (("base", base), (task, finetuned)):
        if not value.is_floating_point():
            raise ValueError(f"{name}: {label} tensor is {value.dtype}; want a real floating dtype")
        if not value.isfinite().all():
            raise ValueError(f"{name}: the {label} checkpoint has non-finite entries; repair it")
    wide = torch.promote_types(torch.promote_types(base.dtype, finetuned.dtype), torch.float32)
    return finetuned.to(wide) - base.to(wide)


def apply(base: StateDict, delta: StateDict, alpha: float = 1.0) -> dict[str, Tensor]:
    """base + alpha * delta in the base's dtype; names missing in ``delta`` keep the base's tensor.

    Tensors that share memory in the base (tied weights) still share it.

    Raises:
        ValueError: alpha is not finite, or ``delta`` has a name or shape that the base has not.
    """
    if not math.isfinite(alpha):
        raise ValueError(f"alpha must be finite, got {alpha}")
    extra = [name for name in delta if name not in base]
    if extra:
        raise ValueError(f"delta has names that the base has not: {', '.join(extra[:5])}")
    done: dict[tuple[int, torch.Size, tuple[int, ...]], Tensor] = {}
    out: dict[str, Tensor] = {}
    for name, value in base.items():
        key = (value.data_ptr(), value.shape, value.stride())
        if key not in done:
            done[key] = _added(name, value, delta.get(name), alpha)
        out[name] = done[key]
    return out


def _added(name: str, value: Tensor, delta: Tensor | None, alpha: float) -> Tensor:
    if delta is None:
        return value.clone()
    if delta.shape != value.shape:
        raise ValueError(
            f"{name}: delta {tuple(delta.shape)} does not fit base {tuple(value.shape)}"
        )
    wide = torch.promote_types(torch.promote_types(value.dtype, delta.dtype), torch.float32)
    return (value.to(wide) + alpha * delta.to(wide)).to(value.dtype)


def check_same_keys(named: Mapping[str, StateDict]) -> None:
    """Raise ``ValueError`` with the first five differing names unless all have the same."""
    (first, reference), *others = named.items()
    for label, tensors in others:
        odd = sorted(set(reference) ^ set(tensors))
        if odd:
            raise ValueError(
                f"{first} and {label} differ in {len(odd)} names: {', '.join(odd[:5])}; "
                "give checkpoints of one architecture"
            )


def _is_integer(name: str, value: Tensor) -> bool:
    if value.is_complex():
        raise ValueError(f"{name}: complex tensors are not merged")
    return not value.is_floating_point()
