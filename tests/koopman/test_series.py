"""Uploads: three axes are read, everything else is refused with what to do; modes are exact."""

import io

import numpy as np
import pytest

from labcore import viz
from labcore.koopman import figures
from labcore.koopman.series import largest_rank, own_modes, read_series
from labcore.uploads import UploadError


def npy(array: np.ndarray) -> bytes:
    out = io.BytesIO()
    np.save(out, array, allow_pickle=True)
    return out.getvalue()


def oscillation(steps: int = 60) -> np.ndarray:
    t = np.arange(steps)
    parts = np.stack([np.cos(0.3 * t), np.sin(0.3 * t), 0.97**t], axis=1)
    return parts @ np.random.default_rng(0).normal(size=(3, 4))


def test_tables_and_arrays_are_read() -> None:
    assert read_series(b"a,b\n1,2\n3,4\n5,6\n", "x.csv").shape == (3, 2)
    assert read_series(npy(np.ones((5, 4, 3), np.float32)), "x.npy").shape == (5, 4, 3)


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (np.ones(9), "give .time, features."),
        (np.ones((3, 2, 2, 2)), "give .time, features."),
        (np.ones((2, 5)), "at least 3"),
        (np.zeros((9, 2)), "zeros only"),
        (np.where(np.eye(4), np.nan, 1.0), r"nan at \(0, 0\)"),
        (np.ones((4, 2), dtype=complex), "real numbers"),
        (np.array([[{}, 1], [2, 3], [4, 5]], dtype=object), "Python objects"),
        (np.ones((1500, 1500), dtype=np.int8), "2000000"),
    ],
)
def test_bad_uploads_are_refused(array: np.ndarray, said: str) -> None:
    with pytest.raises(UploadError, match=said):
        read_series(npy(array), "x.npy")


def test_a_pickle_and_another_suffix_are_refused() -> None:
    for name in ("x.pkl", "x.txt"):
        with pytest.raises(UploadError):
            read_series(b"abc", name)
    with pytest.raises(UploadError, match="MB"):
        read_series(b"1" * 20_000_001, "x.npy")


def test_modes_of_an_oscillation_and_a_rank_beyond_what_is_there() -> None:
    series = oscillation()
    rank = largest_rank(series)
    modes = own_modes(series, 40)
    assert modes.rank == rank == 3
    assert modes.error < 1e-6
    assert np.abs(modes.frequency).max() == pytest.approx(0.3 / (2 * np.pi), abs=1e-6)
    nodes = own_modes(series.reshape(60, 2, 2), 2)
    assert nodes.share.shape == (2, nodes.rank)
    assert nodes.share.sum(axis=0) == pytest.approx(1)
    for fig in (figures.own_plane(modes), figures.own_series(modes)):
        assert viz.describe(fig)
    with pytest.raises(ValueError, match="rank=0"):
        own_modes(series, 0)
