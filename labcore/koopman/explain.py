"""One shape for every explanation: relevance of steps, of nodes and of edges.

What an explainer does not say is NaN there, so that scores and figures are one code path for all.
Edges are the rows of :func:`~labcore.koopman.truth.edge_list`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Num

from labcore.koopman.operator import KoopmanFit, fit_operator
from labcore.koopman.relevance import Kind, node_relevance, pair_relevance, time_relevance
from labcore.koopman.sindy import Aggregate, edge_sindy
from labcore.koopman.truth import edge_list


@dataclass(frozen=True)
class Explanation:
    """What an explainer says about one graph.

    Attributes:
        times: Relevance of each step.
        nodes: Relevance of each node.
        edges: Relevance of each row of the edge list.
        meta: Name and settings; ``signal`` holds the projected graph state where there is one.
    """

    times: Float[np.ndarray, " t"]
    nodes: Float[np.ndarray, " n"]
    edges: Float[np.ndarray, " e"]
    meta: Mapping[str, Any] = field(default_factory=dict)


def _nan(size: int) -> np.ndarray:
    return np.full(size, np.nan)


def explain_dmd(
    states: Float[np.ndarray, "t n f"],
    A: Num[np.ndarray, "t n n"],
    fit: KoopmanFit,
    *,
    local: bool = True,
    k: int = 16,
    mode: int = 0,
    side: Literal["right", "left"] = "right",
    part: Literal["real", "abs"] = "real",
    kind: Kind = "deviation",
) -> Explanation:
    """Steps from the graph state along a mode of ``fit``; nodes from their own states.

    Args:
        states: Node states of one graph.
        A: Its contacts.
        fit: Operator of graph states, fitted on training graphs.
        local: Fit another operator on this graph's node states for the nodes, as published; else
            use ``fit`` for them too.
        k: Axes of the local fit.
        mode: Which mode.
        side: Right eigenvectors as published, or left ones, which are eigenfunctions.
        part: Real part as published, or the modulus, which no phase changes.
        kind: See :func:`~labcore.koopman.relevance.node_relevance`.

    Raises:
        ValueError: no such mode, side, part or kind; NaN in the states.
    """
    own = np.ascontiguousarray(states.transpose(1, 0, 2), dtype=np.float64)
    signal = fit.coordinate(own.mean(axis=0), mode, side)
    used = fit_operator(own, min(k, own.shape[2])) if local else fit
    node_mode = min(mode, len(used.eigs) - 1)
    nodes = node_relevance(own, used, kind, mode=node_mode, side=side, part=part)
    shown = signal.real if part == "real" else signal
    meta = {"name": "dmd", "mode": mode, "side": side, "part": part, "kind": kind}
    return Explanation(
        time_relevance(shown),
        nodes,
        pair_relevance(nodes, edge_list(A)),
        {**meta, "signal": shown},
    )


def explain_pca(
    states: Float[np.ndarray, "t n f"],
    A: Num[np.ndarray, "t n n"],
    fit: KoopmanFit,
    *,
    local: bool = True,
    k: int = 16,
    component: int = 0,
) -> Explanation:
    """The same without any operator: one axis of the embedding. The baseline of the article."""
    own = np.ascontiguousarray(states.transpose(1, 0, 2), dtype=np.float64)
    signal = fit.embed(own.mean(axis=0))[:, component]
    used = fit_operator(own, min(k, own.shape[2])) if local else fit
    last = used.embed(own[:, -1])[:, component]
    nodes = np.abs(last - last.mean())
    return Explanation(
        time_relevance(signal),
        nodes,
        pair_relevance(nodes, edge_list(A)),
        {"name": "pca", "component": component, "signal": signal},
    )


def explain_sindy(
    states: Float[np.ndarray, "t n f"],
    A: Num[np.ndarray, "t n n"],
    *,
    k: int = 16,
    degree: int = 2,
    alpha: float = 1.0,
    aggregate: Aggregate = "frobenius",
) -> Explanation:
    """Edges from :func:`~labcore.koopman.sindy.edge_sindy`; a node has the sum of its edges.

    It says nothing about steps: one set of coefficients holds for all of them.
    """
    edges = edge_list(A)
    own = states.transpose(1, 0, 2).astype(np.float64)
    Z = embed_nodes(own, k)
    weight = edge_sindy(Z, edges, degree, alpha, aggregate)
    nodes = np.zeros(len(own))
    np.add.at(nodes, edges.ravel(), np.repeat(weight, 2))
    meta = {"name": "sindy", "degree": degree, "aggregate": aggregate, "alpha": alpha}
    return Explanation(_nan(len(A)), nodes, weight, meta)


def embed_nodes(states: Float[np.ndarray, "n t f"], k: int) -> Float[np.ndarray, "n t k"]:
    """PCA coordinates of all node states of one graph."""
    return fit_operator(states, min(k, states.shape[2])).embed(states)


# --- trivial baselines: what a score has to beat ------------------------------------------------


def always(A: Num[np.ndarray, "t n n"], x: Num[np.ndarray, "t n"]) -> Explanation:
    """Everything is relevant, equally."""
    return Explanation(np.ones(len(A)), np.ones(A.shape[1]), np.ones(len(edge_list(A))),
                       {"name": "always"})  # fmt: skip


def random(
    A: Num[np.ndarray, "t n n"], x: Num[np.ndarray, "t n"], rng: np.random.Generator
) -> Explanation:
    """Relevance drawn by lot."""
    sizes = (len(A), A.shape[1], len(edge_list(A)))
    times, nodes, edges = (rng.random(size) for size in sizes)
    return Explanation(times, nodes, edges, {"name": "random"})


def degree(A: Num[np.ndarray, "t n n"], x: Num[np.ndarray, "t n"]) -> Explanation:
    """Contacts of each node; products of ends for edges. It says nothing about steps."""
    nodes = A.sum(axis=(0, 2)).astype(float)
    edges = pair_relevance(nodes, edge_list(A))
    return Explanation(_nan(len(A)), nodes, edges, {"name": "degree"})


def input_flag(A: Num[np.ndarray, "t n n"], x: Num[np.ndarray, "t n"]) -> Explanation:
    """x_T, which the network is given: whether a node ends up infected."""
    nodes = x[-1].astype(float)
    edges = pair_relevance(nodes, edge_list(A))
    return Explanation(_nan(len(A)), nodes, edges, {"name": "input_flag"})


def count_change(A: Num[np.ndarray, "t n n"], x: Num[np.ndarray, "t n"]) -> Explanation:
    """How fast the number of infected people changes: the same derivative, of the input."""
    signal = x.sum(axis=1).astype(float)
    nothing = _nan(A.shape[1]), _nan(len(edge_list(A)))
    return Explanation(time_relevance(signal), *nothing, {"name": "count_change", "signal": signal})


def contact_count(A: Num[np.ndarray, "t n n"], x: Num[np.ndarray, "t n"]) -> Explanation:
    """Counts of contacts: no network, no states.

    Edges have the contacts of their pair; nodes those after their own infection, when they can have
    passed it on; steps those between an infected person and one who is not.
    """
    edges = edge_list(A)
    pairs = A.sum(axis=0)[edges[:, 0], edges[:, 1]].astype(float)
    nodes = (A.sum(axis=2) * x).sum(axis=0).astype(float)
    times = np.einsum("tij,ti,tj->t", A.astype(float), x, 1.0 - x)
    return Explanation(times, nodes, pairs, {"name": "contact_count"})


BASELINES = {
    "always": always,
    "degree": degree,
    "input_flag": input_flag,
    "count_change": count_change,
    "contact_count": contact_count,
}
