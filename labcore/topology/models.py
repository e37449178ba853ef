"""Networks for every domain, with one way in and one way out.

A network gets :class:`Tensors` (features of each rank, named sparse matrices, the graph of each
cell), encodes every rank to a common width, applies :mod:`.layers`, and reads out nodes or graphs.
:data:`MODELS` says for each name which domains it reads and which matrices it needs.
"""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from labcore.topology import layers as of
from labcore.topology.mamba_model import SimplicialMamba
from labcore.topology.sequences import RankOperators


@dataclass
class Tensors:
    """What a model reads.

    Attributes:
        x: Rank -> features (n_k, d).
        m: Name -> sparse matrix, or pairs (2, e) for attention.
        batch: Rank -> graph of each cell, or empty for one graph.
        operators: For SimplicialMamba.
    """

    x: dict[int, Tensor]
    m: dict[str, Tensor] = field(default_factory=dict)
    batch: dict[int, Tensor] = field(default_factory=dict)
    operators: RankOperators | None = None


@dataclass(frozen=True)
class Model:
    """One entry of the table of models.

    Attributes:
        domains: What it reads.
        layer: Its layer; None for the three that are no network of this module.
        signed: Whether orientations count.
        nodes_only: Whether it neither reads nor writes cells above the nodes.
    """

    domains: tuple[str, ...]
    layer: type[of.Layer] | None = None
    signed: bool = False
    nodes_only: bool = False

    @property
    def required_matrices(self) -> tuple[str, ...]:
        """Families of matrices, for :func:`labcore.topology.matrices.matrices`."""
        families = () if self.layer is None else self.layer.needs
        return families if self.nodes_only else (*families, "lower")


GRAPH, SIMPLICIAL, CELL, HYPER = (
    ("graph",),
    ("simplicial",),
    ("cell", "simplicial"),
    ("hypergraph",),
)
EVERY = ("graph", "simplicial", "cell", "hypergraph", "combinatorial")
MODELS: dict[str, Model] = {
    "majority": Model(GRAPH, nodes_only=True),
    "counts": Model(("graph", "simplicial", "cell"), of.Mlp, nodes_only=True),
    "mlp": Model(GRAPH, of.Mlp, nodes_only=True),
    "gcn": Model(GRAPH, of.Gcn, nodes_only=True),
    "gin": Model(GRAPH, of.Gin, nodes_only=True),
    "gat": Model(GRAPH, of.Gat, nodes_only=True),
    "hgnn": Model(HYPER, of.Hgnn, nodes_only=True),
    "allset": Model(HYPER, of.AllSet),
    "unigcn": Model(HYPER, of.UniGcn, nodes_only=True),
    "scn": Model(SIMPLICIAL, of.Scn),
    "san": Model(SIMPLICIAL, of.San),
    "sccn": Model(SIMPLICIAL, of.Sccn),
    "sccnn": Model(SIMPLICIAL, of.SignedSccnn, signed=True),
    "sccnn-unsigned": Model(CELL, of.Sccnn),
    "cwn": Model(CELL, of.Cwn),
    "cccn": Model(CELL, of.Cccn),
    "gccn": Model(("combinatorial",), of.Gccn),
    "mamba": Model(EVERY, nodes_only=True),
}


def model(name: str) -> Model:
    """An entry of :data:`MODELS`.

    Raises:
        ValueError: no such model; the message lists all.
    """
    if name not in MODELS:
        raise ValueError(f"unknown model {name!r}: there are {', '.join(MODELS)}")
    return MODELS[name]


class Network(nn.Module):
    """Encoder of each rank, layers, readout of nodes or graphs.

    The readout brings the mean of each node's cells of every rank down to the node (signal down),
    or sums each rank over its graph. Features of oriented cells are squared first, since a label
    must not depend on the choice of orientation.

    Args:
        name: A model of this module.
        widths: Rank -> width of its features.
        d: Width inside.
        classes: Outputs.
        layers: How many.
        dropout: After the encoder.
        level: ``node`` or ``graph``.
        readout: ``down`` reads every rank, ``none`` the nodes only.

    Raises:
        ValueError: a name that is no network, or an unknown readout.
    """

    def __init__(
        self,
        name: str,
        widths: dict[int, int],
        d: int,
        classes: int,
        *,
        layers: int = 2,
        dropout: float = 0.25,
        level: str = "node",
        readout: str = "down",
    ) -> None:
        super().__init__()
        self.kind = model(name)
        if self.kind.layer is None:
            raise ValueError(f"{name!r} is no Network: use build or run_choice")
        if readout not in ("down", "none"):
            raise ValueError(f"readout must be down or none, got {readout!r}")
        self.level, odd = level, self.kind.signed
        nodes = self.kind.nodes_only or readout == "none"
        self.read = (0,) if nodes else tuple(widths)
        self.encoders = nn.ModuleDict(
            {str(k): nn.Linear(w, d, bias=not (odd and k)) for k, w in widths.items()}
        )
        self.dropout = nn.Dropout(dropout)
        ranks = tuple(widths)
        self.layers = nn.ModuleList(self.kind.layer(d, ranks) for _ in range(layers))
        self.norms = nn.ModuleList(nn.LayerNorm(d) for _ in range(layers))
        self.readout = nn.Linear(d * len(self.read), classes)

    def forward(self, t: Tensors) -> Tensor:
        """Logits of nodes or graphs."""
        x = {k: self.dropout(self.encoders[str(k)](t.x[k])) for k in t.x}
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = {**x, **layer(x, t.m)}
            x[0] = x[0] if self.kind.signed else norm(x[0])
        if self.kind.signed:
            x = {k: v if k == 0 else v * v for k, v in x.items()}
        parts = [self._lowered(x[k], k, t) for k in self.read]
        logits: Tensor = self.readout(torch.cat(parts, dim=1))
        return logits

    def _lowered(self, x: Tensor, k: int, t: Tensors) -> Tensor:
        if self.level == "node":
            return x if k == 0 else t.m[f"lower{k}"] @ x
        graphs = int(t.batch[0][-1]) + 1
        return torch.zeros(graphs, x.shape[1]).index_add(0, t.batch[k], x) / 10


def build(
    name: str, t: Tensors, d: int, classes: int, *, level: str, layers: int, options: dict[str, Any]
) -> nn.Module:
    """A network for these tensors; for ``mamba`` a :class:`SimplicialMamba`.

    Raises:
        ValueError: an unknown model.
    """
    if name == "mamba":
        width = t.x[0].shape[1]
        return Reader(
            SimplicialMamba(width, d, classes, n_layers=layers, task_level=level, **options)
        )
    widths = {k: v.shape[1] for k, v in t.x.items()}
    return Network(name, widths, d, classes, level=level, layers=layers, **options)


class Reader(nn.Module):
    """SimplicialMamba behind the same door."""

    def __init__(self, net: SimplicialMamba) -> None:
        super().__init__()
        self.net = net

    def forward(self, t: Tensors) -> Tensor:
        """Logits."""
        assert t.operators is not None
        out: Tensor = self.net(t.x[0], t.operators, t.batch.get(0))
        return out
