"""The wrapper: equal to full fine-tuning where it must be, frozen is frozen, savings are exact."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from labcore.blocks import fast_linear
from labcore.blocks.cost import saved_activation_bytes
from labcore.finetuning.alast import ALaST
from labcore.finetuning.budgets import ALaSTConfig
from labcore.finetuning.layers import run_block, run_block_reference
from labcore.finetuning.lean import lean_mlp
from labcore.finetuning.reference import PlainALaST
from labcore.finetuning.reports import Savings
from tests.finetuning.conftest import DEPTH, small_vit

ALL = ALaSTConfig(DEPTH, rule="difference", budget_lr=0.0, init_budget=1.0)


def constant(budget, k=DEPTH, **more):
    return ALaSTConfig(k, rule="difference", budget_lr=0.0, init_budget=budget, **more)


def gradients(model):
    return {n: None if p.grad is None else p.grad.clone() for n, p in model.named_parameters()}


def one_backward(model, config, batch, loss_fn, layers, savings=None):
    """Loss and gradients of one pass that trains ``layers``."""
    wrapped = ALaST(model, config, savings=savings)
    wrapped._layers = tuple(layers)
    with wrapped.only_drawn():
        loss = loss_fn(wrapped(batch[0]), batch[1])
        loss.backward()
    return loss.item(), gradients(model), wrapped


def test_all_layers_and_all_tokens_is_full_fine_tuning_bit_for_bit(model, batch, loss_fn):
    plain = copy.deepcopy(model)
    config = ALaSTConfig(
        DEPTH, rule="difference", budget_lr=0.0, init_budget=1.0, freeze_embedding=False
    )
    savings = Savings(class_only=False, lean_mlp=False, fast_products=False)
    wrapped = ALaST(model, config, savings=savings)
    optimizers = [torch.optim.AdamW(m.parameters(), lr=1e-2) for m in (model, plain)]
    for _ in range(3):
        report = wrapped.step(loss_fn, batch, optimizers[0])
        loss = loss_fn(plain(batch[0]), batch[1])
        optimizers[1].zero_grad(set_to_none=True)
        loss.backward()
        optimizers[1].step()
        assert report.loss == loss.item()
    for (name, ours), theirs in zip(model.named_parameters(), plain.parameters(), strict=True):
        assert torch.equal(ours, theirs), name


def test_fewer_layers_change_neither_loss_nor_their_gradients(model, batch, loss_fn):
    other = copy.deepcopy(model)
    loss_fn(other(batch[0]), batch[1]).backward()
    wanted, full_loss = gradients(other), loss_fn(other(batch[0]), batch[1]).item()
    loss, found, _ = one_backward(model, ALL, batch, loss_fn, (1, 3))
    assert loss == pytest.approx(full_loss, abs=1e-6)
    for name, grad in found.items():
        trained = name.startswith(("blocks.1.", "blocks.3.", "norm", "head"))
        assert (grad is not None) == trained, name
        if trained:
            torch.testing.assert_close(grad, wanted[name], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("budget", [1.0, 0.7])
@pytest.mark.parametrize("layers", [(2,), (0, 3), (), (1, 2)])
def test_every_saving_leaves_loss_and_gradients_as_they_are(model, batch, loss_fn, budget, layers):
    off = Savings(no_graph_prefix=False, early_drop=False, class_only=False, lean_mlp=False)
    results = [
        one_backward(copy.deepcopy(model), constant(budget), batch, loss_fn, layers, savings)
        for savings in (off, Savings(True, False, False, False), Savings())
    ]
    for name, wanted in results[0][1].items():
        prefix_only = results[1][1][name]
        assert (wanted is None) == (prefix_only is None)
        if wanted is not None:
            assert torch.equal(wanted, prefix_only), name  # no graph below: bit for bit
            torch.testing.assert_close(results[2][1][name], wanted, atol=1e-5, rtol=1e-4)
    assert results[2][0] == pytest.approx(results[0][0], abs=1e-6)
    assert results[2][2].trace.entered == results[0][2].trace.entered


def test_the_faster_products_change_rounding_only(model, batch, loss_fn, monkeypatch):
    monkeypatch.setattr(fast_linear, "_SMALLEST", 0)  # the test's model is too small to gain
    names, seen = list(model.state_dict()), []
    for fast in (False, True):
        savings = Savings(fast_products=fast)
        net = copy.deepcopy(model)
        seen.append(one_backward(net, constant(0.7), batch, loss_fn, (0, 2), savings))
        assert list(net.state_dict()) == names
    assert seen[1][0] == pytest.approx(seen[0][0], abs=1e-5)
    for name, wanted in seen[0][1].items():
        assert (wanted is None) == (seen[1][1][name] is None)
        if wanted is not None:
            torch.testing.assert_close(seen[1][1][name], wanted, atol=1e-5, rtol=1e-4)
    changed = [not torch.equal(a, seen[1][1][n]) for n, a in seen[0][1].items() if a is not None]
    assert any(changed) or not torch.backends.mkldnn.is_available()


def test_equals_the_plain_step(model, batch, loss_fn):
    budgets = [0.8, 0.6, 0.9, 0.7]
    wrapped = ALaST(model, constant(0.9))
    wrapped.schedule._budgets = torch.tensor(budgets, dtype=torch.float64)
    wrapped._layers = (1, 2)
    other = copy.deepcopy(model)
    plain = PlainALaST(other, budgets)
    plain.freeze_all_but((1, 2))
    theirs = loss_fn(plain(batch[0]), batch[1])
    theirs.backward()
    with wrapped.only_drawn():
        ours = loss_fn(wrapped(batch[0]), batch[1])
        ours.backward()
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-6)
    for name, grad in gradients(model).items():
        wanted = gradients(other)[name]
        assert (grad is None) == (wanted is None), name
        if grad is not None:
            torch.testing.assert_close(grad, wanted, atol=1e-5, rtol=1e-4)
    relative = ALaSTConfig.paper()
    assert relative.delta == "absolute"
    absolute = ALaST(other.requires_grad_(True), ALaSTConfig.paper(budget_lr=0.0))
    absolute(batch[0])
    assert len(absolute.trace.deltas) == len(plain.deltas) == DEPTH


def test_early_drop_equals_drop_after_the_block(model, batch):
    view = ALaST(model).trunk.views[0]
    x = model.embed(batch[0])
    early, late = run_block(view, x, 5), run_block_reference(view, x, 5)
    assert torch.equal(early.kept, late.kept)
    torch.testing.assert_close(early.tokens, late.tokens, atol=1e-5, rtol=1e-5)
    first = run_block(view, x, 16, only_first=1).tokens
    torch.testing.assert_close(first[:, 0], late.tokens[:, 0], atol=1e-6, rtol=1e-5)


def test_frozen_parameters_do_not_move_not_even_by_decay_or_momentum(model, batch, loss_fn):
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.5)
    wrapped = ALaST(model, constant(0.8, k=2))
    wrapped.step(loss_fn, batch, optimizer, layers=range(DEPTH))  # fills the momentum of all layers
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    report = wrapped.step(loss_fn, batch, optimizer, layers=(2, 3))
    assert report.layers == (2, 3)
    for name, p in model.named_parameters():
        moved = not torch.equal(p, before[name])
        assert moved == name.startswith(("blocks.2", "blocks.3", "norm", "head")), name
    assert all(p.requires_grad and p.grad is None for p in model.parameters())


def test_no_layers_trains_the_head_without_any_graph_in_the_trunk(model, batch, loss_fn):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    wrapped = ALaST(model, constant(1.0, k=0))
    report = wrapped.step(loss_fn, batch, optimizer, measure=True)
    moved = {n for n, p in model.named_parameters() if not torch.equal(p, before[n])}
    assert moved == {"norm.weight", "norm.bias", "head.weight", "head.bias"}
    assert report.saved_bytes < 6 * 24 * 4 * 16  # norm, head and loss of six class tokens
    assert report.flops < 0.4 * wrapped._flops([17] * DEPTH, None).total * 3


@pytest.mark.parametrize("layers", [(0, 1, 2, 3), (1, 3), (2,), ()])
def test_flops_spent_agree_with_torchs_counter(model, batch, loss_fn, layers):
    # the counter does not see oneDNN's products either
    wrapped = ALaST(model, constant(0.7), savings=Savings(fast_products=False))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        report = wrapped.step(loss_fn, batch, optimizer, layers=layers)
    patches = 2 * 16 * 49 * 24  # embedding, forward only; then the head's three products
    others = patches + 3 * 2 * 24 * 5
    counted = counter.get_total_flops() / len(batch[0]) - others
    assert report.flops_spent == pytest.approx(counted, rel=0.03)
    assert report.flops_spent < report.flops


def test_a_report_says_time_flops_and_bytes_in_one_line(model, batch, loss_fn):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    report = ALaST(model, constant(0.7)).step(loss_fn, batch, optimizer, layers=(1, 3))
    for part in ("layers 1, 3", "CPU s", "GFLOPs a picture", f"{report.saved_bytes / 1e6:.1f} MB"):
        assert part in str(report)
    unmeasured = ALaST(model).step(loss_fn, batch, optimizer, measure=False)
    assert unmeasured.saved_bytes is None
    assert "not counted" in str(unmeasured)


def test_saved_bytes_fall_with_layers_and_with_budgets(batch, loss_fn):
    def saved(budget, layers):
        model = small_vit()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
        wrapped = ALaST(model, constant(budget))
        return wrapped.step(loss_fn, batch, optimizer, layers=layers, measure=True).saved_bytes

    by_layers = [saved(1.0, tuple(range(first, DEPTH))) for first in range(DEPTH + 1)]
    assert by_layers == sorted(by_layers, reverse=True)
    assert len(set(by_layers)) == DEPTH + 1
    by_budget = [saved(budget, (0, 2)) for budget in (1.0, 0.9, 0.7, 0.5)]
    assert by_budget == sorted(by_budget, reverse=True)
    assert len(set(by_budget)) == 4
    model = small_vit()
    with saved_activation_bytes(model) as full:
        loss_fn(model(batch[0]), batch[1])
    assert saved(1.0, range(DEPTH)) < full.total


def test_evaluation_restores_the_whole_model(model, batch):
    wrapped = ALaST(model, constant(0.5))
    wrapped(batch[0])
    assert wrapped.trace.entered[-1] < 17
    wrapped.eval()
    with torch.no_grad():
        assert torch.equal(wrapped(batch[0]), model(batch[0]))
    assert isinstance(model.blocks, nn.ModuleList)
    assert len(model.blocks) == DEPTH


@pytest.mark.parametrize(
    ("drop", "wanted"),
    [
        ("compound", [17, 13, 10, 7]),  # 16 -> 12 -> 9 -> 6 patches
        ("global", [17, 13, 13, 13]),
        ("bypass", [13, 13, 13, 17]),
        ("none", [17, 17, 17, 17]),
    ],
)
def test_tokens_of_every_kind_of_drop(model, batch, drop, wanted):
    wrapped = ALaST(model, constant(0.75, drop=drop))
    wrapped(batch[0])
    assert wrapped.trace.entered == wanted


def test_bypassed_tokens_come_back_unchanged(model, batch):
    from labcore.finetuning.layers import run_bypassed

    view = ALaST(model).trunk.views[0]
    x = model.embed(batch[0])
    passed = run_bypassed(view, x, 4)
    stayed = torch.zeros(6, 16, dtype=torch.bool).scatter(1, passed.kept, True)
    same = (passed.tokens[:, 1:] == x[:, 1:]).all(-1)
    assert torch.equal(same, ~stayed)


def test_accumulation_averages_deltas_and_gradients(model, batch, loss_fn):
    other = copy.deepcopy(model)
    reports = []
    for net, parts in ((model, 1), (other, 3)):
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        reports.append(
            ALaST(net, constant(1.0, k=2)).step(loss_fn, batch, optimizer, accumulate=parts)
        )
    assert reports[0].layers == reports[1].layers
    assert reports[0].deltas == pytest.approx(reports[1].deltas, rel=1e-4)
    assert reports[0].loss == pytest.approx(reports[1].loss, abs=1e-5)
    for a, b in zip(model.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("preset", ["paper", "coauthor", "calibrated"])
def test_resume_goes_on_as_if_nothing_had_happened(batch, loss_fn, preset):
    def fresh():
        model = small_vit()
        config = getattr(ALaSTConfig, preset)(num_trainable_layers=2)
        return model, ALaST(model, config), torch.optim.AdamW(model.parameters(), lr=1e-2)

    model, wrapped, optimizer = fresh()
    for _ in range(2):
        wrapped.step(loss_fn, batch, optimizer)
    saved = copy.deepcopy((model.state_dict(), wrapped.state_dict(), optimizer.state_dict()))
    wanted = [wrapped.step(loss_fn, batch, optimizer) for _ in range(3)]
    model, wrapped, optimizer = fresh()
    model.load_state_dict(saved[0])
    wrapped.load_state_dict(saved[1])
    optimizer.load_state_dict(saved[2])
    for want in wanted:
        found = wrapped.step(loss_fn, batch, optimizer)
        assert (found.layers, found.budgets, found.loss) == (want.layers, want.budgets, want.loss)


def test_a_nan_names_the_layer_and_changes_nothing(model, batch, loss_fn):
    with torch.no_grad():
        model.blocks[2].mlp.fc2.bias.fill_(float("nan"))
    wrapped = ALaST(model, ALaSTConfig.coauthor())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    before = model.head.weight.detach().clone()
    with pytest.raises(ValueError, match="layer 2"):
        wrapped.step(loss_fn, batch, optimizer)
    assert torch.equal(model.head.weight, before)
    assert wrapped.schedule.budgets.tolist() == [0.9] * DEPTH
    assert wrapped.steps == 0


def test_refusals(model, batch, loss_fn):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    wrapped = ALaST(model)
    with pytest.raises(ValueError, match="accumulate must be 1..6"):
        wrapped.step(loss_fn, batch, optimizer, accumulate=7)
    with pytest.raises(ValueError, match="layers must be 0..3"):
        wrapped.step(loss_fn, batch, optimizer, layers=(4,))
    with pytest.raises(ValueError, match="call train"):
        wrapped.eval().step(loss_fn, batch, optimizer)
    with pytest.raises(ValueError, match="num_trainable_layers must be 0..4"):
        ALaST(model, ALaSTConfig(5))
    with pytest.raises(ValueError, match=r"no list of transformer blocks at blocks, layers"):
        ALaST(nn.Sequential(nn.Linear(2, 2)))
    with pytest.raises(ValueError, match="is a Linear with parts none"):
        ALaST(nn.Sequential(nn.Linear(2, 2), nn.ModuleList([nn.Linear(2, 2)])), block_path="1")

    class SwinTransformerBlock(nn.Module):
        pass

    with pytest.raises(ValueError, match="windowed attention"):
        ALaST(nn.Sequential(SwinTransformerBlock()))
    merged = small_vit()
    merged._tome_info = {}
    with pytest.raises(ValueError, match="merges tokens"):
        ALaST(merged)


@pytest.mark.parametrize("frozen", [False, True])
def test_a_lean_mlp_gives_the_same_numbers_from_fewer_bytes(frozen):
    mlp, x = small_vit().blocks[0].mlp, torch.randn(3, 5, 24, requires_grad=True)
    for p in mlp.parameters():
        p.requires_grad_(not frozen)
    outcomes, saved = [], []
    for run in (mlp, lean_mlp(mlp)):
        mlp.zero_grad(set_to_none=True)
        x.grad = None
        with saved_activation_bytes(mlp) as counter:
            out = run(x)
        out.square().sum().backward()
        outcomes.append([out, x.grad, *(p.grad for p in mlp.parameters() if not frozen)])
        saved.append(counter.total)
    for ours, theirs in zip(*outcomes, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-5)
    wide = 3 * 5 * 48 * 4  # one tensor of the MLP's width
    assert saved[0] - saved[1] == (0 if frozen else wide)


def test_an_mlp_of_another_kind_is_left_alone():
    class Odd(nn.Module):
        def __init__(self, act, drop=0.0):
            super().__init__()
            self.fc1, self.fc2 = nn.Linear(4, 8), nn.Linear(8, 4)
            self.act, self.drop1 = act, nn.Dropout(drop)

    for odd in (Odd(nn.ReLU()), Odd(nn.GELU("tanh")), Odd(nn.GELU(), 0.1), nn.Linear(4, 4)):
        assert lean_mlp(odd) is odd
    assert lean_mlp(Odd(nn.GELU())) is not None
    assert not isinstance(lean_mlp(Odd(nn.GELU())), nn.Module)
