"""The benchmark as a chain of plain parts: load, lift, tensors, model, optimise, evaluate.

One :class:`Choice` is one row of a benchmark; :func:`run_choice` runs it and returns one row of
results. The model is kept at the epoch of best validation accuracy; the test part chooses nothing.
"""

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from scipy import sparse
from torch import Tensor, nn

from labcore.topology.chains import ChainComplex, as_torch, normalised
from labcore.topology.data import Source, load, split
from labcore.topology.families import CombinatorialComplex, Hypergraph
from labcore.topology.features import lift_features
from labcore.topology.graphs import Graph
from labcore.topology.liftings import TopoData, lift
from labcore.topology.models import MODELS, Tensors, build
from labcore.topology.sequences import rank_operators


@dataclass(frozen=True)
class Choice:
    """One row of a benchmark: what is chosen for each part of the pipeline.

    Attributes:
        data: Name of a data set.
        lifting: ``domain/name``, or ``simplicial/given`` for data that is a complex already.
        model: Name of a model.
        features: How cells get features.
        width: Hidden size.
        layers: Layers.
        epochs: Passes over the training part.
        lr: Of Adam.
        lift_options: Parameters of the lifting.
        model_options: Parameters of the model.
        label: What the row is called in figures.
    """

    data: str
    lifting: str
    model: str
    features: str = "projected_sum"
    width: int = 32
    layers: int = 2
    epochs: int = 60
    lr: float = 0.01
    lift_options: dict[str, Any] = field(default_factory=dict)
    model_options: dict[str, Any] = field(default_factory=dict)
    label: str = ""


@lru_cache(maxsize=4)
def _loaded(name: str) -> Source:
    return load(name)


def lifted(source: Source, lifting: str, **options: Any) -> TopoData:
    """The data set's complex, lifted.

    Raises:
        ValueError: as :func:`~labcore.topology.liftings.lift`.
    """
    start = TopoData(source.domain, source.complex, {0: source.x}, source.y)
    if lifting == "simplicial/given":
        if source.domain != "simplicial":
            raise ValueError(f"{source.name} is a graph: name a lifting, as simplicial/clique")
        return start
    if source.domain == "simplicial":  # a graph model sees the edges only
        edges = source.complex.simplices(1)
        start = TopoData("graph", Graph(source.complex.n, edges), {0: source.x}, source.y)
    return lift(start, lifting, **options)


def tensors(topo: TopoData, model: str, features: str, batch: np.ndarray | None) -> Tensors:
    """What a model reads of a lifted complex: only the matrices that it needs."""
    held = topo.complex
    ranks = range(1) if topo.domain == "graph" else range(held.dim + 1)
    x = {0: topo.x[0]}
    if model not in ("mlp", "gcn", "gin", "gat", "hgnn", "mamba") and topo.domain != "graph":
        x = lift_features(topo, method=features)
    if model == "counts":
        x = _counts(held, topo.domain)
    made = Tensors({k: torch.from_numpy(np.asarray(v, np.float32)) for k, v in x.items()})
    if batch is not None:
        made.batch = {k: _graph_of(held, k, batch) for k in x}
    if model == "mamba":
        made.operators = rank_operators(_Edges(held) if isinstance(held, Graph) else held)
    made.m = dict(_matrices(topo, model, list(ranks)).items())
    return made


class _Edges:
    """A graph as a complex of rank 1, for the sequencer."""

    def __init__(self, graph: Graph) -> None:
        self.n, self.dim, self.graph = graph.n, 1, graph

    def membership(self, k: int) -> sparse.csr_array:
        """Nodes by edges."""
        return sparse.csr_array(Hypergraph(self.n, self.graph.edges.tolist()).incidence())


def _counts(held: Any, domain: str) -> dict[int, np.ndarray]:
    """How many cells of each rank hold each node, nothing else."""
    if domain == "graph":
        columns = [np.ones(held.n), held.degrees()]
    else:
        columns = [np.asarray(held.membership(k).sum(axis=1)).ravel() for k in range(held.dim + 1)]
    return {0: np.stack(columns, axis=1).astype(np.float32)}


def _graph_of(held: Any, k: int, batch: np.ndarray) -> Tensor:
    if k == 0:
        return torch.from_numpy(batch)
    first = [cell[0] for cell in held.vertices(k)]
    return torch.from_numpy(batch[np.array(first, dtype=np.int64)])


def _matrices(topo: TopoData, model: str, ranks: list[int]) -> dict[str, Tensor]:
    held, found = topo.complex, {}
    if isinstance(held, Graph):
        found = _graph_matrices(held, model)
    elif isinstance(held, Hypergraph):
        h = held.incidence().astype(np.float64)
        if model == "hgnn":
            found["hgnn"] = held.convolution()
        found |= {"to_edges": _rows(h.T), "to_nodes": _rows(h)}
    elif isinstance(held, ChainComplex):
        found = _chain_matrices(held, model, ranks)
    elif isinstance(held, CombinatorialComplex):
        for k in ranks:
            if k < held.dim:
                found[f"up{k}"] = _rows(held.adjacency(k, k + 1))
                b = held.incidence(k, k + 1)
                found |= {f"b{k + 1}": _rows(b), f"b{k + 1}t": _rows(b.T)}
    if not isinstance(held, Graph) and model != "mamba":
        found |= {f"lower{k}": _rows(held.membership(k)) for k in ranks if k}
    if "edges" in found:
        return {"edges": torch.from_numpy(found["edges"])}
    return {name: as_torch(matrix) for name, matrix in found.items()}


def _graph_matrices(graph: Graph, model: str) -> dict[str, Any]:
    a = graph.adjacency().astype(np.float64)
    with_self = sparse.csr_array(a + sparse.eye_array(graph.n))
    if model == "gat":
        return {"edges": np.stack(with_self.nonzero()).astype(np.int64)}
    d = np.asarray(with_self.sum(axis=1)).ravel() ** -0.5
    root = sparse.dia_array((d[None], [0]), shape=a.shape)
    return {"gcn": root @ with_self @ root} if model == "gcn" else {"adj": a}


def _chain_matrices(held: ChainComplex, model: str, ranks: list[int]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if model in ("mamba", "counts"):
        return found
    signed = model == "sccnn" or model == "scn"
    mode: Any = "signed" if signed else "unsigned_incidence"
    for k in ranks:
        if model == "cwn":
            if k < held.dim:
                found[f"adj{k}"] = _rows(held.adjacency(k))
        else:
            if k:
                found[f"down{k}"] = _bounded(held.laplacian(k, "down", mode=mode))
            if k < held.dim:
                found[f"up{k}"] = _bounded(held.laplacian(k, "up", mode=mode))
        if k and model != "scn":
            b = held.boundary(k, signed=signed)
            found |= {f"b{k}": _scaled(b), f"b{k}t": _scaled(b.T)}
    return found


def _bounded(matrix: Any) -> sparse.csr_array:
    """A Laplacian divided by its largest absolute row sum, a bound on its eigenvalues."""
    return sparse.csr_array(matrix / max(float(abs(matrix).sum(axis=1).max()), 1.0))


def _scaled(matrix: Any) -> sparse.csr_array:
    """Rows divided by their absolute sums; signs stay."""
    total = np.asarray(abs(sparse.csr_array(matrix)).sum(axis=1), dtype=np.float64).ravel()
    inverse = np.divide(1.0, total, out=np.zeros_like(total), where=total > 0)
    return sparse.csr_array(
        sparse.dia_array((inverse[None], [0]), shape=(len(total),) * 2) @ matrix
    )


_rows = _scaled


def run_choice(
    *, seed: int, split_seed: int, history: bool = False, **parts: Any
) -> dict[str, Any]:
    """Run one choice; ``seed`` is the grid's, ``split_seed`` decides split and initial weights.

    Returns:
        Accuracies at the chosen epoch, sizes, parameters, seconds; all plain.

    Raises:
        ValueError: a model that does not read the lifting's domain, or what a part refuses.
    """
    choice = Choice(**parts)
    source = _loaded(choice.data)
    domain = choice.lifting.split("/")[0]
    if choice.model not in MODELS or domain not in MODELS[choice.model]:
        fitting = ", ".join(m for m, domains in MODELS.items() if domain in domains)
        raise ValueError(f"{choice.model!r} does not read {domain} data: {fitting} do")
    clock = time.process_time()
    topo = lifted(source, choice.lifting, **choice.lift_options)
    lift_seconds = time.process_time() - clock
    found = optimise(source, topo, choice, split_seed)
    sizes = topo.sizes
    return {
        **{k: v for k, v in found.items() if history or k != "history"},
        "lift_seconds": lift_seconds,
        "cells": "/".join(map(str, sizes)),
    }


def optimise(source: Source, topo: TopoData, choice: Choice, seed: int) -> dict[str, Any]:
    """Train and evaluate one model on one split."""
    parts = {k: torch.from_numpy(v) for k, v in split(source, seed).items()}
    y = torch.from_numpy(source.y)
    clock = time.process_time()
    if choice.model == "majority":
        best = torch.bincount(y[parts["train"]]).argmax()
        return {k: float((y[v] == best).float().mean()) for k, v in parts.items()} | {
            "parameters": 0, "seconds": 0.0, "epoch": 0, "history": []}  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        given = tensors(topo, choice.model, choice.features, source.batch)
        options = {"layers" if choice.model != "mamba" else "n_layers": choice.layers}
        net = build(choice.model, given, choice.width, source.classes, level=source.level,
                    options={**options, **choice.model_options})  # fmt: skip
        found = _fit(net, given, y, parts, choice)
    found["parameters"] = sum(p.numel() for p in net.parameters())
    found["seconds"] = time.process_time() - clock
    return found


def _fit(
    net: nn.Module, given: Tensors, y: Tensor, parts: Mapping[str, Tensor], choice: Choice
) -> dict[str, Any]:
    adam = torch.optim.Adam(net.parameters(), lr=choice.lr)
    history: list[dict[str, float]] = []
    for epoch in range(choice.epochs):
        net.train()
        adam.zero_grad()
        loss = F.cross_entropy(net(given)[parts["train"]], y[parts["train"]])
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        adam.step()
        if epoch % 4 and epoch != choice.epochs - 1:
            continue
        net.eval()
        with torch.no_grad():
            logits = net(given)
        right = (logits.argmax(1) == y).float()
        row = {k: float(right[v].mean()) for k, v in parts.items()}
        row["val_loss"] = float(F.cross_entropy(logits[parts["val"]], y[parts["val"]]))
        history.append({"epoch": epoch + 1, "loss": float(loss.detach()), **row})
    best = max(history, key=lambda r: (r["val"], -r["val_loss"]))
    return {**{k: best[k] for k in (*parts, "epoch")}, "history": history}


def as_params(choice: Choice, split_seed: int) -> dict[str, Any]:
    """A row of a grid: the choice as plain data, and the seed of its split."""
    return {**asdict(choice), "split_seed": split_seed}


__all__ = ["Choice", "as_params", "lifted", "normalised", "optimise", "run_choice", "tensors"]
