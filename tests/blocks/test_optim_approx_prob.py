"""Descent, bins and laws: against torch, scipy and known answers."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch

from labcore.blocks import approx, optim, prob


def bowl(x: np.ndarray) -> float:
    return float(x @ np.diag([1.0, 4.0]) @ x) / 2


def slope(x: np.ndarray) -> np.ndarray:
    return np.diag([1.0, 4.0]) @ x


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
def test_the_walk_is_torchs_sgd(momentum: float) -> None:
    start = np.array([1.0, -2.0])
    walk = optim.gradient_descent(bowl, start, lr=0.1, steps=30, momentum=momentum, grad=slope)
    x = torch.tensor(start, requires_grad=True)
    sgd = torch.optim.SGD([x], lr=0.1, momentum=momentum)
    for step in range(30):
        np.testing.assert_allclose(walk.x[step], x.detach().numpy(), rtol=1e-9, atol=1e-12)
        sgd.zero_grad()
        (x @ torch.diag(torch.tensor([1.0, 4.0]).double()) @ x / 2).backward()
        sgd.step()
    assert walk.x.shape == (31, 2)
    assert walk.f[-1] == pytest.approx(bowl(walk.x[-1]))


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
def test_the_limit_is_the_edge(momentum: float) -> None:
    limit = optim.stability_limit(np.diag([1.0, 4.0]), momentum=momentum)
    for factor, stays in ((0.99, True), (1.01, False)):
        walk = optim.gradient_descent(
            bowl, np.array([1.0, 1.0]), lr=factor * limit, steps=2000, momentum=momentum, grad=slope
        )
        assert (np.abs(walk.x[-1]).max() < 1) == stays


def test_numeric_derivatives() -> None:
    x = np.array([0.3, -1.0])
    np.testing.assert_allclose(optim.numeric_gradient(bowl, x), slope(x), atol=1e-8)
    np.testing.assert_allclose(optim.numeric_hessian(slope, x), np.diag([1.0, 4.0]), atol=1e-8)
    walk = optim.gradient_descent(bowl, x, lr=0.1, steps=5)
    np.testing.assert_allclose(
        walk.x, optim.gradient_descent(bowl, x, lr=0.1, steps=5, grad=slope).x, atol=1e-7
    )


def test_a_walk_that_explodes_stops_with_a_message_and_keeps_what_it_has() -> None:
    walk = optim.gradient_descent(
        lambda x: float(x[0] ** 4), np.array([10.0]), lr=1.0, steps=50, grad=lambda x: 4 * x**3
    )
    assert "no longer finite" in walk.message
    assert np.isfinite(walk.f).all()
    assert len(walk.f) < 51


def test_sigmoid_equals_torch_everywhere() -> None:
    s = np.array([-1e5, -40.0, -1.0, 0.0, 3.0, 1e5])
    np.testing.assert_allclose(
        approx.sigmoid(s), torch.sigmoid(torch.from_numpy(s)).numpy(), rtol=1e-9
    )


def test_bins_are_bumps_and_their_error_falls_like_one_over_m_squared() -> None:
    x = np.linspace(0, 2, 3001)[1:-1]
    errors = []
    for m in (8, 16, 32):
        copy = approx.bin_network(np.sin, m, lo=0.0, hi=2.0, slope=1e6)(x)
        by_hand = sum(
            h * approx.bin_function(x, (i + 0.5) * 2 / m, 2 / m, slope=1e6)
            for i, h in enumerate(approx.bin_means(np.sin, m, lo=0.0, hi=2.0))
        )
        np.testing.assert_allclose(copy, by_hand, atol=1e-9)
        errors.append(np.mean((copy - np.sin(x)) ** 2))
    ratios = np.array(errors[:-1]) / np.array(errors[1:])
    np.testing.assert_allclose(ratios, 4, rtol=0.05)


@pytest.mark.parametrize("laws", [(0.0, 1.0, 1.0, 2.0), (-1.0, 0.5, 3.0, 0.7)])
def test_divergence_equals_torch(laws: tuple[float, float, float, float]) -> None:
    p, q = (torch.distributions.Normal(*laws[i : i + 2]) for i in (0, 2))
    theirs = torch.distributions.kl_divergence(p, q).item()
    assert prob.kl_gaussian(*laws) == pytest.approx(theirs, rel=1e-5)
    assert prob.kl_gaussian(laws[0], laws[1], laws[0], laws[1]) == 0


def test_monte_carlo_error_covers_the_truth() -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(300):
        found = prob.mc_mean(np.square, rng.standard_normal, 400)
        hits += abs(found.mean - 1) < 2 * found.error
    assert 0.9 < hits / 300 < 0.99


def test_fits_and_density_equal_numpy_and_scipy() -> None:
    x = np.random.default_rng(1).normal(size=20)
    assert prob.mle_gaussian(x) == pytest.approx((x.mean(), x.var()))
    assert prob.mle_gaussian(x, unbiased=True)[1] == pytest.approx(x.var(ddof=1))
    np.testing.assert_allclose(
        prob.gaussian_pdf(x, 0.3, 1.7), scipy.stats.norm.pdf(x, 0.3, 1.7), rtol=1e-12
    )


ONE = np.ones(1)


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda: optim.gradient_descent(bowl, np.ones(2), lr=0.0, steps=1), "lr > 0"),
        (lambda: optim.gradient_descent(bowl, np.ones(2), lr=1.0, steps=1, momentum=1.0), "mom"),
        (lambda: optim.gradient_descent(bowl, np.array([np.nan]), lr=1.0, steps=1), "finite"),
        (
            lambda: optim.gradient_descent(lambda x: np.inf, ONE, lr=1.0, steps=1, grad=np.copy),
            "start elsewhere",
        ),
        (lambda: optim.gradient_descent(bowl, np.ones(2), lr=np.nan, steps=1), "lr > 0"),
        (lambda: optim.stability_limit(-np.eye(2)), "no minimum"),
        (lambda: approx.bin_network(np.sin, 0, lo=0.0, hi=1.0), "m must"),
        (lambda: approx.bin_network(np.sin, 2, lo=1.0, hi=1.0), "lo < hi"),
        (lambda: approx.bin_network(np.sin, 2, lo=0.0, hi=1.0, slope=0.0), "slope"),
        (lambda: approx.bin_function(ONE, 0.0, 0.0), "width"),
        (lambda: prob.kl_gaussian(0.0, 0.0, 0.0, 1.0), "> 0"),
        (lambda: prob.mc_mean(np.square, np.ones, 1), "n must"),
        (lambda: prob.mle_gaussian(ONE), "two values"),
        (lambda: prob.gaussian_pdf(ONE, 0.0, -1.0), "deviation"),
    ],
)
def test_bad_input_is_refused(act: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        act()
