"""DMD: equal to PyDMD, exact on linear data, one answer for all methods and for batches."""

import warnings
from typing import Literal

import numpy as np
import pytest

from labcore.koopman.dmd import dmd


def linear(m: int = 40, n: int = 25) -> tuple[np.ndarray, np.ndarray]:
    """Two damped oscillations seen through m channels, and their eigenvalues."""
    rng = np.random.default_rng(0)
    eigs = np.array([0.99 * np.exp(0.4j), 0.95 * np.exp(1.1j)])
    modes = rng.normal(size=(m, 2)) + 1j * rng.normal(size=(m, 2))
    X = 2 * (modes @ (eigs[:, None] ** np.arange(n))).real
    return X, np.concatenate([eigs, eigs.conj()])


def noisy(m: int = 300, n: int = 40) -> np.ndarray:
    rng = np.random.default_rng(1)
    return linear(m, n)[0] + 0.3 * rng.normal(size=(m, n))


@pytest.mark.parametrize("exact", [True, False])
def test_equals_pydmd(exact: bool) -> None:
    pydmd = pytest.importorskip("pydmd", reason="the peer PyDMD is not installed")
    X = noisy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = pydmd.DMD(svd_rank=6, exact=exact).fit(X)
    ours = dmd(X, 6, exact=exact)
    match = np.abs(ours.eigs[:, None] - theirs.eigs[None]).argmin(axis=1)
    assert sorted(match) == list(range(6))
    np.testing.assert_allclose(ours.eigs, theirs.eigs[match], atol=1e-10)
    a, b = ours.modes, theirs.modes[:, match]
    cosine = np.abs((a.conj() * b).sum(0)) / np.linalg.norm(a, axis=0) / np.linalg.norm(b, axis=0)
    assert cosine.min() > 1 - 1e-10


@pytest.mark.parametrize("amplitudes", ["first", "all"])
def test_amplitudes_equal_pydmd(amplitudes: Literal["first", "all"]) -> None:
    pydmd = pytest.importorskip("pydmd", reason="the peer PyDMD is not installed")
    X = noisy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = pydmd.DMD(svd_rank=6, exact=True, opt=amplitudes == "all").fit(X)
    ours = dmd(X, 6, amplitudes=amplitudes)
    match = np.abs(ours.eigs[:, None] - theirs.eigs[None]).argmin(axis=1)
    wanted = (theirs.modes * theirs.amplitudes)[:, match]
    np.testing.assert_allclose(ours.modes * ours.amplitudes, wanted, atol=1e-8)


@pytest.mark.parametrize("method", ["auto", "gram", "qr", "svd"])
def test_linear_data_are_recovered(method: str) -> None:
    X, eigs = linear()
    found = dmd(X, 4, method)
    distance = np.abs(found.eigs[:, None] - eigs[None]).min(axis=0)
    assert distance.max() < 1e-12
    np.testing.assert_allclose(found.reconstruct(25), X, atol=1e-12)
    assert (np.diff(np.abs(found.eigs)) <= 1e-9).all()
    np.testing.assert_allclose(found.eigs[::2], found.eigs[1::2].conj(), atol=1e-14)


def test_frequency_and_growth_of_a_known_oscillation() -> None:
    found = dmd(linear()[0], 4)
    np.testing.assert_allclose(found.frequencies(dt=0.5)[0], 0.4 / (2 * np.pi * 0.5), atol=1e-8)
    np.testing.assert_allclose(found.growth(dt=0.5)[0], np.log(0.99) / 0.5, atol=1e-8)


@pytest.mark.parametrize("small", [1e-1, 1e-2, 1e-4])
def test_all_methods_agree_down_to_the_guard_of_the_gram_matrix(small: float) -> None:
    rng = np.random.default_rng(3)
    u = np.linalg.qr(rng.normal(size=(200, 2)))[0]
    X = u @ (np.array([[1.0], [10 * small]]) * np.array([[0.9], [-0.7]]) ** np.arange(15))
    found = {method: dmd(X, 2, method) for method in ("gram", "qr", "svd", "auto")}
    for method, one in found.items():
        np.testing.assert_allclose(one.eigs, [0.9, -0.7], atol=1e-7, err_msg=method)
    assert found["auto"].method_used == "gram"


def test_auto_leaves_the_gram_matrix_when_it_would_lose_digits() -> None:
    rng = np.random.default_rng(2)
    u = np.linalg.qr(rng.normal(size=(100, 4)))[0]
    steps = np.stack([0.9 ** np.arange(20.0), 0.5 ** np.arange(20.0)])
    X = u[:, :1] @ steps[:1] + 1e-7 * u[:, 1:2] @ steps[1:]
    found = dmd(X, 2)
    assert found.method_used == "qr"
    np.testing.assert_allclose(found.eigs, [0.9, 0.5], atol=1e-6)
    assert dmd(noisy(), 4).method_used == "gram"


def test_a_batch_is_a_loop_and_rows_may_be_permuted() -> None:
    batch = np.stack([noisy(), noisy()[::-1] + 1])
    together = dmd(batch, 4)
    for i, X in enumerate(batch):
        np.testing.assert_allclose(together.eigs[i], dmd(X, 4).eigs, atol=1e-10)
    np.testing.assert_allclose(dmd(noisy()[::-1].copy(), 4).eigs, dmd(noisy(), 4).eigs, atol=1e-9)


def test_rank_by_energy_and_by_the_optimal_threshold() -> None:
    assert dmd(noisy(), "optimal").eigs.shape == (4,)
    assert dmd(linear()[0], 0.999999).eigs.shape[0] <= 4


@pytest.mark.parametrize(
    ("shape", "rank", "said"),
    [((5, 2), 1, "at least 3"), ((5, 9), 6, "rank=6"), ((5, 9), 0, "rank=0"), ((5, 9), 1.5, "1.5")],
)
def test_bad_input_is_refused(shape: tuple[int, int], rank: float, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        dmd(np.random.default_rng(0).normal(size=shape), rank)


def test_nan_is_named_with_its_place() -> None:
    X = noisy()
    X[3, 7] = np.nan
    with pytest.raises(ValueError, match=r"\(3, 7\)"):
        dmd(X, 2)


def test_single_precision_stays_single() -> None:
    X = noisy().astype(np.float32)
    for method in ("gram", "qr"):
        found = dmd(X, 4, method)
        assert found.eigs.dtype == found.modes.dtype == found.amplitudes.dtype == np.complex64
        assert found.singular_values.dtype == np.float32
        np.testing.assert_allclose(found.eigs, dmd(noisy(), 4).eigs, atol=1e-4)
