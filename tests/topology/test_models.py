"""Scan, block, sequences and models: parity, invariance, bad input."""

import networkx as nx
import numpy as np
import pytest
import torch

from labcore.blocks import fused_scan
from labcore.blocks.mamba import Bidirectional, MambaBlock
from labcore.blocks.selective import SCANS, mamba_scan, segsum, ssd
from labcore.topology.complexes import clique_complex
from labcore.topology.data import Source, folds, karate, split
from labcore.topology.graphs import as_graph
from labcore.topology.liftings import lift
from labcore.topology.mamba_model import SimplicialMamba
from labcore.topology.pipeline import run_choice
from labcore.topology.sequences import (
    NodeSequencer,
    neighbor_batches,
    rank_operators,
    tokens_reference,
)


def inputs(b=3, t=7, e=6, n=4, dtype=torch.float32):
    g = torch.Generator().manual_seed(t)
    shapes = [(b, t, e), (b, t, e), (e, n), (b, t, n), (b, t, n)]
    u, delta, A, B, C = (torch.randn(s, generator=g, dtype=dtype) for s in shapes)
    return [x.requires_grad_() for x in (u, 0.3 * delta.abs(), -A.abs() - 0.1, B, C)]


LENGTHS = [1, 2, 3, 4, 5, 7, 8, 16, 31, 32, 33, 100, 1000]
SLOW = ("sequential", "associative", "blelloch")  # tried on short sequences and one long one


@pytest.mark.parametrize(("b", "n"), [(1, 1), (3, 4), (3, 16)])
@pytest.mark.parametrize("t", LENGTHS)
@pytest.mark.parametrize("method", [m for m in SCANS if m not in ("reference", *SLOW)])
def test_scans_equal_the_float64_loop(method, t, b, n):
    agree(method, b, t, n)


@pytest.mark.parametrize("t", [1, 4, 7, 33, 100])
@pytest.mark.parametrize("method", SLOW)
def test_the_teaching_scans_equal_it_too(method, t):
    agree(method, 3, t, 4)


def agree(method, b, t, n):
    """Outputs and all gradients to 1e-5 of their largest value, the reference in float64."""
    x = inputs(b, t, 6, n)
    exact = [v.detach().double().requires_grad_() for v in x]
    weight = torch.randn(b, t, 6)
    y, wanted = mamba_scan(*x, method=method), mamba_scan(*exact, method="reference")
    assert (y - wanted).abs().max() <= 1e-5 * wanted.abs().max()
    ours = torch.autograd.grad((y * weight).sum(), x, allow_unused=True)
    theirs = torch.autograd.grad((wanted * weight).sum(), exact, allow_unused=True)
    for mine, right in zip(ours, theirs, strict=True):
        if mine is None:  # one step: A plays no part
            assert not right.any()
            continue
        assert (mine - right).abs().max() <= 1e-5 * max(float(right.abs().max()), 1e-3)


def test_gradcheck_of_the_fused_scan():
    x = inputs(2, 3, 2, 2, torch.float64)
    assert torch.autograd.gradcheck(lambda *a: mamba_scan(*a, method="fused"), x)


@pytest.mark.parametrize(("tile", "walk"), [(1, 1), (40, 8), (96, 64)])
def test_tiles_of_every_size_give_the_same(monkeypatch, tile, walk):
    """One number a tile; some rows at some steps; several rows; the last ones shorter."""
    x = inputs(5, 7, 2, 4, torch.float64)
    wanted = torch.autograd.grad(mamba_scan(*x, method="reference").square().sum(), x)
    monkeypatch.setattr(fused_scan, "TILE", tile)
    monkeypatch.setattr(fused_scan, "WALK", walk)
    found = torch.autograd.grad(mamba_scan(*x, method="fused").square().sum(), x)
    for mine, right in zip(found, wanted, strict=True):
        torch.testing.assert_close(mine, right, rtol=1e-10, atol=1e-12)


def test_zoh_is_euler_up_to_the_square():
    u, delta, A, B, C = (x.detach() for x in inputs(t=1, dtype=torch.float64))

    def gap(scale):
        kinds = ("euler", "zoh")
        a, b = (mamba_scan(u, delta * scale, A, B, C, discretization=k) for k in kinds)
        return float((a - b).abs().max())

    assert 3.5 < gap(1e-3) / gap(5e-4) < 4.5


def test_state_handed_on_equals_one_pass():
    u, delta, A, B, C = (x.detach() for x in inputs(t=9))
    whole = mamba_scan(u, delta, A, B, C)
    a, h = mamba_scan(u[:, :4], delta[:, :4], A, B[:, :4], C[:, :4], return_state=True)
    b = mamba_scan(u[:, 4:], delta[:, 4:], A, B[:, 4:], C[:, 4:], h0=h)
    torch.testing.assert_close(torch.cat((a, b), 1), whole, rtol=1e-5, atol=1e-5)


def test_ssd_equals_the_scan():
    g = torch.Generator().manual_seed(0)
    u, delta = torch.randn(2, 11, 3, 4, generator=g), torch.rand(2, 11, 3, generator=g)
    a = -torch.rand(3, generator=g) - 0.1
    B, C = torch.randn(2, 11, 5, generator=g), torch.randn(2, 11, 5, generator=g)
    rates = a.repeat_interleave(4)[:, None].expand(12, 5).contiguous()
    wanted = mamba_scan(u.flatten(2), delta.repeat_interleave(4, -1), rates, B, C)
    torch.testing.assert_close(ssd(u, delta, a, B, C, chunk=4).flatten(2), wanted, rtol=1e-4,
                               atol=1e-4)  # fmt: skip
    assert torch.exp(segsum(torch.randn(5))).diagonal().tolist() == [1.0] * 5


def test_block_equals_mambapy():
    """Outputs and gradients of the input, with one set of weights (spec: 1e-6)."""
    mamba = pytest.importorskip("mambapy.mamba", reason="lab bench --setup-peers mambapy")
    torch.manual_seed(0)
    ours = MambaBlock(32)
    theirs = mamba.MambaBlock(mamba.MambaConfig(d_model=32, n_layers=1))
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(3, 6, 32, requires_grad=True)
    a, b = ours(x), theirs(x)
    assert (a - b).abs().max() <= 1e-6
    first, second = (torch.autograd.grad(y.square().sum(), x)[0] for y in (a, b))
    assert (first - second).abs().max() <= 1e-6


def test_block_is_causal_and_steps():
    block = MambaBlock(16).eval()
    x = torch.randn(2, 9, 16)
    cache, out = block.init_cache(2), []
    for i in range(9):
        y, cache = block.step(x[:, i], cache)
        out.append(y)
    torch.testing.assert_close(torch.stack(out, 1), block(x), rtol=1e-5, atol=1e-6)
    changed = x.clone()
    changed[:, 5] += 1
    assert torch.equal(block(changed)[:, :5], block(x)[:, :5])


def test_as_published_starves_the_backward_block():
    pair = Bidirectional(MambaBlock(8), MambaBlock(8), "as_published")
    x = torch.randn(3, 4, 8)
    out = pair(x).sum(1)
    out.sum().backward()
    assert all(float(p.grad.abs().sum()) == 0 for p in pair.backward_block.parameters())
    torch.testing.assert_close(out, 2 * pair.forward_block(x).sum(1))


@pytest.fixture
def club():
    complex_ = clique_complex(nx.karate_club_graph(), max_dim=3)
    x = np.random.default_rng(0).standard_normal((34, 5)).astype(np.float32)
    return complex_, torch.from_numpy(x)


@pytest.mark.parametrize("form", ["P", "S", "auto"])
def test_tokens_equal_brute_force(club, form):
    complex_, x = club
    ours = rank_operators(complex_, form=form).apply(x).numpy()
    np.testing.assert_allclose(ours, tokens_reference(complex_, x.numpy()), atol=1e-4)


def test_token_identities(club):
    complex_, _ = club
    for k in range(1, complex_.dim + 1):
        s = complex_.membership(k)
        assert (s @ s.T).sum() == (k + 1) ** 2 * complex_.sizes[k]
    p1 = (complex_.membership(1) @ complex_.membership(1).T).toarray()
    a = as_graph(nx.karate_club_graph()).adjacency().toarray()
    assert (p1 == a + np.diag(a.sum(0))).all()


def test_sum_and_mean_are_one_model_after_layer_norm(club):
    operators = rank_operators(club[0])
    norm = torch.nn.LayerNorm(5, eps=0.0)
    a, b = (norm(NodeSequencer(operators, kind)(club[1].double().float()) + 0) for kind in
            ("sum", "mean"))  # fmt: skip
    finite = torch.isfinite(a)
    torch.testing.assert_close(a[finite], b[finite], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("lifting", ["simplicial/clique", "simplicial/khop"])
@pytest.mark.parametrize("layers", [1, 2, 3])
def test_batches_equal_the_whole(club, lifting, layers):
    complex_ = lift(nx.karate_club_graph(), lifting).complex
    operators = rank_operators(complex_)
    model = SimplicialMamba(5, 8, 3, n_layers=layers).eval()
    whole = model(club[1], operators)
    for part, nodes, seeds in neighbor_batches(operators, [4, 20, 33], layers, 2):
        found = model(club[1][nodes], part)[seeds]
        torch.testing.assert_close(found, whole[nodes[seeds]], rtol=1e-4, atol=1e-5)


def test_model_is_equivariant(club):
    model = SimplicialMamba(5, 8, 3).eval()
    graph = as_graph(nx.karate_club_graph())
    order = np.random.default_rng(0).permutation(34)
    moved = rank_operators(clique_complex(graph.relabelled(order), max_dim=3))
    torch.testing.assert_close(
        model(club[1][order], moved), model(club[1], rank_operators(club[0]))[order],
        rtol=1e-4, atol=1e-5,
    )  # fmt: skip


def test_long_sequences_stay_finite():
    for method in ("fused", "chunked", "blelloch"):
        u, delta, A, B, C = inputs(1, 4096, 2, 2)
        y = mamba_scan(u, delta.clamp_max(0.1), A * 0 - 16.0, B, C, method=method)
        y.sum().backward()
        assert bool(torch.isfinite(y).all())
        assert all(bool(torch.isfinite(x.grad).all()) for x in (u, delta, B, C))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"method": "magic"}, "method must be"),
        ({"A": torch.ones(6, 4)}, "A must be negative"),
        ({"B": torch.ones(3, 2, 4)}, "B has shape"),
        ({"delta": torch.full((3, 7, 6), float("nan"))}, "delta holds NaN"),
        ({"delta": torch.full((3, 7, 6), float("inf"))}, "delta holds NaN"),
        ({"delta": torch.full((3, 7, 6), -1.0)}, "negative steps"),
        ({"C": torch.ones(3, 7, 4, dtype=torch.float64)}, "cast one of them"),
        ({"D": torch.ones(5)}, "D has shape"),
        ({"discretization": "bilinear"}, "euler or zoh"),
        ({"A": -torch.ones(6, 0)}, "empty input"),
        ({"method": "fused", "return_state": True}, "use method='auto'"),
    ],
)
def test_bad_scans_are_refused(change, said):
    given = dict(zip(("u", "delta", "A", "B", "C"), (x.detach() for x in inputs()), strict=True))
    with pytest.raises(ValueError, match=said):
        mamba_scan(**{**given, **change})


def test_a_second_derivative_of_the_fused_scan_is_refused():
    x = inputs(1, 3, 2, 2)
    (g,) = torch.autograd.grad(mamba_scan(*x).square().sum(), x[:1], create_graph=True)
    with pytest.raises(RuntimeError, match="twice"):
        g.sum().backward()


def test_constant_parts_give_a_convolution():
    """Also: a step of 0 leaves the state alone, so that only D u is left."""
    t, e, n = 20, 2, 3
    g = torch.Generator().manual_seed(0)
    u = torch.randn(1, t, e, generator=g, dtype=torch.float64)
    A = -torch.rand(e, n, generator=g, dtype=torch.float64) - 0.2
    b, c = torch.randn(2, n, generator=g, dtype=torch.float64)
    delta = torch.full((1, t, e), 0.3, dtype=torch.float64)
    B, C = b.expand(1, t, n).contiguous(), c.expand(1, t, n).contiguous()
    y = mamba_scan(u, delta, A, B, C)[0]
    for channel in range(e):
        powers = torch.exp(0.3 * A[channel]) ** torch.arange(t)[:, None]
        kernel = (powers * 0.3 * b * c).sum(1).numpy()
        wanted = np.convolve(u[0, :, channel].numpy(), kernel)[:t]
        np.testing.assert_allclose(y[:, channel].numpy(), wanted, rtol=1e-9)
    D = torch.tensor([2.0, -1.0], dtype=torch.float64)
    still, state = mamba_scan(u, delta * 0, A, B, C, D, h0=A[None] * 0 + 7, return_state=True)
    assert torch.equal(state, A[None] * 0 + 7)
    h = (7 * c).sum()
    torch.testing.assert_close(still, D * u + h)


def test_a_state_that_never_fades_sums():
    u = torch.arange(1.0, 6.0)[None, :, None]
    one = torch.ones(1, 5, 1)
    y = mamba_scan(u, one, torch.tensor([[-1e-7]]), one, one)
    torch.testing.assert_close(y[0, :, 0], u[0, :, 0].cumsum(0), rtol=1e-5, atol=1e-5)


def test_both_directions_reach_every_position():
    torch.manual_seed(0)
    pair = Bidirectional(MambaBlock(4), MambaBlock(4)).eval()
    x = torch.randn(1, 5, 4, requires_grad=True)
    for t in range(5):
        (g,) = torch.autograd.grad(pair(x)[0, t].sum(), x)
        assert bool((g[0].abs().sum(-1) > 0).all())


def test_an_isolated_node_reads_only_itself():
    operators = rank_operators(clique_complex([(0, 1), (1, 2), (0, 2)], 4))
    tokens = operators.apply(torch.ones(4, 2))
    assert tokens[3].tolist() == [[0, 0], [0, 0], [1, 1]]
    assert operators.counts()[:, 0].tolist() == [1, 1, 1, 0]


def test_weights_go_out_and_in(club):
    operators = rank_operators(club[0])
    torch.manual_seed(0)
    first, second = SimplicialMamba(5, 8, 3).eval(), SimplicialMamba(5, 8, 3).eval()
    second.load_state_dict(first.state_dict())
    assert torch.equal(first(club[1], operators), second(club[1], operators))
    rates = first.parameter_groups(0.1)[1]
    assert rates["weight_decay"] == 0
    assert len(rates["params"]) == 2 * 2 * 2  # A and D of two blocks in two layers


def test_operators_refuse_what_does_not_fit(club):
    operators = rank_operators(club[0])
    for make, said in (
        (lambda: rank_operators(club[0], [0]), "ranks begin at 1"),
        (lambda: rank_operators(club[0], normalize="max"), "normalize must be"),
        (lambda: rank_operators(club[0], form="Q"), "form must be"),
        (lambda: NodeSequencer(operators, "max"), "lifting must be"),
        (lambda: NodeSequencer(operators, order="random"), "order must be"),
        (lambda: list(neighbor_batches(operators, [99], 1, 4)), "seeds must be 0..33"),
        (lambda: list(neighbor_batches(operators, [0], 0, 4)), "1 or more"),
    ):
        with pytest.raises(ValueError, match=said):
            make()
    row = rank_operators(club[0], normalize="row").apply(torch.ones(34, 1))
    assert set(row[:, -2].round(decimals=5).unique().tolist()) == {1.0}


def test_bad_models_are_refused(club):
    operators = rank_operators(club[0])
    with pytest.raises(ValueError, match="pooling must be"):
        SimplicialMamba(5, 8, 3, pooling="median")
    with pytest.raises(ValueError, match="rows"):
        SimplicialMamba(5, 8, 3)(club[1][:3], operators)
    with pytest.raises(ValueError, match="needs batch"):
        SimplicialMamba(5, 8, 3, task_level="graph")(club[1], operators)
    with pytest.raises(ValueError, match="does not read"):
        run_choice(seed=0, split_seed=0, data="karate", lifting="cell/cycle", model="gcn")


def test_a_run_repeats_itself():
    choice = {"data": "karate", "lifting": "simplicial/clique", "model": "mamba", "width": 8,
              "epochs": 5}  # fmt: skip
    first, second = (run_choice(seed=0, split_seed=1, **choice) for _ in range(2))
    assert {k: first[k] for k in ("test", "val")} == {k: second[k] for k in ("test", "val")}


def test_splits_partition_the_data():
    parts = split(karate(), 3)
    assert sorted(np.concatenate(list(parts.values())).tolist()) == list(range(34))
    tests = np.concatenate([f["test"] for f in folds(20, 5, 0)])
    assert sorted(tests.tolist()) == list(range(20))
    with pytest.raises(ValueError, match="empty"):
        split(Source("x", "node", as_graph([(0, 1)]), np.ones((2, 1)), np.array([0, 1])), 0)
