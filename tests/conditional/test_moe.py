"""Experts: four dispatchers are one function, losses have their known minima, routers balance."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from labcore.blocks.vit import Mlp
from labcore.conditional.balance import (
    expected_load,
    importance_loss,
    load_balancing_loss,
    load_loss,
    router_z_loss,
    squared_variation,
)
from labcore.conditional.dispatch import DISPATCHERS, choose
from labcore.conditional.experts import Experts, grouped_linear, grouped_loop, has_grouped_kernel
from labcore.conditional.moe import MoELayer, SoftMoE
from labcore.conditional.routers import (
    ExpertChoiceRouter,
    NoisyTopKRouter,
    TopKRouter,
    capacity,
)


def gen(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def layer(**options: Any) -> MoELayer:
    sizes = {"hidden_size": 12, "intermediate_size": 20, "num_experts": 6, "top_k": 2}
    return MoELayer(**{**sizes, "generator": gen(), **options}).double()


def tokens(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=gen(seed))


def outcome(moe: MoELayer, x: Tensor, how: str, mask: Tensor | None = None) -> list[Tensor]:
    """Output and every gradient."""
    moe.dispatch = how
    moe.zero_grad()
    leaf = x.clone().requires_grad_()
    y = moe(leaf, mask)
    (y * tokens(*y.shape, seed=9)).sum().backward()
    grads = [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in moe.parameters()]
    return [y.detach(), leaf.grad, *grads]


@settings(max_examples=25)
@given(
    st.integers(1, 40), st.integers(1, 9), st.integers(1, 9), st.booleans(),
    st.sampled_from([None, 0.5, 1.25, 50.0]), st.sampled_from(["top_k", "noisy", "expert_choice"]),
    st.booleans(), st.booleans(),
)  # fmt: skip
def test_all_dispatchers_are_one_function(
    t: int, e: int, k: int, padded: bool, factor: float | None, router: str, shared: bool,
    gated: bool,
) -> None:  # fmt: skip
    moe = layer(
        num_experts=e, top_k=min(k, e), capacity_factor=factor, router=router,
        shared_expert=shared, gated=gated,
    ).eval()  # fmt: skip
    x = tokens(t, 12)
    mask = torch.arange(t) % 3 != 1 if padded else None
    dense = outcome(moe, x, "dense", mask)
    for how in DISPATCHERS:
        for ours, reference in zip(outcome(moe, x, how, mask), dense, strict=True):
            torch.testing.assert_close(ours, reference, rtol=1e-10, atol=1e-10)


def test_empty_experts_and_float32() -> None:
    moe = layer(num_experts=6, top_k=1).float()
    with torch.no_grad():
        moe.router.weight[2:] = 0
        moe.router.weight[0] = 5
    x = torch.rand(20, 12, generator=gen()) + 0.1  # all go to expert 0
    runs = {how: outcome(moe, x, how) for how in DISPATCHERS}
    assert moe.last_routing.counts.tolist() == [20, 0, 0, 0, 0, 0]
    for found in runs.values():
        for ours, reference in zip(found, runs["dense"], strict=True):
            torch.testing.assert_close(ours, reference, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("counts", [[2, 0, 4, 0], [0, 0, 0, 6], [0, 0, 0, 0]])
def test_the_grouped_product_and_its_loop_agree(counts: list[int]) -> None:
    a = sum(counts)
    x, w, b = (tokens(*shape).float() for shape in ((a, 8), (4, 8, 12), (4, 12)))
    leaves = [v.requires_grad_() for v in (x, w, b)]
    assert has_grouped_kernel(x, w)
    assert not has_grouped_kernel(x.double(), w.double())
    runs = [f(*leaves, counts) for f in (grouped_linear, grouped_loop)]
    grads = [torch.autograd.grad(y.square().sum(), leaves) for y in runs]
    torch.testing.assert_close(*runs, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(*grads, rtol=1e-4, atol=1e-5)
    exact = [v.detach().double().requires_grad_() for v in leaves]
    assert torch.autograd.gradcheck(lambda *v: grouped_loop(*v, counts), exact)


def test_k_equal_to_e_is_the_softmax_mixture() -> None:
    moe, x = layer(top_k=6), tokens(15, 12)
    p = (x @ moe.router.weight.T).softmax(-1)
    each = moe.experts(x.expand(6, -1, -1))
    torch.testing.assert_close(moe(x), torch.einsum("te,etd->td", p, each))


def test_softmax_then_top_k_equals_top_k_then_softmax() -> None:
    logits = tokens(30, 8)
    routing = TopKRouter(12, 8, 3).double().route(logits)
    top = logits.topk(3, -1)
    torch.testing.assert_close(routing.weights, top.values.softmax(-1))
    assert torch.equal(routing.index, top.indices)


def test_renormalising_one_expert_leaves_the_router_without_gradient() -> None:
    x = tokens(10, 12)
    for renormalize, alive in ((True, False), (None, True)):
        moe = layer(top_k=1, renormalize=renormalize)
        moe(x).square().sum().backward()
        assert (moe.router.weight.grad.abs().max() > 1e-12) == alive


@pytest.mark.parametrize("k", [2, 4])
def test_upcycling_changes_nothing_at_the_start(k: int) -> None:
    mlp, x = Mlp(12, 2.0).double(), tokens(3, 7, 12)
    torch.testing.assert_close(MoELayer.from_dense(mlp, 4, k)(x), mlp(x), rtol=1e-10, atol=1e-12)


def test_one_expert_is_the_mlp() -> None:
    mlp, x = Mlp(12, 2.0).double(), tokens(1, 7, 12)
    torch.testing.assert_close(MoELayer.from_dense(mlp, 1, 1)(x), mlp(x))
    with pytest.raises(TypeError, match="fc1 and fc2"):
        MoELayer.from_dense(nn.Linear(3, 3), 2)


def test_balance_loss_has_its_known_values() -> None:
    e = 5
    even = torch.full((10, e), 1 / e)
    assert load_balancing_loss(even, torch.arange(10)[:, None] % e).item() == pytest.approx(1)
    certain = torch.zeros(10, e)
    certain[:, 2] = 1
    assert load_balancing_loss(certain, torch.full((10, 1), 2)).item() == pytest.approx(e)
    odd = torch.tensor([[0.51, 0.49]] * 9 + [[0.0, 1.0]])
    assert load_balancing_loss(odd, odd.argmax(1)[:, None]).item() == pytest.approx(
        0.9344, abs=1e-4
    )


def test_balance_loss_is_a_kth_of_the_known_library() -> None:
    theirs = pytest.importorskip("transformers.models.mixtral.modeling_mixtral")
    for k in (1, 2, 4):
        logits = torch.randn(40, 8, generator=gen(k))
        routing = TopKRouter(4, 8, k).route(logits)
        ours = load_balancing_loss(routing.probs, routing.index)
        reference = theirs.load_balancing_loss_func((logits,), 8, k)
        assert (k * ours).item() == pytest.approx(float(reference), rel=1e-5)
        factored = load_balancing_loss(routing.probs, routing.index, normalize=False)
        assert factored.item() == pytest.approx(float(reference), rel=1e-5)


def test_balance_loss_ignores_padding_and_names_of_experts() -> None:
    logits = tokens(20, 6)
    routing = TopKRouter(4, 6, 2).double().route(logits)
    mask = torch.arange(20) < 13
    some = load_balancing_loss(routing.probs, routing.index, mask)
    torch.testing.assert_close(some, load_balancing_loss(routing.probs[:13], routing.index[:13]))
    order = torch.randperm(6, generator=gen())
    moved = load_balancing_loss(routing.probs[:, order], order.argsort()[routing.index])
    torch.testing.assert_close(moved, load_balancing_loss(routing.probs, routing.index))
    torch.testing.assert_close(router_z_loss(logits, mask), router_z_loss(logits[:13]))
    with pytest.raises(ValueError, match="one entry a token"):
        load_balancing_loss(routing.probs, routing.index, mask[:5])
    with pytest.raises(ValueError, match="no token"):
        router_z_loss(logits, torch.zeros(20))


def test_balance_gradient_flows_through_the_probabilities_only() -> None:
    logits = tokens(9, 3).requires_grad_()
    probs = logits.softmax(-1)
    index = probs.argmax(1)[:, None]
    load_balancing_loss(probs, index).backward()
    share = torch.bincount(index[:, 0], minlength=3) / 9
    p = probs.detach()
    wanted = 3 / 9 * p * (share - (p * share).sum(-1, keepdim=True))
    torch.testing.assert_close(logits.grad, wanted)


def test_z_loss_of_zero_logits() -> None:
    assert router_z_loss(torch.zeros(4, 8)).item() == pytest.approx(math.log(8) ** 2)


def test_noisy_router_is_plain_without_noise_and_its_load_counts_tokens() -> None:
    x, noisy = tokens(50, 12), NoisyTopKRouter(12, 6, 2, generator=gen()).double()
    plain = TopKRouter(12, 6, 2, generator=gen()).double()
    still, reference = noisy.eval()(x), plain(x)
    assert torch.equal(still.index, reference.index)
    torch.testing.assert_close(still.weights, reference.weights)
    noisy.train().generator = gen(4)
    loads = []
    for _ in range(200):
        r = noisy(x)
        load = expected_load(r.clean, r.logits, r.scale, 2)
        assert (load >= 0).all()
        assert (load <= 50).all()
        loads.append(load)
    assert torch.stack(loads).mean(0).sum().item() == pytest.approx(100, rel=0.02)
    everyone = expected_load(r.clean, r.logits, r.scale, 6)
    assert everyone.tolist() == [50.0] * 6
    assert load_loss(r.clean, r.logits, r.scale, 6).item() == 0
    assert importance_loss(r.gates).item() == pytest.approx(
        squared_variation(r.gates.sum(0)).item()
    )


def test_load_is_the_frequency_of_redrawn_noise() -> None:
    clean, scale = tokens(1, 4), torch.full((1, 4), 0.8, dtype=torch.float64)
    noisy = clean + 0.8 * tokens(1, 4, seed=5)
    load = expected_load(clean, noisy, scale, 2)
    for e in range(4):
        again = noisy.expand(40_000, -1).clone()
        again[:, e] = clean[0, e] + 0.8 * tokens(40_000, seed=6)
        inside = (again.topk(2, -1).indices == e).any(-1).double().mean()
        assert abs(inside - load[e]) < 0.012


@settings(max_examples=20)
@given(st.integers(1, 30), st.integers(1, 8), st.floats(0.3, 4))
def test_expert_choice_is_perfectly_balanced(t: int, e: int, factor: float) -> None:
    routing = ExpertChoiceRouter(12, e, factor).double()(tokens(t, 12))
    assert set(routing.counts.tolist()) == {min(capacity(factor, 1, t, e), t)}


def test_expert_choice_leaks_the_future_and_says_so() -> None:
    with pytest.warns(UserWarning, match="leaks the"):
        moe = layer(router="expert_choice", causal=True, top_k=1)
    x = tokens(24, 12)
    changed = x.clone()
    changed[12:] = 3 * tokens(12, 12, seed=8)
    assert not torch.allclose(moe(x)[:12], moe(changed)[:12])
    causal = layer(top_k=1)
    torch.testing.assert_close(causal(x)[:12], causal(changed)[:12])


def test_capacity_drops_by_position_or_by_probability() -> None:
    logits = torch.tensor([[1.0, 0.0], [3.0, 0.0], [2.0, 0.0], [0.0, 1.0]])
    early = TopKRouter(4, 2, 1, capacity_factor=1.0).route(logits)
    assert early.dropped[:, 0].tolist() == [False, False, True, False]
    sure = TopKRouter(4, 2, 1, capacity_factor=1.0, drop_by="probability").route(logits)
    assert sure.dropped[:, 0].tolist() == [True, False, False, False]
    mask = torch.tensor([False, True, True, True])
    real = TopKRouter(4, 2, 1, capacity_factor=1.0).route(logits, mask)
    assert real.dropped[:, 0].tolist() == [True, False, False, False]  # padding takes no place


def test_enough_capacity_drops_nothing() -> None:
    moe = layer(capacity_factor=3.0)  # E / k
    moe(tokens(40, 12))
    assert moe.drop_rate() == 0
    tight = layer(capacity_factor=0.5)
    tight(tokens(40, 12))
    kept = tight.last_routing.counts
    assert kept.max() <= capacity(0.5, 2, 40, 6)
    assert tight.drop_rate() == pytest.approx(1 - kept.sum().item() / 80)


def test_cost_counts_what_ran() -> None:
    moe = layer(top_k=2)
    moe(tokens(40, 12))
    cost = moe.cost()
    router = 2 * 40 * 12 * 6
    assert cost.executed == router + 4 * 80 * 12 * 20
    assert cost.total == router + 4 * 240 * 12 * 20


def test_gated_experts_cost_half_as_much_again() -> None:
    costs = []
    for gated in (False, True):
        moe = layer(gated=gated, shared_expert=True)
        moe(tokens(40, 12))
        costs.append(moe.cost())
    router = 2 * 40 * 12 * 6
    assert costs[1].executed - router == 1.5 * (costs[0].executed - router)
    soft = SoftMoE(12, 6, 3, intermediate_size=20).cost(40)
    assert soft.executed == 6 * 40 * 18 * 12 + 4 * 18 * 12 * 20
    assert soft.total == costs[0].total - router - 4 * 40 * 12 * 20


def test_soft_mixture_mixes_everything() -> None:
    soft, x = SoftMoE(8, 3, 2, generator=gen()).double(), tokens(2, 9, 8)
    y = soft(x)
    into, back = soft.last_mix
    torch.testing.assert_close(into.sum(1), torch.ones(2, 6, dtype=torch.float64))
    torch.testing.assert_close(back.sum(2), torch.ones(2, 9, dtype=torch.float64))
    order = torch.randperm(9, generator=gen())
    torch.testing.assert_close(soft(x[:, order]), y[:, order])
    with torch.no_grad():
        soft.phi.zero_()
    mean = x.mean(1)
    average = soft.experts(mean.expand(3, -1, -1)).mean(0)
    torch.testing.assert_close(soft(x), average[:, None].expand_as(x))


def test_the_automatic_choice_looks_at_the_load_where_torch_has_no_grouped_product() -> None:
    small, large = Experts(3, 64, 128).double(), Experts(3, 192, 768).double()
    one, wide = tokens(1, 64), tokens(1, 192)
    assert choose([10, 9, 8], one, small) == "batched"
    assert choose([500, 490, 480], wide, large) == "sorted"
    assert choose([2000, 1, 1], wide, large) == "sorted"
    assert choose([0, 0, 0], one, small) == "sorted"
    assert choose([10, 9, 8], one.float(), small.float()) == "sorted"


def test_bad_input_is_refused() -> None:
    for options, match in (
        ({"top_k": 0}, "top_k must lie in 1..6"), ({"top_k": 7}, "top_k must lie in 1..6"),
        ({"capacity_factor": 0.0}, "capacity_factor must be > 0"),
        ({"capacity_factor": -1.0}, "capacity_factor must be > 0"),
        ({"dispatch": "magic"}, "unknown dispatch 'magic': choose from"),
        ({"num_experts": 0}, "num_experts"), ({"intermediate_size": 0}, "sizes must be at least 1"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=match):
            layer(**options)
    with pytest.raises((ValueError, TypeError), match="router"):
        layer(router="magic")  # the type checker of the tests is first
    moe, x = layer(), tokens(4, 12)
    x[2, 0] = math.nan
    with pytest.raises(ValueError, match="token 2 are NaN"):
        moe(x)
    with pytest.raises(ValueError, match="token 1 are infinite"):
        moe.router.route(torch.tensor([[0.0] * 6, [math.inf] * 6]))
    with pytest.raises(ValueError, match="k must lie in 1..3"):
        load_loss(*[torch.ones(2, 3)] * 3, 4)
    with pytest.raises(ValueError, match="mask has shape"):
        moe(tokens(4, 12), torch.ones(3))
    with pytest.raises(ValueError, match="x must be"):
        moe(tokens(4, 5))
    with pytest.raises(RuntimeError, match="routed yet"):
        layer().cost()
    with pytest.raises(ValueError, match="slots"):
        SoftMoE(4, 2, 0)
    with pytest.raises(ValueError, match=r"x must be \(b, n, 4\)"):
        SoftMoE(4, 2)(torch.ones(1, 3, 5))


def test_a_noisy_router_is_balanced_by_importance_and_load() -> None:
    moe = layer(router="noisy")
    moe.router.generator = gen(3)
    moe(tokens(30, 12))
    r = moe.last_routing
    wanted = importance_loss(r.gates) + load_loss(r.clean, r.logits, r.scale, 2)
    torch.testing.assert_close(moe.auxiliary_loss(balance=1.0, z=0.0), wanted)
    moe.auxiliary_loss().backward()
    assert moe.router.noise.grad.abs().max() > 0


def test_padding_gets_no_output_and_gives_no_gradient() -> None:
    moe, x = layer(shared_expert=True), tokens(2, 5, 12)
    mask = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]])
    x.requires_grad_()
    y = moe(x, mask)
    y.sum().backward()
    assert (y[0, 3:] == 0).all()
    assert (x.grad[0, 3:] == 0).all()
    assert (x.grad[0, :3] != 0).any()
