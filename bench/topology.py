"""Lifting and matrices against TopoNetX and gudhi; scan and block in :mod:`bench.topology_scan`.

    lab bench --setup-peers toponetx gudhi mambapy
    lab bench topology

Same graphs, one thread, CPU seconds, the sides taking turns; sizes and matrices must be equal,
entry by entry, before anything is timed. TopoNetX is used as TopoBench uses it: cliques by
networkx, one complex, each matrix asked for by rank.
"""

import resource
import statistics
import time
from collections.abc import Callable
from typing import Any

import networkx as nx
import numpy as np
import torch

from bench import peers
from labcore.runs import Progress, silent
from labcore.runtime import limit_threads
from labcore.topology.complexes import SimplicialComplex, clique_complex
from labcore.topology.data import planetoid

Row = dict[str, Any]
WATTS = ((100, 30.0), (400, 50.0), (1600, 100.0))
LARGE, LARGE_SECONDS, LARGE_MB = 100_000, 3.0, 1536


def rows(progress: Progress | None = None, quick: bool = False) -> list[Row]:
    """Every race, one row each.

    Raises:
        PeerMissing: a peer is not installed; the message names the command.
    """
    from bench import topology_scan

    limit_threads(1)
    versions = {name: peers.use(name) for name in ("toponetx", "gudhi", "mambapy")}
    report, table = progress or silent, []
    races: list[Callable[[], Row]] = [
        large,  # first: memory is the peak of the process
        *(
            lambda n=n, goal=goal: against_toponetx(watts(n), 2, goal, versions)
            for n, goal in WATTS[: 2 if quick else 3]
        ),
        lambda: against_toponetx(("power-law cluster", power_law(400, 6)), 3, 45.0, versions),
        *(lambda g=g, d=d, goal=goal: families(g, d, goal, versions) for g, d, goal in _wide()),
        lambda: against_gudhi(("Cora's size", power_law(2708, 2)), 3, versions),
        *(() if quick else (lambda: against_gudhi(watts(LARGE), 2, versions),)),
        *topology_scan.races(quick, versions["mambapy"]),
    ]
    for done, race in enumerate(races):
        table.append(race())
        report(done + 1, len(races), "races")
    return table


def watts(n: int) -> tuple[str, nx.Graph]:
    """A small-world graph, degree 12."""
    return "Watts-Strogatz", nx.watts_strogatz_graph(n, 12, 0.1, seed=0)


def power_law(n: int, m: int) -> nx.Graph:
    """A graph with hubs and triangles; n = 2708, m = 2 has Cora's number of nodes and edges."""
    return nx.powerlaw_cluster_graph(n, m, 0.6, seed=0)


def _wide() -> list[tuple[tuple[str, nx.Graph], int, float]]:
    found = [(("Cora's size", power_law(2708, 2)), 3, 100.0), (watts(1600), 2, 150.0)]
    try:
        edges = planetoid("cora").complex.edges.tolist()
    except FileNotFoundError:  # the files are the user's own
        return found
    cora = nx.Graph(edges)
    cora.add_nodes_from(range(2708))
    return [*found, (("Cora", cora), 3, 100.0)]


def _edges(graph: nx.Graph) -> np.ndarray:
    return np.array(graph.edges).T


def _toponetx(graph: nx.Graph, dim: int) -> Any:
    import toponetx

    made = toponetx.SimplicialComplex([[v] for v in graph])
    found = [c for c in nx.enumerate_all_cliques(graph) if 1 < len(c) <= dim + 1]
    made.add_simplices_from(found)
    return made


def _equal(ours: SimplicialComplex, theirs: Any, wide: bool) -> str:
    """Compare all matrices after lining the cells up.

    Raises:
        RuntimeError: sizes or a matrix differ.
    """
    if tuple(theirs.shape) != ours.sizes:
        raise RuntimeError(f"sizes differ: {ours.sizes} and {theirs.shape}")
    order = []
    for k in range(ours.dim + 1):
        place = {cell: i for i, cell in enumerate(ours.vertices(k))}
        order.append(np.array([place[tuple(sorted(s))] for s in theirs.skeleton(k)]))
    pairs = [
        (f"L{k}", ours.laplacian(k), theirs.hodge_laplacian_matrix(k), (k, k))
        for k in range(ours.dim + 1)
    ]
    pairs += [
        (f"B{k}", ours.boundary(k), theirs.incidence_matrix(k), (k - 1, k))
        for k in range(1, ours.dim + 1)
    ]
    for k in range(ours.dim if wide else 0):
        pairs.append((f"up{k}", ours.laplacian(k, "up"), theirs.up_laplacian_matrix(k), (k, k)))
        pairs.append((f"A{k}", ours.adjacency(k), theirs.adjacency_matrix(k), (k, k)))
        low = k + 1
        down = theirs.down_laplacian_matrix(low)
        pairs.append((f"down{low}", ours.laplacian(low, "down"), down, (low, low)))
        near = theirs.coadjacency_matrix(low)
        pairs.append((f"C{low}", ours.coadjacency(low), near, (low, low)))
    for name, mine, other, (i, j) in pairs:
        moved = mine.tocsr()[order[i]][:, order[j]]
        if abs(moved - other).sum():
            raise RuntimeError(f"{name} differs from TopoNetX's")
    return f"{len(pairs)} matrices equal"


def against_toponetx(
    graph: tuple[str, nx.Graph], dim: int, goal: float, versions: dict[str, str]
) -> Row:
    """Clique complex, all boundaries and all Hodge Laplacians."""
    name, held = graph
    edges, n = _edges(held), held.number_of_nodes()

    def ours() -> SimplicialComplex:
        made = clique_complex(edges, n, max_dim=dim)
        for k in range(made.dim + 1):
            made.laplacian(k)
            if k:
                made.boundary(k)
        return made

    def peer() -> Any:
        made = _toponetx(held, dim)
        for k in range(made.dim + 1):
            made.hodge_laplacian_matrix(k)
            if k:
                made.incidence_matrix(k)
        return made

    said, sizes = _equal(ours(), peer(), False), ours().sizes
    task = f"lift + B + L: {name} {'/'.join(map(str, sizes))}"
    return row(task, "TopoNetX", versions["toponetx"], turns(ours, peer, 3), goal, said)


def families(graph: tuple[str, nx.Graph], dim: int, goal: float, versions: dict[str, str]) -> Row:
    """All six families that TopoBench builds, for every rank."""
    name, held = graph
    edges, n = _edges(held), held.number_of_nodes()

    def ours() -> SimplicialComplex:
        made = clique_complex(edges, n, max_dim=dim)
        for k in range(made.dim + 1):
            for kind in ("up", "down", "hodge"):
                made.laplacian(k, kind)  # type: ignore[arg-type]
            made.adjacency(k)
            made.coadjacency(k)
            if k:
                made.boundary(k)
        return made

    def peer() -> Any:
        made = _toponetx(held, dim)
        for k in range(made.dim + 1):
            made.hodge_laplacian_matrix(k)
            if k < made.dim:
                made.up_laplacian_matrix(k)
                made.adjacency_matrix(k)
            if k:
                made.incidence_matrix(k)
                made.down_laplacian_matrix(k)
                made.coadjacency_matrix(k)
        return made

    said, sizes = _equal(ours(), peer(), True), ours().sizes
    task = f"lift + six families: {name} {'/'.join(map(str, sizes))}"
    return row(task, "TopoNetX", versions["toponetx"], turns(ours, peer, 3), goal, said)


def against_gudhi(graph: tuple[str, nx.Graph], dim: int, versions: dict[str, str]) -> Row:
    """Cliques as arrays, against gudhi's expansion and reading its simplices."""
    import gudhi

    name, held = graph
    edges, n = np.ascontiguousarray(_edges(held)), held.number_of_nodes()

    def ours() -> list[np.ndarray]:
        made = clique_complex(edges, n, max_dim=dim)
        return [made.simplices(k) for k in range(made.dim + 1)]

    def peer() -> list[np.ndarray]:
        tree = gudhi.SimplexTree()
        tree.insert_batch(np.arange(n)[None], np.zeros(n))
        tree.insert_batch(edges, np.zeros(edges.shape[1]))
        tree.expansion(dim)
        found: list[list[list[int]]] = [[] for _ in range(dim + 1)]
        for simplex, _ in tree.get_simplices():
            found[len(simplex) - 1].append(simplex)
        return [np.array(rank) for rank in found if rank]

    for mine, theirs in zip(ours(), peer(), strict=True):
        if not (mine == theirs[np.lexsort(theirs.T[::-1])]).all():
            raise RuntimeError("cliques differ from gudhi's")
    times = turns(ours, peer, 1 if n == LARGE else 5)
    task = f"cliques as arrays: {name}, {n} nodes"
    return row(task, "gudhi", versions["gudhi"], times, 1.0, "simplices equal")


def large() -> Row:
    """A graph of 100 000 nodes against the limits of 3 s and 1.5 GB, and near-linear growth."""
    small, whole = _edges(watts(1600)[1]), _edges(watts(LARGE)[1])
    each = []
    for n, edges in ((1600, small), (LARGE, whole)):
        times = []
        for _ in range(5 if n == 1600 else 1):
            start = time.process_time()
            made = clique_complex(edges, n)
            for k in range(made.dim + 1):
                made.laplacian(k)
            times.append(time.process_time() - start)
        each.append((statistics.median(times), sum(made.sizes)))
    (short, few), (long, many) = each
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    if peak > LARGE_MB:
        raise RuntimeError(f"{peak:.0f} MB, allowed are {LARGE_MB}")
    growth = (long / many) / (short / few)
    said = f"{many} cells, {peak:.0f} MB, seconds a cell {growth:.1f} x those at 1600 nodes"
    task = f"lift + L, {LARGE} nodes, against a limit of {LARGE_SECONDS:.0f} s"
    return row(task, "limit", "-", (long, LARGE_SECONDS), 1.0, said)


def turns(ours: Callable[[], Any], peer: Callable[[], Any], rounds: int) -> tuple[float, float]:
    """Median CPU seconds of each, taking turns; ours runs thrice a turn, since it is short."""
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        for run, seconds, often in ((ours, times[0], 3), (peer, times[1], 1)):
            for _ in range(often):
                start = time.process_time()
                run()
                seconds.append(time.process_time() - start)
    return statistics.median(times[0]), statistics.median(times[1])


def row(
    name: str, peer: str, version: str, times: tuple[float, float], goal: float, agreement: str
) -> Row:
    """One line of the table; the ratio says how many times cheaper ours is."""
    return {
        "name": name,
        "work": "topology",
        "peer": peer,
        "peer_version": version,
        "ours_s": times[0],
        "peer_s": times[1],
        "ratio": times[1] / times[0],
        "goal": goal,
        "agreement": agreement,
        "threads": torch.get_num_threads(),
    }
