"""Checks of notebook P02: linear modes of hidden states as explanation (arXiv 2410.13469)."""

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from labcore.course.checking import Wrong, register
from labcore.koopman.data import SYNTHETIC, make_sample
from labcore.koopman.dmd import dmd
from labcore.koopman.experiment import trained
from labcore.koopman.metrics import auc
from labcore.koopman.truth import transmission_truth

Rng = np.random.Generator


# P02.1: the operator


def operator(Z: np.ndarray, alpha: float) -> np.ndarray:
    """Reference of P02.1: ridge without intercept on pairs inside each sequence."""
    k = Z.shape[-1]
    x, y = Z[:, :-1].reshape(-1, k), Z[:, 1:].reshape(-1, k)
    return np.linalg.solve(x.T @ x + alpha * np.eye(k), x.T @ y).T


def _joined(Z: np.ndarray, alpha: float) -> np.ndarray:
    return operator(Z.reshape(1, -1, Z.shape[-1]), alpha)


def _centred(Z: np.ndarray, alpha: float) -> np.ndarray:
    return operator(Z - Z.mean(axis=(0, 1)), alpha)


register(
    "P02.1",
    reference=operator,
    cases=(
        (np.array([[[1.0, 0], [0, 1], [1, 1]], [[2, 0], [0, 2], [1, 0]]]), 1.0),
        lambda rng: (rng.standard_normal((4, 12, 3)).cumsum(axis=1) + 1, 0.5),
        lambda rng: (rng.standard_normal((2, 30, 5)) + 1, 3.0),
    ),
    wrong=(
        Wrong(
            "transposed",
            lambda Z, alpha: operator(Z, alpha).T,
            "this is the transpose: K must take a COLUMN z to the next one, K @ z",
        ),
        Wrong(
            "sequences joined",
            _joined,
            "the last step of one sequence is no pair with the first of the next: cut each "
            "sequence before you stack them",
        ),
        Wrong(
            "no penalty",
            lambda Z, alpha: operator(Z, 1e-12),
            "alpha is missing: add it to the diagonal of the Gram matrix",
        ),
        Wrong(
            "centred",
            _centred,
            "do not centre here: the embedding did, and the fit has no intercept",
        ),
    ),
)


# P02.2: the eigenfunction


def coordinate(K: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Reference of P02.2: the row of V^-1 that belongs to the largest eigenvalue, times z."""
    eigs, right = np.linalg.eig(K)
    return z @ np.linalg.inv(right)[np.abs(eigs).argmax()]


def _side(vector: Callable[[np.ndarray, int], np.ndarray], *, largest: bool = True) -> Any:
    def wrong(K: np.ndarray, z: np.ndarray) -> np.ndarray:
        size = np.abs(np.linalg.eigvals(K))
        return z @ vector(K, int(size.argmax() if largest else size.argmin()))

    return wrong


def _not_normal(rng: Rng) -> tuple[np.ndarray, np.ndarray]:
    basis = np.eye(4) + 0.6 * np.triu(rng.uniform(0.5, 1.0, (4, 4)), 1)
    K = basis @ np.diag([1.02, 0.9, 0.6, 0.3]) @ np.linalg.inv(basis)
    return K, rng.standard_normal((7, 4))


def _evolves(answer: Any, rng: Rng) -> str | None:
    K, z = _not_normal(rng)
    now, then = np.asarray(answer(K, z)), np.asarray(answer(K, z @ K.T))
    if now.shape != (7,):
        return f"one number a state is wanted, shape (7,), got {now.shape}"
    if np.abs(now).max() < 1e-9:
        return "zero obeys the equation, but it tells nothing about the state"
    if not np.allclose(then, 1.02 * now, atol=1e-8 * np.abs(now).max()):
        return "on next states K z the coordinate is not the eigenvalue times what it was"
    return None


register(
    "P02.2",
    reference=coordinate,
    cases=(lambda rng: _not_normal(rng),),
    compare=False,
    properties=(_evolves,),
    points=2,
    wrong=(
        Wrong(
            "right eigenvector",
            _side(lambda K, i: np.linalg.eig(K)[1][:, i]),
            "this is the right eigenvector, as in the published code: a column of V. "
            "Eigenfunctions are rows of the inverse of V",
        ),
        Wrong(
            "row of V",
            _side(lambda K, i: np.linalg.eig(K)[1][i]),
            "a row of V is no eigenvector at all: invert V first",
        ),
        Wrong(
            "smallest eigenvalue",
            _side(lambda K, i: np.linalg.inv(np.linalg.eig(K)[1])[i], largest=False),
            "an eigenfunction, but of another eigenvalue: take the one of largest modulus",
        ),
    ),
)


# P02.3: the puzzle of the always-yes baseline

register(
    "P02.3",
    reference=(2 / 7, 2 / 3),
    wrong=(
        Wrong(
            "precision",
            (2 / 7, 0.5),
            "0.5 is the precision of saying yes always; F1 also counts that no true step is missed",
        ),
        Wrong(
            "step 1 taken for a miss",
            (0.0, 2 / 3),
            "steps are counted from 0, and step 1 is a true one: the single detection is a hit",
        ),
        Wrong(
            "recall in place of F1",
            (1 / 6, 1.0),
            "these are recalls; F1 is twice the hits over the detected plus the true steps",
        ),
        Wrong(
            "the other way round",
            (2 / 3, 2 / 7),
            "first the value of the published code, then the right one",
        ),
    ),
)


# P02.4: frequencies and moduli


def frequencies(X: np.ndarray, rank: int, dt: float) -> tuple[np.ndarray, np.ndarray]:
    """Reference of P02.4: frequencies ascending in cycles a unit of time, and moduli ascending."""
    found = dmd(X, rank)
    return np.sort(found.frequencies(dt)), np.sort(np.abs(found.eigs))


def _oscillations(rng: Rng) -> tuple[np.ndarray, int, float]:
    angles = np.sort(rng.uniform(0.2, 1.4, 2)) + np.array([0.0, 0.6])
    eigs = rng.uniform(0.9, 0.99, 2) * np.exp(1j * angles)
    modes = rng.standard_normal((20, 2)) + 1j * rng.standard_normal((20, 2))
    return (modes @ (eigs[:, None] ** np.arange(40))).real, 4, float(rng.choice([0.1, 0.5, 2.0]))


def _changed(
    frequency: Callable[[np.ndarray, float], np.ndarray],
) -> Callable[..., tuple[np.ndarray, np.ndarray]]:
    def wrong(X: np.ndarray, rank: int, dt: float) -> tuple[np.ndarray, np.ndarray]:
        eigs = dmd(X, rank).eigs
        return np.sort(frequency(np.angle(eigs), dt)), np.sort(np.abs(eigs))

    return wrong


register(
    "P02.4",
    reference=frequencies,
    cases=(_oscillations, lambda rng: _oscillations(rng)),
    points=2,
    wrong=(
        Wrong(
            "radians",
            _changed(lambda angle, dt: angle / dt),
            "these are radians a unit of time: divide by 2 pi for cycles",
        ),
        Wrong(
            "per step",
            _changed(lambda angle, dt: angle / (2 * np.pi)),
            "these are cycles a step: a step lasts dt",
        ),
        Wrong(
            "backwards",
            lambda X, rank, dt: frequencies(np.ascontiguousarray(X[:, ::-1]), rank, dt),
            "the moduli exceed 1: the map goes from X[:, :-1] to X[:, 1:], not back",
        ),
    ),
)


# P02.5: an edge weight that signs cannot move


def weight(block: np.ndarray) -> float:
    """Reference of P02.5: the Frobenius norm of an edge's coefficients."""
    return float(np.sqrt((block**2).sum()))


def published_weight(block: np.ndarray) -> float:
    """As published: signed sum over both axes, absolute value, sum over target nodes."""
    return float(np.abs(block.sum(axis=(0, 2))).sum())


def _invariant(answer: Any, rng: Rng) -> str | None:
    block = rng.standard_normal((6, 10, 6))
    first = float(answer(block))
    for _ in range(8):
        column, target = rng.choice([-1.0, 1.0], (2, 6))
        flipped = block * column[:, None, None] * target[None, None, :]
        if abs(float(answer(flipped)) - first) > 1e-9 * max(1.0, abs(first)):
            return "the weight changes when axes of the embedding change sign"
    return None


def _grows(answer: Any, rng: Rng) -> str | None:
    block = rng.standard_normal((4, 5, 4))
    if float(answer(np.zeros((4, 5, 4)))) != 0:
        return "an edge whose coefficients are all zero must weigh 0"
    if not float(answer(2 * block)) > float(answer(block)) > 0:
        return "twice the coefficients must weigh more, and any coefficients more than 0"
    return None


register(
    "P02.5",
    reference=weight,
    cases=(
        lambda rng: (rng.standard_normal((4, 5, 4)),),
        lambda rng: (rng.standard_normal((3, 8, 3)),),
    ),  # fmt: skip
    compare=False,
    properties=(_invariant, _grows),
    points=2,
    wrong=(
        Wrong(
            "as published",
            published_weight,
            "coefficients of one target axis change sign together, so their signed sum over axes "
            "jumps: take squares or absolute values BEFORE you sum",
        ),
        Wrong(
            "sum of all",
            lambda block: float(abs(block.sum())),
            "positive and negative coefficients cancel in this sum, and a flip decides which",
        ),
        Wrong(
            "a constant",
            lambda block: 1.0,
            "a constant cannot be moved by signs, but it does not measure the edge either",
        ),
    ),
)


# P02.6: who spread it?

GRAPHS, LEVEL = 50, 0.78  # counting contacts reaches .73


@cache
def spreading_graphs() -> tuple[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray], ...]:
    """Fresh graphs: node states (t, n, f), contacts (t, n, n), infected and spreaders (n,)."""
    import torch

    model, made = trained(SYNTHETIC), []
    for index in range(1, 2 * GRAPHS, 2):
        sample = make_sample(SYNTHETIC, index, seed=1000)
        x = torch.from_numpy(sample.x)[None, ..., None]
        with torch.no_grad():
            states = model(x, torch.from_numpy(sample.A)[None].float())[1][0]
        truth = transmission_truth(sample.A, sample.infected_at)
        infected = sample.infected_at >= 0
        made.append((states.double().numpy(), sample.A, infected, truth.spreaders))
    return tuple(made)


def mean_auc(score: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> float:
    """Mean AUC of spreaders among infected people over the fresh graphs."""
    found = []
    for states, A, infected, spreaders in spreading_graphs():
        values = np.asarray(score(states, A), dtype=np.float64)
        if values.shape != infected.shape:
            raise ValueError(f"a score a person is wanted, {infected.shape}, got {values.shape}")
        if spreaders[infected].any() and not spreaders[infected].all():
            found.append(auc(values[infected], spreaders[infected]))
    return float(np.mean(found))


def spreader_score(states: np.ndarray, A: np.ndarray) -> np.ndarray:
    """Reference of P02.6: contacts of each person, counted while the state is far from the start.

    A healthy person's state drifts with the others'; an infected one's is far from the median.
    """
    away = np.linalg.norm(states - np.median(states, axis=1, keepdims=True), axis=2)
    return (away * A.sum(axis=2)).sum(axis=0)


def contacts_only(states: np.ndarray, A: np.ndarray) -> np.ndarray:
    """The baseline: all contacts."""
    return A.sum(axis=(0, 2)).astype(float)


def last_state(states: np.ndarray, A: np.ndarray) -> np.ndarray:
    """Length of the last state: who is infected, not who spread it."""
    return np.linalg.norm(states[-1], axis=1)


def _beats_contacts(answer: Any, rng: Rng) -> str | None:
    reached = mean_auc(answer)
    if reached >= LEVEL:
        return None
    return f"mean AUC {reached:.2f} over {GRAPHS} fresh graphs; {LEVEL} is asked, contacts give .73"


def _some_graph(rng: Rng) -> tuple[np.ndarray, np.ndarray]:
    states, A, _, _ = spreading_graphs()[int(rng.integers(GRAPHS))]
    return states, A


register(
    "P02.6",
    reference=spreader_score,
    cases=(_some_graph,),
    compare=False,
    properties=(_beats_contacts,),
    points=2,
    wrong=(
        Wrong(
            "all contacts",
            contacts_only,
            "this is the baseline: a contact before one's own infection passes nothing on, so "
            "weigh each contact by the state at that step",
        ),
        Wrong(
            "last state",
            last_state,
            "the last state tells who is infected; who spread it was infected EARLY and met people "
            "afterwards",
        ),
    ),
)
