"""Checks of notebook B13: recurrent models (chapter 13 of arXiv 2404.17625)."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from labcore.blocks import ssm
from labcore.course.checking import Wrong, register

Rng = np.random.Generator


def _normal(rng: Rng, *shape: int) -> Tensor:
    return torch.from_numpy(rng.standard_normal(shape))


# B13.1: linear attention as a recurrence


def recurrent_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Reference of B13.1: (t, v), feature map elu + 1, normalised."""
    return ssm.linear_attention(query, key, value, recurrent=True)


def _weights(query: Tensor, key: Tensor) -> Tensor:
    return (ssm.elu_plus_one(query) @ ssm.elu_plus_one(key).T).tril()


def _no_features(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    weights = (query @ key.T).tril()
    return weights @ value / weights.sum(-1, keepdim=True)


def _not_causal(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    weights = ssm.elu_plus_one(query) @ ssm.elu_plus_one(key).T
    return weights @ value / weights.sum(-1, keepdim=True)


def _draw_attention(rng: Rng) -> tuple[Tensor, ...]:
    t = int(rng.integers(6, 15))
    return _normal(rng, t, 4), _normal(rng, t, 4), _normal(rng, t, 3)


register(
    "B13.1",
    reference=recurrent_attention,
    cases=(_draw_attention, _draw_attention),
    points=2,
    wrong=(
        Wrong(
            "no normaliser",
            lambda query, key, value: _weights(query, key) @ value,
            "the weights of a row do not sum to one: keep the sum of the keys' features as well, "
            "and divide by its product with the query's",
        ),
        Wrong(
            "no feature map",
            _no_features,
            "map query and key with elu(x) + 1 first: without it a weight may be negative",
        ),
        Wrong(
            "the whole sequence",
            _not_causal,
            "each output may use the keys up to its own place only: build the state step by step",
        ),
    ),
)


# B13.2: the operator of the scan

Step = tuple[Tensor, Tensor]


def compose(first: Step, then: Step) -> Step:
    """Reference of B13.2: one step that does what two do."""
    return ssm.compose(first, then)


def _draw_steps(rng: Rng) -> tuple[Step, Step]:
    return (_normal(rng, 3, 3), _normal(rng, 3)), (_normal(rng, 3, 3), _normal(rng, 3))


def _associative(answer: Callable[[Step, Step], Step], rng: Rng) -> str | None:
    steps = [(_normal(rng, 3, 3), _normal(rng, 3)) for _ in range(3)]
    left = answer(answer(steps[0], steps[1]), steps[2])
    right = answer(steps[0], answer(steps[1], steps[2]))
    gap = max(float((x - y).abs().max()) for x, y in zip(left, right, strict=True))
    return None if gap < 1e-9 else f"(a * b) * c and a * (b * c) differ by {gap:.2g}"


register(
    "B13.2",
    reference=compose,
    cases=(_draw_steps, _draw_steps),
    properties=(_associative,),
    wrong=(
        Wrong(
            "swapped order",
            lambda first, then: ssm.compose(then, first),
            "the LATER matrix stands on the left: it is applied to what the earlier step made",
        ),
        Wrong(
            "input not carried",
            lambda first, then: (then[0] @ first[0], first[1] + then[1]),
            "the earlier input passes through the later matrix too: V z + v",
        ),
        Wrong(
            "matrices multiplied element by element",
            lambda first, then: (then[0] * first[0], then[0] @ first[1] + then[1]),
            "that is right for diagonal matrices kept as vectors; for full ones use @",
        ),
    ),
)


# B13.3: a scan of constant factor is a convolution


def by_fft(lam: complex, b: Tensor) -> Tensor:
    """Reference of B13.3: states (t,) of h <- lam h + b, complex."""
    return ssm.scan(torch.tensor(lam, dtype=torch.complex128), b.to(torch.complex128), dim=0)


def _circular(lam: complex, b: Tensor) -> Tensor:
    kernel = ssm.impulse_response(lam, len(b))
    return torch.fft.ifft(torch.fft.fft(kernel) * torch.fft.fft(b))


def _late(lam: complex, b: Tensor) -> Tensor:
    return lam * by_fft(lam, b)


def _draw_lam(rng: Rng) -> tuple[complex, Tensor]:
    lam = complex(rng.uniform(0.7, 0.95) * np.exp(1j * rng.uniform(0, 3)))
    return lam, _normal(rng, int(rng.integers(10, 40)))


register(
    "B13.3",
    reference=by_fft,
    cases=(_draw_lam, _draw_lam),
    wrong=(
        Wrong(
            "circular",
            _circular,
            "the end of the sequence wraps round to its beginning: pad to twice the length, cut",
        ),
        Wrong(
            "kernel from lam ** 1",
            _late,
            "an input is in the state of its own step, undamped: the kernel begins with lam ** 0",
        ),
        Wrong(
            "real part",
            lambda lam, b: by_fft(lam, b).real.to(torch.complex128),
            "keep the complex states: a layer takes the real part after it has read them",
        ),
    ),
)


# B13.4: diagonalise


def diagonalise(A: Tensor, B: Tensor, C: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Reference of B13.4: eigenvalues, P^-1 B, C P, all complex."""
    values, P = torch.linalg.eig(A)
    B, C = B.to(values.dtype), C.to(values.dtype)
    return values, torch.linalg.solve(P, B[:, None])[:, 0], C @ P


def _outputs(answer: Any, A: Tensor, B: Tensor, C: Tensor) -> Tensor:
    """What the diagonal system answers to a fixed input, whatever the order of eigenvalues."""
    lam, write, read = (torch.as_tensor(x).to(torch.complex128) for x in answer(A, B, C))
    u = torch.sin(torch.arange(12).double()).to(torch.complex128)
    states = ssm.scan(lam, write * u[:, None], dim=0)
    return (states @ read).real


def _given(pick: Callable[..., tuple[Tensor, Tensor, Tensor]]) -> Callable[..., Any]:
    def wrong(A: Tensor, B: Tensor, C: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        values, P = torch.linalg.eig(A)
        return pick(values, P, B.to(P.dtype), C.to(P.dtype))

    return wrong


def _draw_system(rng: Rng) -> tuple[Tensor, Tensor, Tensor]:
    return 0.6 * _normal(rng, 2, 2), _normal(rng, 2), _normal(rng, 2)


register(
    "B13.4",
    reference=diagonalise,
    cases=(
        (
            torch.tensor([[0.9, 0.3], [-0.2, 0.5]]).double(),
            torch.tensor([1.0, 2.0]).double(),
            torch.tensor([0.5, -1.0]).double(),
        ),
        _draw_system,
    ),
    use=_outputs,
    points=2,
    wrong=(
        Wrong(
            "P B",
            _given(lambda lam, P, B, C: (lam, P @ B, C @ P)),
            "new coordinates are P^-1 s, so the input becomes P^-1 B: solve, do not multiply",
        ),
        Wrong(
            "C P^-1",
            _given(lambda lam, P, B, C: (lam, torch.linalg.solve(P, B), C @ torch.linalg.inv(P))),
            "the read-out becomes C P: it meets s = P times the new coordinates",
        ),
        Wrong(
            "diagonal of A",
            lambda A, B, C: (A.diagonal(), B, C),
            "the diagonal of A is not its spectrum: use torch.linalg.eig",
        ),
    ),
)


# B13.5: a gate that a token can close


def last_symbol(ids: Tensor) -> tuple[Tensor, Tensor]:
    """Reference of B13.5: factors and inputs whose scan holds the last id that is not 0."""
    blank = ids == 0
    return blank.double(), ids.double()


def _states(answer: Any, ids: Tensor) -> Tensor:
    a, b = (torch.as_tensor(x).double() for x in answer(ids))
    return ssm.scan(a, b, dim=0)


def _draw_ids(rng: Rng) -> tuple[Tensor]:
    ids = rng.integers(1, 6, size=16) * (rng.random(16) < 0.4)
    ids[:3] = 4, 0, 2
    ids[-1] = 0
    return (torch.from_numpy(ids),)


register(
    "B13.5",
    reference=last_symbol,
    cases=((torch.tensor([0, 3, 0, 0, 5, 1, 0]),), _draw_ids),
    use=_states,
    wrong=(
        Wrong(
            "one factor for all",
            lambda ids: (torch.full(ids.shape, 0.5).double(), ids.double()),
            "a constant factor fades the symbol at every blank: it must depend on the token",
        ),
        Wrong(
            "never forgets",
            lambda ids: (torch.ones(ids.shape).double(), ids.double()),
            "symbols add up: a new one must push the old one out, so its factor is 0",
        ),
        Wrong(
            "blanks erase",
            lambda ids: ((ids != 0).double(), ids.double()),
            "the gate is the wrong way round: keep at a blank, forget at a symbol",
        ),
    ),
)
