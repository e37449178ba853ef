"""Checks of notebook P09: which tokens are worth sending (arXiv 2405.02330)."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from labcore.course.checking import EXACT, Wrong, register
from labcore.tokens.channel import normalize_power
from labcore.tokens.gates import straight_through
from labcore.tokens.masked import additive_attention

Rng = np.random.Generator


def _normal(rng: Rng, *shape: int) -> Tensor:
    return torch.from_numpy(rng.standard_normal(shape))


# P09.1: symbols of power one, and noise of the right strength


def sent_and_variance(symbols: Tensor, keep: Tensor, snr_db: float) -> tuple[Tensor, float]:
    """Reference of P09.1: symbols scaled to power 1 over what is sent, variance of a real part."""
    return normalize_power(symbols, keep), 10 ** (-snr_db / 10) / 2


def _draw_symbols(rng: Rng) -> tuple[Tensor, Tensor, float]:
    symbols = torch.complex(_normal(rng, 3, 8, 4), _normal(rng, 3, 8, 4)) * 5
    keep = torch.from_numpy(rng.random((3, 8)) > 0.5)
    keep[:, 0] = True
    keep[:, 1] = False
    return symbols, keep, float(rng.choice([-10.0, 5.0, 20.0]))


register(
    "P09.1",
    reference=sent_and_variance,
    cases=(_draw_symbols, lambda rng: (*_draw_symbols(rng)[:2], 0.0)),
    points=2,
    wrong=(
        Wrong(
            "dropped tokens counted",
            lambda s, keep, snr: (normalize_power(s), 10 ** (-snr / 10) / 2),
            "the mean power runs over the tokens that are sent, not over all of them",
        ),
        Wrong(
            "whole variance in each part",
            lambda s, keep, snr: (normalize_power(s, keep), 10 ** (-snr / 10)),
            "a complex symbol has two real parts: each gets half of the variance",
        ),
        Wrong(
            "decibels by twenty",
            lambda s, keep, snr: (normalize_power(s, keep), 10 ** (-snr / 20) / 2),
            "SNR compares powers: divide decibels by 10, not by 20",
        ),
    ),
)


# P09.2: zero is not absent


def leaked_mass(query: Tensor, keys: Tensor, keep: Tensor) -> Tensor:
    """Reference of P09.2: softmax mass on dropped keys when they are only set to zero."""
    logits = (keys * keep[:, None]) @ query / query.shape[-1] ** 0.5
    return logits.softmax(-1)[~keep].sum()


def _draw_keys(rng: Rng) -> tuple[Tensor, Tensor, Tensor]:
    keep = torch.from_numpy(rng.random(9) > 0.4)
    keep[0], keep[1] = True, False
    return _normal(rng, 8) * 2, _normal(rng, 9, 8), keep


register(
    "P09.2",
    reference=leaked_mass,
    cases=(
        (torch.ones(4).double(), torch.eye(4).double()[:2], torch.tensor([True, False])),
        _draw_keys,
    ),
    wrong=(
        Wrong(
            "no mass at all",
            lambda q, k, keep: torch.zeros(()).double(),
            "a zero key has logit 0, not minus infinity: exp(0) = 1 stays in the sum",
        ),
        Wrong(
            "keys not zeroed",
            lambda q, k, keep: (k @ q / q.shape[-1] ** 0.5).softmax(-1)[~keep].sum(),
            "zero the dropped keys first, then take the softmax",
        ),
        Wrong(
            "mass of the kept ones",
            lambda q, k, keep: 1 - leaked_mass(q, k, keep),
            "this is what the KEPT keys get; the leak is the rest",
        ),
    ),
)


# P09.3: the gradient of a step


def step_and_slope(margin: Tensor) -> tuple[Tensor, Tensor]:
    """Reference of P09.3: [margin > 0] and the straight-through gradient, width 0.1."""
    x = margin.clone().requires_grad_()
    out = straight_through(x, 0.1)
    (slope,) = torch.autograd.grad(out.sum(), x)
    return out.detach(), slope


def _sigmoid(x: Tensor) -> tuple[Tensor, Tensor]:
    s = torch.sigmoid(x / 0.1)
    return s, s * (1 - s)


register(
    "P09.3",
    reference=step_and_slope,
    cases=(
        (torch.tensor([-0.2, 0.0, 0.05, 0.3]).double(),),
        lambda rng: (_normal(rng, 7) * 0.2,),
    ),
    wrong=(
        Wrong(
            "soft forwards",
            lambda x: (_sigmoid(x)[0], _sigmoid(x)[1] / 0.1),
            "forwards the gate is a step: 0 or 1",
        ),
        Wrong(
            "width forgotten",
            lambda x: ((x > 0).to(x.dtype), _sigmoid(x)[1]),
            "the chain rule through margin / 0.1 brings a factor 10",
        ),
        Wrong(
            "true gradient of the step",
            lambda x: ((x > 0).to(x.dtype), torch.zeros_like(x)),
            "the step's own gradient is zero everywhere: use the sigmoid's instead",
        ),
    ),
)


# P09.4: seconds in the air


def air(tokens: int, alpha: float, symbols: int, rate: float) -> tuple[int, int, float]:
    """Reference of P09.4: tokens sent, complex symbols, microseconds."""
    sent = int(np.ceil(alpha * tokens - 1e-9))
    return sent, sent * symbols, sent * symbols / rate * 1e6


def _draw_link(rng: Rng) -> dict[str, Any]:
    return {
        "tokens": int(rng.integers(40, 200)) * 2 + 1,
        "alpha": int(rng.integers(1, 8)) / 8,
        "symbols": int(rng.integers(4, 33)),
        "rate": float(rng.choice([1e5, 1e6, 1e7])),
    }


register(
    "P09.4",
    reference=air,
    cases=({"tokens": 49, "alpha": 0.2, "symbols": 16, "rate": 1e6}, _draw_link),
    wrong=(
        Wrong(
            "rounded down",
            lambda tokens, alpha, symbols, rate: (
                int(alpha * tokens), int(alpha * tokens) * symbols,
                int(alpha * tokens) * symbols / rate * 1e6,
            ),
            "round the number of tokens up: half a token cannot be sent",
        ),
        Wrong(
            "reals counted",
            lambda tokens, alpha, symbols, rate: (
                air(tokens, alpha, symbols, rate)[0],
                2 * air(tokens, alpha, symbols, rate)[1],
                2 * air(tokens, alpha, symbols, rate)[2],
            ),
            "the link counts complex symbols, two reals each",
        ),
    ),
)  # fmt: skip


# P09.5: the cheapest rate


def cheapest(rates: Any, accuracy: Any, loss: float = 0.02) -> float:
    """Reference of P09.5: the smallest rate whose accuracy is within ``loss`` of the best one."""
    rates, accuracy = np.asarray(rates), np.asarray(accuracy)
    return float(rates[accuracy >= accuracy.max() - loss - 1e-12].min())


def _draw_curve(rng: Rng) -> dict[str, Any]:
    rates = np.sort(rng.uniform(0.02, 1, 8))
    accuracy = 0.9 - 0.6 * np.exp(-5 * rates) + 0.004 * rng.standard_normal(8)
    order = rng.permutation(8)
    return {"rates": rates[order], "accuracy": accuracy[order], "loss": 0.08}


register(
    "P09.5",
    reference=cheapest,
    cases=(
        {"rates": np.array([0.9, 0.1, 0.4, 0.5]), "accuracy": np.array([0.8, 0.5, 0.7, 0.79])},
        _draw_curve,
    ),
    tolerance=EXACT,
    wrong=(
        Wrong(
            "the best one",
            lambda rates, accuracy, loss=0.02: float(np.asarray(rates)[np.argmax(accuracy)]),
            "that is the most accurate rate; look for the smallest one that is nearly as good",
        ),
        Wrong(
            "the smallest rate",
            lambda rates, accuracy, loss=0.02: float(np.min(rates)),
            "that one is cheap but not accurate enough: keep only rates within the loss first",
        ),
    ),
)


# P09.6: absent


def without(query: Tensor, keys: Tensor, values: Tensor, keep: Tensor) -> Tensor:
    """Reference of P09.6: attention of one query that does not see dropped keys."""
    parts = (query[None, None, None], keys[None, None], values[None, None])
    return additive_attention(*parts, keep[None].to(keys.dtype))[0, 0, 0]


def _draw_attention(rng: Rng) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    query, keys, keep = _draw_keys(rng)
    return query, keys, _normal(rng, 9, 3), keep


register(
    "P09.6",
    reference=without,
    cases=(_draw_attention,),
    points=2,
    wrong=(
        Wrong(
            "values zeroed",
            lambda q, k, v, keep: (k @ q / q.shape[-1] ** 0.5).softmax(-1) @ (v * keep[:, None]),
            "the weights of the kept tokens must add up to one again",
        ),
        Wrong(
            "not scaled",
            lambda q, k, v, keep: (k @ q).masked_fill(~keep, -torch.inf).softmax(-1) @ v,
            "divide the logits by the square root of the head size",
        ),
        Wrong(
            "everything seen",
            lambda q, k, v, keep: (k @ q / q.shape[-1] ** 0.5).softmax(-1) @ v,
            "the dropped keys are still in the sum",
        ),
    ),
)
