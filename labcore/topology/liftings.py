"""Liftings: from one topological domain to another, by name.

    lift(graph, "simplicial/clique", max_dim=2)

Each lifting is a function in :mod:`.lift_graph`, :mod:`.lift_points` or :mod:`.lift_higher`,
registered under (source, target, name). A new one needs the decorator only. What comes out is a
:class:`TopoData`: the complex, and features of every rank after :mod:`.features`.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from importlib import import_module
from inspect import signature
from typing import Any

import numpy as np

from labcore.topology.cells import CellComplex
from labcore.topology.complexes import SimplicialComplex
from labcore.topology.families import CombinatorialComplex, Hypergraph
from labcore.topology.graphs import Graph, as_graph

DOMAINS = ("graph", "simplicial", "cell", "hypergraph", "combinatorial", "points")
LIFTINGS: dict[tuple[str, str, str], Callable[..., Any]] = {}


@dataclass(frozen=True)
class TopoData:
    """A complex with features.

    Attributes:
        domain: One of DOMAINS.
        complex: The complex (or the :class:`Graph` itself).
        x: Rank -> features (n_k, d_k).
        y: Labels.
        lifting: Name and parameters of what made it.
    """

    domain: str
    complex: Any
    x: dict[int, np.ndarray] = field(default_factory=dict)
    y: np.ndarray | None = None
    lifting: dict[str, Any] = field(default_factory=dict)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Cells of each rank."""
        held = self.complex
        return (held.n, held.m) if isinstance(held, Graph) else tuple(held.sizes)


def register_lifting(source: str, target: str, name: str) -> Callable[[Any], Any]:
    """Decorator: a function (source complex, features or None, **params) -> target complex."""

    def keep(function: Any) -> Any:
        LIFTINGS[source, target, name] = function
        return function

    return keep


def known(source: str, target: str | None = None) -> list[str]:
    """Names ``target/name`` of the liftings from a domain (to a domain)."""
    _load()
    return [f"{t}/{name}" for s, t, name in LIFTINGS if s == source and target in (None, t)]


def parameters(source: str, to: str) -> dict[str, Any]:
    """Parameters of a lifting with their defaults.

    >>> parameters("graph", "hypergraph/knn")
    {'k': 3, 'loop': True}
    """
    found = signature(_find(source, to)).parameters.values()
    return {p.name: p.default for p in found if p.kind == p.KEYWORD_ONLY}


def lift(data: Any, to: str = "simplicial/clique", **params: Any) -> TopoData:
    """Lift a graph, a point cloud or a complex to another domain.

    Args:
        data: A graph in any form, a point cloud (n, d) of floats, or a :class:`TopoData`.
        to: ``domain/name``, as ``cell/cycle``; ``graph/identity`` keeps a graph.
        params: Of the lifting, see :func:`parameters`.

    Raises:
        ValueError: an unknown lifting (the known ones are listed), no way between the domains, an
            unknown parameter, or what the lifting itself refuses.
    """
    start = data if isinstance(data, TopoData) else _start(data)
    function = _find(start.domain, to)
    allowed = parameters(start.domain, to)
    if unknown := sorted(set(params) - set(allowed)):
        raise ValueError(
            f"{to} has no parameter {', '.join(unknown)}: it has {', '.join(allowed) or 'none'}"
        )
    made = function(start.complex, start.x.get(0), **params)
    return replace(
        start,
        domain=to.split("/")[0],
        complex=made,
        x={} if 0 not in start.x else {0: _carried(start, made.n)},
        lifting={"name": to, **allowed, **params},
    )


def _carried(start: TopoData, n: int) -> np.ndarray:
    """Node features in the target; a target whose nodes are the edges gets the sum of the ends."""
    x, held = start.x[0], start.complex
    if n != len(x) and isinstance(held, Graph):
        return np.asarray(x[held.edges].sum(axis=1))
    return x


def _start(data: Any) -> TopoData:
    if isinstance(data, SimplicialComplex):
        return TopoData("simplicial", data)
    if isinstance(data, CellComplex):
        return TopoData("cell", data)
    if isinstance(data, Hypergraph):
        return TopoData("hypergraph", data)
    if isinstance(data, CombinatorialComplex):
        return TopoData("combinatorial", data)
    if isinstance(data, np.ndarray) and data.ndim == 2 and data.dtype.kind == "f":
        return TopoData("points", data, {0: data.astype(np.float32)})
    graph = as_graph(data)
    return TopoData("graph", graph, {} if graph.x is None else {0: graph.x}, graph.y)


def _find(source: str, to: str) -> Callable[..., Any]:
    _load()
    target, _, name = to.partition("/")
    if (source, target, name) in LIFTINGS:
        return LIFTINGS[source, target, name]
    there = known(source, target)
    if there:
        raise ValueError(f"unknown lifting {to!r}: from {source} there are {', '.join(there)}")
    if target not in DOMAINS:
        raise ValueError(f"unknown domain {target!r}: domains are {', '.join(DOMAINS)}")
    raise ValueError(
        f"no lifting from {source} to {target}: from {source} there are "
        f"{', '.join(known(source)) or 'none'}; take one and lift again"
    )


def _load() -> None:
    """Fill the registry (once)."""
    for module in ("lift_graph", "lift_points", "lift_higher"):
        import_module(f"labcore.topology.{module}")
