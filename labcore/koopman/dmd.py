"""Dynamic mode decomposition: the linear map that best takes each snapshot to the next.

Snapshots are columns, X = [x_1 .. x_n] with m rows. With X1 = X[:, :-1] = U S V^T cut at rank r and
X2 = X[:, 1:], the reduced map is U^T X2 V S^-1; its eigenvalues are the DMD eigenvalues, and
X2 V S^-1 W the exact modes (Tu et al., 2014). All of it except the modes follows from the small
matrix G = X^T X (method of snapshots), read off X once. Squaring costs accuracy, so ``"auto"``
leaves G when S_r / S_1 is small and takes the triangular factor of X instead.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Complex, Float, Inexact, Int

Method = Literal["auto", "gram", "qr", "svd"]
# Smallest S_r / S_1 at which G still gives eigenvalues to about the root of the precision.
GUARD = {"float64": 1e-4, "float32": 1e-2}


@dataclass(frozen=True)
class DMDResult:
    """Eigenvalues sorted by modulus, descending; ties by real, then imaginary part, descending.

    Attributes:
        eigs: Eigenvalues (..., r).
        modes: Modes as columns (..., m, r).
        amplitudes: Weights (..., r) of the modes in the first snapshot.
        singular_values: All singular values of X[:, :-1].
        method_used: ``"gram"``, ``"qr"`` or ``"svd"``.
    """

    eigs: Complex[np.ndarray, "*b r"]
    modes: Complex[np.ndarray, "*b m r"]
    amplitudes: Complex[np.ndarray, "*b r"]
    singular_values: Float[np.ndarray, "*b s"]
    method_used: str

    def reconstruct(self, steps: int) -> Inexact[np.ndarray, "*b m t"]:
        """The first ``steps`` snapshots as real numbers: modes · amplitudes · eigs^t."""
        powers = self.eigs[..., :, None] ** np.arange(steps)
        return ((self.modes * self.amplitudes[..., None, :]) @ powers).real

    def frequencies(self, dt: float = 1.0) -> Float[np.ndarray, "*b r"]:
        """Cycles a unit of time: Im(log λ) / (2π dt)."""
        return np.angle(self.eigs) / (2 * np.pi * dt)

    def growth(self, dt: float = 1.0) -> Float[np.ndarray, "*b r"]:
        """Growth rate a unit of time: log |λ| / dt; minus infinity for λ = 0."""
        with np.errstate(divide="ignore"):
            return np.log(np.abs(self.eigs)) / dt


def dmd(
    X: Float[np.ndarray, "*b m n"],
    rank: int | float | Literal["optimal"],
    method: Method = "auto",
    exact: bool = True,
    amplitudes: Literal["first", "all"] = "first",
) -> DMDResult:
    """Modes and eigenvalues of one system, or of many of one size at once.

    Args:
        X: Snapshots as columns; batch axes lead. float32 stays float32.
        rank: Modes to keep; or a share of the energy in (0, 1); or ``"optimal"``, the hard
            threshold of Gavish and Donoho (2014). A batch wants a whole number.
        method: How the singular vectors are found; see the module.
        exact: Exact modes X2 V S^-1 W, else projected modes U W.
        amplitudes: Least squares on the first snapshot, or on all of them (Jovanović, Schmid,
            Nichols, Physics of Fluids 2014), which a long reconstruction wants.

    Raises:
        ValueError: fewer than 3 snapshots, NaN or infinity (it says where), a rank out of range,
            a data-dependent rank for a batch, or ``rank`` above the numerical rank.
    """
    _check(X, rank)
    used, s, v, left, gram = _factor(X, rank, method)
    r = _rank(s, rank, X.shape[-2], X.shape[-1] - 1)
    if (s[..., r - 1] <= np.finfo(X.dtype).eps * s[..., 0]).any():
        raise ValueError(f"rank={r} exceeds the numerical rank of the snapshots: lower it")
    basis = v[..., :r] / s[..., None, :r]  # V S^-1
    small = left[..., :r, :] @ basis  # U^T X2 V S^-1
    eigs, vectors = np.linalg.eig(small)
    order = eigenvalue_order(eigs)
    eigs = np.take_along_axis(eigs, order, -1) + 0j
    weights = basis @ np.take_along_axis(vectors, order[..., None, :], -1) + 0j
    snapshots = X[..., 1:] if exact else X[..., :-1]
    modes = _product(snapshots, weights)
    if amplitudes == "all":
        size = _amplitudes_of_all(modes, eigs, X)
    elif exact and gram is not None:
        size = _amplitudes_by_gram(gram, weights)
    else:
        size = _amplitudes(modes, X[..., 0])
    return DMDResult(eigs, modes, size, s, used)


def _factor(
    X: np.ndarray, rank: int | float | str, method: str
) -> tuple[str, np.ndarray, np.ndarray, np.ndarray, np.ndarray | None]:
    """Method used, singular values, right vectors V, U^T X2, and X^T X where it was used."""
    m, n = int(X.shape[-2]), int(X.shape[-1])
    if method not in ("auto", "gram", "qr", "svd"):
        raise ValueError(f"method={method!r}: choose auto, gram, qr or svd")
    if method == "gram" or (method == "auto" and m > n):
        gram = np.swapaxes(X, -1, -2) @ X
        squares, v = np.linalg.eigh(gram[..., :-1, :-1])
        s = np.sqrt(np.clip(squares[..., ::-1], 0, None))
        r = _rank(s, rank, m, n - 1)
        if method == "gram" or (s[..., r - 1] >= GUARD[X.dtype.name] * s[..., 0]).all():
            v = v[..., ::-1]
            safe = np.where(s > 0, s, 1)[..., :, None]  # zeros are beyond any rank accepted
            return "gram", s, v, (np.swapaxes(v, -1, -2) @ gram[..., :-1, 1:]) / safe, gram
    tall = method == "qr" or (method == "auto" and m > n)
    R: np.ndarray = np.asarray(np.linalg.qr(X, mode="r")) if tall else X
    u, s, vt = np.linalg.svd(R[..., :-1], full_matrices=False)
    left = np.swapaxes(u, -1, -2) @ R[..., 1:]
    return ("qr" if tall else "svd"), s, np.swapaxes(vt, -1, -2), left, None


def _product(X: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Real snapshots times complex weights, as two real products."""
    return (X @ weights.real) + 1j * (X @ weights.imag)


def _amplitudes_by_gram(gram: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The same least squares for modes X2 · weights, from X^T X alone: the data are not read."""
    adjoint = np.swapaxes(weights.conj(), -1, -2)
    inner = adjoint @ gram[..., 1:, 1:] @ weights
    right = adjoint @ gram[..., 1:, :1]
    return (np.linalg.pinv(inner, hermitian=True) @ right)[..., 0]


def _amplitudes(modes: np.ndarray, first: np.ndarray) -> np.ndarray:
    """Least squares for ``modes @ b = first``, through the small QR of the modes."""
    q, r = np.linalg.qr(modes)
    right = np.swapaxes(q.conj(), -1, -2) @ first[..., None]
    return (np.linalg.pinv(r) @ right)[..., 0]


def _amplitudes_of_all(modes: np.ndarray, eigs: np.ndarray, X: np.ndarray) -> np.ndarray:
    """Least squares for ``modes diag(b) powers = X``: (Φ*Φ ∘ conj(V V*)) b = diag of Φ* X V*."""
    powers = eigs[..., :, None] ** np.arange(X.shape[-1])
    adjoint = np.swapaxes(modes.conj(), -1, -2)
    inner = (adjoint @ modes) * (powers.conj() @ np.swapaxes(powers, -1, -2))
    right = ((adjoint @ X) * powers.conj()).sum(axis=-1)
    return (np.linalg.pinv(inner, hermitian=True) @ right[..., None])[..., 0]


def eigenvalue_order(eigs: Inexact[np.ndarray, "*b r"]) -> Int[np.ndarray, "*b r"]:
    """Indices by modulus, real part, imaginary part, all descending (ties to 10 digits).

    >>> eigenvalue_order(np.array([0.5, 1j, -1j, 1.0]))
    array([3, 1, 2, 0])
    """
    keys = (-eigs.imag, -np.round(eigs.real, 10), -np.round(np.abs(eigs), 10))
    order: np.ndarray = np.lexsort(keys, axis=-1)
    return order


def _rank(s: np.ndarray, rank: int | float | str, m: int, n: int) -> int:
    if isinstance(rank, int):
        return rank
    if rank == "optimal":
        beta = min(m, n) / max(m, n)
        omega = 0.56 * beta**3 - 0.95 * beta**2 + 1.82 * beta + 1.43
        return max(1, int((s > omega * np.median(s)).sum()))
    energy = np.cumsum(s**2) / np.sum(s**2)
    return int(np.searchsorted(energy, rank)) + 1


def _check(X: np.ndarray, rank: int | float | str) -> None:
    m, n = X.shape[-2:]
    if n < 3:
        raise ValueError(f"X has {n} snapshots (columns): at least 3 are needed")
    if not np.isfinite(X).all():
        place = tuple(int(i) for i in np.argwhere(~np.isfinite(X))[0])
        raise ValueError(f"X holds {X[place]} at index {place}: replace or remove it")
    if isinstance(rank, int):
        if not 1 <= rank <= min(m, n - 1):
            raise ValueError(f"rank={rank} must be 1..{min(m, n - 1)} for X of shape {X.shape}")
    elif rank != "optimal" and not (isinstance(rank, float) and 0 < rank < 1):
        raise ValueError(f"rank={rank!r}: a whole number, a share in (0, 1), or 'optimal'")
    elif X.ndim > 2:
        raise ValueError("a batch needs one whole number as rank: systems would differ otherwise")
