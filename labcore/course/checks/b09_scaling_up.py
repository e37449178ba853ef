"""Checks of notebook B09: scaling up (chapter 9 of arXiv 2404.17625)."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from labcore.blocks import norm
from labcore.course.checking import EXACT, Wrong, register

Rng = np.random.Generator
EPS = 1e-5


def _normal(rng: Rng, *shape: int) -> Tensor:
    return torch.from_numpy(rng.standard_normal(shape))


# B09.1: batch normalisation

Triple = tuple[Tensor, Tensor, Tensor]


def batch_norm(x: Tensor, mean: Tensor, var: Tensor, training: bool) -> Triple:
    """Reference of B09.1: (normalised, running mean, running variance)."""
    y, running = norm.batch_norm(x, norm.Running(mean, var), training=training)
    return y, running.mean, running.var


def _batch(biased: bool, divide_unbiased: bool, frozen: bool) -> Callable[..., Triple]:
    def wrong(x: Tensor, mean: Tensor, var: Tensor, training: bool) -> Triple:
        if not training and frozen:
            return batch_norm(x, mean, var, False)
        now = x.var(0, correction=int(divide_unbiased))
        kept = x.var(0, correction=int(not biased))
        y = (x - x.mean(0)) / (now + EPS).sqrt()
        if not training:
            return y, mean, var
        return y, 0.9 * mean + 0.1 * x.mean(0), 0.9 * var + 0.1 * kept

    return wrong


def _draw_batch(training: bool) -> Callable[[Rng], tuple[Any, ...]]:
    def draw(rng: Rng) -> tuple[Any, ...]:
        n = int(rng.integers(4, 8))
        return 3 * _normal(rng, n, 5) + 1, _normal(rng, 5), _normal(rng, 5) ** 2 + 0.5, training

    return draw


register(
    "B09.1",
    reference=batch_norm,
    cases=(_draw_batch(True), _draw_batch(False)),
    points=2,
    wrong=(
        Wrong(
            "biased running variance",
            _batch(biased=True, divide_unbiased=False, frozen=True),
            "the output is right, the buffer is not: the running variance takes the UNBIASED "
            "variance, n - 1 in the denominator",
        ),
        Wrong(
            "unbiased everywhere",
            _batch(biased=False, divide_unbiased=True, frozen=True),
            "the output divides by the BIASED variance of the batch, n in the denominator",
        ),
        Wrong(
            "batch statistics at test time",
            _batch(biased=False, divide_unbiased=False, frozen=False),
            "with training=False use the running statistics, and return them unchanged",
        ),
    ),
)


# B09.2: inverted dropout


def drop(x: Tensor, keep: float, mask: Tensor) -> Tensor:
    """Reference of B09.2: kept values, rescaled."""
    return torch.where(mask, x / keep, torch.zeros_like(x))


def _unbiased(answer: Callable[[Tensor, float, Tensor], Tensor], rng: Rng) -> str | None:
    x = torch.ones(200_000, dtype=torch.float64)
    mask = torch.from_numpy(rng.random(len(x)) < 0.8)
    y = answer(x, 0.8, mask)
    mean, var = float(y.mean()), float(y.var())
    if abs(mean - 1) > 0.01:
        return f"the mean of dropped ones is {mean:.3f}, it must stay 1"
    return None if abs(var - 0.25) < 0.01 else f"their variance is {var:.3f}, not (1-keep)/keep"


def _draw_mask(rng: Rng) -> tuple[Tensor, float, Tensor]:
    keep = float(rng.uniform(0.6, 0.9))
    mask = rng.random(12) < keep
    mask[:2] = True, False
    return _normal(rng, 12), keep, torch.from_numpy(mask)


register(
    "B09.2",
    reference=drop,
    cases=(_draw_mask, _draw_mask),
    properties=(_unbiased,),
    wrong=(
        Wrong(
            "no rescaling",
            lambda x, keep, mask: x * mask,
            "values shrink on average by `keep`: divide what is kept by it",
        ),
        Wrong(
            "divided by the drop rate",
            lambda x, keep, mask: x * mask / (1 - keep),
            "keep is the probability to KEEP (torch's p is 1 - keep): divide by keep",
        ),
        Wrong(
            "dropped and kept swapped",
            lambda x, keep, mask: x * ~mask / keep,
            "mask is True where a value stays",
        ),
    ),
)


# B09.3: the paths of a residual network


def all_paths(matrices: list[Tensor], x: Tensor) -> list[Tensor]:
    """Reference of B09.3: what every subset of blocks gives, 2 ** n vectors, in binary order."""
    found = [x]
    for matrix in matrices:
        found += [matrix @ path for path in found]
    return found


def _full_only(matrices: list[Tensor], x: Tensor) -> list[Tensor]:
    found = [x]
    for matrix in matrices:
        found.append(matrix @ found[-1])
    return found


def _single(matrices: list[Tensor], x: Tensor) -> list[Tensor]:
    return [x, *(matrix @ x for matrix in matrices)]


def _total(answer: Any, matrices: list[Tensor], x: Tensor) -> tuple[int, Tensor]:
    paths = answer(matrices, x)
    return len(paths), torch.stack([torch.as_tensor(p) for p in paths]).sum(0)


def _backwards(matrices: list[Tensor], x: Tensor) -> list[Tensor]:
    return all_paths(matrices[::-1], x)


register(
    "B09.3",
    reference=all_paths,
    cases=(lambda rng: ([0.5 * _normal(rng, 4, 4) for _ in range(3)], _normal(rng, 4)),),
    use=_total,
    wrong=(
        Wrong(
            "beginnings only",
            _full_only,
            "a path may skip a block in the middle too: each block is taken or not, 2 ** n ways",
        ),
        Wrong(
            "one block each",
            _single,
            "paths through two and three blocks are missing",
        ),
        Wrong(
            "order of the blocks",
            _backwards,
            "eight paths, but a later block must stand to the left of an earlier one",
        ),
    ),
)


# B09.4: weight decay and the l2 penalty under Adam


def adam_step(w: Tensor, grad: Tensor, lr: float, decay: float, decoupled: bool) -> Tensor:
    """Reference of B09.4: the first Adam step (betas 0.9, 0.999, eps 1e-8), as torch takes it."""
    w = w.detach().clone().requires_grad_()
    kind = torch.optim.AdamW if decoupled else torch.optim.Adam
    w.grad = grad.clone()
    kind([w], lr=lr, weight_decay=decay).step()
    return w.detach()


def _first(grad: Tensor) -> Tensor:
    return grad / (grad.abs() + 1e-8)


def _penalty_always(w: Tensor, grad: Tensor, lr: float, decay: float, decoupled: bool) -> Tensor:
    return adam_step(w, grad, lr, decay, False)


def _decay_always(w: Tensor, grad: Tensor, lr: float, decay: float, decoupled: bool) -> Tensor:
    return adam_step(w, grad, lr, decay, True)


def _decay_without_lr(w: Tensor, grad: Tensor, lr: float, decay: float, decoupled: bool) -> Tensor:
    if not decoupled:
        return adam_step(w, grad, lr, decay, False)
    return w - decay * w - lr * _first(grad)


def _draw_adam(decoupled: bool) -> Callable[[Rng], tuple[Any, ...]]:
    def draw(rng: Rng) -> tuple[Any, ...]:
        grad = _normal(rng, 6)
        w = -3 * grad * torch.tensor([1, 1, 1, 0.1, 0.1, 0.1]).double() + 0.2
        return w, grad, 0.1, 0.5, decoupled

    return draw


register(
    "B09.4",
    reference=adam_step,
    cases=(_draw_adam(True), _draw_adam(False)),
    points=2,
    wrong=(
        Wrong(
            "penalty in both",
            _penalty_always,
            "with decoupled=True the decay must not enter the gradient: Adam divides gradients by "
            "their size, and the decay would be divided too",
        ),
        Wrong(
            "decay in both",
            _decay_always,
            "with decoupled=False add decay * w to the gradient BEFORE Adam normalises it",
        ),
        Wrong(
            "decay without the learning rate",
            _decay_without_lr,
            "torch multiplies the decoupled decay by the learning rate: w - lr * decay * w",
        ),
    ),
)


# B09.5: early stopping


def stop_early(losses: list[float], patience: int) -> tuple[int, int]:
    """Reference of B09.5: (epoch of the best loss, epoch after which training stops)."""
    best, at = float("inf"), 0
    for epoch, loss in enumerate(losses):
        if loss < best:
            best, at = loss, epoch
        elif epoch - at >= patience:
            return at, epoch
    return at, len(losses) - 1


def _last(losses: list[float], patience: int) -> tuple[int, int]:
    _, stopped = stop_early(losses, patience)
    return stopped, stopped


def _all_seen(losses: list[float], patience: int) -> tuple[int, int]:
    _, stopped = stop_early(losses, patience)
    return int(np.argmin(losses)), stopped


def _to_previous(losses: list[float], patience: int) -> tuple[int, int]:
    bad = 0
    for epoch in range(1, len(losses)):
        bad = bad + 1 if losses[epoch] >= losses[epoch - 1] else 0
        if bad >= patience:
            return int(np.argmin(losses[: epoch + 1])), epoch
    return int(np.argmin(losses)), len(losses) - 1


CURVE = [1.0, 0.7, 0.5, 0.6, 0.55, 0.58, 0.57, 0.4, 0.3]

register(
    "B09.5",
    reference=stop_early,
    cases=((CURVE, 3), ([0.9, 0.8, 0.85, 0.7, 0.6, 0.5, 0.4], 2), (CURVE, 10)),
    tolerance=EXACT,
    wrong=(
        Wrong(
            "the last epoch",
            _last,
            "return the epoch whose loss was BEST, not the one at which you gave up",
        ),
        Wrong(
            "looked ahead",
            _all_seen,
            "the best epoch must be one that training reached: later losses were never seen",
        ),
        Wrong(
            "against the epoch before",
            _to_previous,
            "count epochs since the best one; a small dip below the previous epoch does not reset",
        ),
    ),
)
