"""Checks of notebook P10: experts, tokens and exits (arXiv 2403.07965)."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from labcore.conditional.balance import load_balancing_loss
from labcore.conditional.halting import halting_weights
from labcore.course.checking import EXACT, Wrong, register

Rng = np.random.Generator


def _probs(rng: Rng, t: int, e: int) -> Tensor:
    return torch.from_numpy(2 * rng.standard_normal((t, e))).softmax(-1)


# P10.1: the balance loss


def balance(probs: Tensor, index: Tensor) -> Tensor:
    """Reference of P10.1."""
    return load_balancing_loss(probs, index)


def _draw_routing(rng: Rng) -> tuple[Tensor, Tensor]:
    probs = _probs(rng, int(rng.integers(10, 40)), int(rng.integers(4, 9)))
    return probs, probs.topk(int(rng.integers(2, 4)), dim=1).indices


ODD = torch.tensor([[0.51, 0.49]] * 9 + [[0.0, 1.0]], dtype=torch.float64)

register(
    "P10.1",
    reference=balance,
    cases=((ODD, ODD.argmax(1)[:, None]), _draw_routing),
    points=2,
    wrong=(
        Wrong(
            "shares sum to k",
            lambda probs, index: load_balancing_loss(probs, index, normalize=False),
            "your shares sum to k: divide the counts by all T·k assignments, not by T",
        ),
        Wrong(
            "factor E missing",
            lambda probs, index: load_balancing_loss(probs, index) / probs.shape[1],
            "balance must give 1: multiply the sum by the number of experts",
        ),
        Wrong(
            "probabilities only",
            lambda probs, index: probs.shape[1] * probs.mean(0).square().sum(),
            "one factor is the share of the assignments that were really made, not the mean "
            "probability again",
        ),
    ),
)


# P10.2: weights of the chosen experts


def gates(logits: Tensor, k: int) -> Tensor:
    """Reference of P10.2: renormalised for k > 1, the plain probability for k = 1."""
    top = logits.softmax(-1).topk(k, dim=-1).values
    return top if k == 1 else top / top.sum(-1, keepdim=True)


def _alive(answer: Any, rng: Rng) -> str | None:
    logits = torch.from_numpy(rng.standard_normal((6, 5))).requires_grad_()
    weights = answer(logits, 1)
    if not weights.requires_grad:
        return "the weights of k = 1 carry no gradient back to the router"
    (grad,) = torch.autograd.grad(weights.square().sum(), logits)
    return None if grad.abs().max() > 1e-9 else "for k = 1 the router's gradient is zero"


register(
    "P10.2",
    reference=gates,
    cases=(
        (torch.tensor([[2.0, 1.0, 0.0, -1.0]]).double(), 2),
        (torch.tensor([[2.0, 1.0, 0.0, -1.0]]).double(), 1),
        lambda rng: (torch.from_numpy(rng.standard_normal((7, 6))), int(rng.integers(1, 4))),
    ),
    properties=(_alive,),
    wrong=(
        Wrong(
            "always renormalised",
            lambda logits, k: logits.topk(k, dim=-1).values.softmax(-1),
            "with k = 1 every weight is 1 whatever the router says: leave that one as it is",
        ),
        Wrong(
            "never renormalised",
            lambda logits, k: logits.softmax(-1).topk(k, dim=-1).values,
            "for k > 1 the weights of a token should sum to 1",
        ),
    ),
)


# P10.3: the best baseline


def best(p: Tensor, costs: Tensor, score: Tensor) -> Tensor:
    """Reference of P10.3: E[F s²] / E[s²]."""
    weight = p * score.square()
    return (weight * costs).sum() / weight.sum()


def _draw_choice(rng: Rng) -> tuple[Tensor, Tensor, Tensor]:
    n = int(rng.integers(3, 7))
    p = _probs(rng, 1, n)[0]
    values = torch.from_numpy(rng.standard_normal((2, n)))
    score = values[1] - (p * values[1]).sum()
    return p, values[0] + 3, score


register(
    "P10.3",
    reference=best,
    cases=(
        (
            torch.tensor([0.3, 0.7]).double(),
            torch.tensor([5.0, 2.0]).double(),
            torch.tensor([1 / 0.3, -1 / 0.7]).double(),
        ),
        _draw_choice,
    ),
    wrong=(
        Wrong(
            "mean cost",
            lambda p, costs, score: (p * costs).sum(),
            "E[F] is the usual choice, not the best one: weigh the costs by the squared score",
        ),
        Wrong(
            "score not squared",
            lambda p, costs, score: (p * costs * score.abs()).sum() / (p * score.abs()).sum(),
            "the variance is quadratic: the weights are p·s², not p·|s|",
        ),
    ),
)


# P10.4: halting weights


def halting(h: Tensor, eps: float = 0.01) -> Tensor:
    """Reference of P10.4: weights of all layers of one token."""
    return halting_weights(h, eps)[0]


def _no_last(h: Tensor, eps: float = 0.01) -> Tensor:
    before = torch.cat((h.new_zeros(1), h.cumsum(0)[:-1]))
    stops = (before < 1 - eps) & (h.cumsum(0) >= 1 - eps)
    return torch.where(stops, 1 - before, h) * (before < 1 - eps)


def _no_remainder(h: Tensor, eps: float = 0.01) -> Tensor:
    before = torch.cat((h.new_zeros(1), h.cumsum(0)[:-1]))
    return h * (before < 1 - eps)


register(
    "P10.4",
    reference=halting,
    cases=(
        (torch.tensor([0.3, 0.5, 0.9]).double(),),
        (torch.tensor([0.1, 0.2, 0.1, 0.3]).double(),),
        lambda rng: (torch.from_numpy(rng.uniform(0, 0.6, int(rng.integers(3, 9)))),),
        lambda rng: (torch.from_numpy(rng.uniform(0.2, 0.9, int(rng.integers(4, 9)))),),
    ),
    points=2,
    wrong=(
        Wrong(
            "no last layer",
            _no_last,
            "a token whose sum never reaches 1 − eps halts at the LAST layer: it gets the rest",
        ),
        Wrong(
            "no remainder",
            _no_remainder,
            "the layer where it halts gets the remainder 1 − (sum before), not its own score",
        ),
    ),
)


# P10.5: where samples leave


def leave_at(confidence: Tensor, threshold: float) -> Tensor:
    """Reference of P10.5: first head that is sure enough, the last one otherwise."""
    sure = confidence >= threshold
    sure[-1] = True
    return sure.int().argmax(0)


def _draw_confidence(rng: Rng) -> tuple[Tensor, float]:
    return torch.from_numpy(rng.uniform(0.1, 1, (5, 30))), float(rng.uniform(0.6, 0.95))


register(
    "P10.5",
    reference=lambda confidence, threshold: leave_at(confidence.clone(), threshold),
    cases=((torch.tensor([[0.9, 0.2], [0.5, 0.3], [0.6, 0.4]]).double(), 0.7), _draw_confidence),
    tolerance=EXACT,
    wrong=(
        Wrong(
            "nobody sure leaves first",
            lambda confidence, threshold: (confidence >= threshold).int().argmax(0),
            "argmax of a column without any True is 0: those samples must wait for the last head",
        ),
        Wrong(
            "surest head",
            lambda confidence, threshold: confidence.argmax(0),
            "the FIRST head above the threshold answers: later ones are never run",
        ),
    ),
)


# P10.6: the leak of expert choice


def leaks(logits: Tensor, changed: Tensor, cut: int, capacity: int) -> bool:
    """Reference of P10.6: does the fate of a token before ``cut`` depend on later tokens?"""
    return bool((_taken(logits, capacity)[:cut] != _taken(changed, capacity)[:cut]).any())


def _taken(logits: Tensor, capacity: int) -> Tensor:
    probs = logits.softmax(-1)
    mask = torch.zeros_like(probs, dtype=torch.bool)
    return mask.scatter(0, probs.topk(capacity, dim=0).indices, True)


def _draw_sequences(rng: Rng) -> tuple[Tensor, Tensor, int, int]:
    logits = torch.from_numpy(rng.standard_normal((12, 3)))
    changed = logits.clone()
    changed[6:] = torch.from_numpy(0.5 * rng.standard_normal((6, 3)))
    return logits, changed, 6, 4


def _fixed_sequences(late: float) -> tuple[Tensor, Tensor, int, int]:
    logits = torch.tensor([[2.0, 0.0], [1.0, 0.0], [0.5, 0.0], [0.0, 1.0]]).double()
    changed = logits.clone()
    changed[3] = torch.tensor([late, 0.0])
    return logits, changed, 3, 2


def _late_swap() -> tuple[Tensor, Tensor, int, int]:
    """Two late tokens change places in an expert's ranking; no earlier token notices."""
    logits = torch.tensor([[2.0, 0], [1, 0], [0, 1], [0, 3], [0, 2]]).double()
    changed = logits.clone()
    changed[3:] = torch.tensor([[0.0, 1.5], [0.0, 3.0]])
    return logits, changed, 3, 1


register(
    "P10.6",
    reference=leaks,
    cases=(_fixed_sequences(9.0), _late_swap(), _fixed_sequences(-3.0), _draw_sequences),
    tolerance=EXACT,
    wrong=(
        Wrong(
            "looks at all tokens",
            lambda logits, changed, cut, capacity: bool(
                (_taken(logits, capacity) != _taken(changed, capacity)).any()
            ),
            "of course the changed tokens change: compare the tokens BEFORE the cut only",
        ),
        Wrong(
            "tokens choose",
            lambda logits, changed, cut, capacity: bool(
                (logits.argmax(-1)[:cut] != changed.argmax(-1)[:cut]).any()
            ),
            "here experts choose tokens: take the largest probabilities down each column",
        ),
    ),
)
