"""Every explainer on one graph, and every score of every explanation."""

import warnings
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, Num

from labcore.koopman import explain
from labcore.koopman.explain import Explanation
from labcore.koopman.metrics import auc, mann_whitney, time_f1
from labcore.koopman.names import SAME_TIMES, TARGETS
from labcore.koopman.operator import KoopmanFit
from labcore.koopman.relevance import time_relevance
from labcore.koopman.truth import Truth, edge_list


@dataclass(frozen=True)
class Graph:
    """One graph to be explained: contacts, flags, node states, truth."""

    A: Num[np.ndarray, "t n n"]
    x: Num[np.ndarray, "t n"]
    states: Float[np.ndarray, "t n f"]
    infected_at: Int[np.ndarray, " n"]
    truth: Truth


def explanations(
    graph: Graph,
    operator: KoopmanFit,
    model: Any,
    *,
    k: int,
    rng: np.random.Generator,
    integrate: bool = True,
) -> dict[str, Explanation]:
    """What every explainer of :data:`~labcore.koopman.names.NAMES` says about one graph.

    Args:
        graph: The graph.
        operator: Fitted on graph states.
        model: The ``DynGCRNN`` behind the states, for the gradients; None leaves them out.
        k: Axes of a local embedding.
        rng: Of the random explainer.
        integrate: Integrated gradients too; they take a second.
    """
    found = {
        **_from_states(graph, operator, k),
        **({} if model is None else from_gradients(graph, model, integrate=integrate)),
        **{name: make(graph.A, graph.x) for name, make in explain.BASELINES.items()},
        "random": explain.random(graph.A, graph.x, rng),
    }
    for name in SAME_TIMES:
        found[name] = replace(found[name], times=np.full_like(found[name].times, np.nan))
    return found


def _from_states(graph: Graph, fit: KoopmanFit, k: int) -> dict[str, Explanation]:
    s, A = graph.states, graph.A
    dmd, sindy = partial(explain.explain_dmd, s, A, fit, k=k), partial(explain.explain_sindy, s, A)
    return {
        "dmd": dmd(),
        "dmd_global": dmd(local=False),
        "dmd_left": dmd(side="left"),
        "dmd_modulus": dmd(part="abs"),
        "dmd_mode1": dmd(mode=1),
        "dmd_norm": dmd(kind="norm"),
        "dmd_max_step": dmd(kind="max_step"),
        "pca": explain.explain_pca(s, A, fit, k=k),
        "sindy2": sindy(k=k),
        "sindy3": sindy(k=k, degree=3),
        "sindy2_signed": sindy(k=k, aggregate="signed_sum"),
        "sindy3_signed": sindy(k=k, degree=3, aggregate="signed_sum"),
    }


def from_gradients(graph: Graph, model: Any, *, integrate: bool = True) -> dict[str, Explanation]:
    """What the explainers that need the model's derivatives say; incomplete integrals do not warn,
    their gap is in ``meta``.
    """
    from labcore.koopman import gradients

    found = {
        "saliency": gradients.saliency(model, graph.x, graph.A),
        "edge_gradient": gradients.edge_gradient(model, graph.x, graph.A),
    }
    if integrate:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            integral = gradients.integrated_gradients(model, graph.x, graph.A)
        found["integrated_gradients"] = integral
    return found


def scorable(truth: Truth) -> bool:
    """Whether there is anything to find: a true step and another, a true node and another."""
    times = truth.times > 0
    return bool(times.any() and not times.all() and truth.nodes.any() and not truth.nodes.all())


def scores(
    found: Explanation, graph: Graph, *, window: int = 6, threshold: float = 0.4
) -> dict[str, float]:
    """All of :data:`TARGETS`; NaN where the explanation or the truth says nothing."""
    values = dict.fromkeys(TARGETS, float("nan"))
    truth = graph.truth
    if not np.isnan(found.times).any():
        wide = _windowed(found, window)
        test = mann_whitney(found.times, truth.times)
        values |= {
            "time_auc": auc(found.times, truth.times > 0),
            "time_f1_point": time_f1(found.times, truth.times, threshold, window),
            "time_f1_window": time_f1(wide, truth.times, threshold, window),
            "time_p": test.p,
            "time_effect": test.effect,
        }
    if not np.isnan(found.nodes).any():
        infected = graph.infected_at >= 0
        values["node_auc"] = auc(found.nodes, truth.nodes)
        values["spreader_auc"] = _auc_or_nan(found.nodes[infected], truth.spreaders[infected])
    if not np.isnan(found.edges).any():
        edges = edge_list(graph.A)
        both = truth.nodes[edges[:, 0]] & truth.nodes[edges[:, 1]]
        values["edge_auc"] = _auc_or_nan(found.edges, both)
        values["hard_edge_auc"] = _auc_or_nan(found.edges[both], truth.edges[both])
    return values


def _windowed(found: Explanation, window: int) -> np.ndarray:
    """Relevance of each stretch of ``window`` steps: of the smoothed signal, where there is one."""
    if "signal" in found.meta:
        return time_relevance(np.asarray(found.meta["signal"]), window)
    return np.convolve(found.times, np.full(window, 1 / window), "valid")


def _auc_or_nan(score: Float[np.ndarray, " n"], truth: Bool[np.ndarray, " n"]) -> float:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return auc(score, truth)
