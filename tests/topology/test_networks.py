"""Networks of every domain: what they need, what they ignore, how they turn and batch."""

from dataclasses import replace

import networkx as nx
import numpy as np
import pytest
import torch

from labcore.topology import layers
from labcore.topology.cells import CellComplex
from labcore.topology.chains import as_torch
from labcore.topology.complexes import SimplicialComplex, clique_complex
from labcore.topology.families import Hypergraph
from labcore.topology.graphs import as_graph
from labcore.topology.liftings import TopoData, lift
from labcore.topology.mamba_model import SimplicialMamba
from labcore.topology.matrices import matrices
from labcore.topology.models import MODELS, Network, build
from labcore.topology.pipeline import tensors
from labcore.topology.surfaces import disjoint_union, surface

PLAIN = nx.powerlaw_cluster_graph(16, 3, 0.6, seed=2)
WAYS = {
    "graph": "graph/identity",
    "simplicial": "simplicial/clique",
    "cell": "cell/cycle",
    "hypergraph": "hypergraph/khop",
}
NETS = [(name, domain) for name, m in MODELS.items() if m.layer for domain in m.domains]


def lifted(graph, domain):
    if domain == "combinatorial":
        return lift(lift(graph, "simplicial/clique"), "combinatorial/coface")
    return lift(graph, WAYS[domain])


def dressed(seed=0):
    x = np.random.default_rng(seed).standard_normal((16, 4)).astype(np.float32)
    return as_graph(PLAIN, x=x)


def network(name, given, **options):
    torch.manual_seed(0)
    return build(name, given, 8, 3, level="node", layers=2, options=options).eval()


@pytest.mark.parametrize(("name", "domain"), NETS, ids=str)
def test_every_network_is_equivariant_to_names_of_nodes(name, domain):
    graph = dressed()
    order = np.random.default_rng(1).permutation(16)
    features = "gradient" if name == "sccnn" else "projected_sum"  # cochains, for signed networks
    first, second = lifted(graph, domain), lifted(graph.relabelled(order), domain)
    if domain == "cell":  # which of equally short cycles are taken depends on names: rename them
        place = np.argsort(order)
        cells = [place[list(cell)].tolist() for cell in first.complex.cells]
        second = replace(second, complex=CellComplex(16, second.complex.simplices(1), cells))
    found = []
    for topo in (first, second):
        given = tensors(topo, name, features)
        with torch.no_grad():
            found.append(network(name, given)(given))
    torch.testing.assert_close(found[1], found[0][order], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("name", "domain"), NETS, ids=str)
def test_every_network_learns_in_every_parameter(name, domain):
    given = tensors(lifted(dressed(), domain), name)
    net = network(name, given).train()
    net(given).square().sum().backward()
    idle = [n for n, p in net.named_parameters() if p.grad is None]
    assert all(n.startswith(("layers", "norms")) for n in idle), idle
    unheard = {n.split(".")[3] for n in idle if n.startswith("layers.0")}
    assert all(way not in given.m for way in unheard), unheard


def test_only_the_matrices_that_a_model_names_are_made():
    topo = lifted(dressed(), "simplicial")
    assert set(tensors(topo, "scn").m) == {
        *(f"{way}{k}" for way, k in (("up", 0), ("up", 1), ("down", 1), ("down", 2))),
        "lower1",
        "lower2",
    }
    assert not tensors(topo, "mamba").m
    assert MODELS["gcn"].required_matrices == ("gcn",)


def test_signed_layer_turns_with_an_edge():
    """An edge turned round: its feature changes sign, nothing else does."""
    held = clique_complex(PLAIN)
    torch.manual_seed(0)
    layer = layers.SignedSccnn(5, (0, 1, 2))
    x = {k: torch.randn(held.size(k), 5) for k in range(3)}
    families = MODELS["sccnn"].layer.needs
    m = matrices(held, families, signed=True)
    q = np.ones(held.size(1))
    q[[2, 7]] = -1
    turn = torch.from_numpy(q).float()[:, None]
    turned = dict(m)
    for name, matrix in m.items():
        dense = matrix.to_dense()
        rows = {"above1", "up1", "down1", "below1"}  # what arrives at edges
        columns = {"up1", "down1", "above0", "below2"}  # what edges send
        dense = dense * turn if name in rows else dense
        turned[name] = dense * turn.T if name in columns else dense
    before = layer(x, m)
    after = layer({**x, 1: x[1] * turn}, turned)
    torch.testing.assert_close(after[1], before[1] * turn, rtol=1e-4, atol=1e-5)
    for k in (0, 2):
        torch.testing.assert_close(after[k], before[k], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["scn", "san", "sccn", "sccnn-unsigned", "cwn", "cccn", "mamba"])
def test_a_batch_is_its_members_side_by_side(name):
    parts = [
        surface("torus", 8, 0).complex(),
        surface("torus", 8, 1).complex(),
        surface("torus", 8, 2).complex(),
    ]

    def given(held, batch):
        return tensors(TopoData("simplicial", held, {0: np.ones((held.n, 2))}), name, batch=batch)

    whole, batch = disjoint_union(parts)
    together = given(whole, batch)
    torch.manual_seed(0)
    net = build(name, together, 8, 2, level="graph", layers=2, options={}).eval()
    if name != "mamba":  # Laplacians are divided by a bound of the whole batch: compare shares
        bound = {k: v for k, v in together.m.items() if k[:2] in ("up", "do", "ho")}
        assert all(torch.isfinite(v.to_dense()).all() for v in bound.values())
    with torch.no_grad():
        one = net(together)
        alone = torch.cat([net(given(p, np.zeros(p.n, dtype=np.int64))) for p in parts])
    if name in ("cwn", "cccn", "mamba"):  # row by row, so exactly the same
        torch.testing.assert_close(one, alone, rtol=1e-4, atol=1e-5)
    assert one.shape == alone.shape == (3, 2)


def test_empty_ranks_in_a_batch_are_fine():
    parts = [clique_complex([(0, 1)], 2), clique_complex(nx.complete_graph(4), max_dim=2)]
    whole, batch = disjoint_union(parts)
    topo = TopoData("simplicial", whole, {0: np.ones((whole.n, 2), dtype=np.float32)})
    given = tensors(topo, "cwn", batch=batch)
    out = build("cwn", given, 4, 2, level="graph", layers=1, options={})(given)
    assert out.shape == (2, 2)


def test_gcn_matrix_equals_torch_geometrics():
    pyg = pytest.importorskip(
        "torch_geometric.nn.conv.gcn_conv", reason="lab bench --setup-peers torch-geometric"
    )
    graph = as_graph(PLAIN)
    both = np.concatenate([graph.edges, graph.edges[:, ::-1]]).T
    index, weight = pyg.gcn_norm(torch.from_numpy(both.copy()), None, graph.n)
    dense = torch.zeros(16, 16)
    dense[index[1], index[0]] = weight
    ours = matrices(graph, ("gcn",))["gcn"].to_dense()
    torch.testing.assert_close(ours, dense, rtol=1e-6, atol=1e-6)


def test_attention_equals_the_dense_softmax():
    g = torch.Generator().manual_seed(0)
    h, scores = torch.randn(6, 3, generator=g), torch.randn(6, 2, generator=g)
    mask = torch.rand(6, 6, generator=g) < 0.5
    mask |= torch.eye(6, dtype=torch.bool)
    found = layers.attend(h, scores, torch.stack(torch.nonzero(mask, as_tuple=True)))
    dense = torch.nn.functional.leaky_relu(scores[:, :1] + scores[:, 1][None], 0.2)
    wanted = dense.masked_fill(~mask, -torch.inf).softmax(1) @ h
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)


def test_unigcn_weighs_by_degrees():
    held = Hypergraph(3, [(0, 1, 2), (1, 2)])
    uni = matrices(held, ("uni",))["uni"].to_dense()
    d = np.array([1, 2, 2])
    mean = np.array([5 / 3, 2])
    wanted = held.incidence().toarray() / np.sqrt(d)[:, None] / np.sqrt(mean)[None]
    np.testing.assert_allclose(uni.numpy(), wanted, rtol=1e-6)


@pytest.mark.parametrize("how", ["sum", "mean", "max"])
def test_graphs_are_pooled_by_their_own_nodes(how):
    from labcore.topology.mamba_model import pool_graphs

    x = torch.tensor([[1.0], [3.0], [-5.0]])
    wanted = {"sum": [[4.0], [-5.0]], "mean": [[2.0], [-5.0]], "max": [[3.0], [-5.0]]}[how]
    assert pool_graphs(x, torch.tensor([0, 0, 1]), how).tolist() == wanted


@pytest.mark.parametrize("kind", ["mamba", "gru", "lstm", "transformer", "s4d", "none"])
def test_every_sequence_model_reads_and_explains(kind):
    given = tensors(lifted(dressed(), "simplicial"), "mamba")
    torch.manual_seed(0)
    net = SimplicialMamba(4, 8, 3, sequence_model=kind, node_chunk=5).eval()
    whole = SimplicialMamba(4, 8, 3, sequence_model=kind).eval()
    whole.load_state_dict(net.state_dict())
    a, b = (one(given.x[0], given.operators) for one in (net, whole))
    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
    seen = net.explain(given.x[0], given.operators)
    assert seen["token_norm"].shape == (2, 16, 3)
    assert ("delta" in seen) == ("gate" in seen) == (kind == "mamba")


def test_edges_are_scored_by_their_ends():
    given = tensors(lifted(dressed(), "simplicial"), "mamba")
    net = SimplicialMamba(4, 8, 1, task_level="edge").eval()
    ends = torch.tensor([[0, 3], [1, 2]])
    out = net(given.x[0], given.operators, edges=ends)
    torch.testing.assert_close(out, net(given.x[0], given.operators, edges=ends.flip(0)))
    with pytest.raises(ValueError, match="needs edges"):
        net(given.x[0], given.operators)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Network("mamba", {0: 1}, 4, 2), "is no Network"),
        (lambda: Network("gcnn", {0: 1}, 4, 2), "unknown model"),
        (lambda: Network("scn", {0: 1}, 4, 2, readout="up"), "readout"),
        (lambda: tensors(lifted(dressed(), "graph"), "scn"), "does not read graph data: .*gcn"),
        (lambda: matrices(as_graph(PLAIN), ("up",)), "a graph has"),
        (lambda: matrices(Hypergraph(1, [(0,)]), ("up",)), "a hypergraph has"),
        (lambda: matrices(clique_complex(PLAIN), ("gcn",)), "a complex has no"),
        (lambda: SimplicialMamba(4, 8, 3, sequence_model="rnn"), "sequence_model must be"),
        (lambda: SimplicialMamba(4, 8, 3, graph_pooling="sort"), "graph_pooling must be"),
        (lambda: SimplicialMamba(4, 8, 3, bidirectional="twice"), "mode must be"),
        (lambda: SimplicialMamba(4, 8, 3, d_state=0), "d_state"),
    ],
)
def test_bad_models_say_what_is_wanted(make, said):
    with pytest.raises(ValueError, match=said):
        make()


def test_batch_ids_must_be_in_order():
    given = tensors(lifted(dressed(), "simplicial"), "mamba")
    net = SimplicialMamba(4, 8, 3, task_level="graph")
    ids = torch.tensor([1] + [0] * 15)
    with pytest.raises(ValueError, match="sorted and contiguous"):
        net(given.x[0], given.operators, ids)
    with pytest.raises(ValueError, match="3 entries for 16"):
        net(given.x[0], given.operators, torch.zeros(3, dtype=torch.long))


def test_sparse_matrices_are_csr_of_the_right_values():
    held = SimplicialComplex.from_facets([(0, 1, 2), (2, 3)])
    b = held.boundary(2)
    assert as_torch(b).to_dense().tolist() == b.toarray().tolist()
