"""Experiment 2: bias and variance of gradient estimators, against the exact gradient."""

from collections.abc import Callable

import torch
from torch import Tensor

from labcore.conditional.estimators import (
    ESTIMATORS,
    exact_gradient,
    gradient_samples,
    score_variance,
)
from labcore.conditional.settings import Estimation
from labcore.parts import Findings


def problem(categories: int, seed: int) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """Logits and a cost F(z) = (z·v − 0.45)², smooth on the simplex and known at its corners.

    A cost that is linear in z would hide the bias of straight-through: there it has none.
    """
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(categories, generator=generator, dtype=torch.float64)
    values = torch.rand(categories, generator=generator, dtype=torch.float64)

    def cost(z: Tensor) -> Tensor:
        return (z @ values.to(z.dtype) - 0.45).square()

    return logits, cost


def estimation(settings: Estimation, seed: int, tick: Callable[[], None]) -> Findings:
    """Every estimator, every temperature, on problems of a few sizes."""
    found = Findings()
    for categories in settings.categories:
        logits, cost = problem(categories, seed)
        exact = exact_gradient(logits, cost)
        for name in ESTIMATORS:
            taus = settings.temperatures if name.startswith("Gumbel") else (1.0,)
            for tau in taus:
                tick()
                generator = torch.Generator().manual_seed(seed)
                draws = gradient_samples(
                    name, logits, cost, settings.draws, tau=tau, generator=generator
                )
                variance = draws.var(0)
                found.add(
                    "estimators", estimator=name, categories=categories, tau=tau, seed=seed,
                    draws=settings.draws, exact_norm=float(exact.norm()),
                    bias=float((draws.mean(0) - exact).norm() / exact.norm()),
                    noise_of_bias=float((variance.sum() / settings.draws).sqrt() / exact.norm()),
                    sd=float(variance.sum().sqrt() / exact.norm()),
                )  # fmt: skip
        plain = score_variance(logits, cost).sum().sqrt() / exact.norm()
        found.add("predicted", categories=categories, seed=seed, sd=float(plain))
    return found
