"""The article's own sets, at their size: train on one or load released weights, explain, score.

    python -m labcore.koopman.article FOLDER [--weights FILE] [--epochs N] [--device cuda]

FOLDER is one of the ``*_ct1`` folders of :mod:`.tu_format`. The lab does not need them; where they
are, this prints the same scores as the experiment, under the published rule of truth.
"""

import argparse
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int

from labcore.koopman import evaluate
from labcore.koopman.data import Dataset, split
from labcore.koopman.evaluate import Graph
from labcore.koopman.names import TARGETS, mean_of
from labcore.koopman.operator import fit_operator
from labcore.koopman.settings import ALPHA, Training
from labcore.koopman.stgnn import DynGCRNN, load_reference_weights
from labcore.koopman.training import fit, states_of
from labcore.koopman.truth import transmission_truth
from labcore.koopman.tu_format import TemporalGraph, pad_graphs, read_temporal_tu
from labcore.runs import Table

GAP = 2  # bins between a contact and the flag that it raises, in these files


def article_dataset(graphs: Sequence[TemporalGraph], *, seed: int = 0) -> Dataset:
    """Graphs of several sizes as one padded data set with a stratified split.

    Raises:
        ValueError: no graphs, or graphs of different numbers of steps.
    """
    x, A, mask = pad_graphs(graphs)
    y = np.array([graph.label for graph in graphs])
    infected_at = np.full(mask.shape, -1)
    for row, graph in zip(infected_at, graphs, strict=True):
        row[: len(graph.infected_at)] = graph.infected_at
    return Dataset(A, x, y, infected_at, *split(y, seed=seed), mask)


def audit(
    model: DynGCRNN,
    dataset: Dataset,
    rows: Int[np.ndarray, " r"],
    *,
    k: int = 16,
    window: int = 6,
    gradients: bool = True,
    seed: int = 0,
) -> Table:
    """Mean of every score of every explainer over the graphs of class 1 among ``rows``.

    Integrated gradients are left out: they take a second a graph.

    Args:
        model: The network to be explained.
        dataset: From :func:`article_dataset`.
        rows: Which graphs; those without anything to find are skipped.
        k: Axes of the embedding; at most as many as the states have.
        window: Steps of the dilation of true times.
        gradients: Also by the slopes of the logit.
        seed: Of the random explainer.

    Raises:
        ValueError: the data set has no mask, so that padding would count as nodes.
    """
    if dataset.mask is None:
        raise ValueError("graphs of several sizes want a mask: article_dataset makes one")
    rng = np.random.default_rng(seed)
    pooled = [_own_states(model, dataset, i).mean(axis=1) for i in dataset.train.tolist()]
    k = min(k, pooled[0].shape[-1])
    operator = fit_operator(np.stack(pooled), k, ALPHA)
    found: dict[tuple[str, str], list[float]] = {}
    for i in rows[dataset.y[rows] == 1].tolist():
        graph = _graph(model, dataset, i)
        if not evaluate.scorable(graph.truth):
            continue
        used = model if gradients else None
        said = evaluate.explanations(graph, operator, used, k=k, rng=rng, integrate=False)
        for name, explained in said.items():
            for target, value in evaluate.scores(explained, graph, window=window).items():
                found.setdefault((name, target), []).append(value)
    return [
        {"explainer": name, "target": target, "mean": m.mean, "error": m.error, "graphs": m.n}
        for (name, target), values in found.items()
        if (m := mean_of(np.array(values))).n
    ]


def _own_states(model: DynGCRNN, dataset: Dataset, i: int) -> np.ndarray:
    """States (t, n, f) of one graph, without padding."""
    return states_of(model, dataset, np.array([i]))[0, :, : _size(dataset, i)].astype(np.float64)


def _size(dataset: Dataset, i: int) -> int:
    return dataset.A.shape[2] if dataset.mask is None else int(dataset.mask[i].sum())


def _graph(model: DynGCRNN, dataset: Dataset, i: int) -> Graph:
    n = _size(dataset, i)
    A, x, infected_at = dataset.A[i, :, :n, :n], dataset.x[i, :, :n], dataset.infected_at[i, :n]
    truth = transmission_truth(A, infected_at, "paper", gap=GAP)
    return Graph(A, x, _own_states(model, dataset, i), infected_at, truth)


def main(argv: Sequence[str] | None = None) -> None:
    """Train or load, then print the scores."""
    parser = argparse.ArgumentParser(prog="python -m labcore.koopman.article")
    parser.add_argument("folder", type=Path, help="one of the *_ct1 folders")
    parser.add_argument("--weights", type=Path, help="released weights (.safetensors): no training")
    parser.add_argument("--hidden", type=int, default=64)
    parser.add_argument("--layers", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu", help="cpu, cuda, ...: where it trains")
    args = parser.parse_args(argv)
    dataset = article_dataset(read_temporal_tu(args.folder, args.folder.name), seed=args.seed)
    if args.weights:
        from safetensors.torch import load_file

        model, rows = load_reference_weights(load_file(args.weights)), np.arange(len(dataset.y))
    else:
        torch.manual_seed(args.seed)
        model, rows = DynGCRNN(1, args.hidden, args.layers, readout="sum"), dataset.valid
        how = Training(epochs=args.epochs, halve_every=50)
        history = fit(model.to(args.device), dataset, how, seed=args.seed)
        model = model.cpu()
        print(f"validation accuracy {history.accuracy[-1]:.2f}")
    with warnings.catch_warnings():  # a graph with one class only has no AUC
        warnings.simplefilter("ignore", UserWarning)
        table = audit(model, dataset, rows)
    for target in dict.fromkeys(row["target"] for row in table):
        print(TARGETS[target])
        for row in sorted((r for r in table if r["target"] == target), key=lambda r: -r["mean"]):
            print(f"  {row['explainer']:22s} {row['mean']:.3f} ± {row['error']:.3f}")


if __name__ == "__main__":
    main()
