"""Estimators against exact values: distributions, means, predicted variances."""

import math

import pytest
import torch
from torch import Tensor

from labcore.conditional.estimators import (
    ESTIMATORS,
    best_baseline,
    binary_concrete,
    exact_gradient,
    gradient_samples,
    gumbel_noise,
    gumbel_softmax,
    gumbel_top_k,
    score_function_loss,
    score_variance,
    straight_through,
    temperature,
)

DRAWS = 100_000


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def logits(n: int = 4) -> Tensor:
    return torch.randn(n, generator=generator(3), dtype=torch.float64)


def cost(z: Tensor) -> Tensor:
    values = torch.linspace(0, 1, z.shape[-1], dtype=z.dtype)
    return (z @ values - 0.4).square()


@pytest.mark.parametrize("tau", [0.1, 1.0, 10.0])
def test_the_argmax_is_distributed_as_the_softmax_at_any_temperature(tau: float) -> None:
    p = logits().softmax(-1)
    y = gumbel_softmax(logits().expand(DRAWS, -1), tau, generator=generator())
    torch.testing.assert_close(y.sum(-1), torch.ones(DRAWS, dtype=torch.float64))
    seen = torch.bincount(y.argmax(-1), minlength=4) / DRAWS
    assert ((seen - p).abs() < 4.5 * (p * (1 - p) / DRAWS).sqrt()).all()


@pytest.mark.parametrize("logit", [-2.0, 0.0, 1.0])
def test_a_binary_gate_opens_with_the_sigmoid_and_one_gumbel_would_not(logit: float) -> None:
    p = 1 / (1 + math.exp(-logit))
    hard = binary_concrete(torch.full((DRAWS,), logit), 0.5, hard=True, generator=generator())
    assert set(hard.unique().tolist()) <= {0.0, 1.0}
    assert abs(hard.mean().item() - p) < 4.5 * math.sqrt(p * (1 - p) / DRAWS)
    single = (logit + gumbel_noise(torch.empty(DRAWS), generator()) > 0).double().mean().item()
    assert abs(single - (1 - math.exp(-math.exp(logit)))) < 0.01
    assert abs(single - p) > 0.005


def test_hard_is_exactly_one_hot_and_has_the_gradient_of_soft() -> None:
    weight = torch.arange(4.0, dtype=torch.float64)
    grads = []
    for hard in (False, True):
        leaf = logits().requires_grad_()
        y = gumbel_softmax(leaf, 0.7, hard=hard, generator=generator(5))
        (y * weight).sum().backward()
        grads.append(leaf.grad)
        if hard:
            assert sorted(y.tolist()) == [0.0, 0.0, 0.0, 1.0]
    torch.testing.assert_close(grads[0], grads[1], rtol=0, atol=0)


def test_without_noise_hard_is_the_argmax() -> None:
    y = gumbel_softmax(logits(), hard=True, training=False)
    assert y.argmax() == logits().argmax()
    assert binary_concrete(torch.tensor([-0.1, 0.1]), hard=True, training=False).tolist() == [0, 1]


def test_straight_through_is_dF_dz_times_dp_dtheta() -> None:
    leaf = logits().requires_grad_()
    p = leaf.softmax(-1)
    hard = torch.eye(4, dtype=torch.float64)[2]
    cost(straight_through(hard, p)).backward()
    z = hard.clone().requires_grad_()
    (slope,) = torch.autograd.grad(cost(z), z)
    jacobian = torch.diag(p) - p[:, None] * p
    torch.testing.assert_close(leaf.grad, (slope @ jacobian).detach())


def test_score_function_is_unbiased_and_a_baseline_only_lowers_its_variance() -> None:
    exact = exact_gradient(logits(), cost)
    sds = []
    for name, baseline in ((ESTIMATORS[0], 0.0), (ESTIMATORS[1], best_baseline(logits(), cost))):
        draws = gradient_samples(name, logits(), cost, DRAWS, generator=generator())
        error = (draws.var(0) / DRAWS).sqrt()
        assert ((draws.mean(0) - exact).abs() < 4 * error).all()
        predicted = score_variance(logits(), cost, baseline)
        torch.testing.assert_close(draws.var(0), predicted, rtol=0.03, atol=1e-6)
        sds.append(draws.var(0))
    assert (sds[1] <= sds[0]).all()
    assert sds[1].sum() < 0.8 * sds[0].sum()


def test_straight_through_is_biased_and_gumbel_less_so_when_cold() -> None:
    exact = exact_gradient(logits(), cost)

    def off(name: str, tau: float = 1.0) -> tuple[float, float]:
        draws = gradient_samples(name, logits(), cost, DRAWS, tau=tau, generator=generator())
        return float((draws.mean(0) - exact).norm()), float(draws.var(0).sum())

    cold, hot = off("Gumbel-softmax", 0.1), off("Gumbel-softmax", 5.0)
    assert cold[0] < hot[0]
    assert cold[1] > hot[1]
    assert off("straight-through")[0] > 0.1 * exact.norm()


def test_score_loss_has_the_gradient_of_the_estimator() -> None:
    leaf = logits().requires_grad_()
    z = torch.tensor([0, 3, 3, 1])
    log_p = leaf.log_softmax(-1)[z]
    costs = cost(torch.eye(4, dtype=torch.float64))[z]
    score_function_loss(log_p, costs, baseline=0.1).backward()
    score = torch.eye(4, dtype=torch.float64)[z] - logits().softmax(-1)
    torch.testing.assert_close(leaf.grad, ((costs - 0.1)[:, None] * score).mean(0))


def test_two_categories_by_hand() -> None:
    """p = 0.3, F = (2, 5), parameter p: gradient 3, variance 80.05, best baseline 4.1, then 0."""
    p, values = 0.3, torch.tensor([5.0, 2.0], dtype=torch.float64)
    prob = torch.tensor([p, 1 - p], dtype=torch.float64)
    score = torch.tensor([1 / p, -1 / (1 - p)], dtype=torch.float64)
    assert (prob * values * score).sum().item() == pytest.approx(3)
    assert (prob * (values * score).square()).sum().item() - 9 == pytest.approx(80.05, abs=5e-3)
    # in terms of the logit the score is another one, but the best baseline is the same number
    by_logit = torch.log(prob)
    best = best_baseline(by_logit, lambda z: z @ values)
    assert best.tolist() == pytest.approx([4.1, 4.1])
    assert score_variance(by_logit, lambda z: z @ values, best).abs().max() < 1e-12


def test_gumbel_top_k_draws_without_replacement() -> None:
    p = torch.tensor([0.5, 0.3, 0.2])
    found = gumbel_top_k(p.log().expand(DRAWS, -1), 2, generator())
    assert (found[:, 0] != found[:, 1]).all()
    # P(first = 0, then 1) = 0.5 · 0.3 / 0.5
    share = ((found[:, 0] == 0) & (found[:, 1] == 1)).double().mean().item()
    assert share == pytest.approx(0.3, abs=0.01)


def test_schedule_falls_to_its_floor() -> None:
    values = [temperature(t) for t in (0, 100, 10_000)]
    assert values[0] == 1
    assert values[0] > values[1] > values[2] == 0.5


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match="tau must be > 0"):
        gumbel_softmax(logits(), 0.0)
    with pytest.raises(ValueError, match="tau must be > 0"):
        binary_concrete(logits(), -1.0)
    with pytest.raises(ValueError, match="NaN"):
        gumbel_softmax(torch.tensor([float("nan"), 0.0]))
    with pytest.raises(ValueError, match="k must lie in 1..4"):
        gumbel_top_k(logits(), 5)
    with pytest.raises(ValueError, match="unknown estimator"):
        gradient_samples("magic", logits(), cost, 3)
    with pytest.raises(ValueError, match="draws"):
        gradient_samples(ESTIMATORS[0], logits(), cost, 0)
    with pytest.raises(ValueError, match="shape"):
        straight_through(torch.zeros(2), torch.zeros(3))
    with pytest.raises(ValueError, match="differ"):
        score_function_loss(torch.zeros(2), torch.zeros(3))
    with pytest.raises(ValueError, match="temperatures"):
        temperature(1, start=0.0)
