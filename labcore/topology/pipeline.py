"""The benchmark as a chain of plain parts: load, preprocess, lift, tensors, model, train, evaluate.

One :class:`Choice` is one row of a benchmark; :func:`run_choice` runs it and returns one row of
results. Every part is a function that can be called, or replaced, alone. The model is kept at the
epoch of best validation score; the test part chooses nothing.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from scipy import sparse
from torch import Tensor, nn

from labcore.topology.data import Source, load, split
from labcore.topology.families import Hypergraph
from labcore.topology.features import lift_features
from labcore.topology.graphs import Graph
from labcore.topology.liftings import TopoData, lift, parameters
from labcore.topology.matrices import matrices
from labcore.topology.models import MODELS, Tensors, build, model
from labcore.topology.preprocess import preprocess
from labcore.topology.sequences import rank_operators

METRICS = ("accuracy", "auc")


@dataclass(frozen=True)
class Choice:
    """One row of a benchmark: what is chosen for each part of the pipeline.

    Attributes:
        data: Name of a data set.
        lifting: ``domain/name``; several steps with ``+`` between them; or ``simplicial/given``
            for data that is a complex already.
        model: Name of a model.
        preprocess: What happens to the node features first.
        features: How cells get features.
        width: Hidden size.
        layers: Layers.
        epochs: Passes over the training part.
        lr: Of Adam.
        metric: ``accuracy``, or ``auc`` for two classes.
        lift_options: Parameters of the lifting.
        model_options: Parameters of the model.
        label: What the row is called in figures.
    """

    data: str
    lifting: str
    model: str
    preprocess: str = "none"
    features: str = "projected_sum"
    width: int = 32
    layers: int = 2
    epochs: int = 60
    lr: float = 0.01
    metric: str = "accuracy"
    lift_options: dict[str, Any] = field(default_factory=dict)
    model_options: dict[str, Any] = field(default_factory=dict)
    label: str = ""

    @property
    def domain(self) -> str:
        """The domain that the model reads."""
        return domain_of(self.lifting)


def domain_of(lifting: str) -> str:
    """The domain in which a (chain of) lifting ends.

    >>> domain_of("simplicial/clique+combinatorial/coface")
    'combinatorial'
    """
    return lifting.split("+")[-1].split("/")[0]


def override(choice: Choice, settings: Sequence[str]) -> Choice:
    """A choice with some fields set from texts, as on a command line.

    Raises:
        ValueError: a text without ``=``, or a field that a choice does not have.

    >>> plain = Choice("karate", "simplicial/clique", "scn")
    >>> override(plain, ["width=8", "lift_options.max_dim=3"]).lift_options
    {'max_dim': 3}
    """
    known = {f.name: f for f in fields(Choice)}
    for setting in settings:
        path, mark, text = setting.partition("=")
        name, _, key = path.partition(".")
        if not mark or name not in known or (key and not name.endswith("_options")):
            raise ValueError(f"{setting!r}: give name=value, names are {', '.join(known)}")
        value = _parsed(text)
        old = getattr(choice, name)
        changed: dict[str, Any] = {name: {**old, key: value} if key else type(old)(value)}
        choice = replace(choice, **changed)
    return choice


def _parsed(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return {"true": True, "false": False}.get(text.lower(), text)


@lru_cache(maxsize=4)
def _loaded(name: str) -> Source:
    return load(name)


def lifted(source: Source, lifting: str, **options: Any) -> TopoData:
    """The data set's complex, lifted in one step or several.

    Raises:
        ValueError: as :func:`~labcore.topology.liftings.lift`; an option that no step knows.
    """
    topo = TopoData(source.domain, source.complex, {0: source.x}, source.y)
    if lifting == "simplicial/given":
        if source.domain != "simplicial":
            raise ValueError(f"{source.name} is a graph: name a lifting, as simplicial/clique")
        return topo
    if source.domain == "simplicial":  # a graph model sees the edges only
        edges = source.complex.simplices(1)
        topo = TopoData("graph", Graph(source.complex.n, edges), {0: source.x}, source.y)
    left = dict(options)
    for step in lifting.split("+"):
        allowed = parameters(topo.domain, step)
        topo = lift(topo, step, **{k: left.pop(k) for k in list(left) if k in allowed})
    if left:
        raise ValueError(f"{lifting} has no parameter {', '.join(left)}")
    return topo


def tensors(
    topo: TopoData, name: str, features: str = "projected_sum", batch: np.ndarray | None = None
) -> Tensors:
    """What a model reads of a lifted complex: features, and only the matrices that it needs.

    Args:
        topo: The lifted data.
        name: Of the model.
        features: How cells get features, see :func:`~labcore.topology.features.lift_features`;
            or ``counts``, which first gives each node the number of its cells of every rank.
        batch: Graph of each node, for many graphs side by side.

    Raises:
        ValueError: a model that does not read this domain (those that do are listed).
    """
    kind, held = model(name), topo.complex
    if topo.domain not in kind.domains:
        fitting = ", ".join(m for m, found in MODELS.items() if topo.domain in found.domains)
        raise ValueError(f"{name!r} does not read {topo.domain} data: {fitting} do")
    if features == "counts":
        with_counts = np.concatenate([topo.x[0], cell_counts(held)], axis=1)
        topo, features = replace(topo, x={0: with_counts}), "projected_sum"
    x: Mapping[int, np.ndarray] = {0: topo.x[0]}
    if name == "counts":
        x = {0: cell_counts(held)}
    elif not kind.nodes_only:
        x = lift_features(topo, method=features)
    made = Tensors({k: torch.from_numpy(np.asarray(v, np.float32)) for k, v in x.items()})
    if batch is not None:
        made.batch = {k: _graph_of(held, k, batch) for k in x}
    if name == "mamba":
        made.operators = rank_operators(_Edges(held) if isinstance(held, Graph) else held)
    made.m = matrices(held, kind.required_matrices, signed=kind.signed)
    return made


class _Edges:
    """A graph as a complex of rank 1, for the sequencer."""

    def __init__(self, graph: Graph) -> None:
        self.n, self.dim, self.graph = graph.n, 1, graph

    def membership(self, k: int) -> sparse.csr_array:
        """Nodes by edges."""
        return sparse.csr_array(Hypergraph(self.n, self.graph.edges.tolist()).incidence())


def cell_counts(held: Any) -> np.ndarray:
    """How many cells of each rank hold each node, (n, ranks); nothing else."""
    if isinstance(held, Graph):
        columns = [np.ones(held.n), held.degrees()]
    else:
        columns = [np.asarray(held.membership(k).sum(axis=1)).ravel() for k in range(held.dim + 1)]
    return np.stack(columns, axis=1).astype(np.float32)


def _graph_of(held: Any, k: int, batch: np.ndarray) -> Tensor:
    if k == 0:
        return torch.from_numpy(batch)
    first = [cell[0] for cell in held.vertices(k)]
    return torch.from_numpy(batch[np.array(first, dtype=np.int64)])


def run_choice(
    *, seed: int, split_seed: int, history: bool = False, **parts: Any
) -> dict[str, Any]:
    """Run one choice; ``seed`` is the grid's, ``split_seed`` decides split and initial weights.

    Returns:
        Scores at the chosen epoch, sizes, parameters, seconds; all plain.

    Raises:
        ValueError: a model that does not read the lifting's domain, or what a part refuses.
    """
    choice = Choice(**parts)
    if choice.domain not in model(choice.model).domains:
        fitting = ", ".join(m for m, found in MODELS.items() if choice.domain in found.domains)
        raise ValueError(f"{choice.model!r} does not read {choice.domain} data: {fitting} do")
    source = preprocess(_loaded(choice.data), choice.preprocess)
    clock = time.process_time()
    topo = lifted(source, choice.lifting, **choice.lift_options)
    lift_seconds = time.process_time() - clock
    found = optimise(source, topo, choice, split_seed)
    return {
        **{k: v for k, v in found.items() if history or k != "history"},
        "lift_seconds": lift_seconds,
        "cells": "/".join(map(str, topo.sizes)),
    }


def optimise(source: Source, topo: TopoData, choice: Choice, seed: int) -> dict[str, Any]:
    """Train and evaluate one model on one split.

    Raises:
        ValueError: an unknown metric, ``auc`` for other than two classes, an empty part.
    """
    if choice.metric not in METRICS or (choice.metric == "auc" and source.classes != 2):
        raise ValueError(
            f"metric must be accuracy, or auc for two classes: got {choice.metric!r} for "
            f"{source.classes} classes"
        )
    parts = {k: torch.from_numpy(v) for k, v in split(source, seed).items()}
    y = torch.from_numpy(source.y)
    clock = time.process_time()
    if choice.model == "majority":
        best = torch.bincount(y[parts["train"]], minlength=source.classes).argmax()
        logits = F.one_hot(best, source.classes).float().expand(len(y), -1)
        scores = evaluate(logits, y, parts, choice.metric)
        return {**scores, "parameters": 0, "seconds": 0.0, "epoch": 0, "history": []}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        given = tensors(topo, choice.model, choice.features, source.batch)
        net = build(choice.model, given, choice.width, source.classes, level=source.level,
                    layers=choice.layers, options=choice.model_options)  # fmt: skip
        found = train(net, given, y, parts, choice)
    found["parameters"] = sum(p.numel() for p in net.parameters())
    found["seconds"] = time.process_time() - clock
    return found


def train(
    net: nn.Module, given: Tensors, y: Tensor, parts: Mapping[str, Tensor], choice: Choice
) -> dict[str, Any]:
    """Adam on the training part; scores at the epoch of best validation, and all of them."""
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
        row = evaluate(logits, y, parts, choice.metric)
        row["val_loss"] = float(F.cross_entropy(logits[parts["val"]], y[parts["val"]]))
        history.append({"epoch": epoch + 1, "loss": float(loss.detach()), **row})
    best = max(history, key=lambda r: (r["val"], -r["val_loss"]))
    return {**{k: best[k] for k in (*parts, "epoch")}, "history": history}


def evaluate(
    logits: Tensor, y: Tensor, parts: Mapping[str, Tensor], metric: str = "accuracy"
) -> dict[str, float]:
    """The score of each part.

    >>> evaluate(torch.eye(2), torch.tensor([0, 0]), {"test": torch.tensor([0, 1])})
    {'test': 0.5}
    """
    if metric == "accuracy":
        right = (logits.argmax(1) == y).float()
        return {name: float(right[items].mean()) for name, items in parts.items()}
    margin = logits[:, 1] - logits[:, 0]
    return {name: _auc(margin[items], y[items]) for name, items in parts.items()}


def _auc(margin: Tensor, y: Tensor) -> float:
    """How often a one is ranked above a zero; ties count half."""
    ones, zeros = margin[y == 1], margin[y == 0]
    gap = ones[:, None] - zeros[None]
    return float(((gap > 0).float() + 0.5 * (gap == 0).float()).mean())


def as_params(choice: Choice, split_seed: int) -> dict[str, Any]:
    """A row of a grid: the choice as plain data, and the seed of its split."""
    return {**asdict(choice), "split_seed": split_seed}
