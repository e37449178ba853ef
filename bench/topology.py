"""Lifting and matrices against TopoNetX, and the selective scan against mambapy.

    pip install --no-deps toponetx==0.2.0 spharapy trimesh mambapy==1.2.0
    lab bench topology

Same graphs and tensors, one thread, CPU seconds, the two sides taking turns; the matrices must be
equal before anything is timed.
"""

import statistics
import time
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import networkx as nx
import numpy as np
import torch

from labcore.blocks.mamba import MambaBlock
from labcore.blocks.selective import mamba_scan
from labcore.runs import Progress, silent
from labcore.runtime import limit_threads
from labcore.topology.complexes import SimplicialComplex, clique_complex

Row = dict[str, Any]
SIZES = ((100, 30.0), (400, 50.0), (1600, 100.0))
SCANS = ((1024, 4, 4.0), (64, 16, 2.5), (8, 64, 1.8), (2, 1024, 1.8))


def rows(progress: Progress | None = None, quick: bool = False) -> list[Row]:
    """Every race, one row each.

    Raises:
        ImportError: a peer is not installed.
    """
    limit_threads(1)
    report, table = progress or silent, []
    races: list[Callable[[], list[Row]]] = [
        *(lambda n=n, goal=goal: lifting(n, goal) for n, goal in SIZES[: 2 if quick else 3]),
        growth,
        *(lambda b=b, t=t, goal=goal: scans(b, t, goal) for b, t, goal in SCANS),
        block,
    ]
    for done, race in enumerate(races):
        table += race()
        report(done + 1, len(races), "races")
    return table


def lifting(n: int, goal: float) -> list[Row]:
    """Clique complex, all boundaries and all Hodge Laplacians."""
    import toponetx

    graph = nx.watts_strogatz_graph(n, 12, 0.1, seed=0)
    edges = np.array(graph.edges).T

    def ours() -> SimplicialComplex:
        made = clique_complex(edges, n, max_dim=2)
        made.to_torch()
        return made

    def peer() -> Any:
        cells = [c for c in nx.enumerate_all_cliques(graph) if len(c) < 4]
        made = toponetx.SimplicialComplex(cells)
        for k in range(3):
            made.hodge_laplacian_matrix(k)
            if k:
                made.incidence_matrix(k)
        return made

    mine, theirs = ours(), peer()
    for k in (1, 2):
        order = [mine.vertices(k).index(tuple(sorted(s))) for s in theirs.skeleton(k)[:200]]
        left = mine.laplacian(k).toarray()[np.ix_(order, order)] if n <= 400 else None
        right = theirs.hodge_laplacian_matrix(k)[:200, :200].toarray() if n <= 400 else None
        if left is not None and not (left == right).all():
            raise RuntimeError(f"L_{k} differs from TopoNetX's")
    if tuple(theirs.shape) != mine.sizes:
        raise RuntimeError(f"sizes differ: {mine.sizes} and {theirs.shape}")
    times = turns(ours, peer, 3)
    cells = "/".join(map(str, mine.sizes))
    said = "Laplacians equal" if n <= 400 else "sizes equal"
    return [row(f"lift + B + L, {cells} cells", "toponetx", times, goal, said)]


def growth() -> list[Row]:
    """Seconds a cell at 100 000 nodes against 1 600: near-linear growth."""
    per = []
    for n in (1600, 100_000):
        edges = np.array(nx.watts_strogatz_graph(n, 12, 0.1, seed=0).edges).T
        start = time.process_time()
        made = clique_complex(edges, n)
        for k in range(3):
            made.laplacian(k)
        per.append((time.process_time() - start) / sum(made.sizes))
    found = row("seconds a cell, 100 000 nodes (peer: 1 600)", "labcore", (per[1], per[0]), 0.5, "")
    return [found]


def scans(b: int, t: int, goal: float) -> list[Row]:
    """Forward and backward of the scan."""
    from mambapy.pscan import pscan

    g = torch.Generator().manual_seed(0)
    u, delta = torch.randn(b, t, 128, generator=g), 0.1 * torch.rand(b, t, 128, generator=g)
    A = -torch.rand(128, 16, generator=g) - 0.1
    B, C = torch.randn(b, t, 16, generator=g), torch.randn(b, t, 16, generator=g)
    x = [v.requires_grad_() for v in (u, delta, A, B, C)]

    def theirs() -> torch.Tensor:
        h = pscan(torch.exp(delta[..., None] * A), (delta * u)[..., None] * B[:, :, None])
        return (h @ C[..., None]).squeeze(3)

    gap = float((mamba_scan(*x) - theirs()).abs().max())
    if gap > 1e-3:
        raise RuntimeError(f"the scans differ by {gap}")
    times = turns(lambda: mamba_scan(*x).sum().backward(), lambda: theirs().sum().backward(), 7)
    name = f"scan forward+backward, ({b}, {t}, 128, 16)"
    return [row(name, "mambapy", times, goal, f"outputs to {gap:.0e}")]


def block() -> list[Row]:
    """The whole block on Cora's number of nodes, forward and backward."""
    from mambapy.mamba import MambaBlock as Peer
    from mambapy.mamba import MambaConfig

    ours, theirs = MambaBlock(64), Peer(MambaConfig(d_model=64, n_layers=1))
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(2708, 4, 64, generator=torch.Generator().manual_seed(0))
    gap = float((ours(x) - theirs(x)).abs().max())
    times = turns(lambda: ours(x).sum().backward(), lambda: theirs(x).sum().backward(), 3)
    return [row("block forward+backward, (2708, 4, 64)", "mambapy", times, 3.0,
                f"outputs to {gap:.0e}")]  # fmt: skip


def turns(ours: Callable[[], Any], peer: Callable[[], Any], rounds: int) -> tuple[float, float]:
    """Median CPU seconds of each, taking turns."""
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        for run, seconds in zip((ours, peer), times, strict=True):
            start = time.process_time()
            run()
            seconds.append(time.process_time() - start)
    return statistics.median(times[0]), statistics.median(times[1])


def row(
    name: str, peer: str, times: tuple[float, float], goal: float | None, agreement: str
) -> Row:
    """One line of the table; the ratio says how many times cheaper ours is."""
    return {
        "name": name,
        "work": "topology",
        "peer": peer,
        "peer_version": version(peer),
        "ours_s": times[0],
        "peer_s": times[1],
        "ratio": times[1] / times[0],
        "goal": goal,
        "agreement": agreement,
        "threads": torch.get_num_threads(),
    }
