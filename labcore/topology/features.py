"""Features for the cells of every rank, from those of the nodes.

The projected sum goes up rank by rank through ``|B_k|^T``: a triangle gets the sum of its edges,
so each of its nodes twice; a k-simplex holds ``k!`` times the sum of its nodes. Nothing in any of
these is new information: what a lifting adds is structure, not data.
"""

from typing import Any

import numpy as np
from scipy import sparse

from labcore.topology.chains import ChainComplex
from labcore.topology.liftings import TopoData

METHODS = (
    "projected_sum", "elementwise_mean", "sum_nodes", "mean_nodes", "concat", "set", "gradient",
    "random",
)  # fmt: skip
CHAINED = ("projected_sum", "elementwise_mean", "gradient")


def lift_features(
    topo: TopoData, x: np.ndarray | None = None, *, method: str = "projected_sum"
) -> dict[int, Any]:
    """Features of every rank.

    Args:
        topo: A lifted complex.
        x: Node features (n, d); default: those of ``topo``.
        method: ``projected_sum`` and ``elementwise_mean`` go up rank by rank, ``sum_nodes`` and
            ``mean_nodes`` straight from the nodes, ``concat`` lines the nodes up (simplices only),
            ``set`` gives the array of each cell's node features in a list. Two are for signed
            models, since they turn with a cell's orientation: ``gradient`` takes differences
            ``B_k^T x_{k-1}`` (zero from rank 2 on), ``random`` draws normal numbers (seed 0).

    Returns:
        Rank -> (n_k, d), or for ``concat`` (n_k, (k + 1) d), or for ``set`` a list.

    Raises:
        ValueError: no features, a number of rows that is not n, unknown method, ``concat`` on
            cells of unequal size, or ``gradient`` of cells without orientation.
    """
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, got {method!r}")
    x = topo.x.get(0) if x is None else x
    held = topo.complex
    if x is None:
        raise ValueError("no node features: give x, (n, d)")
    x = np.asarray(x, dtype=np.float32)
    if x.ndim != 2 or len(x) != held.n:
        raise ValueError(f"x has shape {x.shape}, the complex has {held.n} nodes: give (n, d)")
    found: dict[int, Any] = {0: x}
    rng = np.random.default_rng(0)
    for k in range(1, getattr(held, "dim", 0) + 1):
        if method in ("concat", "set"):
            found[k] = _listed(held, k, x, method)
            continue
        if method == "random":
            found[k] = rng.standard_normal((held.sizes[k], x.shape[1])).astype(np.float32)
            continue
        chained = isinstance(held, ChainComplex) and method in CHAINED
        if method == "gradient" and not chained:
            raise ValueError("gradient needs oriented cells: lift to simplices or polygons")
        signed = method == "gradient"
        up = (held.boundary(k, signed=signed) if chained else held.membership(k)).T
        up = sparse.csr_array(up).astype(np.float32)
        below = found[k - 1] if chained else x
        value = up @ below
        if method in ("elementwise_mean", "mean_nodes"):
            value = value / np.maximum(up.sum(axis=1), 1)[:, None]
        found[k] = np.asarray(value, dtype=np.float32)
    return found


def _listed(held: Any, k: int, x: np.ndarray, method: str) -> Any:
    cells = held.vertices(k)
    if method == "set":
        return [x[list(cell)] for cell in cells]
    if len({len(c) for c in cells}) > 1:
        raise ValueError(
            f"concat needs cells of one size, rank {k} has several: use another method"
        )
    return x[np.array(cells, dtype=np.int64)].reshape(len(cells), -1)
