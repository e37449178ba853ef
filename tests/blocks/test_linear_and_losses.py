"""Linear models, losses and calibration against torch and numpy in float64, and their edges."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from labcore.blocks import calibration, linear, losses

rng = np.random.default_rng(0)


def test_softmax_and_logsumexp_equal_torch() -> None:
    z = rng.normal(size=(6, 5)) * 400
    for temperature in (0.3, 1.0, 7.0):
        theirs = torch.softmax(torch.from_numpy(z) / temperature, dim=-1).numpy()
        ours = linear.softmax(z, temperature=temperature)
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-300)
    np.testing.assert_allclose(
        linear.logsumexp(z, 0), torch.logsumexp(torch.from_numpy(z), 0).numpy(), rtol=1e-12
    )
    assert linear.logsumexp(np.array([-np.inf, -np.inf])) == -np.inf


@pytest.mark.parametrize("scale", [1.0, 1000.0])
def test_cross_entropy_equals_torch(scale: float) -> None:
    z, y = rng.normal(size=(8, 4)) * scale, rng.integers(0, 4, size=8)
    theirs = F.cross_entropy(torch.from_numpy(z), torch.from_numpy(y)).item()
    assert losses.cross_entropy(z, y) == pytest.approx(theirs, rel=1e-9)


def test_losses_equal_torch() -> None:
    e = rng.normal(size=50) * 3
    t, zero = torch.from_numpy(e), torch.zeros(50, dtype=torch.float64)
    np.testing.assert_allclose(losses.squared(e), (t**2 / 2).numpy(), rtol=1e-12)
    np.testing.assert_allclose(losses.absolute(e), t.abs().numpy())
    for delta in (0.5, 1.5):
        theirs = F.huber_loss(t, zero, delta=delta, reduction="none").numpy()
        np.testing.assert_allclose(losses.huber(e, delta=delta), theirs, rtol=1e-12)
    np.testing.assert_allclose(losses.hinge(e), torch.relu(1 - t).numpy(), rtol=1e-12)
    nll = F.gaussian_nll_loss(zero, t, torch.full((50,), 2.5).double(), full=True).item()
    assert losses.gaussian_nll(e, 0.0, 2.5) == pytest.approx(nll, rel=1e-9)


def test_ridge_has_a_zero_gradient_and_least_squares_is_numpys() -> None:
    X, y = rng.normal(size=(20, 4)), rng.normal(size=20)
    w = linear.least_squares(X, y, ridge=0.7)
    np.testing.assert_allclose(X.T @ (X @ w - y) + 0.7 * w, 0, atol=1e-12)
    np.testing.assert_allclose(
        linear.least_squares(X, y), np.linalg.lstsq(X, y, rcond=None)[0], rtol=1e-9
    )
    double = np.column_stack([X, X[:, 0]])  # columns that depend on each other
    short = linear.least_squares(double, y)
    assert short[0] == pytest.approx(short[-1])


def test_logistic_regression_walks_as_torch_does() -> None:
    X, y = rng.normal(size=(30, 3)), rng.integers(0, 4, size=30)
    W, b, history = linear.fit_logistic(X, y, classes=4, lr=0.5, steps=40, ridge=0.1)
    w, c = (torch.zeros(s, dtype=torch.float64, requires_grad=True) for s in ((3, 4), (4,)))
    for step in range(40):
        loss = F.cross_entropy(torch.from_numpy(X) @ w + c, torch.from_numpy(y))
        loss = loss + 0.05 * (w**2).sum()
        assert history.loss[step] == pytest.approx(loss.item(), rel=1e-9)
        for p, g in zip((w, c), torch.autograd.grad(loss, (w, c)), strict=True):
            p.data -= 0.5 * g
    np.testing.assert_allclose(W, w.detach().numpy(), rtol=1e-9)
    np.testing.assert_allclose(b, c.detach().numpy(), rtol=1e-9, atol=1e-15)
    assert history.loss[0] == pytest.approx(np.log(4))


def test_the_memory_remembers_and_knows_nothing_else() -> None:
    X, y = np.array([[1.0, 2], [3, 4], [1, 2]]), np.array([5.0, 6, 7])
    model = losses.lookup_table(X, y, default=-1.0)
    assert model(X).tolist() == [7, 6, 7]
    assert model(X + 0.5).tolist() == [-1, -1, -1]


def test_best_constants_are_mean_and_median() -> None:
    y = rng.exponential(size=51)
    assert losses.minimise_location(losses.squared, y) == pytest.approx(y.mean(), abs=1e-6)
    assert losses.minimise_location(losses.absolute, y) == pytest.approx(np.median(y), abs=1e-3)
    assert losses.minimise_location(losses.absolute, np.full(3, 2.0)) == 2.0


def test_reliability_by_a_loop_and_the_sure_row_in_the_last_bin() -> None:
    z, y = rng.normal(size=(200, 3)) * 3, rng.integers(0, 3, size=200)
    p = linear.softmax(z)
    p[0] = (1.0, 0.0, 0.0)
    found = calibration.reliability(p, y, bins=8)
    top, right = p.max(1), p.argmax(1) == y
    total = 0.0
    for i in range(8):
        mine = (top >= i / 8) & ((top < (i + 1) / 8) | (i == 7))
        assert found.count[i] == mine.sum()
        if mine.any():
            assert found.accuracy[i] == pytest.approx(right[mine].mean())
            total += mine.mean() * abs(right[mine].mean() - top[mine].mean())
        else:
            assert np.isnan(found.accuracy[i])
    assert calibration.ece(p, y, bins=8) == pytest.approx(total)


def test_temperature_undoes_a_scaling_of_the_logits() -> None:
    z = rng.normal(size=(4000, 3)) * 2
    y = np.array([rng.choice(3, p=row) for row in linear.softmax(z)])
    heat = calibration.fit_temperature(z, y)
    assert heat == pytest.approx(1.0, abs=0.1)
    assert calibration.fit_temperature(5 * z, y) == pytest.approx(5 * heat, rel=1e-3)


@pytest.mark.parametrize("alpha", [0.05, 0.1, 0.3])
def test_sets_keep_their_promise(alpha: float) -> None:
    z = rng.normal(size=(8000, 5)) * 2
    p = linear.softmax(z)
    y = np.array([rng.choice(5, p=row) for row in p])
    gamma = calibration.conformal_threshold(p[np.arange(4000), y[:4000]], alpha=alpha)
    sets = calibration.predict_sets(p[4000:], gamma)
    assert sets[np.arange(4000), y[4000:]].mean() == pytest.approx(1 - alpha, abs=0.03)


def test_too_few_rows_give_everything() -> None:
    assert calibration.conformal_threshold(np.array([0.4, 0.9]), alpha=0.1) == 0.0


def test_a_rare_but_costly_class_is_predicted_early() -> None:
    cost = np.array([[0.0, 10.0], [1.0, 0.0]])  # cost[decision, truth]
    p = np.array([[1 - q, q] for q in (0.05, 1 / 11 - 1e-6, 1 / 11 + 1e-6, 0.5)])
    assert calibration.min_cost_class(p, cost).tolist() == [0, 0, 1, 1]


HALF = np.full((2, 2), 0.5)
ZERO = np.array([0, 1])


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda: linear.softmax(HALF, temperature=0), "temperature"),
        (lambda: linear.softmax(HALF, temperature=-1.0), "temperature"),
        (lambda: linear.least_squares(HALF, ZERO, ridge=-1.0), "ridge"),
        (lambda: linear.least_squares(HALF, np.zeros(3)), "X must be"),
        (lambda: linear.least_squares(HALF * np.nan, ZERO), "X must be finite, 4 entries"),
        (lambda: linear.fit_logistic(HALF, np.array([0, 2]), classes=2, lr=1, steps=1), "0..1"),
        (lambda: linear.fit_logistic(HALF, ZERO, classes=2, lr=0, steps=1), "lr > 0"),
        (lambda: losses.cross_entropy(HALF, np.array([0, -1])), "0..1"),
        (lambda: losses.huber(HALF, delta=0.0), "delta"),
        (lambda: losses.gaussian_nll(HALF[0], 0.0, 0.0), "variance"),
        (lambda: losses.lookup_table(HALF, np.zeros(3), 0.0), "X must be"),
        (lambda: calibration.reliability(HALF, ZERO, bins=0), "bins"),
        (lambda: calibration.ece(2 * HALF, ZERO), "sum to 1"),
        (lambda: calibration.ece(HALF, np.array([0, 5])), "0..1"),
        (lambda: calibration.conformal_threshold(HALF[0], alpha=0.0), "alpha"),
        (lambda: calibration.conformal_threshold(HALF[0], alpha=1.0), "alpha"),
        (lambda: calibration.conformal_threshold(np.zeros(0), alpha=0.5), "empty"),
        (lambda: calibration.min_cost_class(HALF, np.ones((2, 3))), "cost"),
        (lambda: calibration.fit_temperature(np.zeros((0, 2)), np.zeros(0, int)), "logits"),
    ],
)
def test_bad_input_is_refused(act: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        act()
