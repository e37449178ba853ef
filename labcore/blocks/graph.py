"""Graphs as matrices, and the layers that respect them (chapter 12 of the book).

Graphs here are small enough for a dense adjacency matrix, on which every definition is one line. A
graph may also be given as an edge index ``(2, e)`` of (from, to) pairs; :func:`adjacency` turns it
into a matrix. Row i of ``A`` says whom node i hears: ``A[i, j]`` is the weight of the edge from j
to i.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

KINDS = ("sym", "row", "col")


def adjacency(edges: Int[Tensor, "..."], n: int, *, directed: bool = False) -> Float[Tensor, "n n"]:
    """The matrix of an edge list (2, e): ``A[to, from] = 1``, and its mirror unless ``directed``.

    Raises:
        ValueError: Edges of another shape, a node number outside 0..n - 1.

    >>> adjacency(torch.tensor([[0, 1], [1, 2]]), 3).tolist()
    [[0.0, 1.0, 0.0], [1.0, 0.0, 1.0], [0.0, 1.0, 0.0]]
    """
    if edges.ndim != 2 or len(edges) != 2:
        raise ValueError(f"edges must be (2, e), a column an edge, got {tuple(edges.shape)}")
    if edges.numel() and not (int(edges.min()) >= 0 and int(edges.max()) < n):
        raise ValueError(
            f"edges name nodes {int(edges.min())}..{int(edges.max())}, n={n} allows 0..{n - 1}"
        )
    matrix = torch.zeros(n, n)
    matrix[edges[1], edges[0]] = 1.0
    if not directed:
        matrix[edges[0], edges[1]] = 1.0
    return matrix


def degree(a: Float[Tensor, "..."]) -> Float[Tensor, " n"]:
    """Sum of each row: how many neighbours a node hears (weighted).

    Raises:
        ValueError: The matrix is not square.
    """
    return _square(a).sum(-1)


def laplacian(a: Float[Tensor, "..."], *, directed: bool = False) -> Float[Tensor, "n n"]:
    """``L = D - A``; ``x^T L x`` is the sum over edges of ``A_ij (x_i - x_j)^2`` (section 12.1).

    Raises:
        ValueError: Not square, or not symmetric without ``directed``.

    >>> laplacian(torch.tensor([[0.0, 1.0], [1.0, 0.0]])).tolist()
    [[1.0, -1.0], [-1.0, 1.0]]
    """
    a = _square(a)
    if not directed:
        gap = (a - a.mT).abs()
        if gap.numel() and float(gap.max()) > 1e-12:
            i, j = divmod(int(gap.argmax()), len(a))
            raise ValueError(
                f"the adjacency is not symmetric: entry ({i}, {j}) is {a[i, j]:.3g}, ({j}, {i}) is "
                f"{a[j, i]:.3g}; pass directed=True if that is meant"
            )
    return degree(a).diag() - a


def normalised(
    a: Float[Tensor, "..."], *, kind: str = "sym", self_loops: bool = True
) -> Float[Tensor, "n n"]:
    """An adjacency whose weights are divided by degrees.

    ``sym`` is ``D^-1/2 A D^-1/2`` (Kipf and Welling, arXiv 1609.02907), ``row`` is ``D^-1 A`` (an
    average over neighbours), ``col`` is ``A D^-1`` (a random walk's step on distributions). Nodes
    without an edge stay zero.

    Args:
        a: Adjacency matrix.
        kind: ``sym``, ``row`` or ``col``.
        self_loops: Add the identity first, so that a node also hears itself.

    Raises:
        ValueError: Not square, negative weights, unknown kind.
    """
    a = _square(a)
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {kind!r}")
    if a.numel() and float(a.min()) < 0:
        raise ValueError(f"weights must not be negative, the least is {float(a.min()):.3g}")
    if self_loops:
        a = a + torch.eye(len(a), dtype=a.dtype, device=a.device)
    if kind == "col":
        return normalised(a.mT, kind="row", self_loops=False).mT
    d = degree(a)
    if kind == "row":
        return a * _inverse(d)[:, None]
    root = _inverse(d).sqrt()
    return root[:, None] * a * root


def diffuse(
    lap: Float[Tensor, "..."], x: Float[Tensor, "n ..."], *, step: float, n: int
) -> Float[Tensor, "steps n ..."]:
    """The states of ``x <- x - step L x``, the first included.

    On a connected graph with symmetric L they converge to the mean if and only if
    ``0 < step < 2 / lambda_max(L)``. Source: section 12.1.

    Raises:
        ValueError: L is not square or of another size than x; a negative number of steps.
    """
    lap = _square(lap)
    if len(lap) != len(x):
        raise ValueError(f"the Laplacian has {len(lap)} nodes, x has {len(x)} rows")
    if n < 0:
        raise ValueError(f"n must be at least 0 steps, got {n}")
    states = [x]
    for _ in range(n):
        states.append(states[-1] - step * (lap @ states[-1]))
    return torch.stack(states)


def dirichlet(lap: Float[Tensor, "..."], x: Float[Tensor, "n ..."]) -> Float[Tensor, "..."]:
    """``x^T L x`` of each column: how much the values differ across edges.

    Raises:
        ValueError: Not square, or of another number of nodes than ``x`` has rows.

    >>> float(dirichlet(laplacian(torch.ones(2, 2) - torch.eye(2)), torch.tensor([3.0, 1.0])))
    4.0
    """
    _same_nodes(lap, x)
    return torch.einsum("n...,nm,m...->...", x, lap, x)


def gcn_layer(
    s: Float[Tensor, "..."],
    x: Float[Tensor, "..."],
    weight: Float[Tensor, "..."],
    bias: Float[Tensor, "..."] | None = None,
) -> Float[Tensor, "... n e"]:
    """Graph convolution ``S X W + b``: a map of each node, a mix along the edges (section 12.2).

    Leading axes of features and weights are several layers, or several signals, side by side.

    Args:
        s: Normalised adjacency (n, n).
        x: Node features (..., n, d).
        weight: Linear map (..., d, e).
        bias: Added to each node (..., e).

    Raises:
        ValueError: Numbers of nodes or widths that do not fit.
    """
    if x.ndim < 2 or x.shape[-2] != len(_square(s)):
        raise ValueError(f"s has {len(s)} nodes, x of shape {tuple(x.shape)} needs as many rows")
    _fitting(x, weight)
    mixed = s @ (x @ weight)
    return mixed if bias is None else mixed + bias


def gat_layer(
    mask: Bool[Tensor, "..."],
    x: Float[Tensor, "n d"],
    weight: Float[Tensor, "..."],
    source: Float[Tensor, "..."],
    target: Float[Tensor, "..."],
    *,
    slope: float = 0.2,
    return_weights: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """Graph attention, one head: neighbours are weighed by a softmax of learned scores.

    With ``h = X W`` node i gives neighbour j the score ``leaky_relu(target . h_i + source . h_j)``.
    Source: Velickovic et al., arXiv 1710.10903; section 12.3.

    Args:
        mask: Whom each node hears (n, n); include the diagonal for self-loops.
        x: Node features.
        weight: Linear map (d, e).
        source: Half of the score that the neighbour gives (e).
        target: Half of the score that the hearing node gives (e).
        slope: Of the leaky ReLU.
        return_weights: Also return the weights (n, n).

    Raises:
        ValueError: A node that hears nobody, numbers of nodes or widths that do not fit.
    """
    _same_nodes(mask, x)
    _fitting(x, weight)
    if source.shape != weight.shape[1:] or target.shape != weight.shape[1:]:
        raise ValueError(
            f"source and target must have the width {weight.shape[1]} of the mapped features, got "
            f"shapes {tuple(source.shape)} and {tuple(target.shape)}"
        )
    lonely = ~mask.any(-1)
    if bool(lonely.any()):
        raise ValueError(f"node {int(lonely.int().argmax())} hears nobody: add self-loops to mask")
    h = x @ weight
    scores = F.leaky_relu((h @ target)[:, None] + (h @ source)[None], slope)
    weights = scores.masked_fill(~mask, -torch.inf).softmax(-1)
    return (weights @ h, weights) if return_weights else weights @ h


def random_walk_embedding(a: Float[Tensor, "n n"], k: int) -> Float[Tensor, "n k"]:
    """Probability that a random walk is back at its start after 1..k steps (section 12.3).

    Raises:
        ValueError: ``k`` is not positive.
    """
    if k < 1:
        raise ValueError(f"k must be at least 1 step, got {k}")
    walk = normalised(a, kind="row", self_loops=False)
    powers, columns = torch.eye(len(a), dtype=a.dtype, device=a.device), []
    for _ in range(k):
        powers = powers @ walk
        columns.append(powers.diagonal())
    return torch.stack(columns, 1)


@dataclass(frozen=True)
class GraphBatch:
    """Several graphs as one that has no edge between them.

    Attributes:
        adjacency: Block-diagonal (n, n), n nodes in all.
        x: Node features (n, d).
        graph: Which graph each node belongs to (n,).
    """

    adjacency: Float[Tensor, "n n"]
    x: Float[Tensor, "n d"]
    graph: Int[Tensor, " n"]

    def mean(self, x: Float[Tensor, "n e"]) -> Float[Tensor, "g e"]:
        """Mean over the nodes of each graph."""
        count = self.graph.bincount()
        total = torch.zeros(len(count), x.shape[1], dtype=x.dtype, device=x.device)
        return total.index_add(0, self.graph, x) / count[:, None]


def batch_graphs(graphs: Sequence[tuple[Tensor, Tensor]]) -> GraphBatch:
    """Put (adjacency, features) pairs side by side (section 12.2).

    Raises:
        ValueError: No graph, or a graph whose features and adjacency differ in size.
    """
    if not graphs:
        raise ValueError("graphs is empty: give at least one (adjacency, features) pair")
    for number, (a, x) in enumerate(graphs):
        if len(_square(a)) != len(x):
            raise ValueError(f"graph {number} has {len(a)} nodes and {len(x)} rows of features")
    sizes = torch.tensor([len(x) for _, x in graphs])
    return GraphBatch(
        torch.block_diag(*(a for a, _ in graphs)),
        torch.cat([x for _, x in graphs]),
        torch.arange(len(graphs)).repeat_interleave(sizes),
    )


def _fitting(x: Tensor, weight: Tensor) -> None:
    if weight.ndim < 2 or x.shape[-1] != weight.shape[-2]:
        raise ValueError(f"x has {x.shape[-1]} features, weight of shape {tuple(weight.shape)} "
                         "needs as many rows")  # fmt: skip


def _same_nodes(a: Tensor, x: Tensor) -> None:
    if len(_square(a)) != len(x):
        raise ValueError(f"the matrix has {len(a)} nodes, x has {len(x)} rows")


def _square(a: Shaped[Tensor, "..."]) -> Tensor:
    if a.ndim != 2 or a.shape[0] != a.shape[1]:
        raise ValueError(f"a square matrix (n, n) is wanted, got shape {tuple(a.shape)}")
    return a


def _inverse(d: Tensor) -> Tensor:
    """1 / d, and 0 where d is 0."""
    return torch.where(d > 0, 1 / d.where(d > 0, torch.ones_like(d)), torch.zeros_like(d))
