"""Budgets, deltas and draws: known sequences, identities, probabilities, refusals."""

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from labcore.finetuning.budgets import ALaSTConfig, BudgetSchedule, class_token_delta
from labcore.finetuning.sampling import draw_layers, inclusion_probabilities

KNOWN = (3, 1, 2.5, 4, 0.5, 0, 6)


def run(config, sequence):
    schedule = BudgetSchedule(1, config)
    return [schedule.update(torch.tensor([float(d)]))[0].item() for d in sequence]


def test_the_known_sequence_and_its_drawdown():
    config = ALaSTConfig.paper(budget_lr=0.1, warm_start=False)
    found = run(config, KNOWN)
    assert found == pytest.approx([1, 0.8, 0.95, 1, 0.65, 0.6, 1])
    drawdown = [1 - 0.1 * (max(KNOWN[: i + 1]) - d) for i, d in enumerate(KNOWN)]
    assert found == pytest.approx(drawdown)


@given(st.lists(st.floats(0, 5), min_size=2, max_size=30))
def test_without_clipping_a_budget_has_no_memory(deltas):
    config = ALaSTConfig(
        rule="difference", budget_lr=0.01, init_budget=0.5, bounds=(1e-6, 1.0)
    )  # 0.01 * 5 never reaches a clip
    found = run(config, deltas)
    assert found == pytest.approx([0.5 + 0.01 * (d - deltas[0]) for d in deltas])


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=20), st.sampled_from(["paper", "coauthor"]))
def test_budgets_stay_inside_their_bounds(deltas, preset):
    config = getattr(ALaSTConfig, preset)(budget_lr=0.3)
    low, high = config.bounds
    assert all(low <= b <= high for b in run(config, deltas))


def test_calibrated_budgets_follow_ranks_and_forget_the_scale():
    deltas = torch.tensor([3.6, 0.05, 1.4, 9.7])
    small, large = (BudgetSchedule(4, ALaSTConfig.calibrated()) for _ in range(2))
    budgets = small.update(deltas)
    torch.testing.assert_close(large.update(deltas * 1e4), budgets)
    assert budgets.argsort().tolist() == deltas.argsort().tolist()
    inside = BudgetSchedule(4, ALaSTConfig.calibrated(mean_budget=0.75)).update(deltas)
    assert inside.mean().item() == pytest.approx(0.75)


def test_presets_differ_where_the_sources_do():
    paper, coauthor, ours = ALaSTConfig.paper(), ALaSTConfig.coauthor(), ALaSTConfig.calibrated()
    assert (paper.init_budget, coauthor.init_budget) == (1.0, 0.9)
    assert (paper.sampling, coauthor.sampling) == ("proportional", "softmax")
    assert (paper.delta_reduction, coauthor.delta_reduction) == ("mean", "sum")
    assert (paper.rule, coauthor.rule, ours.rule) == ("difference", "difference", "calibrated")
    assert coauthor.bounds == (0.5, 1.0)
    assert not coauthor.warm_start


def test_first_step_with_and_without_warm_start():
    for warm, wanted in ((True, 0.9), (False, 0.93)):
        config = ALaSTConfig.coauthor(budget_lr=0.01, warm_start=warm)
        assert run(config, [3.0]) == pytest.approx([wanted])


def test_delta_is_mean_or_sum_and_ignores_the_order_of_the_batch():
    a, b = torch.randn(5, 8), torch.randn(5, 8)
    mean = class_token_delta(a, b)
    torch.testing.assert_close(mean, (b - a).norm(dim=1).square().mean())
    torch.testing.assert_close(class_token_delta(a, b, "sum"), 5 * mean)
    order = torch.randperm(5)
    torch.testing.assert_close(class_token_delta(a[order], b[order]), mean)
    relative = ((b - a).norm(dim=1) / a.norm(dim=1)).square().mean()
    torch.testing.assert_close(class_token_delta(a, b, relative=True), relative)


@pytest.mark.parametrize(
    ("sampling", "wanted"),
    [
        ("softmax", [0.5967, 0.5967, 0.4033, 0.4033]),
        ("proportional", [0.6333, 0.6333, 0.3667, 0.3667]),
    ],
)
def test_inclusion_probabilities_known_and_met_by_draws(sampling, wanted):
    config = ALaSTConfig(2, rule="difference", sampling=sampling, bounds=(0.1, 1.0))
    schedule = BudgetSchedule(4, config)
    schedule._budgets = torch.tensor([1.0, 1.0, 0.5, 0.5], dtype=torch.float64)
    found = schedule.inclusion_probabilities()
    assert found.tolist() == pytest.approx(wanted, abs=1e-4)
    generator, draws = torch.Generator().manual_seed(0), 20_000
    counts = torch.zeros(4, dtype=torch.float64)
    for _ in range(draws):
        layers = schedule.sample_layers(generator)
        assert len(set(layers)) == 2
        counts[list(layers)] += 1
    error = (found * (1 - found) / draws).sqrt()
    assert ((counts / draws - found).abs() < 4 * error).all()


def test_inclusion_probabilities_equal_the_sum_over_ordered_draws():
    weights = torch.tensor([0.9, 0.5, 0.7, 1.0, 0.2])
    wanted = torch.zeros(5, dtype=torch.float64)
    for order in itertools.permutations(range(5), 3):
        p, left = 1.0, weights.sum().item()
        for layer in order:
            p, left = p * weights[layer].item() / left, left - weights[layer].item()
        wanted[list(order)] += p
    torch.testing.assert_close(inclusion_probabilities(weights, 3), wanted, atol=1e-6, rtol=0)
    assert inclusion_probabilities(weights, 3, "top").tolist() == [1, 0, 1, 1, 0]
    assert inclusion_probabilities(torch.rand(16) + 0.1, 9).sum().item() == pytest.approx(9)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"bounds": (0.0, 1.0)}, "bounds"),
        ({"bounds": (0.8, 0.6)}, "bounds"),
        ({"bounds": (0.5, 1.2)}, "bounds"),
        ({"init_budget": 0.3}, "init_budget=0.3"),
        ({"mean_budget": 0.1}, "mean_budget=0.1"),
        ({"sampling": "uniform"}, "sampling must be one of"),
        ({"drop": "merge"}, "drop must be one of"),
        ({"num_trainable_layers": -1}, "num_trainable_layers"),
        ({"spread": -0.1}, "spread"),
        ({"spread": math.nan}, "spread"),
        ({"budget_lr": math.nan}, "budget_lr"),
    ],
)
def test_bad_settings_are_refused(change, match):
    with pytest.raises(ValueError, match=match):
        ALaSTConfig(**change)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -1.0])
def test_a_bad_delta_names_its_layer_and_leaves_the_budgets(bad):
    schedule = BudgetSchedule(3, ALaSTConfig.coauthor(budget_lr=0.1))
    schedule.update(torch.tensor([1.0, 0.5, 0.2]))
    before, state = schedule.budgets, schedule.state_dict()
    with pytest.raises(ValueError, match="layer 1"):
        schedule.update(torch.tensor([1.0, bad, 2.0]))
    torch.testing.assert_close(schedule.budgets, before, rtol=0, atol=0)
    assert schedule.state_dict() == state


def test_other_refusals_of_the_schedule():
    schedule = BudgetSchedule(3, ALaSTConfig.paper())
    with pytest.raises(ValueError, match="2 deltas for 3 layers"):
        schedule.update(torch.ones(2), lr=0.1)
    with pytest.raises(ValueError, match="no alpha"):
        schedule.update(torch.ones(3))
    with pytest.raises(ValueError, match="0..3"):
        BudgetSchedule(3, ALaSTConfig(4))
    with pytest.raises(ValueError, match="at most 16"):
        inclusion_probabilities(torch.ones(17), 3)
    with pytest.raises(ValueError, match="k must be"):
        draw_layers(torch.ones(3), 4)
    with pytest.raises(ValueError, match="another num_trainable_layers"):
        BudgetSchedule(3, ALaSTConfig.paper(num_trainable_layers=1)).load_state_dict(
            schedule.state_dict()
        )
