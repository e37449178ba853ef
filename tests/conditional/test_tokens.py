"""Fewer tokens: halting weights, merging, masked attention with live gates, packed = masked."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from labcore.blocks.vit import Attention, Block, VisionTransformer, ViTConfig
from labcore.conditional.cost import block_flops
from labcore.conditional.halting import (
    adaptive_computation,
    depth_prior_loss,
    halting_scores,
    halting_weights,
    ponder_loss,
)
from labcore.conditional.matching import bipartite_soft_matching, proportional_attention
from labcore.conditional.selection import (
    KeepPredictor,
    MixtureOfDepths,
    attend_masked,
    keep_count,
    keep_ratio_loss,
    masked_attention,
    select_tokens,
)
from labcore.conditional.vision import (
    METHODS,
    Halting,
    LearnedSelection,
    full_flops,
    gather_kept,
    run_reduced,
)


def gen(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def rand(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=gen(seed), dtype=torch.float64)


def vit(depth: int = 3) -> VisionTransformer:
    config = ViTConfig(hidden_size=16, depth=depth, num_heads=2, num_classes=5)
    return VisionTransformer(config, generator=gen()).eval()


def pictures(n: int = 3) -> Tensor:
    return torch.randn(n, 1, 28, 28, generator=gen(1))


@settings(max_examples=30)
@given(st.integers(1, 6), st.integers(1, 5), st.floats(0.005, 0.3), st.integers(0, 99))
def test_halting_weights_sum_to_one(layers: int, n: int, eps: float, seed: int) -> None:
    h = torch.rand(layers, 2, n, generator=gen(seed), dtype=torch.float64)
    weights, depth, remainder = halting_weights(h, eps)
    torch.testing.assert_close(weights.sum(0), torch.ones(2, n, dtype=torch.float64))
    assert (weights >= 0).all()
    assert (depth >= 1).all()
    assert (depth <= layers).all()
    assert (remainder > 0).all()


def test_halting_at_the_ends() -> None:
    states = rand(4, 1, 2, 3)
    output, depth, _ = adaptive_computation(torch.ones(4, 1, 2).double(), states)
    assert depth.tolist() == [[1, 1]]
    torch.testing.assert_close(output, states[0])
    output, depth, remainder = adaptive_computation(torch.zeros(4, 1, 2).double(), states)
    assert depth.tolist() == [[4, 4]]
    torch.testing.assert_close(output, states[-1])
    assert ponder_loss(depth, remainder).item() == 5


def test_states_after_halting_do_not_matter() -> None:
    h = torch.tensor([0.3, 0.5, 0.9, 0.2, 0.7]).double().view(5, 1, 1)
    states = rand(5, 1, 1, 3)
    first, depth, remainder = adaptive_computation(h, states)
    assert depth.item() == 3
    assert remainder.item() == pytest.approx(0.2)
    states[3:] = torch.nan
    torch.testing.assert_close(adaptive_computation(h, states)[0], first)


def test_depth_prior_is_smallest_at_its_target() -> None:
    at = torch.arange(1.0, 7)
    shaped = (-0.5 * (at - 3).square()).softmax(0)[:, None]
    assert depth_prior_loss(shaped, 3.0).item() == pytest.approx(0, abs=1e-5)
    assert depth_prior_loss(shaped, 5.0) > 1
    assert halting_scores(torch.tensor([[3.0, 9.0]])).item() == 0.5


def test_halting_refuses_bad_input() -> None:
    with pytest.raises(ValueError, match="eps must lie in"):
        halting_weights(torch.rand(2, 3), 1.0)
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        halting_weights(torch.full((2, 3), 1.5))
    with pytest.raises((ValueError, TypeError)):  # the tests' type checker may be first
        adaptive_computation(torch.rand(2, 1, 3), torch.rand(2, 1, 4, 5))
    with pytest.raises(ValueError, match="no layer"):
        halting_weights(torch.rand(0, 3))
    with pytest.raises(ValueError, match="spread"):
        depth_prior_loss(torch.rand(2, 3), 1.0, 0.0)


@settings(max_examples=40)
@given(st.integers(1, 20), st.integers(0, 30), st.integers(0, 3), st.integers(0, 99))
def test_merging_keeps_the_count_of_tokens(n: int, r: int, prefix: int, seed: int) -> None:
    prefix = min(prefix, n)
    x = rand(2, n, 4, seed=seed)
    found = bipartite_soft_matching(x, r, prefix)
    merged, size = found.merge(x)
    assert size.sum(1).flatten().tolist() == [n, n]
    assert merged.shape[1] == found.count >= n - n // 2 - 1
    assert found.unmerge(merged).shape == x.shape
    torch.testing.assert_close((merged * size).sum(1), x.sum(1))  # nothing is lost
    for token in range(prefix):  # prefix tokens are never merged
        where = found.source[:, token]
        assert size[torch.arange(2), where, 0].tolist() == [1, 1]
        torch.testing.assert_close(merged[torch.arange(2), where], x[:, token])


def test_merging_nothing_is_the_identity_and_a_class_token_stays_first() -> None:
    x = rand(2, 9, 4)
    none = bipartite_soft_matching(x, 0)
    torch.testing.assert_close(none.merge(x)[0], x)
    some = bipartite_soft_matching(x, 3)
    torch.testing.assert_close(some.merge(x)[0][:, 0], x[:, 0])
    with pytest.raises(ValueError, match="r must be at least 0"):
        bipartite_soft_matching(x, -1)
    with pytest.raises(ValueError, match="num_prefix_tokens"):
        bipartite_soft_matching(x, 1, 10)


def test_the_best_pairs_are_merged_and_maps_compose() -> None:
    x = torch.eye(6).double()[None].clone()
    x[0, 2] = x[0, 3]  # one identical pair, 2 in A and 3 in B
    found = bipartite_soft_matching(x, 1, 0)
    assert found.source[0, 2] == found.source[0, 3]
    y, size = found.merge(x)
    later = bipartite_soft_matching(y, 2, 0)
    both = found.then(later)
    two_steps, sizes = later.merge(y, size)
    one_step, direct = both.merge(x)
    torch.testing.assert_close(one_step, two_steps)
    torch.testing.assert_close(direct, sizes)


def test_equal_tokens_merge_without_changing_attention() -> None:
    """With log-size on the keys, two equal tokens and one of size two are read alike."""
    attention = Attention(8, 2).double()
    x = rand(1, 7, 8)
    x[0, 4] = x[0, 3]
    found = bipartite_soft_matching(x, 1)
    assert found.source[0, 3] == found.source[0, 4]
    y, size = found.merge(x)
    whole = proportional_attention(attention, x)[0]
    torch.testing.assert_close(found.unmerge(proportional_attention(attention, y, size)[0]), whole)
    plain = found.unmerge(proportional_attention(attention, y)[0])
    assert not torch.allclose(plain, whole)


def test_merging_equals_the_published_procedure() -> None:
    """Gather, scatter and class token as in the reference implementation's description."""
    x, metric, r = rand(2, 11, 6), rand(2, 11, 5, seed=3), 4
    unit = metric / metric.norm(dim=-1, keepdim=True)
    scores = unit[:, ::2] @ unit[:, 1::2].transpose(-1, -2)
    scores[:, 0] = -torch.inf
    best, partner = scores.max(-1)
    order = best.argsort(-1, descending=True)
    gone, left = order[:, :r], order[:, r:].sort(1).values
    a, b = x[:, ::2], x[:, 1::2].clone()
    weight = torch.ones(*b.shape[:2], 1).double()
    for row in range(2):
        for token in gone[row].tolist():
            b[row, partner[row, token]] += a[row, token]
            weight[row, partner[row, token]] += 1
    kept = torch.stack([a[row, left[row]] for row in range(2)])
    ours, size = bipartite_soft_matching(metric, r).merge(x)
    torch.testing.assert_close(ours, torch.cat((kept, b / weight), 1))
    torch.testing.assert_close(size[:, kept.shape[1] :], weight)


def test_masked_attention_equals_minus_infinity_and_keeps_gates_alive() -> None:
    logits = rand(2, 2, 6, 6)
    keep = torch.tensor([[1.0, 1, 0, 1, 0, 1]] * 2).double().requires_grad_()
    ours = masked_attention(logits, keep)
    gone = (keep[:, None, None] == 0) & ~torch.eye(6, dtype=torch.bool)
    torch.testing.assert_close(ours, logits.masked_fill(gone, -torch.inf).softmax(-1))
    value = rand(2, 2, 6, 3, seed=4)
    out = ours @ value
    out[0, 0, 0].sum().backward()
    assert (keep.grad[0, [2, 4]] != 0).all()  # dropped tokens, live gradient
    # d out_i / d G_j = A'_ij (v_j − out_i)
    kept = keep.detach()[0] > 0
    z = logits[0, 0, 0].exp()[kept].sum()
    wanted = logits[0, 0, 0, 2].exp() / z * (value[0, 0, 2] - out[0, 0, 0]).sum()
    torch.testing.assert_close(keep.grad[0, 2], wanted.detach())
    with pytest.raises((ValueError, TypeError), match="keep"):  # the tests' type checker is first
        masked_attention(logits, keep[:, :2])


def test_selection_keeps_the_best_in_order_and_fuses_the_rest() -> None:
    x = rand(1, 5, 3)
    scores = torch.tensor([[0.1, 0.4, 0.2, 0.3]]).double()
    kept, index = select_tokens(x, scores, 2)
    assert index.tolist() == [[1, 3]]
    torch.testing.assert_close(kept, x[:, [0, 2, 4]])
    fused, _ = select_tokens(x, scores, 2, fuse=True)
    torch.testing.assert_close(fused[0, -1], (x[0, 1] + 2 * x[0, 3]) / 3)
    assert keep_count(196, 0.7) == 138
    with pytest.raises(ValueError, match="keep must lie"):
        select_tokens(x, scores, 5)
    with pytest.raises(ValueError, match="need 4 scores"):
        select_tokens(x, scores[:, :2], 1)
    with pytest.raises(ValueError, match="keep_ratio"):
        keep_count(9, 0.0)


def test_keep_losses_and_predictor() -> None:
    keep = torch.tensor([[1.0, 0.0]]).double()
    assert keep_ratio_loss([keep, keep], [0.5, 0.3]).item() == pytest.approx(0.02)
    predictor = KeepPredictor(3).double()
    patches = rand(2, 4, 3)
    dropped = patches.clone()
    dropped[:, 3] += 5
    mask = torch.tensor([[1.0, 1, 1, 0]] * 2).double()  # the global mean leaves dropped ones out
    torch.testing.assert_close(predictor(patches, mask)[:, :3], predictor(dropped, mask)[:, :3])
    with pytest.raises(ValueError, match="targets"):
        keep_ratio_loss([keep], [0.5, 0.3])


def test_mixture_of_depths_touches_only_its_tokens() -> None:
    block = Block(ViTConfig(hidden_size=8, num_heads=2)).double()
    depths = MixtureOfDepths(block, 8, 0.25).double()
    x = rand(2, 8, 8)
    y = depths(x)
    assert (y != x).any(-1).sum(1).tolist() == [2, 2]
    y.sum().backward()
    assert depths.router.weight.grad.abs().max() > 0
    assert depths.cost(8).executed == block_flops(2, 8, 4.0) + 2 * 8 * 8
    assert depths.cost(8).total == block_flops(8, 8, 4.0)
    with pytest.raises(ValueError, match="keep_ratio"):
        MixtureOfDepths(block, 8, 0.0)


@pytest.mark.parametrize("method", METHODS)
def test_keeping_everything_changes_nothing(method: str) -> None:
    model, x = vit(), pictures()
    amount = 0.0 if method == "merging" else 1.0
    out = run_reduced(model, x, method, amount, generator=gen())
    torch.testing.assert_close(out.logits, model(x), rtol=1e-4, atol=1e-5)
    assert out.cost.executed == out.cost.total == full_flops(model)


def test_a_network_with_layer_scale_runs_reduced_and_masked() -> None:
    """As the pre-trained ViT-S has it."""
    config = ViTConfig(hidden_size=16, depth=3, num_heads=2, num_classes=5, layer_scale=True)
    model, x = VisionTransformer(config, generator=gen()).eval(), pictures()
    for block in model.blocks:
        torch.nn.init.uniform_(block.ls1.gamma, 0.1, 2.0, generator=gen())
        torch.nn.init.uniform_(block.ls2.gamma, 0.1, 2.0, generator=gen(1))
    whole = model(x)
    torch.testing.assert_close(run_reduced(model, x, "merging", 0.0).logits, whole)
    torch.testing.assert_close(Halting(model)(x, -50.0).logits, whole, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_fewer_tokens_cost_less(method: str) -> None:
    model, x = vit(), pictures()
    amounts = (0.1, 0.3) if method == "merging" else (0.9, 0.4)
    costs = [run_reduced(model, x, method, a, generator=gen()).cost for a in amounts]
    assert 1 > costs[0].ratio > costs[1].ratio > 0
    with pytest.raises(ValueError, match="unknown method"):
        run_reduced(model, x, "magic", 0.5)


def test_packed_equals_masked() -> None:
    model, x = vit(), pictures()
    selector = LearnedSelection(model, stages=(1,))
    packed = selector.packed(x, 0.5)
    blocks = [block_flops(n, 16, 2.0) for n in (17, 9, 9)]  # 8 of 16 patches after the first block
    assert packed.cost.executed == sum(blocks) + 2 * 16 * (32 * 32 + 32 * 2)
    masked = selector.masked(x, gen())
    assert masked.cost.ratio == 1  # a mask saves no work
    tokens = model.embed(x)
    tokens = model.blocks[0](tokens)
    assert gather_kept(tokens, packed.kept).shape == (3, 9, 16)
    gate = torch.cat((torch.ones(3, 1), packed.kept), 1)
    for block in model.blocks[1:]:
        tokens = tokens + attend_masked(block.attn, block.norm1(tokens), gate)
        tokens = tokens + block.mlp(block.norm2(tokens))
    masked = model.head(model.norm(tokens[:, 0]))
    torch.testing.assert_close(masked, packed.logits, rtol=1e-4, atol=1e-5)


def test_a_dropped_patch_still_teaches_its_predictor() -> None:
    selector = LearnedSelection(vit(), stages=(1,))
    out = selector.masked(pictures(), gen())
    assert 0 < out.keeps[0].mean() < 1
    grad = torch.autograd.grad(out.logits[:, 0].sum(), out.keeps[0])[0]
    assert (grad[out.keeps[0] == 0] != 0).any()


def test_halting_network_at_its_ends() -> None:
    model, x = vit(), pictures()
    never, at_once = Halting(model)(x, -50.0), Halting(model)(x, 50.0)
    assert never.cost.ratio == 1
    torch.testing.assert_close(never.logits, model(x), rtol=1e-4, atol=1e-5)
    assert (at_once.depth == 1).all()
    assert at_once.cost.ratio == pytest.approx(1 / 3)
