"""Complexes: parity with TopoNetX, known answers, bad input."""

from math import comb

import networkx as nx
import numpy as np
import pytest

from labcore.topology.cells import cycle_basis, cycle_lifting
from labcore.topology.cliques import TooManySimplices, predicted_sizes
from labcore.topology.complexes import SimplicialComplex, clique_complex
from labcore.topology.features import lift_features
from labcore.topology.graphs import as_graph, read_edge_list
from labcore.topology.hodge import hodge_decompose, holed_square, mixed_flow
from labcore.topology.liftings import known, lift
from labcore.topology.surfaces import BETTI, RECIPES, disjoint_union, surface

GRAPHS = [
    nx.gnp_random_graph(30, 0.3, seed=1),
    nx.watts_strogatz_graph(40, 6, 0.2, seed=2),
    nx.powerlaw_cluster_graph(40, 4, 0.7, seed=3),
    nx.random_geometric_graph(30, 0.3, seed=5),
    nx.complete_graph(7),
    nx.compose(nx.complete_graph(4), nx.empty_graph(6)),
    nx.empty_graph(4),
]


@pytest.mark.parametrize("graph", GRAPHS, ids=str)
def test_cliques_equal_networkx(graph):
    found = clique_complex(graph, max_dim=4)
    for k in range(1, 5):
        theirs = {tuple(sorted(c)) for c in nx.enumerate_all_cliques(graph) if len(c) == k + 1}
        assert set(found.vertices(k)) == theirs


@pytest.mark.parametrize("graph", GRAPHS[:-1], ids=str)
def test_matrices_equal_toponetx(graph):
    """All six families, signed and with absolute values taken after, once cells are lined up."""
    pytest.importorskip("toponetx", reason="lab bench --setup-peers toponetx")
    ours = clique_complex(graph, max_dim=3)
    theirs = ours.to_toponetx()
    place = {cell: i for k in range(ours.dim + 1) for i, cell in enumerate(ours.vertices(k))}
    order = [
        np.array([place[tuple(sorted(cell))] for cell in theirs.skeleton(k)])
        for k in range(ours.dim + 1)
    ]

    def same(mine, other, i, j):
        assert (mine.toarray()[np.ix_(order[i], order[j])] == other.toarray()).all()

    for k in range(ours.dim + 1):
        for mode, signed in (("signed", True), ("abs_after", False)):
            same(
                ours.laplacian(k, mode=mode), theirs.hodge_laplacian_matrix(k, signed=signed), k, k
            )
            if k < ours.dim:
                up = theirs.up_laplacian_matrix(k, signed=signed)
                same(ours.laplacian(k, "up", mode=mode), up, k, k)
            if k:
                down = theirs.down_laplacian_matrix(k, signed=signed)
                same(ours.laplacian(k, "down", mode=mode), down, k, k)
                b = theirs.incidence_matrix(k, signed=signed)
                same(ours.boundary(k, signed=signed), b, k - 1, k)
        if k < ours.dim:
            same(ours.adjacency(k), theirs.adjacency_matrix(k), k, k)
        if k:
            same(ours.coadjacency(k), theirs.coadjacency_matrix(k), k, k)


def test_a_complex_goes_to_toponetx_and_back():
    pytest.importorskip("toponetx", reason="lab bench --setup-peers toponetx")
    ours = clique_complex(GRAPHS[2], max_dim=3)
    back = SimplicialComplex.from_toponetx(ours.to_toponetx())
    assert all((ours.simplices(k) == back.simplices(k)).all() for k in range(4))


def test_spectra_of_neighbouring_ranks_agree():
    """Nonzero eigenvalues of L_up of rank k are those of L_down of rank k + 1."""
    held = clique_complex(GRAPHS[2], max_dim=3)
    for k in range(held.dim):
        up, down = held.laplacian(k, "up"), held.laplacian(k + 1, "down")
        values = [np.linalg.eigvalsh(m.toarray().astype(float)) for m in (up, down)]
        found = [v[v > 1e-8] for v in values]
        np.testing.assert_allclose(*found, atol=1e-8)


def test_normalised_laplacians_leave_zero_rows_alone():
    held = clique_complex([(0, 1)], 3)
    assert held.laplacian(0, norm="sym").toarray().tolist() == [[1, -1, 0], [-1, 1, 0], [0, 0, 0]]
    assert held.laplacian(0, norm="row").toarray()[2].tolist() == [0, 0, 0]
    assert held.boundary(2).shape == (1, 0)
    assert held.laplacian(2).shape == (0, 0)


def test_a_part_of_a_complex_keeps_its_simplices():
    held = clique_complex(nx.complete_graph(5), max_dim=3)
    assert held.subcomplex([0, 2, 4]).sizes == (3, 3, 1)
    with pytest.raises(ValueError, match="the complex has 0..4"):
        held.subcomplex([7])


@pytest.mark.parametrize("name", ["octahedral", "icosahedral"])
def test_platonic_surfaces(name):
    held = clique_complex(getattr(nx, f"{name}_graph")())
    assert held.sizes == {"octahedral": (6, 12, 8), "icosahedral": (12, 30, 20)}[name]
    assert held.betti() == (1, 0, 1)


def test_more_known_graphs():
    assert clique_complex(nx.cycle_graph(6)).betti() == (1, 1)
    davis = clique_complex(nx.davis_southern_women_graph())
    assert (davis.sizes, davis.betti()) == ((32, 89), (1, 58))
    novel = clique_complex(nx.les_miserables_graph(), max_dim=9)
    assert novel.sizes[:5] == (77, 254, 467, 639, 644)
    assert novel.betti()[1] == 3


@pytest.mark.parametrize("graph", GRAPHS, ids=str)
def test_homology_is_consistent(graph):
    found = clique_complex(graph, max_dim=5).check()
    betti = found.betti()
    assert found.euler() == sum((-1) ** k * b for k, b in enumerate(betti))
    for k in range(found.dim + 1):
        values = np.linalg.eigvalsh(found.laplacian(k).toarray().astype(float))
        assert values.min() > -1e-9
        assert int((np.abs(values) < 1e-8).sum()) == betti[k]


def test_known_counts():
    assert clique_complex(nx.complete_graph(6), max_dim=3).sizes == tuple(
        comb(6, k + 1) for k in range(4)
    )
    karate = clique_complex(nx.karate_club_graph(), max_dim=4)
    assert karate.sizes == (34, 78, 45, 11, 2)
    assert karate.betti() == (1, 9, 0, 0, 0)
    assert karate.euler() == -8
    assert clique_complex(nx.octahedral_graph()).betti() == (1, 0, 1)
    assert clique_complex(nx.florentine_families_graph()).betti() == (1, 3, 0)
    assert clique_complex(nx.petersen_graph()).betti() == (1, 6)


def test_abs_after_drops_neighbours_of_a_filled_triangle():
    triangle = clique_complex(nx.complete_graph(3))
    assert (triangle.laplacian(1, mode="abs_after").toarray() == 3 * np.eye(3)).all()
    full = triangle.laplacian(1, mode="unsigned_incidence").toarray()
    assert (full == np.eye(3) + 2 * np.ones((3, 3))).all()


def test_degree_order_gives_the_same_complex():
    a, b = (clique_complex(GRAPHS[2], max_dim=3, order=order) for order in ("natural", "degree"))
    assert all((a.simplices(k) == b.simplices(k)).all() for k in range(4))


def test_ring_lengths_do_not_depend_on_names():
    graph = as_graph(nx.florentine_families_graph())
    first = sorted(len(c) for c in cycle_basis(graph))
    assert len(first) == graph.m - graph.n + 1
    for seed in range(5):
        other = graph.relabelled(np.random.default_rng(seed).permutation(graph.n))
        assert sorted(len(c) for c in cycle_basis(other)) == first
    theirs = sorted(len(c) for c in nx.minimum_cycle_basis(nx.florentine_families_graph()))
    assert first == theirs


def test_cell_complex_of_a_cycle_is_a_disc():
    assert cycle_lifting(nx.cycle_graph(6)).check().betti() == (1, 0, 0)


@pytest.mark.parametrize("name", list(RECIPES))
def test_surfaces_keep_their_topology(name):
    for seed in range(3):
        made = surface(name, 13, seed)
        made.check()
        assert made.complex().betti() == BETTI[name]


def test_union_is_block_diagonal():
    parts = [surface("torus", 8, 0).complex(), clique_complex(nx.path_graph(3))]
    whole, batch = disjoint_union(parts)
    assert whole.betti() == (2, 2, 1)
    assert batch.tolist() == [0] * 8 + [1] * 3


def test_hodge_parts_are_orthogonal():
    complex_, places = holed_square(80)
    flow = mixed_flow(complex_, places)
    g, c, h, _, _ = hodge_decompose(complex_, flow)
    assert np.abs(g + c + h - flow).max() < 1e-9
    assert max(abs(g @ c), abs(g @ h), abs(c @ h)) < 1e-9
    assert np.abs(complex_.boundary(1) @ h).max() < 1e-9
    assert np.abs(complex_.boundary(2).T @ h).max() < 1e-9


def test_feature_factors():
    topo = lift(as_graph(nx.complete_graph(4), x=np.ones((4, 1))), max_dim=3)
    sums = lift_features(topo)
    assert [float(sums[k].mean()) for k in range(4)] == [1.0, 2.0, 6.0, 24.0]
    means = lift_features(topo, method="mean_nodes")
    assert all(float(v.min()) == float(v.max()) == 1.0 for v in means.values())


def test_every_lifting_of_a_graph_runs():
    graph = as_graph(nx.karate_club_graph(), x=np.eye(34))
    for name in known("graph"):
        topo = lift(graph, name)
        assert topo.sizes[0] > 0
        if topo.domain in ("simplicial", "cell"):
            topo.complex.check()


def test_khop_and_dowker_against_brute_force():
    plain = nx.gnp_random_graph(14, 0.25, seed=4)
    ball = lift(plain, "hypergraph/khop", k=2).complex.hyperedges
    for v in plain:
        assert set(ball[v]) == set(nx.single_source_shortest_path_length(plain, v, cutoff=2))
    pairs = set(lift(plain, "simplicial/dowker").complex.vertices(1))
    wanted = {(u, v) for u in plain for v in plain if u < v and set(plain[u]) & set(plain[v])}
    assert pairs == wanted


def test_input_is_cleaned_and_counted():
    graph = as_graph([(0, 1), (1, 0), (1, 1), (0, 1)], 4)
    assert graph.edges.tolist() == [[0, 1]]
    assert graph.dropped["self_loops"] == 1
    assert graph.dropped["duplicates"] == 2
    with pytest.warns(UserWarning, match="made symmetric"):
        as_graph(nx.DiGraph([(0, 1), (1, 2)]))
    assert clique_complex([], 3).sizes == (3,)
    assert read_edge_list("# x\na b\nb\tc 3\n").m == 2


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: SimplicialComplex([[[0, 0]]], 2), "vertex twice"),
        (lambda: SimplicialComplex([[[0, 5]]], 3), "vertex 5"),
        (lambda: SimplicialComplex([[[0, 1]], [[0, 1, 2]]], 3), "missing"),
        (lambda: clique_complex([(0, 1)], max_dim=0), "max_dim"),
        (lambda: as_graph([(0, -1)]), "node -1"),
        (lambda: as_graph([(0, 1)], x=[[1.0]]), "x has shape"),
        (lambda: lift([(0, 1)], "cell/nope"), "unknown lifting"),
        (lambda: lift([(0, 1)], "hypergraph/knn"), "features"),
        (lambda: read_edge_list("lonely"), "one name"),
    ],
)
def test_bad_input_is_refused(make, said):
    with pytest.raises(ValueError, match=said):
        make()


def test_an_exploding_lifting_is_refused_with_its_size():
    with pytest.raises(TooManySimplices, match="simplices of rank"):
        clique_complex(nx.complete_graph(200), max_dim=4, max_simplices=2_000_000)
    assert predicted_sizes(as_graph(nx.complete_graph(9)), 3) == [9, 36, 84, 126]
