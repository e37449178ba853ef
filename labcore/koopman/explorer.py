"""One shown graph, seen through one explainer: everything that the page and the notebook draw.

No torch: states come with the committed result, and what needs gradients was kept with them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import networkx as nx
import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from labcore.koopman import explain
from labcore.koopman.data import SYNTHETIC, Recipe, make_sample
from labcore.koopman.evaluate import Graph, scores
from labcore.koopman.explain import Explanation
from labcore.koopman.operator import KoopmanFit, fit_operator
from labcore.koopman.relevance import detect
from labcore.koopman.settings import ALPHA
from labcore.koopman.truth import edge_list, transmission_truth
from labcore.runs import Result

EXPLAINERS = ("dmd", "pca", "sindy2", "sindy3", "saliency", "integrated_gradients",
              "edge_gradient", "count_change", "contact_count", "degree", "input_flag", "always",
              "random")  # fmt: skip
KEPT = ("saliency", "integrated_gradients", "edge_gradient")
BESIDE = ("always", "random", "input_flag", "count_change", "degree", "contact_count")


@dataclass(frozen=True)
class Setting:
    """How a graph is explained; see :func:`~labcore.koopman.explain.explain_dmd`."""

    explainer: str = "dmd"
    mode: int = 0
    side: Literal["right", "left"] = "right"
    part: Literal["real", "abs"] = "real"
    kind: Literal["deviation", "norm", "max_step"] = "deviation"
    threshold: float = 0.4
    window: int = 6
    k: int = 16
    alpha: float = ALPHA
    degree: int = 2


@dataclass(frozen=True)
class View:
    """One graph with its explanation and truth, as plain arrays.

    Attributes:
        contacts: Rows (bin, person, person).
        infected_at: First infected bin, -1 for never.
        signal: The projected graph state, or the relevance where there is no signal.
        times: Relevance of each step; NaN where the explainer says nothing.
        detected: Steps above the threshold.
        true_times: Steps at which somebody was infected.
        nodes: Relevance of each node; NaN where the explainer says nothing.
        true_nodes: Ends of true transmissions.
        edges: Pairs that met.
        weights: SINDy's weight of each.
        true_edges: Which of them may have transmitted.
        places: Where nodes are drawn.
        table: Scores of this explainer and of the trivial ones beside it.
    """

    network: str
    index: int
    setting: Setting
    contacts: Int[np.ndarray, "c 3"]
    infected_at: Int[np.ndarray, " n"]
    signal: Float[np.ndarray, " t"]
    times: Float[np.ndarray, " t"]
    detected: Bool[np.ndarray, " t"]
    true_times: Bool[np.ndarray, " t"]
    nodes: Float[np.ndarray, " n"]
    true_nodes: Bool[np.ndarray, " n"]
    edges: Int[np.ndarray, "e 2"]
    weights: Float[np.ndarray, " e"]
    true_edges: Bool[np.ndarray, " e"]
    places: Float[np.ndarray, "n 2"]
    table: tuple[Mapping[str, Any], ...]


def shown(result: Result, network: str) -> list[int]:
    """Indices of the graphs of a network that a result keeps."""
    return [row["index"] for row in result.tables["shown"] if row["network"] == network]


def shown_graph(result: Result, network: str, number: int) -> Graph:
    """A kept graph; contacts of a real network are cut again from the data.

    Raises:
        ValueError: the result keeps no such graph, or the data gave another one.
        AssetError: the contact networks are not on this machine (``lab fetch contacts``).
    """
    indices = shown(result, network)
    if not 0 <= number < len(indices):
        raise ValueError(f"{network} keeps {len(indices)} graphs, there is no number {number}")
    place = f"{network}/graph/{indices[number]}"
    infected_at = result.arrays[f"{place}/infected_at"].astype(np.int64)
    states = result.arrays[f"{place}/states"].astype(np.float64)
    if network == SYNTHETIC:
        A = _rebuilt(result, place, states.shape[0], states.shape[1])
    else:
        recipe, seed = Recipe(**result.config["recipe"]), result.config["seed"]
        sample = make_sample(network, indices[number], recipe=recipe, seed=seed)
        if not np.array_equal(sample.infected_at, infected_at):
            raise ValueError(f"{network} gives another graph {indices[number]}: run it again")
        A = sample.A
    x = ((infected_at >= 0) & (infected_at <= np.arange(len(A))[:, None])).astype(np.float32)
    return Graph(A, x, states, infected_at, transmission_truth(A, infected_at))


def _rebuilt(result: Result, place: str, steps: int, n: int) -> UInt8[np.ndarray, "t n n"]:
    A = np.zeros((steps, n, n), dtype=np.uint8)
    t, u, v = result.arrays[f"{place}/contacts"].astype(np.int64).T
    A[t, u, v] = A[t, v, u] = result.arrays[f"{place}/counts"]
    return A


def graph_operator(
    result: Result, network: str, *, k: int = 16, alpha: float = ALPHA
) -> KoopmanFit:
    """The operator of graph states, fitted on the training graphs that the result keeps."""
    pooled = result.arrays[f"{network}/pooled"].astype(np.float64)
    return fit_operator(pooled, k, alpha)


def explanation(
    result: Result, graph: Graph, network: str, number: int, setting: Setting
) -> Explanation:
    """What one explainer says about a kept graph; a mode beyond the axes is the last one.

    Raises:
        ValueError: an unknown explainer, side or part.
    """
    name, mode = setting.explainer, min(setting.mode, setting.k - 1)
    if name in KEPT:
        place = f"{network}/graph/{shown(result, network)[number]}/{name}"
        times, nodes, edges = (
            result.arrays[f"{place}/{part}"].astype(float) for part in ("times", "nodes", "edges")
        )
        return Explanation(times, nodes, edges, {"name": name})
    if name in ("dmd", "pca"):
        fit = graph_operator(result, network, k=setting.k, alpha=setting.alpha)
        if name == "pca":
            return explain.explain_pca(graph.states, graph.A, fit, k=setting.k, component=mode)
        return explain.explain_dmd(
            graph.states, graph.A, fit, k=setting.k, mode=mode, side=setting.side,
            part=setting.part, kind=setting.kind,
        )  # fmt: skip
    if name in ("sindy2", "sindy3"):
        return explain.explain_sindy(graph.states, graph.A, k=setting.k, degree=int(name[-1]))
    if name == "random":
        return explain.random(graph.A, graph.x, np.random.default_rng(number))
    if name not in explain.BASELINES:
        raise ValueError(f"explainer={name!r}: choose one of {', '.join(EXPLAINERS)}")
    return explain.BASELINES[name](graph.A, graph.x)


def view(result: Result, network: str, number: int, setting: Setting | None = None) -> View:
    """A kept graph through one explainer, with its scores and those of the trivial baselines.

    Raises:
        ValueError: no such graph or setting.
        AssetError: the contact networks are not on this machine.
    """
    how = setting or Setting()
    graph = shown_graph(result, network, number)
    found = explanation(result, graph, network, number, how)
    edges = edge_list(graph.A)
    silent = np.isnan(found.times).any()
    signal = np.asarray(found.meta.get("signal", found.times))
    weights = explain.explain_sindy(graph.states, graph.A, k=how.k, degree=how.degree).edges
    return View(
        network=network,
        index=shown(result, network)[number],
        setting=how,
        contacts=np.argwhere(np.triu(graph.A)),
        infected_at=graph.infected_at,
        signal=np.abs(signal) if np.iscomplexobj(signal) else signal,
        times=found.times,
        detected=np.zeros(len(graph.A), bool) if silent else detect(found.times, how.threshold),
        true_times=graph.truth.times > 0,
        nodes=found.nodes,
        true_nodes=graph.truth.nodes,
        edges=edges,
        weights=weights,
        true_edges=graph.truth.edges,
        places=layout(len(graph.infected_at), edges, graph.A.sum(axis=0)),
        table=_score_table(found, graph, how),
    )


def _score_table(found: Explanation, graph: Graph, how: Setting) -> tuple[Mapping[str, Any], ...]:
    """Scores of the chosen explainer first, then those of the trivial ones."""
    rng = np.random.default_rng(0)
    rows = [(how.explainer, found)]
    for name in BESIDE:
        if name == "random":
            rows.append((name, explain.random(graph.A, graph.x, rng)))
        else:
            rows.append((name, explain.BASELINES[name](graph.A, graph.x)))
    table = []
    for name, said in rows:
        values = scores(said, graph, window=how.window, threshold=how.threshold)
        table.append({"explainer": name, **values})
    return tuple(table)


def score_rows(found: View) -> list[dict[str, str]]:
    """The scores of a view as texts, for a table; a dash where nothing is said."""
    kinds = {
        "time_auc": "steps, AUC",
        "time_f1_point": "steps, F1",
        "time_f1_window": "windows, F1",
        "time_p": "rank test, p",
        "node_auc": "people, AUC",
        "spreader_auc": "spreaders, AUC",
        "edge_auc": "pairs, AUC",
        "hard_edge_auc": "transmissions, AUC",
    }
    return [
        {
            "explainer": str(row["explainer"]).replace("_", " "),
            **{text: "–" if np.isnan(row[k]) else f"{row[k]:.2g}" for k, text in kinds.items()},
        }
        for row in found.table
    ]


def layout(
    n: int, edges: Int[np.ndarray, "e 2"], weight: UInt8[np.ndarray, "n n"] | np.ndarray
) -> Float[np.ndarray, "n 2"]:
    """Places of nodes: springs along contacts, spread evenly; the same every time."""
    graph: nx.Graph = nx.Graph()
    graph.add_nodes_from(range(n))
    graph.add_weighted_edges_from((u, v, float(weight[u, v])) for u, v in edges.tolist())
    found = nx.spring_layout(graph, seed=0, k=2.2 / np.sqrt(n), iterations=60)
    places = np.array([found[i] for i in range(n)])
    ranks = places.argsort(axis=0).argsort(axis=0) / max(n - 1, 1) * 2 - 1
    return 0.35 * places + 0.65 * ranks  # a dense middle is pulled apart, order is kept
