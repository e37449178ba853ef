"""The Koopman operator of hidden states, and what its modes say about nodes.

States are embedded by PCA; K is the ridge fit of one step to the next, (Y X^T)(X X^T + α I)^-1 with
snapshots as columns; pairs never join two sequences. The published code projects on the real part
of a RIGHT eigenvector; the Koopman eigenfunction is φ(z) = w·z with a LEFT one, because only then
φ(z_{t+1}) = λ φ(z_t). Real parts of complex vectors depend on an arbitrary phase; moduli do not.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float, Inexact

from labcore.koopman.dmd import eigenvalue_order

Embedding = Literal["pca", "svd", "identity"]


@dataclass(frozen=True)
class KoopmanFit:
    """Embedding (mean, components as columns), operator, and its sorted eigenvectors.

    ``right`` holds right eigenvectors as columns, ``left`` left ones as rows.
    """

    mean: Float[np.ndarray, " f"]
    components: Float[np.ndarray, "f k"]
    K: Float[np.ndarray, "k k"]
    eigs: Inexact[np.ndarray, " k"]
    right: Inexact[np.ndarray, "k k"]
    left: Inexact[np.ndarray, "k k"]

    def embed(self, states: Float[np.ndarray, "*b f"]) -> Float[np.ndarray, "*b k"]:
        """PCA coordinates."""
        return (states - self.mean) @ self.components

    def coordinate(
        self,
        states: Float[np.ndarray, "*b f"],
        mode: int = 0,
        side: Literal["right", "left"] = "right",
    ) -> Inexact[np.ndarray, "*b"]:
        """States along one mode, complex where the mode is.

        Raises:
            ValueError: no such mode or side.
        """
        if not 0 <= mode < len(self.eigs):
            raise ValueError(f"mode={mode} must be 0..{len(self.eigs) - 1}")
        if side not in ("right", "left"):
            raise ValueError(f"side={side!r}: right or left")
        return self.embed(states) @ (self.right[:, mode] if side == "right" else self.left[mode])

    def project(
        self,
        states: Float[np.ndarray, "*b f"],
        mode: int = 0,
        side: Literal["right", "left"] = "right",
        part: Literal["real", "abs"] = "real",
    ) -> Float[np.ndarray, "*b"]:
        """States seen along one mode, as real numbers.

        Raises:
            ValueError: no such mode, side or part.
        """
        if part not in ("real", "abs"):
            raise ValueError(f"part={part!r}: real or abs")
        value = self.coordinate(states, mode, side)
        return value.real if part == "real" else np.abs(value)

    def one_step_skill(self, states: Float[np.ndarray, "b t f"]) -> float:
        """1 - SSE(K) / SSE(persistence): what K adds to "nothing changes"."""
        z = self.embed(states)
        error = ((z[:, 1:] - z[:, :-1] @ self.K.T) ** 2).sum()
        return float(1 - error / ((z[:, 1:] - z[:, :-1]) ** 2).sum())


def fit_operator(
    states: Float[np.ndarray, "b t f"], k: int, alpha: float = 1.0, *, embedding: Embedding = "pca"
) -> KoopmanFit:
    """Embed in ``k`` coordinates, then ridge without intercept.

    Args:
        states: Sequences of states; pairs of steps never join two sequences.
        k: Coordinates.
        alpha: Ridge penalty.
        embedding: ``"pca"`` centres; ``"svd"`` does not; ``"identity"`` keeps the states, with
            ``k`` equal to their number of features.

    Raises:
        ValueError: fewer than 3 steps, ``k`` out of range, NaN (it says where), an unknown
            embedding, or ``alpha`` too small for a singular Gram matrix.
    """
    b, t, f = states.shape
    if t < 3 or not 1 <= k <= min(f, b * t):
        raise ValueError(f"states {states.shape}: wants 3 steps, and k={k} in 1..{min(f, b * t)}")
    if not np.isfinite(states).all():
        place = tuple(int(i) for i in np.argwhere(~np.isfinite(states))[0])
        raise ValueError(f"states hold {states[place]} at (sequence, step, feature) {place}")
    mean, components = _embedding(states.reshape(-1, f), k, embedding)
    z = (states - mean) @ components
    x, y = z[:, :-1].reshape(-1, k), z[:, 1:].reshape(-1, k)
    gram = x.T @ x + alpha * np.eye(k, dtype=z.dtype)
    if alpha < 0 or np.linalg.matrix_rank(gram, hermitian=True) < k:
        raise ValueError(f"alpha={alpha} leaves a singular system: give a positive alpha")
    K = np.linalg.solve(gram, x.T @ y).T
    eigs, right = np.linalg.eig(K)
    order = eigenvalue_order(eigs)
    right = right[:, order]
    return KoopmanFit(mean, components, K, eigs[order], right, np.linalg.pinv(right))


def _embedding(rows: np.ndarray, k: int, embedding: str) -> tuple[np.ndarray, np.ndarray]:
    """Mean, and components as columns with their arbitrary signs fixed."""
    f = rows.shape[1]
    if embedding == "identity":
        if k != f:
            raise ValueError(f"embedding='identity' keeps all {f} features: k={k} must be {f}")
        return np.zeros(f, rows.dtype), np.eye(f, dtype=rows.dtype)
    if embedding not in ("pca", "svd"):
        raise ValueError(f"embedding={embedding!r}: pca, svd or identity")
    mean = rows.mean(axis=0) if embedding == "pca" else np.zeros(f, rows.dtype)
    centred = rows - mean
    values, vectors = np.linalg.eigh(centred.T @ centred)
    components = vectors[:, np.argsort(values)[::-1][:k]]
    top = np.abs(components).argmax(axis=0)
    return mean, components * np.sign(components[top, np.arange(k)])
