"""One layer of each network, by domain: rank -> features in, rank -> features out.

Every class says in ``needs`` which families of matrices it reads (see :mod:`.matrices`), so that
the pipeline makes only these; a matrix of rank k is called ``family + k``. Where a rank has no
cells above or below, its matrix is missing and the message with it.
"""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Features = dict[int, Tensor]
Matrices = dict[str, Tensor]


def mlp(d: int) -> nn.Sequential:
    """Two linear maps with a ReLU between them."""
    return nn.Sequential(nn.Linear(d, d), nn.ReLU(), nn.Linear(d, d))


def attend(h: Tensor, scores: Tensor, pairs: Tensor) -> Tensor:
    """Neighbours' features weighed by a softmax of learned scores (GAT, arXiv 1710.10903).

    Args:
        h: Features (n, d).
        scores: Two numbers a cell, as hearer and as heard, (n, 2).
        pairs: Who hears whom, (2, e).
    """
    to, source = pairs
    score = F.leaky_relu(scores[to, 0] + scores[source, 1], 0.2)
    weight = torch.exp(score - score.max())
    total = torch.zeros(len(h)).index_add(0, to, weight)
    mixed = torch.zeros_like(h).index_add(0, to, weight[:, None] * h[source])
    return mixed / total.clamp_min(1e-12)[:, None]


class Layer(nn.Module):
    """What all layers share: a linear map for each name."""

    needs: ClassVar[tuple[str, ...]] = ()
    names: ClassVar[tuple[str, ...]] = ("self",)
    bias: ClassVar[bool] = True

    def __init__(self, d: int, ranks: tuple[int, ...]) -> None:
        super().__init__()
        self.ranks = ranks
        wanted = [f"{name}{k}" for k in ranks for name in self.names]
        self.maps = nn.ModuleDict({name: nn.Linear(d, d, bias=self.bias) for name in wanted})

    def heard(self, name: str, k: int, x: Features, m: Matrices, source: int) -> Tensor | float:
        """``M X W`` for the family ``name``, or 0 where there is nothing to hear."""
        if f"{name}{k}" not in m or source not in x:
            return 0.0
        out: Tensor = self.maps[f"{name}{k}"](m[f"{name}{k}"] @ x[source])
        return out


class Mlp(Layer):
    """Each node by itself."""

    def forward(self, x: Features, m: Matrices) -> Features:
        """New node features."""
        return {0: F.relu(self.maps["self0"](x[0]))}


class Gcn(Layer):
    """Graph convolution (arXiv 1609.02907)."""

    needs = ("gcn",)

    def forward(self, x: Features, m: Matrices) -> Features:
        """New node features."""
        return {0: F.relu(m["gcn"] @ self.maps["self0"](x[0]))}


class Gin(Layer):
    """Graph isomorphism network (arXiv 1810.00826)."""

    needs = ("adj",)
    names = ()

    def __init__(self, d: int, ranks: tuple[int, ...]) -> None:
        super().__init__(d, ranks)
        self.mlp, self.eps = mlp(d), nn.Parameter(torch.zeros(1))

    def forward(self, x: Features, m: Matrices) -> Features:
        """New node features."""
        return {0: F.relu(self.mlp((1 + self.eps) * x[0] + m["adj"] @ x[0]))}


class Gat(Layer):
    """Graph attention, one head (arXiv 1710.10903)."""

    needs = ("edges",)

    def __init__(self, d: int, ranks: tuple[int, ...]) -> None:
        super().__init__(d, ranks)
        self.scores = nn.Linear(d, 2, bias=False)

    def forward(self, x: Features, m: Matrices) -> Features:
        """New node features."""
        h = self.maps["self0"](x[0])
        return {0: F.relu(attend(h, self.scores(h), m["edges"]))}


class Hgnn(Layer):
    """Hypergraph convolution ``D_v^-1/2 H D_e^-1 H^T D_v^-1/2`` (arXiv 1809.09401)."""

    needs = ("hgnn",)

    def forward(self, x: Features, m: Matrices) -> Features:
        """New node features."""
        return {0: F.relu(m["hgnn"] @ self.maps["self0"](x[0]))}


class AllSet(Layer):
    """Two set functions, nodes to hyperedges and back (arXiv 2106.13264)."""

    needs = ("to_edges", "to_nodes")
    names = ()

    def __init__(self, d: int, ranks: tuple[int, ...]) -> None:
        super().__init__(d, ranks)
        self.up, self.down = mlp(d), mlp(d)

    def forward(self, x: Features, m: Matrices) -> Features:
        """New features of nodes and hyperedges."""
        edges = self.up(m["to_edges"] @ x[0]) + x[1]
        return {0: F.relu(self.down(m["to_nodes"] @ edges) + x[0]), 1: edges}


class UniGcn(Layer):
    """UniGCN: hyperedge means, weighed by degrees of node and hyperedge (arXiv 2105.00956)."""

    needs = ("to_edges", "uni")

    def forward(self, x: Features, m: Matrices) -> Features:
        """New node features."""
        return {0: F.relu(m["uni"] @ self.maps["self0"](m["to_edges"] @ x[0]))}


class Scn(Layer):
    """One filter of the two Laplacians a rank; ranks do not speak (arXiv 2010.03633)."""

    needs: ClassVar[tuple[str, ...]] = ("down", "up")
    names: ClassVar[tuple[str, ...]] = ("self", "down", "up")

    def within(self, x: Features, m: Matrices, k: int) -> Tensor:
        """``X W + L_down X W' + L_up X W''``."""
        z: Tensor = self.maps[f"self{k}"](x[k])
        return z + self.heard("down", k, x, m, k) + self.heard("up", k, x, m, k)

    def forward(self, x: Features, m: Matrices) -> Features:
        """New features of every rank."""
        return {k: F.relu(self.within(x, m, k)) for k in self.ranks}


class Sccnn(Scn):
    """Within a rank by both Laplacians, and from the ranks below and above (arXiv 2301.11163)."""

    needs = ("down", "up", "below", "above")
    names = ("self", "down", "up", "below", "above")

    def forward(self, x: Features, m: Matrices) -> Features:
        """New features of every rank."""
        return {k: torch.tanh(self.mixed(x, m, k)) for k in self.ranks}

    def mixed(self, x: Features, m: Matrices, k: int) -> Tensor:
        """All five messages of a rank added."""
        around = self.heard("below", k, x, m, k - 1) + self.heard("above", k, x, m, k + 1)
        return self.within(x, m, k) + around


class SignedSccnn(Sccnn):
    """The same without biases: turning a cell round only changes the sign of its features."""

    bias = False


class Sccn(Sccnn):
    """Messages of three ranks added, then ReLU (SCCN; Yang, Sala, Bogdan, LoG 2022)."""

    def forward(self, x: Features, m: Matrices) -> Features:
        """New features of every rank."""
        return {k: F.relu(self.mixed(x, m, k)) for k in self.ranks}


class San(Layer):
    """Attention over lower and upper neighbours, and a harmonic part (arXiv 2203.07485)."""

    needs = ("pairs_down", "pairs_up", "hodge")
    names = ("self", "down", "up", "hodge")
    powers: ClassVar[int] = 4

    def __init__(self, d: int, ranks: tuple[int, ...]) -> None:
        super().__init__(d, ranks)
        ways = [f"{way}{k}" for k in ranks for way in ("down", "up")]
        self.scores = nn.ModuleDict({way: nn.Linear(d, 2, bias=False) for way in ways})

    def forward(self, x: Features, m: Matrices) -> Features:
        """New features of every rank."""
        out = {}
        for k in self.ranks:
            z = self.maps[f"self{k}"](x[k])
            for way in ("down", "up"):
                if f"pairs_{way}{k}" in m:
                    h = self.maps[f"{way}{k}"](x[k])
                    z = z + attend(h, self.scores[f"{way}{k}"](h), m[f"pairs_{way}{k}"])
            flat = x[k]
            for _ in range(self.powers):  # (I - L / bound)^p: towards the kernel of L
                flat = flat - m[f"hodge{k}"] @ flat
            out[k] = F.relu(z + self.maps[f"hodge{k}"](flat))
        return out


class Cwn(Layer):
    """Upper neighbours and boundary, then an MLP (arXiv 2106.12575)."""

    needs = ("adjacent", "below")
    names = ("adjacent", "below")

    def __init__(self, d: int, ranks: tuple[int, ...]) -> None:
        super().__init__(d, ranks)
        self.mlps = nn.ModuleDict({str(k): mlp(d) for k in ranks})

    def forward(self, x: Features, m: Matrices) -> Features:
        """New features of every rank."""
        out = {}
        for k in self.ranks:
            z = x[k] + self.heard("adjacent", k, x, m, k) + self.heard("below", k, x, m, k - 1)
            out[k] = F.relu(self.mlps[str(k)](z))
        return out


class Cccn(Layer):
    """Convolution over lower and upper neighbours, 0/1, each rank by itself (CCCN)."""

    needs = ("adjacent", "coadjacent")
    names = ("self", "adjacent", "coadjacent")

    def forward(self, x: Features, m: Matrices) -> Features:
        """New features of every rank."""
        out = {}
        for k in self.ranks:
            z = self.maps[f"self{k}"](x[k])
            z = z + self.heard("adjacent", k, x, m, k) + self.heard("coadjacent", k, x, m, k)
            out[k] = F.relu(z)
        return out


class Gccn(Sccnn):
    """One small network for each neighbourhood, summed a rank (arXiv 2410.06530)."""

    def forward(self, x: Features, m: Matrices) -> Features:
        """New features of every rank."""
        return {k: F.relu(self.mixed(x, m, k)) + x[k] for k in self.ranks}
