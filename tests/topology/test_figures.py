"""Figures and what they are fed: arrays, alt texts with numbers, refusals."""

import networkx as nx
import numpy as np
import pytest

from labcore import viz
from labcore.blocks.selective import combine_counts
from labcore.topology import explorer, figures
from labcore.topology.experiment import load_result
from labcore.topology.figures_scan import tree_edges
from labcore.topology.hodge import hodge_decompose, holed_square, mixed_flow
from labcore.topology.scan_view import DIRECTIONS, branch_gradients, hidden_attention
from labcore.topology.tally import distinct

CLUB = ("karate", "simplicial/clique", 3)


@pytest.fixture(scope="module")
def runs():
    return load_result().tables["runs"]


@pytest.fixture(scope="module")
def club():
    return explorer.view(*CLUB)


def finished(fig):
    """A figure has a title, an alt text with a number, and titled axes."""
    alt = viz.describe(fig)
    assert any(c.isdigit() for c in alt), alt
    assert viz.caption(fig)
    assert fig.layout.title.text
    return fig


@pytest.mark.parametrize("name", explorer.GRAPHS)
@pytest.mark.parametrize("lifting", explorer.LIFTS)
def test_every_small_graph_is_lifted_and_drawn(name, lifting):
    seen = explorer.view(name, lifting, 2)
    fig = finished(figures.complex_drawing(seen.places, seen.edges, seen.cells, node=0))
    assert len(fig.data) >= 2
    assert str(seen.sizes[0]) in seen.facts
    if seen.spectra:
        finished(figures.spectra(seen.spectra))
        if seen.betti:
            zeros = [int((np.abs(v) < 1e-8).sum()) for v in seen.spectra.values()]
            assert zeros == [seen.betti[k] for k in seen.spectra]


def test_the_harmonic_flow_is_in_the_kernel(club):
    held = explorer.lifted_small(*CLUB)[1].complex
    assert np.abs(held.laplacian(1) @ club.harmonic).max() < 1e-9
    finished(
        figures.complex_drawing(club.places, club.edges, club.cells, node=33, flow=club.harmonic)
    )
    assert explorer.view("karate", "cell/cycle", 2).harmonic is None  # every cycle is filled


@pytest.mark.parametrize("order", explorer.ORDERS)
def test_tokens_come_in_the_wanted_order(order):
    down = explorer.node_tokens(*CLUB, 33)
    found = explorer.node_tokens(*CLUB, 33, order=order)
    assert sorted(found.ranks) == [1, 2, 3]
    for rank, row in zip(found.ranks, found.values, strict=False):
        np.testing.assert_array_equal(row, down.values[down.ranks.index(rank)])
    assert found.names[-1] == "itself"
    finished(figures.token_strip(found.values, found.ranks, node=33))


@pytest.mark.parametrize("mode", DIRECTIONS)
def test_hidden_attention_shows_the_direction(mode):
    found = explorer.node_tokens(*CLUB, 33)
    matrix = hidden_attention(found.values, scale=1.0, mode=mode)
    upper = np.abs(np.triu(matrix, 1)).max()
    lower = np.abs(np.tril(matrix, -1)).max()
    assert (upper == 0) == (mode == "forward")
    assert (lower == 0) == (mode == "backward")
    finished(figures.hidden_attention(matrix, found.names, mode=mode))


def test_hidden_attention_is_the_scan():
    """The matrix applied to the inputs gives what the block's scan gives."""
    import torch

    from labcore.blocks.mamba import MambaBlock
    from labcore.blocks.selective import mamba_scan
    from labcore.topology.scan_view import mixing

    torch.manual_seed(0)
    block, x = MambaBlock(6).eval(), torch.randn(5, 6)
    with torch.no_grad():
        u, delta, B, C = block.inner(x[None])
        wanted = mamba_scan(u, delta, -torch.exp(block.A_log), B, C)[0]
        found = torch.einsum("tse,se->te", mixing(block, x), u[0])
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


def test_a_larger_step_forgets_more():
    tokens = explorer.node_tokens(*CLUB, 33).values
    small, large = (hidden_attention(tokens, scale=s, mode="forward") for s in (0.1, 10.0))
    assert large[3, 0] / large[3, 3] < small[3, 0] / small[3, 3]


def test_only_the_published_mode_starves_a_branch():
    norms = {mode: branch_gradients(mode) for mode in ("true", "as_published")}
    assert norms["as_published"]["backward"] == 0
    assert min(norms["true"].values()) > 0
    finished(figures.branch_bars(norms))


@pytest.mark.parametrize("name", ["sequential", "hillis-steele", "blelloch"])
def test_trees_do_as_much_work_as_is_counted(name):
    for length in (2, 4, 8, 16):
        edges = tree_edges(length, name)
        wanted = combine_counts(length)[name]
        if name == "blelloch":  # the root's way down is drawn, its combination is free
            assert len(edges) == wanted[0]
        else:
            assert (len(edges), max(r for r, _, _ in edges)) == wanted
        finished(figures.scan_tree(length, algorithm=name))
    assert len(figures.scan_tree(8, algorithm=name, rounds=1).data) < len(
        figures.scan_tree(8, algorithm=name).data
    )


def test_matrices_and_flows_are_drawn():
    for kind in explorer.MATRICES:
        found = explorer.matrix_of(*CLUB, kind=kind, rank=1, mode="signed")
        finished(figures.matrix_signs(found, name=kind, rows="r", columns="c"))
    assert (
        explorer.matrix_of("les miserables", "simplicial/clique", 3, "hodge", 2, "signed") is None
    )
    incidence = explorer.matrix_of("karate", "hypergraph/khop", 2, "boundary", 1, "signed")
    assert incidence.shape == (34, 34)
    square, places = holed_square(60)
    flow = mixed_flow(square, places)
    split = hodge_decompose(square, flow)
    parts = {"flow": flow, "gradient": split.gradient, "curl": split.curl}
    finished(figures.flow_parts(places, square.simplices(1), parts, part="curl"))


def test_rings_of_the_minimum_basis_stay():
    lengths = [explorer.ring_lengths("les miserables", seed) for seed in range(3)]
    assert len({tuple(sorted(one["minimum"])) for one in lengths}) == 1
    assert len({tuple(sorted(one["fundamental"])) for one in lengths}) > 1
    finished(figures.ring_bars(lengths[0], graph="les miserables", relabel=0))


def test_the_gallery_has_every_lifting():
    views = explorer.gallery("florentine")
    assert [name for name, _ in views] == list(explorer.LIFTS)
    finished(figures.lifting_gallery(views, graph="florentine"))


def test_benchmark_figures_show_the_committed_runs(runs):
    fig = finished(figures.table_map(runs))
    data = list(fig.data[0].x)
    assert {"karate", "mutag", "digits", "surfaces", "torus-or-klein"} <= set(data)
    for name in data:
        finished(figures.leaderboard(runs, data=name))
        finished(figures.cost(runs, data=name))
    finished(figures.domain_gain(runs))
    finished(figures.ablation(runs))
    curve = [
        {"epoch": float(e), "train": 0.9, "val": 0.1 * e, "test": 0.5, "val_loss": 1.0}
        for e in (1, 5, 9)
    ]
    finished(figures.race({"GCN": curve, "SCN": curve[::-1]}, data="karate"))
    finished(figures.learning_curve(curve, label="GCN"))
    with pytest.raises(ValueError, match="nothing was run"):
        figures.leaderboard(runs, data="imagenet")
    with pytest.raises(ValueError, match="no ablation"):
        figures.ablation([row for row in runs if "ablation" not in row["label"]])
    assert "digits-600" in distinct(runs, "data")


def test_ones_own_edge_list_is_shown():
    text = "ann bob\nbob cid\ncid ann\ncid cid\nann bob\n"
    seen = explorer.view("", "simplicial/clique", 2, text=text)
    assert seen.sizes == (3, 3, 1)
    assert seen.names == ("ann", "bob", "cid")
    assert "1 self loops, 1 duplicates" in seen.facts


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: explorer.view("nobody", "simplicial/clique", 2), "graph must be one of"),
        (lambda: explorer.view("", "simplicial/clique", 2, text="lonely"), "one name"),
        (
            lambda: explorer.view(
                "", "simplicial/clique", 2, text="\n".join(f"a{i} b{i}" for i in range(200))
            ),
            "at most 300 nodes",
        ),
        (lambda: explorer.view("les miserables", "simplicial/dowker", 4), "allowed"),
        (lambda: explorer.node_tokens(*CLUB, -1), "0 or more"),
        (lambda: explorer.node_tokens(*CLUB, 0, order="random"), "order must be"),
        (lambda: explorer.matrix_of(*CLUB, "spy", 1, "signed"), "matrix must be"),
        (lambda: hidden_attention(np.ones((2, 4), np.float32), scale=1, mode="x"), "mode must be"),
        (lambda: tree_edges(6, "blelloch"), "power of two"),
        (lambda: tree_edges(4, "magic"), "algorithm must be"),
        (lambda: holed_square(5), "30 nodes"),
        (lambda: hodge_decompose(holed_square(40)[0], np.ones(3)), "one finite number"),
    ],
)
def test_bad_input_says_what_is_wanted(make, said):
    with pytest.raises(ValueError, match=said):
        make()


def test_renamed_graphs_are_the_same_graph():
    plain, other = explorer.small_graph("karate"), explorer.small_graph("karate", relabel=3)
    same = nx.is_isomorphic(nx.Graph(plain.edges.tolist()), nx.Graph(other.edges.tolist()))
    assert same
    assert plain.names != other.names
