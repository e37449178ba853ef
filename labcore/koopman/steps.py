"""The graphs of all steps, dense or as a list of contacts, behind one pair of products.

A cell needs A_t z for one step and A_t x_t for all steps at once; it does not care how A is held.
Lists of contacts are quicker, and take memory for contacts only, where at most one pair in fifty
meets in a step; matrices are quicker beyond, and have a derivative.
"""

from typing import Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

Backend = Literal["auto", "dense", "sparse"]
BACKENDS: tuple[Backend, ...] = ("auto", "dense", "sparse")
FEW = 0.02  # of all pairs


@runtime_checkable
class Steps(Protocol):
    """A batch of temporal graphs as a linear operator of each step."""

    shape: tuple[int, int, int]  # batch, steps, nodes

    def at(self, t: int, z: Float[Tensor, "b n f"]) -> Float[Tensor, "b n f"]:
        """A_t z: the sum over neighbours in step t."""

    def all(self, x: Float[Tensor, "t b n f"]) -> Float[Tensor, "t b n f"]:
        """A_t x_t for every step at once."""

    def mix(
        self,
        t: int,
        start: Float[Tensor, "b n g"],
        z: Float[Tensor, "b n f"],
        weight: Float[Tensor, "f g"],
    ) -> Float[Tensor, "b n g"]:
        """start + (A_t z) · weight."""

    def walk(self, *, reverse: bool = False) -> "Steps":
        """Rows of A (or of its transpose) divided by their sums; empty rows stay empty."""


class DenseSteps:
    """Adjacency matrices, kept with time first so that a step is one contiguous block."""

    def __init__(self, A: Float[Tensor, "b t n n"]) -> None:
        b, t, n = A.shape[:3]
        self.shape = (b, t, n)
        self._by_step = A.transpose(0, 1).contiguous()

    def at(self, t: int, z: Float[Tensor, "b n f"]) -> Float[Tensor, "b n f"]:
        """See :class:`Steps`."""
        return self._by_step[t] @ z

    def all(self, x: Float[Tensor, "t b n f"]) -> Float[Tensor, "t b n f"]:
        """See :class:`Steps`."""
        return self._by_step @ x

    def mix(self, t: int, start: Tensor, z: Tensor, weight: Tensor) -> Float[Tensor, "b n g"]:
        """See :class:`Steps`."""
        return start + self.at(t, z) @ weight

    def walk(self, *, reverse: bool = False) -> "DenseSteps":
        """See :class:`Steps`."""
        A = self._by_step.transpose(-1, -2) if reverse else self._by_step
        sums = A.sum(dim=-1, keepdim=True)
        return DenseSteps((A / sums.where(sums > 0, torch.ones_like(sums))).transpose(0, 1))


class SparseSteps:
    """Contacts as rows (batch, step, node, neighbour) with a weight each.

    Both directions of an undirected contact must be listed.

    Raises:
        ValueError: an index outside ``shape``, or another number of weights.
    """

    def __init__(
        self,
        contacts: Int[Tensor, "e 4"],
        shape: tuple[int, int, int],
        weight: Float[Tensor, " e"] | None = None,
    ) -> None:
        b, t, n = shape
        limits = torch.tensor([b, t, n, n])
        if len(contacts) and not ((contacts >= 0) & (contacts < limits)).all():
            raise ValueError(f"contacts must lie in batch {b}, steps {t}, nodes {n}")
        if weight is not None and len(weight) != len(contacts):
            raise ValueError(f"{len(weight)} weights for {len(contacts)} contacts")
        self.shape = shape
        order = contacts[:, 1].argsort(stable=True)
        batch, step, node, other = contacts[order].T
        self._weight = torch.ones(len(contacts)) if weight is None else weight[order]
        self._rows, self._columns = batch * n + node, batch * n + other
        self._step = step
        counts = torch.bincount(step, minlength=t).tolist()
        parts = (self._rows, self._columns, self._weight[:, None])
        self._of_step = list(zip(*(part.split(counts) for part in parts), strict=True))
        self._single = bool((self._weight == 1).all())

    @classmethod
    def of(cls, A: Float[Tensor, "b t n n"]) -> "SparseSteps":
        """The contacts of dense matrices."""
        contacts = A.nonzero()
        weight = A[tuple(contacts.T)]
        return cls(contacts, (A.shape[0], A.shape[1], A.shape[2]), weight)

    def at(self, t: int, z: Float[Tensor, "b n f"]) -> Float[Tensor, "b n f"]:
        """See :class:`Steps`."""
        flat = z.reshape(-1, z.shape[-1])
        rows, sent = self._sent(t, flat)
        return torch.zeros_like(flat).index_add(0, rows, sent).reshape(z.shape)

    def _sent(self, t: int, flat: Tensor) -> tuple[Tensor, Tensor]:
        """Who receives in step t, and what."""
        rows, columns, weight = self._of_step[t]
        sent = flat.index_select(0, columns)
        return rows, sent if self._single else sent * weight.to(flat.dtype)

    def all(self, x: Float[Tensor, "t b n f"]) -> Float[Tensor, "t b n f"]:
        """See :class:`Steps`."""
        flat = x.reshape(-1, x.shape[-1])
        offset = self._step * self.shape[0] * self.shape[2]
        terms = flat[offset + self._columns] * self._weight[:, None].to(x.dtype)
        return torch.zeros_like(flat).index_add(0, offset + self._rows, terms).reshape(x.shape)

    def mix(self, t: int, start: Tensor, z: Tensor, weight: Tensor) -> Float[Tensor, "b n g"]:
        """See :class:`Steps`; only people who meet somebody in step t take part."""
        rows, sent = self._sent(t, z.reshape(-1, z.shape[-1]))
        flat = start.reshape(-1, start.shape[-1])
        return flat.index_add(0, rows, sent @ weight).reshape(start.shape)

    def walk(self, *, reverse: bool = False) -> "SparseSteps":
        """See :class:`Steps`."""
        b, t, n = self.shape
        rows, columns = (self._columns, self._rows) if reverse else (self._rows, self._columns)
        place = self._step * b * n + rows
        sums = torch.zeros(t * b * n, dtype=self._weight.dtype)
        sums = sums.index_add(0, place, self._weight)
        parts = [rows // n, self._step, rows % n, columns % n]
        return SparseSteps(torch.stack(parts, dim=1), self.shape, self._weight / sums[place])


def as_steps(A: "Float[Tensor, 'b t n n'] | Steps", backend: Backend = "auto") -> Steps:
    """Matrices as an operator of each step; operators stay as they are.

    ``"auto"`` takes lists of contacts where these are few, and matrices where the derivative by A
    is asked for.
    """
    if not isinstance(A, Tensor):
        return A
    if backend == "auto":
        few = not A.requires_grad and float(A.count_nonzero()) < FEW * A.numel()
        backend = "sparse" if few else "dense"
    return SparseSteps.of(A) if backend == "sparse" else DenseSteps(A)
