"""Small, readable networks for every domain, with one way in and one way out.

A model gets :class:`Tensors` (features of each rank, named sparse matrices, the graph of each cell)
and returns the features of each rank; :class:`Network` reads them out. The pipeline knows which
matrices a model reads, so that only these are made. Sources: GCN arXiv 1609.02907, GIN 1810.00826,
GAT 1710.10903, HGNN 1809.09401, AllSet 2106.13264, SCN 2006.15038 in spirit (one Laplacian filter a
rank), SCCNN 2301.11163, CWN 2106.12575, GCCN 2410.06530.
"""

from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from labcore.topology.mamba_model import SimplicialMamba
from labcore.topology.sequences import RankOperators


@dataclass
class Tensors:
    """What a model reads.

    Attributes:
        x: Rank -> features (n_k, d).
        m: Name -> sparse matrix.
        batch: Rank -> graph of each cell, or empty for one graph.
        operators: For SimplicialMamba.
    """

    x: dict[int, Tensor]
    m: dict[str, Tensor] = field(default_factory=dict)
    batch: dict[int, Tensor] = field(default_factory=dict)
    operators: RankOperators | None = None


class Layer(nn.Module):
    """One layer: rank -> features in, rank -> features out."""

    def __init__(self, kind: str, d: int, ranks: tuple[int, ...]) -> None:
        super().__init__()
        self.kind, self.ranks = kind, ranks
        names = {"gcn": ["0"], "gat": ["0"], "hgnn": ["0"], "mlp": ["0"]}.get(kind, [])
        if kind == "gat":
            self.scores = nn.Linear(d, 2, bias=False)
        if kind in ("gin", "allset"):
            names_of = ("0", "1") if kind == "allset" else ("0",)
            self.mlps = nn.ModuleDict({n: _mlp(d) for n in names_of})
            self.eps = nn.Parameter(torch.zeros(1))
        if kind in ("scn", "sccnn", "sccnn-unsigned", "gccn"):
            for k in map(str, ranks):
                names.append(f"self{k}")
                names += [f"down{k}", f"up{k}"]
                names += [] if kind == "scn" else [f"below{k}", f"above{k}"]
        if kind == "cwn":
            self.mlps = nn.ModuleDict({str(k): _mlp(d) for k in ranks})
            names = [f"{way}{k}" for k in ranks for way in ("up", "below")]
        self.maps = nn.ModuleDict({n: nn.Linear(d, d, bias=not _odd(kind)) for n in names})

    def forward(self, x: dict[int, Tensor], t: Tensors) -> dict[int, Tensor]:
        """New features of every rank."""
        return {**x, **getattr(self, f"_{self.kind.split('-')[0]}")(x, t.m)}

    def _mlp(self, x: dict[int, Tensor], m: dict[str, Tensor]) -> dict[int, Tensor]:
        return {0: F.relu(self.maps["0"](x[0]))}

    def _gcn(self, x: dict[int, Tensor], m: dict[str, Tensor]) -> dict[int, Tensor]:
        return {0: F.relu(m["gcn"] @ self.maps["0"](x[0]))}

    def _gin(self, x: dict[int, Tensor], m: dict[str, Tensor]) -> dict[int, Tensor]:
        return {0: F.relu(self.mlps["0"]((1 + self.eps) * x[0] + m["adj"] @ x[0]))}

    def _gat(self, x: dict[int, Tensor], m: dict[str, Tensor]) -> dict[int, Tensor]:
        h, (to, source) = self.maps["0"](x[0]), m["edges"]
        near, far = self.scores(h).T
        score = F.leaky_relu(near[to] + far[source], 0.2)
        weight = torch.exp(score - score.max())
        total = torch.zeros(len(h)).index_add(0, to, weight)
        mixed = torch.zeros_like(h).index_add(0, to, weight[:, None] * h[source])
        return {0: F.relu(mixed / total[:, None])}

    def _hgnn(self, x: dict[int, Tensor], m: dict[str, Tensor]) -> dict[int, Tensor]:
        return {0: F.relu(m["hgnn"] @ self.maps["0"](x[0]))}

    def _allset(self, x: dict[int, Tensor], m: dict[str, Tensor]) -> dict[int, Tensor]:
        edges = self.mlps["0"](m["to_edges"] @ x[0])
        return {0: F.relu(self.mlps["1"](m["to_nodes"] @ edges) + x[0]), 1: edges}

    def _scn(self, x: dict[int, Tensor], m: dict[str, Tensor]) -> dict[int, Tensor]:
        return {k: F.relu(self._within(x, m, k)) for k in self.ranks}

    def _sccnn(self, x: dict[int, Tensor], m: dict[str, Tensor]) -> dict[int, Tensor]:
        out = {}
        for k in self.ranks:
            z = self._within(x, m, k)
            if k - 1 in x:
                z = z + self.maps[f"below{k}"](m[f"b{k}t"] @ x[k - 1])
            if k + 1 in x:
                z = z + self.maps[f"above{k}"](m[f"b{k + 1}"] @ x[k + 1])
            out[k] = torch.tanh(z)  # odd: an edge turned round only changes its sign
        return out

    _gccn = _sccnn

    def _within(self, x: dict[int, Tensor], m: dict[str, Tensor], k: int) -> Tensor:
        z: Tensor = self.maps[f"self{k}"](x[k])
        for way in ("down", "up"):
            if f"{way}{k}" in m:
                z = z + self.maps[f"{way}{k}"](m[f"{way}{k}"] @ x[k])
        return z

    def _cwn(self, x: dict[int, Tensor], m: dict[str, Tensor]) -> dict[int, Tensor]:
        out = {}
        for k in self.ranks:
            z = x[k]
            if f"adj{k}" in m:
                z = z + self.maps[f"up{k}"](m[f"adj{k}"] @ x[k])
            if k - 1 in x:
                z = z + self.maps[f"below{k}"](m[f"b{k}t"] @ x[k - 1])
            out[k] = F.relu(self.mlps[str(k)](z))
        return out


def _odd(kind: str) -> bool:
    return kind == "sccnn"  # a bias would not turn with an edge


def _mlp(d: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(d, d), nn.ReLU(), nn.Linear(d, d))


MODELS: dict[str, tuple[str, ...]] = {  # model -> domains it reads
    "majority": ("graph",),
    "counts": ("graph", "simplicial", "cell"),
    "mlp": ("graph",),
    "gcn": ("graph",),
    "gin": ("graph",),
    "gat": ("graph",),
    "hgnn": ("hypergraph",),
    "allset": ("hypergraph",),
    "scn": ("simplicial",),
    "sccnn": ("simplicial",),
    "sccnn-unsigned": ("simplicial", "cell"),
    "cwn": ("cell", "simplicial"),
    "gccn": ("combinatorial",),
    "mamba": ("graph", "simplicial", "cell", "hypergraph", "combinatorial"),
}


class Network(nn.Module):
    """Encoder of each rank, layers, readout of nodes or graphs.

    The readout brings the mean of each node's cells of every rank down to the node (signal down),
    or sums each rank over its graph. Features of oriented cells are squared first by ``sccnn``,
    since a label must not depend on the choice of orientation.
    """

    def __init__(
        self,
        model: str,
        widths: dict[int, int],
        d: int,
        classes: int,
        *,
        layers: int = 2,
        dropout: float = 0.25,
        level: str = "node",
    ) -> None:
        super().__init__()
        if model not in MODELS or model in ("majority", "mamba"):
            raise ValueError(f"no Network called {model!r}: models are {', '.join(MODELS)}")
        self.model, self.level = model, level
        self.read = (0,) if model in ("mlp", "gcn", "gin", "gat", "hgnn") else tuple(widths)
        odd = model == "sccnn"
        self.encoders = nn.ModuleDict(
            {str(k): nn.Linear(w, d, bias=not (odd and k)) for k, w in widths.items()}
        )
        self.dropout = nn.Dropout(dropout)
        kind = "mlp" if model == "counts" else model
        self.layers = nn.ModuleList(Layer(kind, d, tuple(widths)) for _ in range(layers))
        self.norms = nn.ModuleList(nn.LayerNorm(d) for _ in range(layers))
        self.readout = nn.Linear(d * len(self.read), classes)

    def forward(self, t: Tensors) -> Tensor:
        """Logits of nodes or graphs."""
        x = {k: self.dropout(self.encoders[str(k)](t.x[k])) for k in t.x}
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = layer(x, t)
            x[0] = norm(x[0]) if self.model != "sccnn" else x[0]
        if self.model == "sccnn":
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
    model: str, t: Tensors, d: int, classes: int, *, level: str, options: dict[str, Any]
) -> nn.Module:
    """A network for these tensors; for ``mamba`` a :class:`SimplicialMamba`.

    Raises:
        ValueError: an unknown model.
    """
    if model not in MODELS:
        raise ValueError(f"unknown model {model!r}: there are {', '.join(MODELS)}")
    if model == "mamba":
        return Reader(SimplicialMamba(t.x[0].shape[1], d, classes, task_level=level, **options))
    widths = {k: v.shape[1] for k, v in t.x.items()}
    return Network(model, widths, d, classes, level=level, **options)


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
