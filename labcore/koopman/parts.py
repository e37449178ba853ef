"""One network and seed of the experiment: data, training, explanations, scores, audit."""

from typing import Any

import numpy as np
import torch

from labcore.koopman import evaluate
from labcore.koopman.data import SYNTHETIC, Dataset, dissemination_dataset
from labcore.koopman.deletion import deletion_curve
from labcore.koopman.evaluate import Graph
from labcore.koopman.explain import embed_nodes
from labcore.koopman.metrics import sign_flips
from labcore.koopman.names import NAMES, TARGETS
from labcore.koopman.operator import KoopmanFit, fit_operator
from labcore.koopman.settings import Config
from labcore.koopman.stgnn import DynGCRNN
from labcore.koopman.training import curve_accuracy, fit, states_of
from labcore.koopman.truth import edge_list, transmission_truth
from labcore.parts import Findings
from labcore.runs import Progress, Table
from labcore.runtime import limit_threads


def measure(config: Config, network: str, seed: int, progress: Progress) -> Findings:
    """Everything for one network and seed."""
    limit_threads(1)
    epochs = config.training.epochs
    total = 2 * epochs + config.explained
    progress(0, total, "data")
    dataset = dissemination_dataset(network, config.graphs, recipe=config.recipe, seed=seed)
    torch.manual_seed(seed)
    model = DynGCRNN(1, config.hidden, config.layers)
    history = fit(
        model, dataset, config.training, seed=seed,
        report=lambda done, _, label: progress(2 * done, total, label),
    )  # fmt: skip
    pooled = states_of(model, dataset, dataset.train).astype(np.float64).mean(axis=2)
    operator = fit_operator(pooled, config.k, config.alpha)
    graphs, indices = explained_graphs(config, model, dataset)
    scored, tables = _scores(config, network, seed, model, operator, graphs, progress)
    arrays = {f"{network}@{seed}/{name}": value for name, value in scored.items()}
    where: dict[str, Any] = {"network": network, "seed": seed}
    first = seed == config.seed
    if first:
        arrays |= _kept(config, network, dataset, model, pooled, graphs, indices)
    tables["training"] = [
        {
            **where,
            "accuracy": float(history.accuracy[-1]),
            "curve_accuracy": curve_accuracy(dataset),
            "valid": len(dataset.valid),
            "infected_share": float((dataset.infected_at >= 0).mean()),
            "skill": operator.one_step_skill(pooled),
            "complex_leading": bool(abs(operator.eigs[0].imag) > 1e-9),
        }
    ]
    tables["history"] = [
        {**where, "epoch": e + 1, "loss": float(loss), "accuracy": float(right)}
        for e, (loss, right) in enumerate(zip(history.loss, history.accuracy, strict=True))
    ]
    tables["explained"] = [{**where, "graphs": len(graphs)}]
    if first:
        tables["shown"] = [{**where, "index": int(i)} for i in indices[: config.shown]]
    return Findings(arrays, tables)


def explained_graphs(
    config: Config, model: DynGCRNN, dataset: Dataset
) -> tuple[list[Graph], np.ndarray]:
    """Validation graphs of class 1 that have something to find, with their indices."""
    rows = dataset.valid[dataset.y[dataset.valid] == 1][: config.explained]
    states = states_of(model, dataset, rows)
    graphs, kept = [], []
    for row, s in zip(rows, states, strict=True):
        truth = transmission_truth(dataset.A[row], dataset.infected_at[row])
        if evaluate.scorable(truth):
            graphs.append(Graph(dataset.A[row], dataset.x[row], s, dataset.infected_at[row], truth))
            kept.append(row)
    return graphs, np.array(kept)


def _scores(
    config: Config,
    network: str,
    seed: int,
    model: DynGCRNN,
    operator: KoopmanFit,
    graphs: list[Graph],
    progress: Progress,
) -> tuple[dict[str, np.ndarray], dict[str, Table]]:
    rng = np.random.default_rng([seed, 7])
    values = {t: np.full((len(NAMES), len(graphs)), np.nan, np.float32) for t in TARGETS}
    drops = np.full((len(NAMES), len(graphs), len(config.cuts)), np.nan, np.float32)
    gaps = []
    for g, graph in enumerate(graphs):
        integrate = g < config.gradient_graphs
        said = evaluate.explanations(
            graph, operator, model, k=config.k, rng=rng, integrate=integrate
        )
        for name, found in said.items():
            i = NAMES.index(name)
            here = evaluate.scores(found, graph, window=config.window, threshold=config.threshold)
            for target, value in here.items():
                values[target][i, g] = value
            if not np.isnan(found.times).any() and name != "always":
                drops[i, g] = deletion_curve(model, graph.x, graph.A, found.times, config.cuts)
            if name == "integrated_gradients":
                gaps.append(found.meta["gap"])
        done = 2 * config.training.epochs + g + 1
        total = 2 * config.training.epochs + config.explained
        progress(done, total, f"explaining graph {g + 1} of {len(graphs)}")
    where = {"network": network, "seed": seed}
    tables = {
        "deletion": _deletion_rows(where, drops, config.cuts),
        "flips": _flip_rows(config, where, graphs, rng),
        "completeness": [{**where, "graphs": len(gaps), "worst_gap": float(max(gaps))}],
    }
    return {**values, "deletion": drops}, tables


def _deletion_rows(where: dict[str, Any], drops: np.ndarray, cuts: tuple[int, ...]) -> Table:
    rows: Table = []
    for i, name in enumerate(NAMES):
        for j, cut in enumerate(cuts):
            here = drops[i, :, j][~np.isnan(drops[i, :, j])].astype(np.float64)
            if len(here) > 1:
                spread = {"mean": float(here.mean()), "sd": float(here.std(ddof=1))}
                row = {"explainer": name, "cut": cut, "graphs": len(here)}
                rows.append({**where, **row, **spread})
    return rows


def _flip_rows(
    config: Config, where: dict[str, Any], graphs: list[Graph], rng: np.random.Generator
) -> Table:
    rows: Table = []
    for degree in (2, 3):
        for aggregate in ("frobenius", "signed_sum"):
            ranges = []
            for graph in graphs[: config.flip_graphs]:
                edges = edge_list(graph.A)
                both = graph.truth.nodes[edges[:, 0]] & graph.truth.nodes[edges[:, 1]]
                if both.all() or not both.any():
                    continue
                Z = embed_nodes(graph.states.transpose(1, 0, 2).astype(np.float64), config.k)
                scores = sign_flips(
                    Z, edges, both, degree=degree, aggregate=aggregate, flips=config.flips, rng=rng
                )  # fmt: skip
                ranges.append(float(np.ptp(scores)))
            if not ranges:
                continue
            row = {"degree": degree, "aggregate": aggregate, "graphs": len(ranges)}
            spread = {"range": float(np.mean(ranges)), "sd": float(np.std(ranges))}
            rows.append({**where, **row, **spread, "worst": max(ranges)})
    return rows


def _kept(
    config: Config,
    network: str,
    dataset: Dataset,
    model: DynGCRNN,
    pooled: np.ndarray,
    graphs: list[Graph],
    indices: np.ndarray,
) -> dict[str, np.ndarray]:
    """What figures need of a network: weights, graph states, and a few whole graphs.

    Contacts of real networks are not kept: they are cut again from the data when these are there.
    """
    arrays = {f"{network}/weights/{k}": v.numpy() for k, v in model.state_dict().items()}
    arrays[f"{network}/pooled"] = pooled[: config.pooled].astype(np.float32)
    for graph, index in list(zip(graphs, indices, strict=True))[: config.shown]:
        place = f"{network}/graph/{index}"
        arrays[f"{place}/states"] = graph.states.astype(np.float16)
        arrays[f"{place}/infected_at"] = graph.infected_at.astype(np.int16)
        if network == SYNTHETIC:
            arrays[f"{place}/contacts"] = np.argwhere(np.triu(graph.A)).astype(np.int16)
            arrays[f"{place}/counts"] = graph.A[tuple(np.argwhere(np.triu(graph.A)).T)]
        for name, found in evaluate.from_gradients(graph, model).items():
            for part in ("times", "nodes", "edges"):
                values = getattr(found, part).astype(np.float32)
                arrays[f"{place}/{name}/{part}"] = values
    return arrays
