"""Learning to choose: gradients of an expected loss through a discrete, random choice.

A choice z is drawn from p_theta and costs F(z). The exact gradient of E[F(z)] sums over all z; the
estimators here draw instead. Score function: unbiased, wide. Straight-through and Gumbel-softmax:
narrow, biased. Which is which can be measured: :func:`gradient_samples`.

Sources: Williams 1992 (score function); Bengio et al., arXiv 1308.3432 (straight-through); Jang et
al., arXiv 1611.01144, and Maddison et al., arXiv 1611.00712 (Gumbel-softmax, binary concrete); Kool
et al., arXiv 1903.06059 (Gumbel top-k). Section and notation: arXiv 2403.07965.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

CostFn = Callable[[Tensor], Tensor]
ESTIMATORS = (
    "score function",
    "score function, best baseline",
    "straight-through",
    "Gumbel-softmax",
    "Gumbel straight-through",
)


class _StraightThrough(torch.autograd.Function):
    """Forward: the hard value, bit for bit. Backward: as if it had been the soft one."""

    @staticmethod
    def forward(ctx: Any, hard: Tensor, soft: Tensor) -> Tensor:
        return hard.to(soft.dtype).clone()

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[None, Tensor]:
        return None, grads[0]


def straight_through(hard: Tensor, soft: Tensor) -> Tensor:
    """The value of ``hard`` with the gradient of ``soft``; both have one shape.

    Raises:
        ValueError: two shapes.

    >>> soft = torch.tensor([0.3], requires_grad=True)
    >>> out = straight_through(torch.tensor([1.0]), soft)
    >>> out.sum().backward()
    >>> out.item(), soft.grad.item()
    (1.0, 1.0)
    """
    if hard.shape != soft.shape:
        raise ValueError(f"hard has shape {tuple(hard.shape)}, soft {tuple(soft.shape)}")
    return _StraightThrough.apply(hard, soft)


def gumbel_noise(like: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Standard Gumbel variables −log E, E exponential, in the shape of ``like``."""
    draw = torch.empty_like(like).exponential_(generator=generator)
    return -draw.clamp_min(torch.finfo(draw.dtype).tiny).log()


def gumbel_softmax(
    logits: Float[Tensor, "*batch c"],
    tau: float = 1.0,
    hard: bool = False,
    generator: torch.Generator | None = None,
    *,
    training: bool = True,
) -> Float[Tensor, "*batch c"]:
    """softmax((logits + G)/tau); its arg-max is distributed as softmax(logits), whatever tau is.

    Args:
        logits: Unnormalised log-probabilities, last axis the categories.
        tau: Temperature: → 0 gives one-hot vectors, and gradients without bound.
        hard: Return the one-hot arg-max, with the gradient of the soft vector.
        generator: Source of the noise.
        training: With False, no generator and ``hard``, nothing is drawn: the logits' arg-max.

    Raises:
        ValueError: ``tau`` <= 0, or NaN logits.
    """
    _check(logits, tau)
    draw = training or generator is not None or not hard
    noisy = logits + gumbel_noise(logits, generator) if draw else logits
    soft = (noisy / tau).softmax(-1)
    if not hard:
        return soft
    one_hot = F.one_hot(noisy.argmax(-1), logits.shape[-1]).to(soft.dtype)
    return straight_through(one_hot, soft)


def binary_concrete(
    logits: Tensor,
    tau: float = 1.0,
    hard: bool = False,
    generator: torch.Generator | None = None,
    *,
    training: bool = True,
) -> Tensor:
    """sigmoid((logits + L)/tau) with *logistic* noise L = log U − log(1 − U).

    A logistic variable is the difference of two Gumbels; with a single Gumbel the gate would open
    with probability 1 − exp(−e^l) instead of sigmoid(l).

    Args:
        logits: Log-odds of an open gate, any shape.
        tau: Temperature.
        hard: Return exactly 0 or 1, with the gradient of the soft value.
        generator: Source of the noise.
        training: With False, no generator and ``hard``, nothing is drawn: [logit > 0].

    Raises:
        ValueError: ``tau`` <= 0, or NaN logits.
    """
    _check(logits, tau)
    noisy = logits
    if training or generator is not None or not hard:
        noisy = logits + gumbel_noise(logits, generator) - gumbel_noise(logits, generator)
    soft = torch.sigmoid(noisy / tau)
    return straight_through((noisy > 0).to(soft.dtype), soft) if hard else soft


def gumbel_top_k(
    log_prob: Float[Tensor, "*batch c"], k: int, generator: torch.Generator | None = None
) -> Int[Tensor, "*batch k"]:
    """k categories without replacement: the top k of log p + G, in the order of the draws.

    Raises:
        ValueError: ``k`` outside 1..c, or NaN.
    """
    _check(log_prob, 1.0)
    if not 1 <= k <= log_prob.shape[-1]:
        raise ValueError(f"k must lie in 1..{log_prob.shape[-1]}, got {k}")
    return (log_prob + gumbel_noise(log_prob, generator)).topk(k, dim=-1).indices


def score_function_loss(
    log_prob: Tensor, cost: Tensor, baseline: Tensor | float | None = None
) -> Tensor:
    """mean of (F(z) − c) log p(z), whose gradient estimates that of E[F(z)].

    Args:
        log_prob: log p(z) of each draw, with its graph.
        cost: F(z) of each draw; no gradient flows into it.
        baseline: Any number that does not depend on the draw; it leaves the mean alone.

    Raises:
        ValueError: shapes that differ.
    """
    if log_prob.shape != cost.shape:
        raise ValueError(f"log_prob {tuple(log_prob.shape)} and cost {tuple(cost.shape)} differ")
    centred = cost if baseline is None else cost - baseline
    return (centred.detach() * log_prob).mean()


def exact_gradient(logits: Float[Tensor, " c"], cost_fn: CostFn) -> Float[Tensor, " c"]:
    """Gradient of sum_z p(z) F(z) by enumeration; for small spaces.

    Args:
        logits: One vector of logits.
        cost_fn: One-hot rows (n, c) → costs (n,).
    """
    leaf = logits.detach().clone().requires_grad_()
    with torch.no_grad():
        costs = cost_fn(torch.eye(leaf.shape[0], dtype=leaf.dtype))
    (gradient,) = torch.autograd.grad((leaf.softmax(-1) * costs).sum(), leaf)
    return gradient


def best_baseline(logits: Float[Tensor, " c"], cost_fn: CostFn) -> Float[Tensor, " c"]:
    """The constant with the smallest variance, c* = E[F s²]/E[s²], for each coordinate of s.

    s is the score, the gradient of log p(z) by the logits; c* differs from E[F] in general.
    """
    p = logits.detach().softmax(-1)
    eye = torch.eye(len(p), dtype=p.dtype)
    squared = (eye - p).square()  # (z, coordinate)
    weight = p[:, None] * squared
    return (weight * cost_fn(eye).detach()[:, None]).sum(0) / weight.sum(0)


def score_variance(
    logits: Float[Tensor, " c"], cost_fn: CostFn, baseline: Tensor | float = 0.0
) -> Float[Tensor, " c"]:
    """Exact variance of one draw of the score-function estimator, for each coordinate."""
    p = logits.detach().softmax(-1)
    eye = torch.eye(len(p), dtype=p.dtype)
    value = (cost_fn(eye).detach()[:, None] - baseline) * (eye - p)
    mean = (p[:, None] * value).sum(0)
    return (p[:, None] * value.square()).sum(0) - mean.square()


def gradient_samples(
    name: str,
    logits: Float[Tensor, " c"],
    cost_fn: CostFn,
    draws: int,
    *,
    tau: float = 1.0,
    generator: torch.Generator | None = None,
) -> Float[Tensor, "n c"]:
    """One gradient a draw, all draws at once.

    Args:
        name: One of ``ESTIMATORS``.
        logits: One vector of logits.
        cost_fn: Rows of the simplex (n, c) → costs (n,), differentiable.
        draws: Number of draws.
        tau: Temperature of the Gumbel estimators.
        generator: Source of the noise.

    Raises:
        ValueError: unknown name, ``tau`` <= 0 or ``draws`` < 1.
    """
    _check(logits, tau)
    if name not in ESTIMATORS:
        raise ValueError(f"unknown estimator {name!r}: choose from {', '.join(ESTIMATORS)}")
    if draws < 1:
        raise ValueError(f"draws must be at least 1, got {draws}")
    leaf = logits.detach().expand(draws, -1).clone().requires_grad_()
    if name.startswith("Gumbel"):
        z = gumbel_softmax(leaf, tau, hard=name.endswith("through"), generator=generator)
        return torch.autograd.grad(cost_fn(z).sum(), leaf)[0]
    p = leaf.softmax(-1)
    index = torch.multinomial(p[0].detach(), draws, replacement=True, generator=generator)
    hard = F.one_hot(index, p.shape[-1]).to(p.dtype)
    if name == "straight-through":
        return torch.autograd.grad(cost_fn(straight_through(hard, p)).sum(), leaf)[0]
    score = hard - p.detach()
    baseline = best_baseline(logits, cost_fn) if name.endswith("baseline") else 0.0
    return (cost_fn(hard).detach()[:, None] - baseline) * score


def temperature(step: int, *, start: float = 1.0, rate: float = 1e-3, lowest: float = 0.5) -> float:
    """The schedule tau = max(lowest, start · exp(−rate · step)).

    >>> temperature(0), temperature(10**6)
    (1.0, 0.5)

    Raises:
        ValueError: a temperature that is not positive.
    """
    if start <= 0 or lowest <= 0:
        raise ValueError(f"temperatures must be > 0, got start={start}, lowest={lowest}")
    return max(lowest, start * math.exp(-rate * step))


def _check(logits: Tensor, tau: float) -> None:
    if not tau > 0:
        raise ValueError(f"tau must be > 0, got {tau}: 0.5 to 1 is usual")
    if torch.isnan(logits).any():
        raise ValueError("logits hold NaN: look at the step before (a diverged training?)")
