"""What every complex has: boundary matrices, Laplacians, neighbourhoods, holes.

A complex is given by its sizes ``n_k`` and its boundary matrices ``B_k`` (n_{k-1}, n_k), with
``B_k B_{k+1} = 0``. Everything else follows: ``L_down = B_k^T B_k``, ``L_up = B_{k+1} B_{k+1}^T``,
``L = L_down + L_up``, and ``dim ker L_k`` is the Betti number, the count of k-dimensional holes.

Signs matter. Three modes, named for what they do:

- ``signed``: as above.
- ``abs_after``: the absolute value of the signed matrix, entry by entry. In a filled triangle the
  up and down parts of L_1 cancel off the diagonal *before* it is taken, so neighbours vanish.
  This is what TopoNetX gives for ``signed=False``.
- ``unsigned_incidence``: built from ``|B_k|``; nothing cancels.
"""

import warnings
from abc import ABC, abstractmethod
from typing import Any, Literal

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

Kind = Literal["hodge", "up", "down"]
Mode = Literal["signed", "abs_after", "unsigned_incidence"]
Norm = Literal["sym", "row"]
KINDS = ("hodge", "up", "down")
MODES = ("signed", "abs_after", "unsigned_incidence")
BIG_PRIME = 1_000_003
warnings.filterwarnings("ignore", message="Sparse CSR tensor support")  # torch says it once a run


class ChainComplex(ABC):
    """Base of simplicial and cell complexes; matrices are made once and kept."""

    def __init__(self) -> None:
        self._kept: dict[Any, sparse.csr_array | sparse.csc_array] = {}

    @property
    @abstractmethod
    def sizes(self) -> tuple[int, ...]:
        """Number of cells of each rank, from rank 0 on."""

    @abstractmethod
    def _boundary(self, k: int) -> sparse.csc_array:
        """The signed boundary matrix of a rank that has cells."""

    @abstractmethod
    def vertices(self, k: int) -> list[tuple[int, ...]]:
        """Vertices of each cell of rank k."""

    @property
    def n(self) -> int:
        """Number of nodes."""
        return self.sizes[0]

    @property
    def dim(self) -> int:
        """The largest rank that has cells; 0 for an empty or edgeless complex."""
        return len(self.sizes) - 1

    def size(self, k: int) -> int:
        """Cells of rank k; 0 beyond the dimension."""
        return self.sizes[k] if 0 <= k <= self.dim else 0

    def boundary(self, k: int, *, signed: bool = True) -> sparse.csc_array:
        """``B_k`` (n_{k-1}, n_k) in int32; well shaped and empty where a rank has no cells.

        Raises:
            ValueError: ``k`` below 1.
        """
        if k < 1:
            raise ValueError(f"boundary matrices begin at rank 1 (edges), got {k}")
        if k > self.dim:
            return sparse.csc_array((self.size(k - 1), 0), dtype=np.int32)
        key = ("B", k, signed)
        if key not in self._kept:
            self._kept[key] = self._boundary(k) if signed else abs(self.boundary(k))
        return self._kept[key]

    def _half(self, k: int, down: bool, signed: bool) -> sparse.csr_array:
        key = ("L", k, down, signed)
        if key not in self._kept:
            if (down and k == 0) or self.size(k if down else k + 1) == 0:
                self._kept[key] = sparse.csr_array((self.size(k),) * 2, dtype=np.int32)
            elif down:
                b = self.boundary(k, signed=signed)
                self._kept[key] = (b.T.tocsr() @ b.tocsr()).tocsr()
            else:
                b = self.boundary(k + 1, signed=signed).tocsr()
                self._kept[key] = (b @ b.T.tocsr()).tocsr()
        return self._kept[key]

    def laplacian(
        self,
        k: int,
        kind: Kind = "hodge",
        *,
        mode: Mode = "signed",
        norm: Norm | None = None,
    ) -> sparse.csr_array:
        """Laplacian of rank k, (n_k, n_k).

        Args:
            k: Rank.
            kind: ``hodge`` (both parts), ``up`` (through k+1 cells) or ``down`` (through faces).
            mode: See the module.
            norm: None, ``sym`` for ``D^-1/2 L D^-1/2`` or ``row`` for ``D^-1 L``, with D the
                diagonal of L; cells with a zero there stay zero.

        Raises:
            ValueError: unknown kind, mode or norm, or a negative rank.
        """
        _one_of("kind", kind, KINDS)
        _one_of("mode", mode, MODES)
        if k < 0:
            raise ValueError(f"a rank is 0 or more, got {k}")
        signed = mode != "unsigned_incidence"
        if kind == "hodge":
            matrix = self._half(k, True, signed) + self._half(k, False, signed)
        else:
            matrix = self._half(k, kind == "down", signed)
        matrix = sparse.csr_array(abs(matrix) if mode == "abs_after" else matrix)
        matrix.eliminate_zeros()
        return matrix if norm is None else normalised(matrix, norm)

    def adjacency(self, k: int) -> sparse.csr_array:
        """Who shares a (k+1)-cell with whom: the pattern of L_up off the diagonal, 0/1."""
        return pattern(self._half(k, False, True))

    def coadjacency(self, k: int) -> sparse.csr_array:
        """Who shares a face with whom: the pattern of L_down off the diagonal, 0/1."""
        return pattern(self._half(k, True, True))

    def membership(self, k: int) -> sparse.csr_array:
        """S_k (n, n_k): 1 where the node is a vertex of the cell."""
        key = ("S", k)
        if key not in self._kept:
            cells = self.vertices(k)
            counts = np.fromiter((len(c) for c in cells), dtype=np.int64, count=len(cells))
            flat = np.array([v for c in cells for v in c], dtype=np.int64)
            column = np.repeat(np.arange(len(cells)), counts)
            ones = np.ones(len(flat), dtype=np.int32)
            self._kept[key] = sparse.csr_array((ones, (flat, column)), shape=(self.n, len(cells)))
        return self._kept[key]

    def betti(self, field: Literal["Q", "Z2"] = "Q") -> tuple[int, ...]:
        """Betti numbers: connected parts, independent loops, enclosed voids, ...

        ``n_k - rank B_k - rank B_{k+1}``, by exact elimination: over Z/2, or for the rationals
        modulo the prime 1 000 003 (equal unless the complex has torsion of exactly that order).
        """
        _one_of("field", field, ("Q", "Z2"))
        prime = 2 if field == "Z2" else BIG_PRIME
        ranks = [0, *(rank_modulo(self.boundary(k), prime) for k in range(1, self.dim + 1)), 0]
        return tuple(self.size(k) - ranks[k] - ranks[k + 1] for k in range(self.dim + 1))

    def euler(self) -> int:
        """Euler characteristic, the alternating sum of the sizes."""
        return sum((-1) ** k * size for k, size in enumerate(self.sizes))

    def check(self) -> "ChainComplex":
        """Verify that ``B_k B_{k+1} = 0`` exactly and that every matrix has its shape.

        Raises:
            ValueError: it does not hold; the message names the rank.
        """
        for k in range(1, self.dim + 1):
            b = self.boundary(k)
            if b.shape != (self.size(k - 1), self.size(k)):
                raise ValueError(f"B_{k} has shape {b.shape}, the sizes are {self.sizes}")
            if k < self.dim and abs(b @ self.boundary(k + 1)).sum():
                raise ValueError(f"B_{k} B_{k + 1} is not zero: an orientation is wrong")
        return self

    def to_torch(self, *, device: str = "cpu") -> dict[str, Tensor]:
        """Boundary and Hodge matrices as float32 CSR tensors: ``B1``, ``L0``, ``L1``, ..."""
        found = {f"B{k}": self.boundary(k) for k in range(1, self.dim + 1)}
        found |= {f"L{k}": self.laplacian(k) for k in range(self.dim + 1)}
        return {name: as_torch(matrix, device=device) for name, matrix in found.items()}


def _one_of(what: str, given: str, known: tuple[str, ...]) -> None:
    if given not in known:
        raise ValueError(f"{what} must be one of {', '.join(known)}, got {given!r}")


def pattern(matrix: Any) -> sparse.csr_array:
    """1 where a matrix is not zero off its diagonal."""
    found = sparse.coo_array(matrix)
    keep = (found.row != found.col) & (found.data != 0)
    ones = np.ones(int(keep.sum()), dtype=np.int32)
    return sparse.csr_array((ones, (found.row[keep], found.col[keep])), shape=found.shape)


def normalised(matrix: Any, norm: Norm) -> sparse.csr_array:
    """A square matrix divided by its diagonal: ``sym`` by roots on both sides, ``row`` on one."""
    _one_of("norm", norm, ("sym", "row"))
    d = np.asarray(matrix.diagonal(), dtype=np.float64)
    inverse = np.divide(1.0, d, out=np.zeros_like(d), where=d > 0)
    scale = sparse.dia_array
    n = len(d)
    if norm == "row":
        return sparse.csr_array(scale((inverse[None], [0]), shape=(n, n)) @ matrix)
    root = scale((np.sqrt(inverse)[None], [0]), shape=(n, n))
    return sparse.csr_array(root @ matrix @ root)


def as_torch(matrix: Any, *, device: str = "cpu") -> Tensor:
    """A scipy matrix as a float32 CSR tensor."""
    found = sparse.csr_array(matrix)
    found.sort_indices()
    return torch.sparse_csr_tensor(
        torch.from_numpy(found.indptr.astype(np.int64)),
        torch.from_numpy(found.indices.astype(np.int64)),
        torch.from_numpy(found.data.astype(np.float32)),
        size=found.shape,
        device=device,
        check_invariants=False,
    )


def rank_modulo(matrix: Any, prime: int) -> int:
    """Rank of an integer matrix over Z/prime, by sparse elimination of columns.

    Each column is reduced by the earlier ones until its lowest entry is a row that no other column
    has lowest, or nothing is left.
    """
    b = sparse.csc_array(matrix)
    pivots: dict[int, dict[int, int]] = {}
    for j in range(b.shape[1]):
        part = slice(int(b.indptr[j]), int(b.indptr[j + 1]))
        column = {
            int(row): int(value) % prime
            for row, value in zip(b.indices[part], b.data[part], strict=True)
            if int(value) % prime
        }
        while column:
            low = max(column)
            if low not in pivots:
                inverse = pow(column[low], -1, prime)
                pivots[low] = {row: value * inverse % prime for row, value in column.items()}
                break
            factor = column[low]
            for row, value in pivots[low].items():
                left = (column.get(row, 0) - factor * value) % prime
                if left:
                    column[row] = left
                else:
                    column.pop(row, None)
    return len(pivots)
