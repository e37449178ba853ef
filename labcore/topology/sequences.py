"""From a complex to one short sequence a node (arXiv 2409.12033, section on sequences).

Token of node v for rank r: the sum, over the r-simplices that contain v, of the sums of their
nodes' features. With the membership matrix S_r that is ``P_r X``, ``P_r = S_r S_r^T``. Highest rank
first, the node itself last. ``P_1`` is adjacency plus degrees; the diagonal of ``P_r`` counts the
r-simplices at a node.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from labcore.topology.chains import as_torch

LIFTINGS = ("sum", "mean", "mean_of_cells")
Matrices = dict[int, tuple[Tensor, ...]]


@dataclass
class RankOperators:
    """Token matrices of a complex.

    Attributes:
        n: Number of nodes.
        ranks: Ranks from 1 on that have cells, descending.
        form: For each rank whether ``P`` (one matrix) or ``S`` (two) is stored.
        matrices: The stored tensors.
        memberships: ``S_r`` in scipy, for mini-batches and brute-force checks.
    """

    n: int
    ranks: tuple[int, ...]
    form: dict[int, str]
    matrices: Matrices
    memberships: dict[int, sparse.csr_array]
    normalize: str | None = None

    def apply(self, x: Tensor) -> Tensor:
        """Tokens of every node, (n, ranks + 1, d); the node itself last.

        Raises:
            ValueError: ``x`` has not n rows.
        """
        if len(x) != self.n:
            raise ValueError(f"x has {len(x)} rows, the operators are of {self.n} nodes")
        tokens = []
        for rank in self.ranks:
            token = x
            for matrix in self.matrices[rank]:
                token = matrix @ token
            tokens.append(token)
        return torch.stack([*tokens, x], dim=1)

    def counts(self) -> Tensor:
        """How many cells of each rank hold each node, (n, ranks): the diagonals of ``P_r``."""
        columns = [np.asarray(self.memberships[r].sum(axis=1)).ravel() for r in self.ranks]
        if not columns:
            return torch.zeros(self.n, 0)
        return torch.from_numpy(np.stack(columns, axis=1).astype(np.float32))

    @property
    def nbytes(self) -> int:
        """Bytes of the stored matrices."""
        held = [m for pair in self.matrices.values() for m in pair]
        return sum(
            part.numel() * part.element_size()
            for m in held
            for part in (m.values(), m.crow_indices(), m.col_indices())
        )

    def restricted(self, nodes: np.ndarray) -> "RankOperators":
        """The rows of some nodes and the cells that hold at least one of them."""
        kept = {}
        for rank in self.ranks:
            part = self.memberships[rank][nodes]
            used = np.flatnonzero(np.asarray(part.sum(axis=0)).ravel())
            kept[rank] = sparse.csr_array(part[:, used])
        return _operators(len(nodes), self.ranks, kept, self.normalize, "auto")


def rank_operators(
    complex_: Any,
    ranks: Literal["all"] | Sequence[int] = "all",
    *,
    normalize: str | None = None,
    form: str = "auto",
) -> RankOperators:
    """The operators of a complex, made once for all layers and epochs.

    Args:
        complex_: Anything with ``n``, ``dim`` and ``membership(k)``.
        ranks: Which ranks from 1 on; those without a cell are skipped.
        normalize: Divide ``P_r`` by its row sums (``row``) or by their roots on both sides.
        form: ``P`` stores ``S S^T``, ``S`` stores both factors, ``auto`` the smaller.

    Raises:
        ValueError: a rank below 1, or an unknown normalisation or form.
    """
    if normalize not in (None, "sym", "row"):
        raise ValueError(f"normalize must be sym, row or None, got {normalize!r}")
    if form not in ("auto", "P", "S"):
        raise ValueError(f"form must be auto, P or S, got {form!r}")
    asked = range(1, complex_.dim + 1) if ranks == "all" else sorted({int(r) for r in ranks})
    if any(r < 1 for r in asked):
        raise ValueError(f"ranks begin at 1, got {list(asked)}: the node itself is always there")
    found = {r: sparse.csr_array(complex_.membership(r)) for r in asked if r <= complex_.dim}
    held = {r: s for r, s in found.items() if s.shape[1]}
    return _operators(complex_.n, tuple(sorted(held, reverse=True)), held, normalize, form)


def _operators(
    n: int,
    ranks: tuple[int, ...],
    memberships: dict[int, sparse.csr_array],
    normalize: str | None,
    form: str,
) -> RankOperators:
    forms: dict[int, str] = {}
    matrices: Matrices = {}
    for rank in ranks:
        s = memberships[rank].astype(np.float32)
        p = sparse.csr_array(s @ s.T)
        smaller = "P" if p.nnz <= 2 * s.nnz else "S"
        forms[rank] = form if form != "auto" else smaller
        scale = np.asarray(p.sum(axis=1)).ravel()
        inverse = np.divide(1.0, scale, out=np.zeros_like(scale), where=scale > 0)
        left = inverse if normalize == "row" else np.sqrt(inverse)
        if normalize is not None:
            d = sparse.dia_array((left[None], [0]), shape=(n, n))
            right = d if normalize == "sym" else sparse.eye_array(n, dtype=np.float32)
            first, second = sparse.csr_array(d @ s), sparse.csr_array((right @ s).T)
            p = sparse.csr_array(first @ second)
        else:
            first, second = s, sparse.csr_array(s.T)
        if forms[rank] == "P":
            matrices[rank] = (as_torch(p),)
        else:
            matrices[rank] = (as_torch(second), as_torch(first))
    return RankOperators(n, ranks, forms, matrices, memberships, normalize)


class NodeSequencer:
    """Tokens with a choice of cell feature and order.

    Args:
        operators: Of the complex.
        lifting: ``sum``; ``mean`` divides each cell's sum by its size (after a LayerNorm the same
            model as ``sum``); ``mean_of_cells`` also divides by the number of cells at the node.
        append_self: Put the node itself last, as an extra token.
        order: ``descending`` ranks, or ``ascending``.

    Raises:
        ValueError: unknown lifting or order, or no token at all.
    """

    def __init__(
        self,
        operators: RankOperators,
        lifting: str = "sum",
        *,
        append_self: bool = True,
        order: str = "descending",
    ) -> None:
        if lifting not in LIFTINGS:
            raise ValueError(f"lifting must be one of {', '.join(LIFTINGS)}, got {lifting!r}")
        if order not in ("descending", "ascending"):
            raise ValueError(f"order must be descending or ascending, got {order!r}")
        if not append_self and not operators.ranks:
            raise ValueError("no rank has cells and the node is left out: there is no token")
        self.operators, self.append_self, self.order = operators, append_self, order
        ranks = operators.ranks
        scale = torch.ones(operators.n, len(ranks) + 1)
        if lifting != "sum" and ranks:
            scale[:, :-1] /= torch.tensor([r + 1.0 for r in ranks])
        if lifting == "mean_of_cells" and ranks:
            scale[:, :-1] /= operators.counts().clamp_min(1)
        self.scale = scale[..., None]

    def __call__(self, x: Tensor) -> Tensor:
        """Tokens (n, t, d)."""
        tokens = self.operators.apply(x) * self.scale.to(x)
        if not self.append_self:
            return tokens[:, :-1] if self.order == "descending" else tokens[:, :-1].flip(1)
        if self.order == "ascending":
            return torch.cat((tokens[:, :-1].flip(1), tokens[:, -1:]), 1)
        return tokens


def tokens_reference(complex_: Any, x: np.ndarray) -> np.ndarray:
    """The tokens by loops over cells, (n, ranks + 1, d); :meth:`RankOperators.apply` equals it."""
    ranks = [k for k in range(complex_.dim, 0, -1) if complex_.sizes[k]]
    out = np.zeros((complex_.n, len(ranks) + 1, x.shape[1]))
    out[:, -1] = x
    for slot, k in enumerate(ranks):
        for cell in complex_.vertices(k):
            total = sum(x[u] for u in cell)
            for v in cell:
                out[v, slot] += total
    return out


def neighbor_batches(
    operators: RankOperators, seeds: Any, n_layers: int, batch_size: int
) -> Iterator[tuple[RankOperators, np.ndarray, np.ndarray]]:
    """Mini-batches whose seeds get exactly the outputs of the whole complex (in eval mode).

    Around each batch of seeds all nodes within ``n_layers`` steps are taken, a step being shared
    membership in any cell: for clique complexes that is an edge, for other liftings it can reach
    further.

    Args:
        operators: Of the whole complex.
        seeds: Nodes whose outputs are wanted.
        n_layers: Layers of the model.
        batch_size: Seeds a batch.

    Yields:
        (operators of the part, its node ids, positions of the seeds in it).

    Raises:
        ValueError: seeds outside the complex, or sizes below 1.
    """
    chosen = np.asarray(seeds, dtype=np.int64)
    if len(chosen) and (chosen.min() < 0 or chosen.max() >= operators.n):
        raise ValueError(f"seeds must be 0..{operators.n - 1}: {chosen.min()}..{chosen.max()}")
    if n_layers < 1 or batch_size < 1:
        raise ValueError(f"n_layers and batch_size must be 1 or more: {n_layers}, {batch_size}")
    for start in range(0, len(chosen), batch_size):
        batch = chosen[start : start + batch_size]
        reach = np.zeros(operators.n, dtype=np.float32)
        reach[batch] = 1
        for _ in range(n_layers):
            for s in operators.memberships.values():
                reach = np.maximum(reach, (s @ (s.T @ reach) > 0).astype(np.float32))
        nodes = np.flatnonzero(reach)
        yield operators.restricted(nodes), nodes, np.searchsorted(nodes, batch)
