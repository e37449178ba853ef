"""Budget token, gates, top-k, binary concrete, rate loss."""

import math

import pytest
import torch

from labcore.tokens.gates import (
    BudgetToken,
    TokenGate,
    binary_concrete,
    rate_loss,
    straight_through,
    top_k,
)

G = torch.Generator


def test_budget_tokens() -> None:
    alpha = torch.tensor([0.0, 0.5, 1.0])
    scaled = BudgetToken(4)
    torch.testing.assert_close(scaled(alpha), alpha[:, None, None] * scaled.vectors[0])
    between = BudgetToken(4, "interpolated")
    u1, u2 = between.vectors
    torch.testing.assert_close(between(alpha)[1, 0], (u1 + u2) / 2)
    assert BudgetToken(4, "constant")(alpha)[1].tolist() == [[0.5] * 4]
    with pytest.raises(ValueError, match=r"budget 1.5 of image 1"):
        scaled(torch.tensor([0.5, 1.5]))
    with pytest.raises(ValueError, match="outside"):
        scaled(torch.tensor([math.nan]))
    with pytest.raises((ValueError, TypeError)):
        BudgetToken(4, "loud")


def gate_on(seed: int = 0, **options) -> tuple[TokenGate, torch.Tensor, torch.Tensor]:
    gate = TokenGate(4, generator=G().manual_seed(seed), **options)
    with torch.no_grad():
        gate.weight.mul_(40)
    tokens = torch.randn(3, 20, 4, generator=G().manual_seed(1))
    return gate, tokens, torch.randn(3, 4, generator=G().manual_seed(2))


def test_the_gate_is_its_formula() -> None:
    gate, tokens, budget = gate_on(bias=1.0, temperature=2.0)
    with torch.no_grad():
        gate.budget_weight.normal_(generator=G().manual_seed(3))
    out = gate(tokens, budget)
    score = torch.sigmoid(tokens @ gate.weight / 2 + 1)
    threshold = torch.sigmoid(budget @ gate.budget_weight + gate.budget_bias)
    torch.testing.assert_close(out.score, score)
    torch.testing.assert_close(out.threshold, threshold)
    assert torch.equal(out.keep, score > threshold[:, None])
    assert set(out.mask.unique().tolist()) <= {0.0, 1.0}
    soft = TokenGate(4, gate="soft")
    soft.load_state_dict(gate.state_dict())
    margin = soft(tokens, budget)
    assert torch.equal(margin.keep, margin.score > margin.threshold[:, None])


def test_once_dropped_always_dropped_and_kept_sets_are_nested() -> None:
    gate, tokens, budget = gate_on()
    earlier = (torch.rand(3, 20, generator=G().manual_seed(5)) > 0.5).float()
    assert not (gate(tokens, budget, earlier).keep & (earlier == 0)).any()
    before = torch.ones(3, 20) > 0
    for shift in (-3.0, 0.0, 2.0, 4.0):
        with torch.no_grad():
            gate.budget_bias.fill_(shift)
        kept = gate(tokens, budget).keep
        assert not (kept & ~before).any()
        before = kept


def test_training_keeps_what_inference_keeps() -> None:
    gate, tokens, budget = gate_on(bias=2.0)
    with torch.no_grad():
        gate.budget_bias.fill_(2.0)
    taught = gate.train()(tokens, budget)
    used = gate.eval()(tokens, budget)
    assert torch.equal(taught.keep, used.keep)
    assert 0 < used.keep.float().mean() < 1
    moved, _, _ = gate_on(bias=0.0)
    moved.load_state_dict(gate.state_dict())
    assert not torch.equal(moved(tokens, budget).keep, used.keep)  # the bias does count


def test_a_dropped_token_has_a_gradient() -> None:
    gate, tokens, budget = gate_on()
    with torch.no_grad():
        gate.budget_bias.fill_(2.0)
    tokens.requires_grad_()
    out = gate(tokens, budget)
    assert (~out.keep).any()
    (grad,) = torch.autograd.grad(out.mask.sum(), tokens)
    near = (~out.keep) & ((out.score - out.threshold[:, None]).abs() < 0.3)
    assert near.any()
    assert (grad[near].abs().sum(-1) > 0).all()


def test_decoupled_gradients_go_their_own_ways() -> None:
    gate, tokens, budget = gate_on()
    out = gate(tokens, budget)
    assert torch.equal(out.mask.detach(), out.counted.detach())
    task = torch.autograd.grad(
        out.mask.sum(), [gate.weight, gate.budget_bias], allow_unused=True, retain_graph=True
    )
    rate = torch.autograd.grad(
        out.counted.sum(), [gate.weight, gate.budget_bias], allow_unused=True
    )
    assert task[0].abs().sum() > 0
    assert task[1] is None
    assert rate[0] is None
    assert rate[1].abs() > 0
    joint, tokens, budget = gate_on(decoupled=False)
    out = joint(tokens, budget)
    both = torch.autograd.grad(out.counted.sum(), [joint.weight, joint.budget_bias])
    assert all(g.abs().sum() > 0 for g in both)


def test_the_straight_through_gradient_at_a_point() -> None:
    x = torch.tensor(0.05, requires_grad=True)
    straight_through(x, 0.1).backward()
    s = torch.sigmoid(torch.tensor(0.5))
    torch.testing.assert_close(x.grad, s * (1 - s) / 0.1)


@pytest.mark.parametrize("logit", [-2.0, 0.0, 2.0])
def test_the_concrete_coin_is_fair(logit: float) -> None:
    n = 200_000
    drawn = binary_concrete(torch.full((n,), logit), 0.5, generator=G().manual_seed(0))
    p = 1 / (1 + math.exp(-logit))
    assert set(drawn.unique().tolist()) <= {0.0, 1.0}
    assert abs(drawn.mean().item() - p) < 4 * math.sqrt(p * (1 - p) / n)


def test_top_k_keeps_exactly_the_ceiling() -> None:
    scores = torch.rand(5, 49, generator=G().manual_seed(0))
    budget = torch.tensor([0.0, 0.1, 0.2, 0.5, 1.0])
    kept = top_k(scores, budget)
    assert kept.sum(-1).tolist() == [1, 5, 10, 25, 49]
    for row, mask in zip(scores, kept, strict=True):
        if 0 < mask.sum() < 49:
            assert row[mask > 0].min() > row[mask == 0].max()
    tied = top_k(torch.zeros(1, 6), torch.tensor([0.5]))
    assert tied.tolist() == [[1, 1, 1, 0, 0, 0]]
    learned = scores.clone().requires_grad_()
    (grad,) = torch.autograd.grad(top_k(learned, budget).sum(), learned)
    assert grad.abs().sum() > 0


def test_rate_loss() -> None:
    keep = torch.cat([torch.ones(1, 10), torch.zeros(1, 39)], dim=1)
    assert rate_loss(keep, torch.tensor([0.2])).item() == pytest.approx(
        (10 / 49 - 0.2) ** 2, rel=1e-4
    )
    assert rate_loss(keep, torch.tensor([0.3]), one_sided=True) == 0
    many = rate_loss(keep.expand(7, -1), torch.full((7,), 0.2))
    torch.testing.assert_close(many, rate_loss(keep, torch.tensor([0.2])))
    with pytest.raises((ValueError, TypeError)):
        rate_loss(keep.expand(6, -1), torch.tensor([0.2, 0.3]))


def test_bad_gates() -> None:
    with pytest.raises(ValueError, match="temperature"):
        TokenGate(4, temperature=0.0)
    with pytest.raises((ValueError, TypeError)):
        TokenGate(4, gate="loose")
