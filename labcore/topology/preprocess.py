"""Node features before the lifting: what a benchmark does to data that has none, or poor ones."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from scipy.sparse.csgraph import connected_components

from labcore.topology.data import Source
from labcore.topology.graphs import Graph

STEPS = 8  # of a random walk


def _none(source: Source) -> Source:
    return source


def _degree(source: Source) -> Source:
    d = _graph(source).degrees().astype(np.float32)
    return _with(source, np.log1p(d)[:, None])


def _walk(source: Source) -> Source:
    """Chance that a random walk is back after 1 to 8 steps (tells triangles, squares, ...)."""
    graph = _graph(source)
    a = graph.adjacency().astype(np.float64)
    d = np.maximum(graph.degrees(), 1)
    step = a.multiply(1.0 / d[:, None]).tocsr()
    reach, columns = step, []
    for _ in range(STEPS):
        columns.append(reach.diagonal())
        reach = reach @ step
    return _with(source, np.stack(columns, axis=1))


def _component(source: Source) -> Source:
    """The largest connected part, for a task on nodes."""
    graph = _graph(source)
    if source.level != "node":
        raise ValueError("component is for one graph with labels at its nodes")
    label = connected_components(graph.adjacency())[1]
    kept = np.flatnonzero(label == np.bincount(label).argmax())
    place = np.full(graph.n, -1)
    place[kept] = np.arange(len(kept))
    edges = place[graph.edges]
    part = Graph(len(kept), edges[(edges >= 0).all(axis=1)])
    return replace(source, complex=part, x=source.x[kept], y=source.y[kept])


PREPROCESS: dict[str, Callable[[Source], Source]] = {
    "none": _none,
    "degree": _degree,
    "walk": _walk,
    "component": _component,
}


def preprocess(source: Source, name: str) -> Source:
    """A data set with other node features, or a part of it.

    Args:
        source: As loaded.
        name: ``none``; ``degree`` or ``walk`` adds columns; ``component`` keeps the largest part.

    Raises:
        ValueError: an unknown name, or a step that does not fit the data.
    """
    if name not in PREPROCESS:
        raise ValueError(f"preprocess must be one of {', '.join(PREPROCESS)}, got {name!r}")
    return PREPROCESS[name](source)


def _graph(source: Source) -> Graph:
    held = source.complex
    return held if isinstance(held, Graph) else Graph(held.n, held.simplices(1))


def _with(source: Source, columns: np.ndarray) -> Source:
    return replace(source, x=np.concatenate([source.x, columns.astype(np.float32)], axis=1))
