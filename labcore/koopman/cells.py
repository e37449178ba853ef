"""Recurrent graph cells: LSTM and GRU with a sum over neighbours, and GRU with diffusion.

With z = [x, h], every gate of the first two is A_t z W_n + z W_r + b, without normalisation. The
diffusion cell (Li et al., DCRNN, arXiv 1707.01926) reads z, P z .. P^k z and P' z .. P'^k z, with P
the walk along contacts and P' the walk against them. What x brings from neighbours is made for all
steps at once. On a processor torch's tanh costs eight times its sigmoid, and both cost
much more on a slice: so tanh x = 2 σ(2x) - 1, and one σ for all gates.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from labcore.koopman.steps import Steps

HOPS = 2  # of the diffusion cell


class GraphLSTMCell(nn.Module):
    """Gates input, forget, cell, output in this order; c <- f c + i g, h <- o tanh(c)."""

    def __init__(self, in_features: int, hidden: int) -> None:
        super().__init__()
        self.in_features, self.hidden = in_features, hidden
        self.neighbour = nn.Linear(in_features + hidden, 4 * hidden, bias=False)
        self.root = nn.Linear(in_features + hidden, 4 * hidden)

    def forward(self, x: Float[Tensor, "t b n f"], graph: Steps) -> Float[Tensor, "t b n h"]:
        """Hidden states of all steps, from zero states."""
        scale = x.new_ones(4, self.hidden)
        scale[2] = 2  # of the cell gate, whose tanh is a sigmoid here
        gate = _Gate(self.root, self.neighbour, self.in_features, scale.reshape(-1, 1))
        h = c = x.new_zeros(*x.shape[1:3], self.hidden)
        states = []
        for t, seen in enumerate(torch.cat([x, graph.all(x)], dim=-1).unbind(0)):
            i, f_gate, g, o = gate(graph, t, seen, h).sigmoid().chunk(4, dim=-1)
            c = torch.addcmul(f_gate * c - i, i, g, value=2)  # f c + i (2 g - 1)
            h = torch.addcmul(-o, o, (2 * c).sigmoid(), value=2)  # o tanh c
            states.append(h)
        return torch.stack(states)


class GraphGRUCell(nn.Module):
    """Gates reset and update; candidate tanh of [x, r h]; h <- u h + (1 - u) candidate."""

    def __init__(self, in_features: int, hidden: int) -> None:
        super().__init__()
        self.in_features, self.hidden = in_features, hidden
        self.neighbour = nn.Linear(in_features + hidden, 2 * hidden, bias=False)
        self.root = nn.Linear(in_features + hidden, 2 * hidden)
        self.neighbour_candidate = nn.Linear(in_features + hidden, hidden, bias=False)
        self.root_candidate = nn.Linear(in_features + hidden, hidden)

    def forward(self, x: Float[Tensor, "t b n f"], graph: Steps) -> Float[Tensor, "t b n h"]:
        """Hidden states of all steps, from zero states."""
        gates = _Gate(self.root, self.neighbour, self.in_features)
        candidate = _Gate(self.root_candidate, self.neighbour_candidate, self.in_features)
        h = x.new_zeros(*x.shape[1:3], self.hidden)
        states = []
        for t, seen in enumerate(torch.cat([x, graph.all(x)], dim=-1).unbind(0)):
            r, u = gates(graph, t, seen, h).sigmoid().chunk(2, dim=-1)
            new = _tanh(candidate(graph, t, seen, r * h))
            h = u * h + (1 - u) * new
            states.append(h)
        return torch.stack(states)


class DiffusionGRUCell(nn.Module):
    """GRU gates on walks of up to ``HOPS`` steps along and against the contacts."""

    def __init__(self, in_features: int, hidden: int) -> None:
        super().__init__()
        self.in_features, self.hidden = in_features, hidden
        reads = 1 + 2 * HOPS
        self.gates_x = nn.Linear(reads * in_features, 2 * hidden)
        self.gates_h = nn.Linear(reads * hidden, 2 * hidden, bias=False)
        self.candidate_x = nn.Linear(reads * in_features, hidden)
        self.candidate_h = nn.Linear(reads * hidden, hidden, bias=False)

    def forward(self, x: Float[Tensor, "t b n f"], graph: Steps) -> Float[Tensor, "t b n h"]:
        """Hidden states of all steps, from zero states."""
        walks = (graph.walk(), graph.walk(reverse=True))
        reads = [x]
        for walk in walks:
            hop = x
            for _ in range(HOPS):
                hop = walk.all(hop)
                reads.append(hop)
        given = torch.cat(reads, dim=-1)
        gates_x, candidate_x = self.gates_x(given), self.candidate_x(given)
        h = x.new_zeros(*x.shape[1:3], self.hidden)
        states = []
        for t, (gate, candidate) in enumerate(zip(gates_x, candidate_x, strict=True)):
            r, u = (gate + self.gates_h(_diffuse(walks, t, h))).sigmoid().chunk(2, dim=-1)
            new = _tanh(candidate + self.candidate_h(_diffuse(walks, t, r * h)))
            h = u * h + (1 - u) * new
            states.append(h)
        return torch.stack(states)


def _diffuse(walks: tuple[Steps, Steps], t: int, z: Tensor) -> Tensor:
    reads = [z]
    for walk in walks:
        hop = z
        for _ in range(HOPS):
            hop = walk.at(t, hop)
            reads.append(hop)
    return torch.cat(reads, dim=-1)


class _Gate:
    """A_t z W_n + z W_r + b of z = [x, h], with all that needs no neighbours in one product."""

    def __init__(
        self, root: nn.Linear, neighbour: nn.Linear, f: int, scale: Tensor | None = None
    ) -> None:
        factor = root.weight.new_ones(1, 1) if scale is None else scale
        parts = [root.weight[:, :f], neighbour.weight[:, :f], root.weight[:, f:]]
        self.own = torch.cat(parts, dim=1) * factor  # of x, A x, h
        self.bias = root.bias * factor[:, 0]
        self.neighbour = (neighbour.weight[:, f:] * factor).T  # of A h

    def __call__(self, graph: Steps, t: int, seen: Tensor, h: Tensor) -> Tensor:
        start = nn.functional.linear(torch.cat([seen, h], dim=-1), self.own, self.bias)
        return graph.mix(t, start, h, self.neighbour)


def _tanh(x: Tensor) -> Tensor:
    return 2 * (2 * x).sigmoid() - 1


CELLS: dict[str, type[nn.Module]] = {
    "lstm": GraphLSTMCell,
    "gru": GraphGRUCell,
    "diffusion": DiffusionGRUCell,
}
