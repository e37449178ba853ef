"""Early exits: ends of every rule, shrinking batches, budgets on validation, the oracle's bound."""

import math
from itertools import count

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from labcore.blocks.calibration import fit_temperature
from labcore.blocks.vit import VisionTransformer, ViTConfig
from labcore.conditional.budgets import cost_accuracy_curve, fit_thresholds, oracle_curve
from labcore.conditional.cost import Cost
from labcore.conditional.exits import KINDS, EarlyExitNet, ExitRule, exit_layers, sureness

COSTS = (1.0, 2.0, 3.0, 4.0)


def gen(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def some(n: int = 300, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Logits of four heads that get better, and classes."""
    y = torch.randint(5, (n,), generator=gen(seed))
    noise = torch.randn(4, n, 5, generator=gen(seed + 1))
    signal = nn.functional.one_hot(y, 5) * torch.tensor([0.8, 1.4, 2.0, 2.4])[:, None, None]
    return noise + signal, y


def net(classes: int = 5) -> EarlyExitNet:
    config = ViTConfig(hidden_size=16, depth=4, num_heads=2)
    trunk = VisionTransformer(config, generator=gen())
    model = EarlyExitNet.with_linear_heads(trunk, classes, generator=gen())
    with torch.no_grad():
        for head in model.heads:
            head[1].weight.mul_(4)  # answers that differ in confidence
    return model.eval()


def test_thresholds_at_their_ends() -> None:
    logits, _ = some()
    ends = {"confidence": (0.0, 1.1), "margin": (-0.1, 1.1), "entropy": (1.1, -0.1),
            "patience": (0.0, 9.0)}  # fmt: skip
    for kind in KINDS:
        first, last = ends[kind]
        assert (exit_layers(logits, ExitRule(kind, first)) == 0).all()
        assert (exit_layers(logits, ExitRule(kind, last)) == 3).all()


def test_rules_by_hand() -> None:
    p = torch.tensor([[0.6, 0.3, 0.1], [0.2, 0.7, 0.1], [0.1, 0.85, 0.05], [0.1, 0.2, 0.7]])
    logits = p.log()[:, None]
    assert exit_layers(logits, ExitRule("confidence", 0.65)).item() == 1
    assert exit_layers(logits, ExitRule("margin", 0.7)).item() == 2
    assert exit_layers(logits, ExitRule("patience", 1.0)).item() == 2
    assert exit_layers(logits, ExitRule("confidence", (0.9, 0.9, 0.8, 0.0))).item() == 2
    entropy = -(p[1] * p[1].log()).sum().item() / math.log(3)
    assert sureness(logits[1], "entropy").item() == pytest.approx(-entropy)
    assert exit_layers(logits, ExitRule("entropy", entropy + 1e-4)).item() == 1


@pytest.mark.parametrize("kind", KINDS)
def test_shrinking_batches_equal_running_every_head(kind: str) -> None:
    model, x = net(), torch.randn(40, 1, 28, 28, generator=gen(2))
    if kind == "patience":  # equal heads, so that answers sometimes stay the same
        for head in model.heads:
            head.load_state_dict(model.heads[0].state_dict())
        for block in model.backbone.blocks:
            for weight in (block.attn.proj.weight, block.mlp.fc2.weight):
                weight.data.mul_(30)
        x = 5 * x
    with torch.no_grad():
        logits = model(x)
    sure = 1.0 if kind == "patience" else float(sureness(logits[0], kind).abs().median())
    rule = ExitRule(kind, sure)
    layer = exit_layers(logits, rule)
    assert len(layer.unique()) > 1
    said, left, cost = model.predict(x, rule)
    assert torch.equal(left, layer)
    assert torch.equal(said, logits.argmax(-1).gather(0, layer[None])[0])
    step, start = model.step_flops, 40 * model.embedding_flops
    assert cost.executed - start == pytest.approx((layer + 1).sum().item() * step)
    assert cost.total - start == pytest.approx(4 * 40 * step)
    taken: list[list[int]] = [[] for _ in model.backbone.blocks]
    for block, sizes in zip(model.backbone.blocks, taken, strict=True):
        block.register_forward_pre_hook(lambda _, args, sizes=sizes: sizes.append(len(args[0])))
    for batch in (1, 7, 16, 40, 64):  # survivors refill the batches of every block
        for sizes in taken:
            sizes.clear()
        again = model.predict(x, rule, batch=batch)
        assert torch.equal(again[0], said)
        assert torch.equal(again[1], left)
        assert again[2] == cost
        for i, sizes in enumerate(taken):
            there = int((layer >= i).sum())
            assert sizes == [batch] * (there // batch) + [there % batch] * (there % batch > 0)


def test_nobody_to_answer_and_a_batch_of_none() -> None:
    said, left, cost = net().predict(torch.zeros(0, 1, 28, 28), ExitRule())
    assert len(said) == len(left) == cost.total == 0
    with pytest.raises(ValueError, match="batch must be at least 1, got 0"):
        net().predict(torch.zeros(2, 1, 28, 28), ExitRule(), batch=0)


def test_costs_rise_with_the_threshold_and_the_oracle_is_above() -> None:
    logits, y = some()
    best = oracle_curve(logits, y, COSTS)[-1]
    for kind in ("confidence", "margin"):
        rows = cost_accuracy_curve(logits, y, COSTS, kind)
        costs = [row["cost"] for row in rows]
        assert costs == sorted(costs)
        assert all(row["accuracy"] <= best["accuracy"] for row in rows)
    for kind, thresholds in (("entropy", (0.1, 0.4, 0.8)), ("patience", (0.0, 1.0, 2.0))):
        rows = cost_accuracy_curve(logits, y, COSTS, kind, thresholds)
        assert sorted(row["cost"] for row in rows) == sorted({row["cost"] for row in rows})
        assert all(row["accuracy"] <= best["accuracy"] for row in rows)
    first = cost_accuracy_curve(logits, y, COSTS, "confidence", (0.0,))[0]
    assert first["accuracy"] == (logits[0].argmax(-1) == y).float().mean().item()
    assert (first["ratio"], first["layers"]) == (0.25, 1.0)


def test_oracle_grows_with_its_heads() -> None:
    rows = oracle_curve(*some(), COSTS)
    accuracies = [row["accuracy"] for row in rows]
    assert accuracies == sorted(accuracies)
    assert rows[0]["cost"] == 1


@pytest.mark.parametrize("kind", ["confidence", "margin", "entropy"])
@pytest.mark.parametrize("budget", [1.0, 1.6, 2.5, 3.4, 4.0])
def test_thresholds_meet_their_budget(kind: str, budget: float) -> None:
    logits, y = some(2000)
    rule = fit_thresholds(logits, y, COSTS, budget, kind=kind)
    price = torch.tensor(COSTS)
    spent = price[exit_layers(logits, rule)].mean().item()
    assert spent == pytest.approx(budget, abs=0.01)
    fresh, _ = some(2000, seed=7)
    assert price[exit_layers(fresh, rule)].mean().item() == pytest.approx(budget, rel=0.06)


def test_thresholds_refuse_what_cannot_be_met() -> None:
    logits, y = some()
    with pytest.raises(ValueError, match="below the first exit"):
        fit_thresholds(logits, y, COSTS, 0.5)
    with pytest.raises(ValueError, match="no validation samples"):
        fit_thresholds(logits[:, :0], y[:0], COSTS, 2.0)
    with pytest.raises(ValueError, match="below the first exit"):
        fit_thresholds(logits, y, COSTS, math.nan)
    with pytest.raises(ValueError, match="4 heads"):
        fit_thresholds(logits, y, COSTS[:2], 2.0)
    for curve in (cost_accuracy_curve, oracle_curve):
        with pytest.raises(ValueError, match="4 heads and 0 samples"):
            curve(logits[:, :0], y[:0], COSTS)
        with pytest.raises(ValueError, match="3 costs"):
            curve(logits, y, COSTS[:3])
    short = ExitRule("confidence", (0.5, 0.5))
    with pytest.raises(ValueError, match="2 thresholds for 4 heads"):
        exit_layers(logits, short)
    images = torch.zeros(1, 1, 28, 28)
    with pytest.raises(ValueError, match="2 thresholds for 4 heads"):
        net().predict(images, short)
    with pytest.raises(ValueError, match="2 temperatures for 4 heads"):
        net().predict(images, ExitRule(), [1.0, 1.0])
    with pytest.raises(ValueError, match="unknown rule"):
        ExitRule("magic")
    with pytest.raises(ValueError, match="NaN"):
        ExitRule("confidence", math.nan)
    with pytest.raises(ValueError, match="more than one head"):
        sureness(logits[0], "patience")


def test_a_temperature_changes_no_answer() -> None:
    logits, y = some()
    tau = fit_temperature(logits[-1].double().numpy(), y.numpy())
    assert tau > 0
    assert torch.equal((logits[-1] / tau).argmax(-1), logits[-1].argmax(-1))
    hot = net().predict(torch.randn(8, 1, 28, 28, generator=gen()), ExitRule("confidence", 1.1),
                        [tau] * 4)  # fmt: skip
    assert (hot[1] == 3).all()


def test_losses_weigh_heads_and_detached_heads_leave_the_trunk_alone() -> None:
    model, x = net(), torch.randn(6, 1, 28, 28, generator=gen())
    y = torch.arange(6) % 5
    logits = model(x)
    plain = model.loss(logits, y)
    each = [nn.functional.cross_entropy(head, y) for head in logits]
    torch.testing.assert_close(plain, torch.stack(each).sum())
    assert model.loss(logits, y, distill=1.0) > plain
    model.detach = True
    model.zero_grad()
    model.loss(model(x), y).backward()
    assert all(p.grad is None for p in model.backbone.parameters())
    assert all(p.grad is not None for p in model.heads.parameters())
    with pytest.raises(ValueError, match="4 heads and weights"):
        EarlyExitNet(model.backbone, list(model.heads)[:2])


def test_learned_weights_are_one_at_the_start_and_get_a_gradient() -> None:
    trunk, y = net().backbone, torch.arange(6) % 5
    learned = EarlyExitNet.with_linear_heads(trunk, 5, "learned", generator=gen())
    fixed = EarlyExitNet.with_linear_heads(trunk, 5, generator=gen())
    logits = learned(torch.randn(6, 1, 28, 28, generator=gen()))
    loss = learned.loss(logits, y)
    torch.testing.assert_close(loss, fixed.loss(logits, y))
    loss.backward()
    # d/ds of exp(-s) CE + s at s = 0: a head that errs much is trusted less
    each = torch.stack([nn.functional.cross_entropy(head, y) for head in logits.detach()])
    torch.testing.assert_close(learned.log_noise.grad, 1 - each)
    with pytest.raises(ValueError, match='numbers or "learned"'):
        EarlyExitNet.with_linear_heads(trunk, 5, "magic")


def test_anytime_answers_with_the_deepest_head_that_was_reached() -> None:
    model, x = net(), torch.randn(7, 1, 28, 28, generator=gen())
    with torch.no_grad():
        logits = model(x)
    for seconds, reached in ((0, 0), (1, 0), (2, 1), (3.5, 3), (99, 3)):
        said, head = model.anytime(x, seconds, count().__next__)  # a block takes a second
        assert head == reached
        assert torch.equal(said, logits[head].argmax(-1))


def test_costs_add_in_one_unit_only() -> None:
    total = Cost(1, 4) + Cost(2, 4)
    assert (total.executed, total.total, total.skipped, total.ratio) == (3, 8, 5, 0.375)
    with pytest.raises(ValueError, match="cannot add"):
        Cost(1, 2) + Cost(1, 2, "s")
    with pytest.raises(ValueError, match="finite"):
        Cost(float(np.inf), 2)
