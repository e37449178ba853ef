"""SINDy: the dual solution is the full one, invariance, and PySINDy's sparse regression."""

import numpy as np
import pytest

from labcore.koopman import sindy
from labcore.koopman.sindy import edge_sindy, graph_library, polynomial_library, stlsq

EDGES = np.array([[0, 1], [1, 2], [0, 3], [2, 3]])


def states(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(4, 12, 3))


@pytest.mark.parametrize("degree", [2, 3])
@pytest.mark.parametrize("aggregate", ["frobenius", "signed_sum"])
def test_equals_ridge_of_scikit_learn(degree: int, aggregate: str) -> None:
    linear = pytest.importorskip("sklearn.linear_model", reason="scikit-learn is not installed")
    Z = states()
    dual = edge_sindy(Z, EDGES, degree, aggregate=aggregate)
    full = edge_sindy(Z, EDGES, degree, aggregate=aggregate, solver="full")
    np.testing.assert_allclose(dual, full, rtol=1e-9)
    own, products = graph_library(Z, EDGES, degree)
    rows = [np.moveaxis(b[..., :-1, :], -2, 0).reshape(11, -1) for b in (own, products)]
    target = np.moveaxis(Z[:, 1:], 1, 0).reshape(11, -1)
    ridge = linear.Ridge(alpha=1.0, fit_intercept=False).fit(np.hstack(rows), target)
    block = ridge.coef_[:, rows[0].shape[1] :].reshape(4, 3, len(products), len(EDGES), 3)
    if aggregate == "frobenius":
        wanted = np.sqrt((block**2).sum(axis=(0, 1, 2, 4)))
    else:
        wanted = np.abs(block.sum(axis=(1, 2, 4))).sum(axis=0)
    np.testing.assert_allclose(dual, wanted, rtol=1e-9)


@pytest.mark.parametrize("degree", [2, 3])
def test_only_the_norm_ignores_the_sign_of_an_axis(degree: int) -> None:
    Z, flip = states(), np.array([1.0, -1.0, 1.0])
    norm = edge_sindy(Z, EDGES, degree)
    np.testing.assert_allclose(norm, edge_sindy(Z * flip, EDGES, degree), rtol=1e-9)
    signed = edge_sindy(Z, EDGES, degree, aggregate="signed_sum")
    flipped = edge_sindy(Z * flip, EDGES, degree, aggregate="signed_sum")
    assert np.abs(signed - flipped).max() > 0.01 * signed.max()
    order = np.array([2, 0, 3, 1])
    place = np.argsort(order)
    np.testing.assert_allclose(norm, edge_sindy(Z[order], place[EDGES], degree), rtol=1e-9)


def test_the_library_may_be_made_in_pieces_and_in_single_precision(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = {a: edge_sindy(states(), EDGES, 3, aggregate=a) for a in ("frobenius", "signed_sum")}
    single = edge_sindy(states().astype(np.float32), EDGES, 3)
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, whole["frobenius"], rtol=1e-3)
    monkeypatch.setattr(sindy, "CACHED", 1)  # one edge at a time
    for aggregate, wanted in whole.items():
        got = edge_sindy(states(), EDGES, 3, aggregate=aggregate)
        np.testing.assert_allclose(got, wanted, rtol=1e-10)


def lorenz() -> tuple[np.ndarray, np.ndarray]:
    from scipy.integrate import solve_ivp

    def field(_: float, q: np.ndarray) -> list[float]:
        x, y, z = q
        return [10 * (y - x), x * (28 - z) - y, x * y - 8 / 3 * z]

    t = np.arange(0, 10, 0.002)
    path = solve_ivp(field, (0, 10), [-8, 8, 27], t_eval=t, rtol=1e-10, atol=1e-10).y.T
    return path[1:-1], (path[2:] - path[:-2]) / 0.004


def quadratic(q: np.ndarray) -> np.ndarray:
    x, y, z = q.T
    return np.stack([np.ones_like(x), x, y, z, x * x, x * y, x * z, y * y, y * z, z * z], axis=1)


def test_lorenz_is_found_and_equals_pysindy() -> None:
    q, slope = lorenz()
    found = stlsq(quadratic(q), slope, threshold=0.1)
    assert (found != 0).sum() == 7
    wanted = {(0, 1): -10, (0, 2): 10, (1, 1): 28, (1, 2): -1, (1, 6): -1, (2, 5): 1}
    for place, value in {**wanted, (2, 3): -8 / 3}.items():
        assert abs(found[place] - value) < 0.02
    pysindy = pytest.importorskip("pysindy", reason="the peer PySINDy is not installed")
    theirs = pysindy.STLSQ(threshold=0.1, alpha=0.05).fit(quadratic(q), slope).coef_
    np.testing.assert_array_equal(found != 0, theirs != 0)
    np.testing.assert_allclose(found, theirs, atol=1e-6)


def test_a_threshold_above_all_gives_zero_and_a_warning() -> None:
    q, slope = lorenz()
    with pytest.warns(UserWarning, match="lower it"):
        assert not stlsq(quadratic(q), slope, threshold=1e6).any()


@pytest.mark.parametrize(
    ("edges", "change", "said"),
    [
        (np.zeros((0, 2), int), {}, "empty"),
        (np.array([[0, 4]]), {}, "node 4"),
        (EDGES, {"alpha": 0.0}, "alpha"),
        (EDGES, {"degree": 4}, "degree"),
    ],
)
def test_bad_input_is_refused(edges: np.ndarray, change: dict, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        edge_sindy(states(), edges, **change)


def test_bad_states_and_samples_are_refused() -> None:
    broken = states()
    broken[1, 2, 0] = np.inf
    with pytest.raises(ValueError, match=r"inf at \(node, step, axis\) \(1, 2, 0\)"):
        edge_sindy(broken, EDGES)
    with pytest.raises(ValueError, match="at least 3"):
        edge_sindy(states()[:, :2], EDGES)
    with pytest.raises(ValueError, match="must not be negative"):
        stlsq(np.ones((9, 2)), np.ones((9, 1)), -0.1)
    with pytest.raises(ValueError, match="3 names for 2"):
        polynomial_library(np.ones((4, 2)), 2, ("x", "y", "z"))
    with pytest.raises(ValueError, match=r"nan at \(sample, variable\) \(0, 1\)"):
        polynomial_library(np.array([[1.0, np.nan]]), 2)
