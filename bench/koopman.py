"""Every product of the Koopman topic against what people would use instead.

    lab bench --setup-peers pydmd scikit-learn pysindy torch-geometric
    lab bench koopman

Both sides get the same arrays and must give equal results before anything is timed. Times are CPU
seconds in this process, the least of three turns, the two sides taking turns; one thread.
"""

import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from bench import peers
from labcore.koopman.cells import GraphLSTMCell
from labcore.koopman.dmd import DMDResult, Method, dmd
from labcore.koopman.sindy import edge_sindy, graph_library, polynomial_library, stlsq
from labcore.koopman.steps import as_steps
from labcore.runs import Progress, silent
from labcore.runtime import limit_threads

Row = dict[str, Any]
REPEATS = 3
NEEDED = ("pydmd", "scikit-learn", "pysindy", "torch-geometric")


def rows(progress: Progress | None = None, quick: bool = False) -> list[Row]:
    """Every race, one row each; ``quick`` leaves out the largest sizes.

    Raises:
        PeerMissing: a peer is not installed; the message names the command.
        RuntimeError: the two sides of a race do not give equal results.
    """
    limit_threads(1)
    versions = {name: peers.use(name) for name in NEEDED}
    report = progress or silent
    races: list[Callable[[], Row]] = [
        lambda: tall_dmd(16_000, 8.0),
        batch_dmd,
        lambda: edges(50, 50, 64, 188, 2, 40.0),
        lambda: edges(100, 106, 16, 300, 2, 7.0),
        lambda: edges(100, 106, 16, 300, 3, 7.0),
        lorenz_stlsq,
        cell,
    ]
    if not quick:
        races += [
            lambda: tall_dmd(64_000, 12.0),
            lambda: tall_dmd(64_000, 2.0, "qr"),
            lambda: edges(50, 50, 64, 188, 3, 40.0),
        ]
    table = []
    for done, contest in enumerate(races):
        row = contest()
        table.append({**row, "peer_version": versions[row["peer"]]})
        report(done + 1, len(races), "races")
    return table


def tall_dmd(m: int, goal: float, method: Method = "auto") -> Row:
    """Exact DMD of one tall system: m rows, 106 snapshots, 16 modes."""
    from pydmd import DMD

    X = _snapshots(m, 106)
    ours = lambda: dmd(X, 16, method)  # noqa: E731
    peer = _quiet(lambda: DMD(svd_rank=16, exact=True).fit(X))
    name = f"exact DMD, {m} x 106, r=16" + ("" if method == "auto" else f", {method}")
    return _row(name, "pydmd", ours, peer, goal, _said(*_same_modes(ours(), peer())))


def batch_dmd() -> Row:
    """60 systems of 1600 x 50 at once against a loop."""
    from pydmd import DMD

    X = np.stack([_snapshots(1600, 50, seed=i) for i in range(60)])
    ours = lambda: dmd(X, 8)  # noqa: E731
    peer = _quiet(lambda: [DMD(svd_rank=8, exact=True).fit(x) for x in X])
    found = ours()
    gaps = [
        _same_modes(DMDResult(e, m, a, s, found.method_used), theirs)
        for e, m, a, s, theirs in zip(
            found.eigs, found.modes, found.amplitudes, found.singular_values, peer(), strict=True
        )
    ]
    agreement = _said(*np.max(gaps, axis=0))
    return _row("60 systems of 1600 x 50, r=8", "pydmd", ours, peer, 4.0, agreement)


def edges(n: int, steps: int, k: int, count: int, degree: int, goal: float) -> Row:
    """Signed edge weights by the dual against all Ridge coefficients, then summed."""
    from sklearn.linear_model import Ridge

    rng = np.random.default_rng(0)
    Z = rng.normal(size=(n, steps, k)).cumsum(axis=1) / 10
    pairs = np.argwhere(np.triu(np.ones((n, n)), 1))
    chosen = pairs[rng.permutation(len(pairs))[:count]]

    def full() -> np.ndarray:
        own, products = graph_library(Z, chosen, degree)
        theta = np.concatenate([_rows(own[:, :-1]), _rows(products[:, :, :-1])], axis=1)
        ridge = Ridge(alpha=1.0, fit_intercept=False).fit(theta, _rows(Z[:, 1:]))
        block = ridge.coef_.T[own.shape[0] * k :].reshape(len(products), count, k, n, k)
        return np.abs(block.sum(axis=(0, 2, 4))).sum(axis=1)

    ours = lambda: edge_sindy(Z, chosen, degree, aggregate="signed_sum")  # noqa: E731
    gap = float(np.abs(ours() / full() - 1).max())
    _require(gap < 1e-7, f"edge weights differ by {gap}")
    name = f"edge SINDy n={n}, T={steps}, k={k}, {count} edges, degree {degree}"
    return _row(name, "scikit-learn", ours, full, goal, f"weights to {gap:.0e}")


def lorenz_stlsq() -> Row:
    """Sparse regression of the Lorenz system, 5000 samples, degree 2."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from pysindy import STLSQ

    q = lorenz(5000)
    slope = np.gradient(q, 0.002, axis=0)
    theta = polynomial_library(q, 2, ("x", "y", "z"))[0]
    ours = lambda: stlsq(theta, slope, 0.1)  # noqa: E731
    peer = _quiet(lambda: STLSQ(threshold=0.1, alpha=0.05).fit(theta, slope))
    found, theirs = ours(), peer().coef_
    _require(np.array_equal(found != 0, theirs != 0), "supports differ")
    gap = float(np.abs(found - theirs).max())
    said = f"same {int((found != 0).sum())} terms, values to {gap:.0e}"
    return _row("STLSQ, Lorenz, 5000 samples", "pysindy", ours, peer, 10.0, said)


def lorenz(steps: int, dt: float = 0.002) -> np.ndarray:
    """The Lorenz system by Runge-Kutta steps of order 4, from (-8, 8, 27)."""

    def slope(q: np.ndarray) -> np.ndarray:
        x, y, z = q
        return np.array([10 * (y - x), x * (28 - z) - y, x * y - 8 / 3 * z])

    path = [np.array([-8.0, 8.0, 27.0])]
    for _ in range(steps - 1):
        q = path[-1]
        a = slope(q)
        b = slope(q + dt / 2 * a)
        c = slope(q + dt / 2 * b)
        path.append(q + dt / 6 * (a + 2 * b + 2 * c + slope(q + dt * c)))
    return np.array(path)


def cell() -> Row:
    """Forward and backward of one LSTM layer, 24 graphs of 50 people and 50 steps."""
    from torch_geometric.nn import GraphConv

    torch.manual_seed(0)
    b, t, n, hidden = 24, 50, 50, 16
    upper = torch.triu((torch.rand(t, b, n, n) < 0.005).float(), 1)
    A = upper + upper.transpose(-1, -2)
    x = torch.rand(t, b, n, 1)
    layer = GraphLSTMCell(1, hidden)
    gates = [GraphConv(1 + hidden, hidden, aggr="add") for _ in range(4)]
    for i, gate in enumerate(gates):
        part = slice(i * hidden, (i + 1) * hidden)
        gate.lin_rel.weight.data = layer.neighbour.weight.data[part].clone()
        gate.lin_rel.bias.data = layer.root.bias.data[part].clone()
        gate.lin_root.weight.data = layer.root.weight.data[part].clone()
    lists = [_edge_list(A[s]) for s in range(t)]
    graph = as_steps(A.transpose(0, 1))  # contacts are few: lists

    def ours() -> torch.Tensor:
        out = layer(x, graph)
        out.sum().backward()
        return out.detach()

    def peer() -> torch.Tensor:
        h = c = torch.zeros(b * n, hidden)
        states = []
        for s in range(t):
            z = torch.cat([x[s].reshape(-1, 1), h], dim=-1)
            i, f, g, o = (gate(z, lists[s]) for gate in gates)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            h = o.sigmoid() * c.tanh()
            states.append(h.reshape(b, n, hidden))
        out = torch.stack(states)
        out.sum().backward()
        return out.detach()

    gap = float((ours() - peer()).abs().max())
    _require(gap < 1e-5, f"states differ by {gap}")
    name = "graph LSTM forward and backward, 24 graphs, n=50, T=50"
    return _row(name, "torch-geometric", ours, peer, 1.5, f"states to {gap:.0e}")


# --- clocks and checks --------------------------------------------------------------------------


def _snapshots(m: int, n: int, seed: int = 0) -> np.ndarray:
    """Damped oscillations in noise."""
    rng = np.random.default_rng(seed)
    eigs = np.exp(rng.uniform(-0.03, 0, 16) + 1j * rng.uniform(0.05, 1.5, 16))
    modes = rng.normal(size=(m, 16)) + 1j * rng.normal(size=(m, 16))
    path = (modes @ (eigs[:, None] ** np.arange(n))).real
    return path + 0.1 * rng.normal(size=(m, n))


def _same_modes(ours: DMDResult, theirs: Any) -> tuple[float, float]:
    """Eigenvalues, and modes times amplitudes, agree: how far they are apart."""
    match = np.abs(ours.eigs[:, None] - theirs.eigs[None]).argmin(axis=1)
    _require(sorted(match) == list(range(len(match))), "eigenvalues do not pair up")
    gap = float(np.abs(ours.eigs - theirs.eigs[match]).max())
    _require(gap < 1e-8, f"eigenvalues differ by {gap}")
    a, b = ours.modes * ours.amplitudes, (theirs.modes * theirs.amplitudes)[:, match]
    apart = float(np.linalg.norm(a - b) / np.linalg.norm(b))
    _require(apart < 1e-6, f"modes differ by {apart}")
    return gap, apart


def _said(gap: float, apart: float) -> str:
    return f"eigenvalues to {gap:.0e}, modes to {apart:.0e}"


def _rows(blocks: np.ndarray) -> np.ndarray:
    return np.moveaxis(blocks, -2, 0).reshape(blocks.shape[-2], -1)


def _edge_list(A: torch.Tensor) -> torch.Tensor:
    """Contacts of one step of a batch as a disjoint union."""
    b, u, v = A.nonzero().T
    n = A.shape[-1]
    return torch.stack([b * n + v, b * n + u])


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise RuntimeError(f"the two sides differ, nothing was timed: {otherwise}")


def _quiet(call: Callable[[], Any]) -> Callable[[], Any]:
    def run() -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return call()

    return run


def race(ours: Callable[[], Any], peer: Callable[[], Any]) -> tuple[float, float]:
    """Least CPU seconds of one call of each, taking turns; short calls are repeated."""
    both, times = (ours, peer), ([], [])  # type: tuple[Any, Any], tuple[list[float], list[float]]
    counts = [max(1, int(0.05 / max(_seconds(call, 1), 1e-6))) for call in both]
    for _ in range(REPEATS):
        for call, count, seconds in zip(both, counts, times, strict=True):
            seconds.append(_seconds(call, count))
    return min(times[0]), min(times[1])


def _seconds(call: Callable[[], Any], count: int) -> float:
    start = time.process_time()
    for _ in range(count):
        call()
    return (time.process_time() - start) / count


def _row(
    name: str,
    peer: str,
    ours: Callable[[], Any],
    theirs: Callable[[], Any],
    goal: float,
    agreement: str,
) -> Row:
    ours_s, peer_s = race(ours, theirs)
    return {
        "name": name,
        "work": "koopman",
        "peer": peer,
        "peer_version": "",
        "ours_s": ours_s,
        "peer_s": peer_s,
        "ratio": peer_s / ours_s,
        "goal": goal,
        "agreement": agreement,
        "threads": torch.get_num_threads(),
    }
