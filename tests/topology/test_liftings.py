"""Liftings: against brute force, known shapes, and refusal of what would explode."""

from itertools import combinations

import networkx as nx
import numpy as np
import pytest

from labcore.topology.cells import cycle_basis
from labcore.topology.cliques import TooManySimplices, predicted_sizes
from labcore.topology.complexes import clique_complex
from labcore.topology.data import mutag
from labcore.topology.families import CombinatorialComplex, Hypergraph
from labcore.topology.features import lift_features
from labcore.topology.graphs import Graph, as_graph, read_edge_list
from labcore.topology.lift_graph import fiedler, nearest
from labcore.topology.liftings import known, lift, parameters

PLAIN = nx.gnp_random_graph(20, 0.2, seed=4)


def subsets(sets, size):
    return {c for s in sets for c in combinations(sorted(s), size)}


@pytest.mark.parametrize("hops", [1, 2])
def test_khop_hyperedges_are_balls(hops):
    edges = lift(PLAIN, "hypergraph/khop", k=hops).complex.hyperedges
    for v in PLAIN:
        ball = nx.single_source_shortest_path_length(PLAIN, v, cutoff=hops)
        assert set(edges[v]) == set(ball)


def test_khop_simplices_are_all_subsets_of_balls():
    found = lift(PLAIN, "simplicial/khop", hops=1, max_dim=2).complex
    balls = [{v, *PLAIN[v]} for v in PLAIN]
    assert set(found.vertices(1)) == subsets(balls, 2)
    assert set(found.vertices(2)) == subsets(balls, 3)


def test_a_sampled_khop_lifting_repeats_itself_and_is_closed():
    made = [
        lift(PLAIN, "simplicial/khop", hops=2, max_k_simplices=40, seed=3).complex for _ in range(2)
    ]
    assert made[0].sizes == made[1].sizes
    assert made[0].sizes[2] == 40
    made[0].check()


def test_dowker_simplices_share_a_neighbour():
    found = lift(PLAIN, "simplicial/dowker", max_dim=2).complex
    assert set(found.vertices(2)) == subsets([set(PLAIN[v]) for v in PLAIN], 3)


def test_line_lifting_has_edges_as_nodes():
    found = lift(PLAIN, "simplicial/line").complex
    graph = as_graph(PLAIN)
    line = nx.line_graph(nx.Graph(graph.edges.tolist()))
    assert found.sizes[:2] == (line.number_of_nodes(), line.number_of_edges())
    cliques = [c for c in nx.enumerate_all_cliques(line) if len(c) == 3]
    assert found.sizes[2] == len(cliques)


def test_rips_joins_what_is_near():
    found = lift(PLAIN, "simplicial/rips", threshold=2.0, max_dim=1).complex
    far = dict(nx.all_pairs_shortest_path_length(PLAIN))
    near = {(u, v) for u, v in combinations(PLAIN, 2) if far[u].get(v, 99) <= 2}
    assert set(found.vertices(1)) == near


def test_knn_hyperedges_are_the_nearest_by_features():
    x = np.random.default_rng(0).standard_normal((20, 3))
    graph = as_graph(PLAIN, x=x)
    edges = lift(graph, "hypergraph/knn", k=3).complex.hyperedges
    x = x.astype(np.float32).astype(float)
    for v in range(20):
        far = ((x - x[v]) ** 2).sum(1)
        assert set(edges[v]) == {v, *np.argsort(far, kind="stable")[1:4]}


def test_equal_distances_are_broken_by_index():
    assert nearest(np.zeros((5, 2)), 2).tolist() == [[1, 2], [0, 2], [0, 1], [0, 1], [0, 1]]


def test_mapper_takes_connected_parts_of_slices():
    found = lift(PLAIN, "hypergraph/mapper", resolution=4, gain=0.2).complex.hyperedges
    lens = fiedler(as_graph(PLAIN))
    step = (lens.max() - lens.min()) / 4
    wanted = []
    for i in range(4):
        low = lens.min() + (i - 0.1) * step - 1e-12
        high = lens.min() + (i + 1.1) * step + 1e-12
        inside = [v for v in PLAIN if low <= lens[v] <= high]
        wanted += [tuple(sorted(c)) for c in nx.connected_components(PLAIN.subgraph(inside))]
    assert sorted(found) == sorted(wanted)


def test_kernel_and_modularity_cover_every_node():
    for name in ("hypergraph/kernel", "hypergraph/modularity"):
        edges = lift(PLAIN, name).complex.hyperedges
        assert {v for edge in edges for v in edge} == set(range(20))


def test_points_lift_to_triangulations():
    cloud = np.random.default_rng(1).random((25, 2))
    whole = lift(cloud, "simplicial/delaunay").complex
    assert whole.check().betti() == (1, 0, 0)
    everything = lift(cloud, "simplicial/alpha", radius=1e6).complex
    assert everything.sizes == whole.sizes
    assert lift(cloud, "simplicial/alpha", radius=1e-6).sizes == (25,)
    groups = lift(cloud, "hypergraph/voronoi", centres=4).complex.hyperedges
    assert sorted(v for group in groups for v in group) == list(range(25))
    near = lift(cloud, "simplicial/rips", threshold=0.2, max_dim=1).complex.vertices(1)
    wanted = {
        (i, j) for i, j in combinations(range(25), 2) if np.linalg.norm(cloud[i] - cloud[j]) <= 0.2
    }
    assert set(near) == wanted


def test_complexes_go_on_to_combinatorial_ones():
    triangle = clique_complex(nx.complete_graph(3))
    assert lift(triangle, "combinatorial/coface").sizes == (3, 3, 1)
    two = clique_complex([(0, 1), (1, 2), (0, 2), (1, 3), (2, 3)])
    held = lift(two, "combinatorial/coface").complex
    assert held.vertices(3) == [(0, 1, 2, 3)]  # the edge 1-2 has two triangles
    assert held.incidence(2, 3).toarray().tolist() == [[1], [1]]
    faces = lift(Hypergraph(4, [(0, 1, 2), (2, 3)]), "combinatorial/faces").complex
    assert faces.sizes == (4, 4, 1)


def test_molecules_have_their_rings_whatever_the_names():
    source = mutag()
    graph = source.complex
    rings = sorted(len(c) for c in cycle_basis(graph))
    parts = nx.number_connected_components(nx.Graph(graph.edges.tolist()))
    assert len(rings) == graph.m - graph.n + parts == 538
    other = graph.relabelled(np.random.default_rng(1).permutation(graph.n))
    assert sorted(len(c) for c in cycle_basis(other)) == rings
    assert max(rings) <= 8


def test_features_for_signed_models_turn_with_the_cell():
    held = clique_complex(PLAIN)
    x = np.random.default_rng(0).standard_normal((20, 2)).astype(np.float32)
    topo = lift(as_graph(PLAIN, x=x), "simplicial/clique")
    found = lift_features(topo, method="gradient")
    u, v = held.simplices(1).T
    np.testing.assert_allclose(found[1], x[v] - x[u], atol=1e-6)
    assert np.abs(found[2]).max() < 1e-5  # B_2^T B_1^T = 0
    again = [lift_features(topo, method="random")[2] for _ in range(2)]
    assert np.array_equal(*again)
    assert again[0].shape == (held.size(2), 2)


def test_concat_lines_nodes_up():
    topo = lift(as_graph([(0, 1), (1, 2)], x=[[1.0], [2.0], [3.0]]), "simplicial/clique")
    assert lift_features(topo, method="concat")[1].tolist() == [[1, 2], [2, 3]]
    assert [s.ravel().tolist() for s in lift_features(topo, method="set")[1]] == [[1, 2], [2, 3]]


def test_foretold_sizes_are_right_where_samples_are_whole():
    graph = as_graph(nx.les_miserables_graph())
    assert predicted_sizes(graph, 3) == list(clique_complex(graph, max_dim=3).sizes)


CROWD = nx.complete_graph(200)


@pytest.mark.parametrize(
    ("lifting", "params"),
    [
        ("simplicial/clique", {"max_dim": 4}),
        ("simplicial/khop", {"max_dim": 4}),
        ("simplicial/dowker", {"max_dim": 4}),
        ("simplicial/line", {"max_dim": 2, "max_simplices": 100_000}),
        ("simplicial/rips", {"max_dim": 4}),
        ("cell/cycle", {}),
    ],
)
def test_what_would_explode_is_refused_with_its_size(lifting, params):
    with pytest.raises(ValueError, match=r"[0-9],[0-9]{3}.*(allowed|at most)"):
        lift(CROWD, lifting, **params)


def test_points_too_close_are_refused_before_they_are_paired():
    cloud = np.random.default_rng(0).random((500, 2))
    with pytest.raises(TooManySimplices, match="pairs of points"):
        lift(cloud, "simplicial/rips", threshold=5.0, max_simplices=10_000)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: lift(PLAIN, "cell/nope"), "from graph there are cell/cycle"),
        (lambda: lift(PLAIN, "sheaf/x"), "domains are"),
        (lambda: lift(Hypergraph(2, [(0, 1)]), "cell/cycle"), "no lifting from hypergraph to cell"),
        (lambda: lift(PLAIN, "simplicial/clique", hops=2), "no parameter hops"),
        (lambda: lift(PLAIN, "simplicial/clique", max_dim=0), "max_dim must be 1"),
        (lambda: lift(PLAIN, "simplicial/khop", hops=0), "hops must be 1"),
        (lambda: lift(PLAIN, "hypergraph/knn"), "needs node features"),
        (lambda: lift(PLAIN, "hypergraph/mapper", gain=1.0), "gain"),
        (lambda: lift(PLAIN, "hypergraph/kernel", fraction=0.0), "fraction"),
        (lambda: lift(PLAIN, "cell/cycle", max_cell_length=2), "max_len"),
        (lambda: lift_features(lift(PLAIN)), "no node features"),
        (lambda: lift_features(lift(PLAIN), np.ones((3, 1))), "20 nodes"),
        (lambda: lift_features(lift(PLAIN), np.ones((20, 1)), method="x"), "method must be"),
        (
            lambda: lift_features(lift(PLAIN, "cell/cycle"), np.ones((20, 1)), method="concat"),
            "one size",
        ),
        (
            lambda: lift_features(
                lift(PLAIN, "hypergraph/khop"), np.ones((20, 1)), method="gradient"
            ),
            "oriented",
        ),
        (lambda: Hypergraph(3, [()]), "empty"),
        (lambda: Hypergraph(3, [(0, 3)]), "leaves"),
        (lambda: CombinatorialComplex(3, {1: [(0, 1, 2)], 2: [(0, 1)]}), "ranks must grow"),
        (lambda: read_edge_list("# nothing\n"), "no edge"),
        (lambda: read_edge_list("a b\n" * 9, max_edges=5), "more than 5"),
        (lambda: as_graph([(0, 5)], 3), "allowed are 0..2"),
        (lambda: as_graph([(0, 1)], x=[[np.nan], [1.0]]), "NaN"),
        (lambda: as_graph([(0, 1)], y=[0.5, 1.0]), "whole numbers"),
    ],
)
def test_bad_input_says_what_is_wanted(make, said):
    with pytest.raises(ValueError, match=said):
        make()


def test_odd_graphs_are_lifted_everywhere():
    """Empty, edgeless, disconnected, with loops and double edges."""
    messy = as_graph([(0, 1), (0, 1), (2, 2), (3, 4)], 7)
    assert dict(messy.dropped) == {"self_loops": 1, "duplicates": 1, "directed": 0}
    for graph in (messy, Graph(4, np.zeros((0, 2), dtype=np.int64))):
        dressed = as_graph(graph, x=np.eye(graph.n))
        for name in known("graph"):
            topo = lift(dressed, name)
            nodes = graph.m if name == "simplicial/line" else graph.n
            assert topo.sizes[0] == nodes, name
            assert set(topo.lifting) == {"name", *parameters("graph", name)}


def test_a_directed_graph_is_made_symmetric_aloud():
    with pytest.warns(UserWarning, match="2 of 2 edges go one way only"):
        graph = as_graph(nx.DiGraph([(0, 1), (1, 2)]))
    assert graph.edges.tolist() == [[0, 1], [1, 2]]
    assert graph.dropped["directed"] == 2
