"""Truncated SVD factors of a task matrix, exact and fast, and the polar factor.

The fast path works on the short side: G = A^T A in float64, its top k eigenpairs, U = A V / s.
Squaring is safe because only the leading part of the spectrum is kept; where s_k < 1e-6 s_1 a
float64 SVD is taken instead. (Spec of arXiv 2412.00081, sections 3 and 4.)
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from scipy.linalg import blas, eigh
from torch import Tensor

Method = Literal["auto", "gram", "svd", "randomized"]
_SQUARE_SAFE = 1e-6  # below this share of s_1, squaring has lost the digits of s
GRAM_CONDITION = 1e5  # above it a polar factor by the Gram matrix is off by more than 1e-6


@dataclass(frozen=True)
class Factors:
    """U diag(s) Vh with orthonormal columns of U and rows of Vh (or merged factors, likewise).

    Attributes:
        U: (m, k). s: (k,), descending unless merged. Vh: (k, n).
        energy: Share of the squared Frobenius norm that is kept; 1 for a zero matrix.
        dropped: Components within the wanted rank that were null directions.
    """

    U: Float[Tensor, "m k"]
    s: Float[Tensor, " k"]
    Vh: Float[Tensor, "k n"]
    energy: float = 1.0
    dropped: int = 0

    @property
    def rank(self) -> int:
        """Number of components."""
        return len(self.s)

    @property
    def shape(self) -> tuple[int, int]:
        """Shape of the dense matrix."""
        return self.U.shape[0], self.Vh.shape[1]

    @property
    def nbytes(self) -> int:
        """Bytes of the three tensors: k (m + n + 1) numbers."""
        return sum(t.numel() * t.element_size() for t in (self.U, self.s, self.Vh))

    def dense(self) -> Float[Tensor, "m n"]:
        """The matrix itself."""
        return (self.U * self.s) @ self.Vh

    def truncate(self, rank: int) -> "Factors":
        """The leading ``rank`` components (all, if there are fewer)."""
        k = min(rank, self.rank)
        total = float((self.s**2).sum())
        share = float((self.s[:k] ** 2).sum()) / total if total else 1.0
        return Factors(self.U[:, :k], self.s[:k], self.Vh[:k], self.energy * share)


def default_tol(dtype: torch.dtype) -> float:
    """Null directions lie below this share of s_1: 1e-10 for float64, else 1e-7."""
    return 1e-10 if dtype == torch.float64 else 1e-7


def rounding_floor(weight: Float[Tensor, "m n"]) -> float:
    """Size of the singular values that storing ``weight`` in its dtype makes by rounding alone.

    u * rms(W) * (sqrt(m) + sqrt(n)), with u the unit roundoff (2^-24, 2^-11, 2^-9 for float32,
    float16, bfloat16): the spectral norm of a random matrix of independent rounding errors.
    """
    m, n = weight.shape
    rms = float(weight.double().square().mean().sqrt())
    return torch.finfo(weight.dtype).eps / 2 * rms * (m**0.5 + n**0.5)


def truncated_svd(
    delta: Float[Tensor, "m n"],
    rank: int,
    *,
    method: Method = "auto",
    tol: float | None = None,
    floor: float = 0.0,
    name: str = "delta",
) -> Factors:
    """The leading ``rank`` singular triples of ``delta``, in float64, null directions left out.

    Args:
        delta: The matrix.
        rank: How many triples.
        method: "gram" squares the short side, "svd" does not, "auto" chooses; "randomized" is
            approximate (flat spectra come out wrong by tens of percent) and never chosen.
        tol: Null directions lie below this share of s_1 (:func:`default_tol`).
        floor: They also lie below this absolute size, as :func:`rounding_floor` gives it.
        name: What to call the matrix in an error.

    Raises:
        ValueError: not a finite real matrix, rank outside 1..min(m, n), or unknown method.

    >>> truncated_svd(torch.diag(torch.tensor([3.0, 2.0])), 1).s.round(decimals=6).tolist()
    [3.0]
    """
    largest = check_matrix(name, delta)
    check_rank(name, rank, min(delta.shape))
    if method not in ("auto", "gram", "svd", "randomized"):
        raise ValueError(f"method must be auto, gram, svd or randomized, got {method!r}")
    tol = default_tol(delta.dtype) if tol is None else tol
    if largest == 0:
        return _zero(delta, rank)
    matrix = delta.double().numpy()
    wide = matrix.shape[0] < matrix.shape[1]
    tall = matrix.T if wide else matrix
    u, s, vh = _triples(tall, rank, method)
    kept = int((s > max(tol * s[0], floor)).sum())
    u, s, vh = u[:, :kept], s[:kept], vh[:kept]
    energy = min(1.0, float((s**2).sum() / np.vdot(matrix, matrix)))
    left, right = (vh.T, u.T) if wide else (u, vh)
    U, values, Vh = (torch.from_numpy(np.array(x, order="C")) for x in (left, s, right))
    return Factors(U, values, Vh, energy=energy, dropped=rank - kept)


def _triples(
    tall: np.ndarray, rank: int, method: Method
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    if method == "randomized":
        return _sketched_triples(tall, rank)
    if method != "svd":
        u, s, vh = _gram_triples(tall, rank)
        if method == "gram" or s[-1] >= _SQUARE_SAFE * s[0]:
            return u, s, vh
    u, s, vh = np.linalg.svd(tall, full_matrices=False)
    return u[:, :rank], s[:rank], vh[:rank]


def _sketched_triples(tall: np.ndarray, rank: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Halko, Martinsson, Tropp (2011): a random range of rank + 10 columns, one power step."""
    width = min(rank + 10, tall.shape[1])
    probe = np.random.default_rng(0).standard_normal((tall.shape[1], width))
    basis = np.linalg.qr(tall @ (tall.T @ (tall @ probe)))[0]
    u, s, vh = np.linalg.svd(basis.T @ tall, full_matrices=False)
    return (basis @ u)[:, :rank], s[:rank], vh[:rank]


def _gram_triples(tall: np.ndarray, rank: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    n = tall.shape[1]
    some = 4 * rank < n  # from there on all pairs by divide and conquer take less time than some
    values, vectors = eigh(
        _lower_gram(tall),
        lower=True,
        driver="evr" if some else "evd",
        subset_by_index=(n - rank, n - 1) if some else None,
        overwrite_a=True,
        check_finite=False,
    )
    s = np.sqrt(np.clip(values[: -rank - 1 : -1], 0.0, None))
    v = vectors[:, : -rank - 1 : -1]
    return tall @ v / np.maximum(s, np.finfo(float).tiny), s, v.T


def _lower_gram(columns: np.ndarray) -> np.ndarray:
    """X^T X in float64, the lower half only: half the flops of a product.

    BLAS reads columns, so an array of rows is passed transposed; neither order is copied.
    """
    by_columns = columns.flags.f_contiguous
    return blas.dsyrk(1.0, columns if by_columns else columns.T, trans=int(by_columns), lower=1)


def _zero(delta: Tensor, rank: int) -> Factors:
    m, n = delta.shape
    empty = torch.zeros(0, dtype=torch.float64)
    return Factors(empty.view(0).new_zeros(m, 0), empty, empty.new_zeros(0, n), dropped=rank)


def lowrank_factors(
    B: Float[Tensor, "m r"],
    A: Float[Tensor, "r n"],
    scale: float = 1.0,
    rank: int | None = None,
    tol: float | None = None,
) -> Factors:
    """Factors of ``scale * B @ A`` from a LoRA pair; the dense matrix is never formed.

    Two QR factorisations reduce the problem to an SVD of an r x r core.

    Raises:
        ValueError: shapes that do not chain, non-finite entries, or a bad rank.
    """
    check_matrix("B", B)
    check_matrix("A", A)
    if B.shape[1] != A.shape[0]:
        raise ValueError(
            f"B {tuple(B.shape)} and A {tuple(A.shape)} do not chain: want m x r, r x n"
        )
    rank = min(B.shape[1], B.shape[0], A.shape[1]) if rank is None else rank
    check_rank("LoRA", rank, min(B.shape[0], A.shape[1]))
    left, upper = torch.linalg.qr(B.double())
    right, lower = torch.linalg.qr(A.double().T)
    u, s, vh = torch.linalg.svd(scale * upper @ lower.T, full_matrices=False)
    tol = default_tol(torch.promote_types(B.dtype, A.dtype)) if tol is None else tol
    kept = min(rank, int((s > tol * s[0]).sum()))
    total = float((s**2).sum())
    energy = float((s[:kept] ** 2).sum()) / total if total else 1.0
    return Factors(
        left @ u[:, :kept], s[:kept], (right @ vh[:kept].T).T, energy, max(0, rank - kept)
    )


def whitener(X: Float[Tensor, "m k"], tol: float) -> Float[Tensor, "k k"]:
    """(X^T X)^(-1/2) of a float64 matrix: X times it is its polar factor.

    By the Gram matrix, which squares the condition number; past ``GRAM_CONDITION`` by an SVD.
    """
    root, condition = inverse_root(torch.from_numpy(_lower_gram(X.numpy())), tol)
    if condition <= GRAM_CONDITION:
        return root
    _, d, qh = torch.linalg.svd(X, full_matrices=False)
    rows = qh[d > tol * d[0]]
    return (rows.T / d[: len(rows)]) @ rows


def inverse_root(gram: Float[Tensor, "k k"], tol: float) -> tuple[Tensor, float]:
    """Pseudo-inverse square root of a Gram matrix, and the condition number of its factor.

    Only the lower half of ``gram`` is read. Directions with singular value below ``tol`` times the
    largest are projected out, which makes the polar factor the minimum-norm one.
    """
    values, vectors = eigh(gram.numpy(), lower=True, driver="evd", check_finite=False)
    roots = np.sqrt(np.clip(values, 0.0, None))
    kept = roots > tol * roots[-1]
    condition = float(roots[-1] / roots[kept][0]) if kept.any() else 1.0
    half = vectors[:, kept] / np.sqrt(roots[kept])
    return torch.from_numpy(half @ half.T), condition  # one matrix twice: half the flops


def polar_factor(
    X: Float[Tensor, "m k"],
    *,
    method: Literal["gram", "svd"] = "gram",
    tol: float | None = None,
) -> Float[Tensor, "m k"]:
    """The nearest matrix with orthonormal columns, min ||Q - X||_F: X (X^T X)^(-1/2).

    Where X is rank-deficient the nearest one is not unique; this is the one of least norm, the
    partial isometry onto the range of X. With more columns than rows its rows are orthonormal.

    Raises:
        ValueError: not a finite real matrix, or unknown method.

    >>> polar_factor(torch.tensor([[2.0, 0.0], [0.0, 5.0]])).round(decimals=6).tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    largest = check_matrix("X", X)
    if method not in ("gram", "svd"):
        raise ValueError(f"method must be gram or svd, got {method!r}")
    tol = 1e-7 if tol is None else tol
    if largest == 0:
        return torch.zeros_like(X)
    wide = X.double()
    if method == "gram":
        return (wide @ whitener(wide, tol)).to(X.dtype)
    p, d, qh = torch.linalg.svd(wide, full_matrices=False)
    kept = d > tol * d[0]
    return (p[:, kept] @ qh[kept]).to(X.dtype)


def check_matrix(name: str, value: Tensor) -> float:
    """The largest absolute entry, in one pass and without a copy; 0 where there is no entry.

    Raises:
        ValueError: not a finite real floating matrix.
    """
    if value.ndim != 2 or not value.is_floating_point():
        raise ValueError(
            f"{name}: want a real floating matrix, got {tuple(value.shape)} of {value.dtype}"
        )
    low, high = map(float, torch.aminmax(value)) if value.numel() else (0.0, 0.0)
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ValueError(f"{name}: has non-finite entries; repair the checkpoint")
    return max(-low, high)


def check_rank(name: str, rank: int, limit: int) -> None:
    """Raise ``ValueError`` unless 1 <= rank <= limit."""
    if not 1 <= rank <= limit:
        raise ValueError(f"{name}: rank must be in 1..{limit}, got {rank}")
