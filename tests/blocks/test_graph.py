"""Graph blocks against torch-geometric, networkx and their definitions."""

import networkx as nx
import pytest
import torch

from labcore.blocks import graph

DOUBLE = torch.float64


def random_graph(n: int = 9, seed: int = 0) -> torch.Tensor:
    drawn = torch.rand(n, n, generator=torch.Generator().manual_seed(seed))
    upper = (drawn < 0.4).double().triu(1)
    return upper + upper.T


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=DOUBLE, generator=torch.Generator().manual_seed(seed))


def karate() -> torch.Tensor:
    return torch.from_numpy(nx.to_numpy_array(nx.karate_club_graph(), weight=None))


def test_laplacian_equals_networkx() -> None:
    club = nx.karate_club_graph()
    wanted = torch.from_numpy(nx.laplacian_matrix(club, weight=None).toarray()).double()
    assert torch.equal(graph.laplacian(karate()), wanted)


@pytest.mark.parametrize("self_loops", [True, False])
def test_normalised_matrices(self_loops: bool) -> None:
    a = random_graph()
    a[3] = a[:, 3] = 0  # a node without edges
    full = a + torch.eye(9) if self_loops else a
    d = full.sum(1)
    found = {k: graph.normalised(a, kind=k, self_loops=self_loops) for k in graph.KINDS}
    for i in range(9):
        for j in range(9):
            if full[i, j]:
                value = full[i, j]
                assert found["sym"][i, j] == pytest.approx(value / (d[i] * d[j]).sqrt())
                assert found["row"][i, j] == pytest.approx(value / d[i])
                assert found["col"][i, j] == pytest.approx(value / d[j])
            else:
                assert all(m[i, j] == 0 for m in found.values())


def test_gcn_layer_equals_torch_geometric() -> None:
    nn = pytest.importorskip("torch_geometric.nn")
    a, x = random_graph(), draw(9, 5)
    layer = nn.GCNConv(5, 3).double()
    layer.bias.data = draw(3, seed=4)
    edges = a.nonzero().T
    ours = graph.gcn_layer(graph.normalised(a), x, layer.lin.weight.T, layer.bias)
    torch.testing.assert_close(ours, layer(x, edges), rtol=1e-9, atol=1e-12)


def test_layers_side_by_side_are_each_alone() -> None:
    s, x, w, b = graph.normalised(random_graph()), draw(9, 5), draw(3, 5, 4), draw(3, 1, 4, seed=7)
    together = graph.gcn_layer(s, x, w, b)
    for i in range(3):
        torch.testing.assert_close(together[i], graph.gcn_layer(s, x, w[i], b[i, 0]))


def test_gat_layer_equals_torch_geometric() -> None:
    nn = pytest.importorskip("torch_geometric.nn")
    a, x = random_graph(), draw(9, 5)
    layer = nn.GATConv(5, 3, bias=False).double()
    mask = (a + torch.eye(9)) > 0
    ours, weights = graph.gat_layer(
        mask, x, layer.lin.weight.T, layer.att_src[0, 0], layer.att_dst[0, 0], return_weights=True
    )
    torch.testing.assert_close(ours, layer(x, a.nonzero().T), rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(weights.sum(-1), torch.ones(9, dtype=DOUBLE))


def test_quadratic_form_is_the_sum_over_edges() -> None:
    a, x = random_graph(), draw(9, 4)
    lap = graph.laplacian(a)
    pairs = a.triu().nonzero()
    wanted = sum((x[i] - x[j]) ** 2 for i, j in pairs)
    torch.testing.assert_close(graph.dirichlet(lap, x), wanted)
    first = torch.zeros(34, dtype=DOUBLE)
    first[0] = 1
    assert graph.dirichlet(graph.laplacian(karate()), first) == 16


def test_diffusion_converges_below_the_limit_only() -> None:
    lap = graph.laplacian(karate())
    limit = 2 / torch.linalg.eigvalsh(lap)[-1]
    assert limit == pytest.approx(0.110274, abs=1e-6)
    x = torch.zeros(34, dtype=DOUBLE)
    x[0] = 1
    calm = graph.diffuse(lap, x, step=0.95 * float(limit), n=600)
    torch.testing.assert_close(calm[-1], torch.full((34,), 1 / 34, dtype=DOUBLE))
    torch.testing.assert_close(calm.sum(1), torch.ones(601, dtype=DOUBLE))
    wild = graph.diffuse(lap, x, step=1.05 * float(limit), n=600)
    assert wild[-1].abs().max() > 1e3
    assert torch.equal(calm[1], x - 0.95 * float(limit) * lap @ x)


def test_layers_follow_a_renumbering() -> None:
    a, x, w = random_graph(), draw(9, 5), draw(5, 3, seed=2)
    p = torch.eye(9, dtype=DOUBLE)[torch.randperm(9, generator=torch.Generator().manual_seed(1))]
    before = graph.gcn_layer(graph.normalised(a), x, w)
    after = graph.gcn_layer(graph.normalised(p @ a @ p.T), p @ x, w)
    torch.testing.assert_close(after, p @ before)


def test_return_probabilities_of_the_specification() -> None:
    found = graph.random_walk_embedding(karate(), 3)
    assert found[:, 0].abs().max() == 0
    assert found[0].tolist() == pytest.approx([0, 0.324653, 0.101007], abs=1e-6)


def test_a_batch_equals_one_by_one() -> None:
    graphs = [(random_graph(n, n), draw(n, 4, seed=n)) for n in (3, 7, 5)]
    w = draw(4, 2, seed=9)
    batch = graph.batch_graphs(graphs)
    together = graph.gcn_layer(graph.normalised(batch.adjacency), batch.x, w)
    alone = [graph.gcn_layer(graph.normalised(a), x, w) for a, x in graphs]
    torch.testing.assert_close(together, torch.cat(alone))
    torch.testing.assert_close(batch.mean(together), torch.stack([h.mean(0) for h in alone]))


def test_directed_edges_point_from_column_to_row() -> None:
    a = graph.adjacency(torch.tensor([[0], [1]]), 2, directed=True)
    assert a.tolist() == [[0, 0], [1, 0]]
    assert graph.degree(a).tolist() == [0, 1]
    with pytest.raises(ValueError, match="not symmetric"):
        graph.laplacian(a)
    assert graph.laplacian(a, directed=True).tolist() == [[0, 0], [-1, 1]]


def test_bad_inputs_are_named() -> None:
    with pytest.raises(ValueError, match=r"square matrix.*\(2, 3\)"):
        graph.laplacian(torch.zeros(2, 3))
    with pytest.raises(ValueError, match="nodes 0..5, n=3"):
        graph.adjacency(torch.tensor([[0, 1], [5, 2]]), 3)
    with pytest.raises(ValueError, match="kind must be one of"):
        graph.normalised(torch.zeros(2, 2), kind="left")
    with pytest.raises(ValueError, match="must not be negative"):
        graph.normalised(-torch.ones(2, 2))
    with pytest.raises(ValueError, match="hears nobody"):
        graph.gat_layer(torch.eye(2) > 2, draw(2, 1), draw(1, 1), draw(1), draw(1))
    with pytest.raises(ValueError, match="has 2 nodes, x has 3"):
        graph.diffuse(torch.zeros(2, 2), torch.zeros(3), step=0.1, n=1)
    with pytest.raises(ValueError, match=r"edges must be \(2, e\).*\(3, 2\)"):
        graph.adjacency(torch.zeros(3, 2, dtype=torch.long), 3)
    with pytest.raises(ValueError, match="has 2 nodes, x has 3"):
        graph.dirichlet(torch.zeros(2, 2), torch.zeros(3))
    with pytest.raises(ValueError, match="graph 1 has"):
        graph.batch_graphs([(torch.zeros(2, 2), draw(2, 1)), (torch.zeros(2, 2), draw(3, 1))])
    with pytest.raises(ValueError, match="empty"):
        graph.batch_graphs([])
    with pytest.raises(ValueError, match="k must be"):
        graph.random_walk_embedding(torch.zeros(2, 2), 0)


def test_layers_name_what_does_not_fit() -> None:
    s, x = torch.eye(2), torch.zeros(2, 3)
    with pytest.raises(ValueError, match=r"2 nodes, x of shape \(3, 3\)"):
        graph.gcn_layer(s, torch.zeros(3, 3), torch.zeros(3, 2))
    with pytest.raises(ValueError, match=r"3 features, weight of shape \(4, 2\)"):
        graph.gcn_layer(s, x, torch.zeros(4, 2))
    with pytest.raises(ValueError, match=r"3 features, weight of shape \(4, 2\)"):
        graph.gat_layer(s > 0, x, torch.zeros(4, 2), torch.zeros(2), torch.zeros(2))
    with pytest.raises(ValueError, match=r"width 2 .* \(3,\) and \(2,\)"):
        graph.gat_layer(s > 0, x, torch.zeros(3, 2), torch.zeros(3), torch.zeros(2))
