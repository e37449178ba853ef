"""Eigenvalues of an operator and what they mean, and the lottery of arbitrary signs; no torch."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Complex, Float

from labcore.koopman.explain import embed_nodes
from labcore.koopman.explorer import graph_operator, shown_graph
from labcore.koopman.metrics import auc
from labcore.koopman.settings import ALPHA
from labcore.koopman.sindy import Aggregate, edge_sindy
from labcore.koopman.truth import edge_list
from labcore.runs import Result


@dataclass(frozen=True)
class Spectrum:
    """Eigenvalues of the operator with what they mean.

    Attributes:
        eigs: Eigenvalues, largest modulus first.
        energy: Sum of |left coordinate|² over all graph states, as a share.
        half_life: Steps until half of a mode is left; infinite for |λ| >= 1.
        period: Steps a turn; infinite for real positive eigenvalues.
        skill: Share of persistence's one-step error that the operator removes.
    """

    eigs: Complex[np.ndarray, " k"]
    energy: Float[np.ndarray, " k"]
    half_life: Float[np.ndarray, " k"]
    period: Float[np.ndarray, " k"]
    skill: float


def spectrum(result: Result, network: str, *, k: int = 16, alpha: float = ALPHA) -> Spectrum:
    """The operator of a network's graph states, its eigenvalues and their energies."""
    pooled = result.arrays[f"{network}/pooled"].astype(np.float64)
    fit = graph_operator(result, network, k=k, alpha=alpha)
    coordinates = fit.embed(pooled) @ np.asarray(fit.left).T
    energy = (np.abs(coordinates) ** 2).sum(axis=(0, 1))
    return Spectrum(
        fit.eigs.astype(complex),
        energy / energy.sum(),
        *lives(fit.eigs.astype(complex)),
        fit.one_step_skill(pooled),
    )


def lives(
    eigs: Complex[np.ndarray, " k"],
) -> tuple[Float[np.ndarray, " k"], Float[np.ndarray, " k"]]:
    """Half-lives ln 2 / -ln |λ| and periods 2π / |arg λ|, in steps.

    >>> half, period = lives(np.array([0.5 + 0j, 1j]))
    >>> half.tolist(), period.tolist()
    ([1.0, inf], [inf, 4.0])
    """
    size, angle = np.abs(eigs), np.abs(np.angle(eigs))
    with np.errstate(divide="ignore"):
        half = np.where(size < 1, np.log(2) / -np.log(np.minimum(size, 1 - 1e-15)), np.inf)
        period = np.where(angle > 1e-12, 2 * np.pi / np.maximum(angle, 1e-12), np.inf)
    return np.where(size > 0, half, 0.0), period


@dataclass(frozen=True)
class Lottery:
    """Edge scores before and after random sign flips of the embedding's axes.

    Attributes:
        aucs: For each weight, the AUC after each flip; the first is without a flip.
        ranks: For each weight, ranks of the ten edges that led at first, after each flip.
    """

    aucs: Mapping[str, Float[np.ndarray, " f"]]
    ranks: Mapping[str, Float[np.ndarray, "f ten"]]


def lottery(
    result: Result, network: str, number: int, *, degree: int = 2, k: int = 16, flips: int = 12,
    seed: int = 0,
) -> Lottery:  # fmt: skip
    """Draw sign flips for both edge weights of one graph."""
    graph = shown_graph(result, network, number)
    edges = edge_list(graph.A)
    both = graph.truth.nodes[edges[:, 0]] & graph.truth.nodes[edges[:, 1]]
    Z = embed_nodes(graph.states.transpose(1, 0, 2).copy(), k)
    signs = np.random.default_rng(seed).choice([-1.0, 1.0], size=(flips, Z.shape[2]))
    signs = np.concatenate([np.ones((1, Z.shape[2])), signs])
    aucs: dict[str, np.ndarray] = {}
    ranks: dict[str, np.ndarray] = {}
    kinds: tuple[Aggregate, ...] = ("signed_sum", "frobenius")
    for aggregate in kinds:
        weights = np.stack([edge_sindy(Z * s, edges, degree, aggregate=aggregate) for s in signs])
        order = (-weights).argsort(axis=1, kind="stable").argsort(axis=1) + 1.0
        leaders = order[0].argsort()[:10]
        ranks[aggregate] = order[:, leaders]
        aucs[aggregate] = np.array([auc(np.round(w, 12), both) for w in weights])
    return Lottery(aucs, ranks)
