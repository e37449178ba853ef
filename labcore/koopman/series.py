"""Series of one's own: read from an untrusted file, and their dynamic modes.

Rows are steps. A table has (time, features); an .npy, .npz or .safetensors array may also have
(time, nodes, features), whose snapshots are then all features of all nodes.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Complex, Float, Float64

from labcore.koopman.dmd import DMDResult, dmd
from labcore.uploads import UploadError, read_matrix, read_tensors

MEGABYTE = 1_000_000
MOST_BYTES, MOST_NUMBERS = 20 * MEGABYTE, 2_000_000
ARRAYS = (".npy", ".npz", ".safetensors")


@dataclass(frozen=True)
class OwnModes:
    """Modes of a series.

    Attributes:
        eigs: Eigenvalues, largest modulus first.
        frequency: Cycles a step.
        half_life: Steps until half is left; infinite for |λ| >= 1.
        weight: |amplitude| times the norm of the mode, as a share.
        share: How strongly each channel (or node) takes part in each mode; columns sum to 1.
        singular_values: Of the snapshots.
        error: Relative error of the reconstruction of the whole series.
        first: The largest channel, as it was.
        rebuilt: The same channel, from the modes.
        method: What found the singular vectors.
        rank: Modes kept.
    """

    eigs: Complex[np.ndarray, " r"]
    frequency: Float[np.ndarray, " r"]
    half_life: Float[np.ndarray, " r"]
    weight: Float[np.ndarray, " r"]
    share: Float[np.ndarray, "c r"]
    singular_values: Float[np.ndarray, " s"]
    error: float
    first: Float[np.ndarray, " t"]
    rebuilt: Float[np.ndarray, " t"]
    method: str
    rank: int


def read_series(data: bytes, filename: str) -> Float64[np.ndarray, "t ..."]:
    """Numbers of a .csv, .tsv, .npy, .npz or .safetensors file, time first.

    Raises:
        UploadError: another kind of file or number of axes, fewer than 3 steps, NaN or infinity,
            an array of objects, or more than 20 MB or two million numbers; it says what to do.
    """
    most, numbers = MOST_BYTES, MOST_NUMBERS
    if not filename.lower().endswith(ARRAYS):
        values = read_matrix(data, filename, max_bytes=most, max_elements=numbers)
    else:
        arrays = read_tensors(data, filename, max_bytes=most, max_elements=numbers)
        values = next(iter(arrays.values()))
    if values.ndim not in (2, 3):
        raise UploadError(
            f"{filename} has shape {values.shape}; give (time, features) or (time, nodes, features)"
        )
    if values.dtype.kind not in "biuf":
        raise UploadError(f"{filename} holds {values.dtype}; save real numbers")
    if len(values) < 3 or values.size == 0:
        raise UploadError(f"{filename} has {len(values)} steps; at least 3 are needed, time first")
    if values.size > MOST_NUMBERS:
        raise UploadError(f"{filename} holds {values.size} numbers, at most {MOST_NUMBERS}: cut it")
    series = np.ascontiguousarray(values, dtype=np.float64)
    if not np.isfinite(series).all():
        place = tuple(int(i) for i in np.argwhere(~np.isfinite(series))[0])
        raise UploadError(
            f"{filename} holds {series[place]} at {place} (counted from 0); replace or remove it"
        )
    if not series.any():
        raise UploadError(f"{filename} holds zeros only; there is nothing to decompose")
    return series


def largest_rank(series: Float[np.ndarray, "t ..."], *, tolerance: float = 1e-7) -> int:
    """How many modes the series carries: singular values above ``tolerance`` of the largest."""
    X = series.reshape(len(series), -1)[:-1]
    small = X @ X.T if X.shape[0] <= X.shape[1] else X.T @ X
    values = np.sqrt(np.clip(np.linalg.eigvalsh(small), 0, None))
    return max(1, int((values > tolerance * values.max()).sum()))


def own_modes(series: Float[np.ndarray, "t ..."], rank: int) -> OwnModes:
    """Exact DMD of a series; a rank beyond what the series carries is lowered to that.

    Raises:
        ValueError: a rank below 1, fewer than 3 steps, or NaN.
    """
    from labcore.koopman.spectrum import lives

    if rank < 1:
        raise ValueError(f"rank={rank} must be at least 1")
    flat = np.ascontiguousarray(series.reshape(len(series), -1).T)
    kept = min(rank, largest_rank(series))
    found: DMDResult = dmd(flat, kept, amplitudes="all")
    rebuilt = found.reconstruct(len(series))
    size = np.linalg.norm(found.modes, axis=0)
    weight = np.abs(found.amplitudes) * size
    power = np.abs(found.modes) ** 2
    if series.ndim == 3:  # one share a node
        power = power.reshape(*series.shape[1:], kept).sum(axis=1)
    top = int(np.abs(flat).max(axis=1).argmax())
    return OwnModes(
        found.eigs,
        found.frequencies(),
        lives(found.eigs)[0],
        weight / max(weight.sum(), np.finfo(float).tiny),
        power / np.maximum(power.sum(axis=0), np.finfo(float).tiny),
        found.singular_values,
        float(np.linalg.norm(rebuilt - flat) / np.linalg.norm(flat)),
        flat[top],
        rebuilt[top],
        found.method_used,
        kept,
    )
