"""Checks of notebook B12: graph models (chapter 12 of arXiv 2404.17625)."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from labcore.blocks import graph
from labcore.course.checking import EXACT, Wrong, register

Rng = np.random.Generator
PATH = torch.tensor([[0.0, 1, 0], [1, 0, 1], [0, 1, 0]]).double()  # 0 - 1 - 2


def _draw_graph(rng: Rng, n: int | None = None) -> Tensor:
    """A connected graph: a path with more edges drawn."""
    n = n or int(rng.integers(5, 12))
    a = (torch.from_numpy(rng.random((n, n))) < 0.3).double().triu(1)
    a[torch.arange(n - 1), torch.arange(1, n)] = 1
    return a + a.T


def _normal(rng: Rng, *shape: int) -> Tensor:
    return torch.from_numpy(rng.standard_normal(shape))


# B12.1: the quadratic form of the Laplacian


def edge_energy(a: Tensor, x: Tensor) -> float:
    """Reference of B12.1: sum over edges of the squared difference of the ends."""
    return float(graph.dirichlet(graph.laplacian(a), x))


def _pairs(a: Tensor, x: Tensor, power: int) -> float:
    return float((a * (x[:, None] - x[None]).abs() ** power).sum())


register(
    "B12.1",
    reference=edge_energy,
    cases=(
        (PATH, torch.tensor([0.0, 2, 5]).double()),
        lambda rng: ((a := _draw_graph(rng)), _normal(rng, len(a))),
    ),
    wrong=(
        Wrong(
            "double counting",
            lambda a, x: _pairs(a, x, 2),
            "twice too much: the sum over all (i, j) meets every undirected edge two times",
        ),
        Wrong(
            "absolute differences",
            lambda a, x: _pairs(a, x, 1) / 2,
            "square the differences; absolute values are another energy (total variation)",
        ),
        Wrong(
            "A instead of L",
            lambda a, x: float(x @ a @ x),
            "that is x^T A x: the Laplacian is D - A, with the degrees on its diagonal",
        ),
    ),
)


# B12.2: the largest stable step


def largest_step(a: Tensor) -> float:
    """Reference of B12.2: 2 over the largest eigenvalue of the Laplacian."""
    return 2 / float(torch.linalg.eigvalsh(graph.laplacian(a))[-1])


register(
    "B12.2",
    reference=largest_step,
    cases=((PATH,), lambda rng: (_draw_graph(rng),)),
    wrong=(
        Wrong(
            "too large: the second eigenvalue",
            lambda a: 2 / float(torch.linalg.eigvalsh(graph.laplacian(a))[1]),
            "with this step the fastest mode grows: it is the LARGEST eigenvalue that must stay "
            "inside, |1 - step * lambda| < 1",
        ),
        Wrong(
            "one over",
            lambda a: largest_step(a) / 2,
            "stable, but only half of what is allowed: 1 - step * lambda may go down to -1",
        ),
        Wrong(
            "eigenvalue of A",
            lambda a: 2 / float(torch.linalg.eigvalsh(a)[-1]),
            "these are the eigenvalues of A; the update multiplies by I - step * L",
        ),
    ),
)


# B12.3: a graph convolution


def convolve(a: Tensor, x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    """Reference of B12.3: self-loops, symmetric normalisation, map, bias."""
    return graph.gcn_layer(graph.normalised(a), x, w, b)


def _with(**options: Any) -> Callable[..., Tensor]:
    def wrong(a: Tensor, x: Tensor, w: Tensor, b: Tensor) -> Tensor:
        return graph.gcn_layer(graph.normalised(a, **options), x, w, b)

    return wrong


def _draw_layer(rng: Rng) -> tuple[Tensor, ...]:
    a = _draw_graph(rng)
    return a, _normal(rng, len(a), 4), _normal(rng, 4, 3), _normal(rng, 3)


register(
    "B12.3",
    reference=convolve,
    cases=(_draw_layer, _draw_layer),
    points=2,
    wrong=(
        Wrong(
            "no self-loops",
            _with(self_loops=False),
            "a node does not hear itself: add the identity BEFORE the degrees are taken",
        ),
        Wrong(
            "rows only",
            _with(kind="row"),
            "every row is divided by its own degree: divide by sqrt(d_i) and by sqrt(d_j)",
        ),
        Wrong(
            "degrees without the loop",
            lambda a, x, w, b: _degrees_before(a) @ x @ w + b,
            "the degrees must count the self-loop too: take them from A + I",
        ),
        Wrong(
            "bias mixed",
            lambda a, x, w, b: graph.normalised(a) @ (x @ w + b),
            "the bias goes through the mix: add it after S has been applied",
        ),
    ),
)


def _degrees_before(a: Tensor) -> Tensor:
    root = a.sum(-1).rsqrt()
    return root[:, None] * (a + torch.eye(len(a), dtype=a.dtype)) * root


# B12.4: does a layer follow a renumbering?


def equivariance_gap(
    layer: Callable[[Tensor, Tensor], Tensor], a: Tensor, x: Tensor, order: Tensor
) -> float:
    """Reference of B12.4: gap of "renumber, then layer" and "layer, then renumber"."""
    before = layer(a[order][:, order], x[order])
    return float((before - layer(a, x)[order]).abs().max())


def _mix(a: Tensor, x: Tensor) -> Tensor:
    return graph.normalised(a) @ x


def _numbered(a: Tensor, x: Tensor) -> Tensor:
    return graph.normalised(a) @ x + torch.arange(len(x)).double()[:, None]


def _first_heard(a: Tensor, x: Tensor) -> Tensor:
    return a @ x + 0.3 * x[:1]


def _draw_gap(layer: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Rng], tuple[Any, ...]]:
    def draw(rng: Rng) -> tuple[Any, ...]:
        a = _draw_graph(rng)
        order = torch.from_numpy(rng.permutation(len(a)))
        return layer, a, _normal(rng, len(a), 3), torch.roll(order, 1)

    return draw


register(
    "B12.4",
    reference=equivariance_gap,
    cases=tuple(_draw_gap(layer) for layer in (_mix, _numbered, _first_heard)),
    wrong=(
        Wrong(
            "rows of A only",
            lambda layer, a, x, order: float(
                (layer(a[order], x[order]) - layer(a, x)[order]).abs().max()
            ),
            "a renumbered adjacency has its rows AND its columns permuted",
        ),
        Wrong(
            "output left in place",
            lambda layer, a, x, order: float(
                (layer(a[order][:, order], x[order]) - layer(a, x)).abs().max()
            ),
            "that asks for invariance: compare with the renumbered output",
        ),
    ),
)


# B12.5: return probabilities


def return_probabilities(a: Tensor, k: int) -> Tensor:
    """Reference of B12.5: (n, k), probability to be back after 1..k steps."""
    return graph.random_walk_embedding(a, k)


def _diagonals(walk: Tensor, k: int) -> Tensor:
    powers = [torch.linalg.matrix_power(walk, i + 1).diagonal() for i in range(k)]
    return torch.stack(powers, 1)


register(
    "B12.5",
    reference=return_probabilities,
    cases=((PATH, 3), lambda rng: (_draw_graph(rng), int(rng.integers(3, 6)))),
    wrong=(
        Wrong(
            "walks counted",
            _diagonals,
            "these are numbers of closed walks: divide every row by its degree first",
        ),
        Wrong(
            "lazy walk",
            lambda a, k: _diagonals(graph.normalised(a, kind="row"), k),
            "the walker never stays where it is: no self-loops here",
        ),
        Wrong(
            "steps from 0",
            lambda a, k: torch.cat((torch.ones(len(a), 1).double(),
                                    graph.random_walk_embedding(a, k)[:, :-1]), 1),
            "column 0 is the walk of ONE step; the walk of no step is always back",
        ),
    ),
)  # fmt: skip


# B12.6: many graphs as one


def batch_edges(edges: list[Tensor], sizes: list[int]) -> tuple[Tensor, Tensor]:
    """Reference of B12.6: all edges with shifted numbers (2, e), and each node's graph (n,)."""
    starts = np.cumsum([0, *sizes[:-1]])
    moved = [e + int(start) for e, start in zip(edges, starts, strict=True)]
    return torch.cat(moved, 1), torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))


def _shifted(starts: Callable[[list[Tensor], list[int]], Any]) -> Callable[..., Any]:
    def wrong(edges: list[Tensor], sizes: list[int]) -> tuple[Tensor, Tensor]:
        moved = [e + int(s) for e, s in zip(edges, starts(edges, sizes), strict=True)]
        return torch.cat(moved, 1), batch_edges(edges, sizes)[1]

    return wrong


def _draw_edges(rng: Rng) -> tuple[list[Tensor], list[int]]:
    sizes = [int(n) for n in rng.integers(3, 8, size=3)]
    return [_draw_graph(rng, n).nonzero().T.contiguous() for n in sizes], sizes


register(
    "B12.6",
    reference=batch_edges,
    cases=(_draw_edges, _draw_edges),
    tolerance=EXACT,
    wrong=(
        Wrong(
            "no shift",
            _shifted(lambda edges, sizes: [0] * len(sizes)),
            "all graphs use the numbers 0, 1, ...: they lie on top of each other",
        ),
        Wrong(
            "shift by edges",
            _shifted(lambda edges, sizes: np.cumsum([0, *[e.shape[1] for e in edges[:-1]]])),
            "shift by the number of NODES before, not of edges",
        ),
        Wrong(
            "shift includes itself",
            _shifted(lambda edges, sizes: np.cumsum(sizes)),
            "the first graph keeps its numbers: its shift is 0",
        ),
    ),
)
