"""The experiment end to end on random pictures, its table, its claims, and every figure."""

import copy
import json
import math
from dataclasses import asdict

import numpy as np
import pytest
import torch

from labcore import viz
from labcore.claims import claims_of
from labcore.finetuning import clock, data, experiment, figures, tally
from labcore.finetuning.filmstrip import delta_profile, survivors
from labcore.finetuning.models import linear_probe, small_vit
from labcore.finetuning.settings import Config, Trial
from labcore.finetuning.strategies import learner
from labcore.finetuning.training import Recipe
from labcore.runs import Cancelled
from tests.finetuning.conftest import small_vit as tiny

NAMES = ("full", "head_only", "last_k", "random_k", "alast_paper", "alast_coauthor",
         "alast_calibrated", "alast_embedding", "alast_080")  # fmt: skip


def random_task(name, train, test, *, image_size=28, channels=1, seed=0):
    g = torch.Generator().manual_seed(seed)
    splits = [
        data.Split(torch.randn(n, channels, image_size, image_size, generator=g),
                   torch.arange(n) % 10) for n in (train, test)
    ]  # fmt: skip
    return data.Task(*splits, *(split.images.flatten(1) for split in splits))


@pytest.fixture(scope="module")
def result():
    recipe = Recipe("scratch", 28, 40, 20, 1, 10, 1e-3, 4)
    trial = Trial("small", recipe, NAMES, (0, 1), ("full", "alast_080"), 0.15)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data, "task_of", random_task)
        patch.setattr(clock, "task_of", random_task)
        yield experiment.run(Config(0, (trial,), clock_rounds=1))


def test_the_committed_result_is_of_the_present_preset():
    """Every strategy with every seed, nothing of another configuration."""
    full = experiment.load_result()
    assert full.config == json.loads(json.dumps(asdict(Config.full())))
    wanted = {(t.name, name, seed) for t in Config.full().trials
              for name in t.strategies for seed in t.seeds}  # fmt: skip
    rows = full.tables["runs"]
    assert {(row["model"], row["strategy"], row["seed"]) for row in rows} == wanted
    assert len(rows) == len(wanted)


def test_every_run_is_a_row_with_its_costs(result):
    rows = result.tables["runs"]
    assert len(rows) == 2 * len(NAMES)
    for row in rows:
        assert 0 <= row["accuracy"] <= 1
        assert row["steps"] == 4
        for column in ("step_seconds", "gflops", "saved_bytes", "mean_tokens", "trained"):
            assert row[column] > 0
    full, head = (tally.pick(rows, strategy=n, seed=0)[0] for n in ("full", "head_only"))
    assert full["gflops"] == pytest.approx(3 * head["gflops"])
    assert full["saved_bytes"] > 10 * head["saved_bytes"]
    assert result.arrays["small/alast_calibrated/budgets"].shape == (4, 6)
    trained = result.arrays["small/alast_coauthor/trained"]
    assert (trained.sum(1) == 4).all()
    assert len(result.tables["clock"]) == len(NAMES)
    assert {row["baseline"] for row in result.tables["baselines"]} >= {"commonest class"}


def test_summary_and_claims_read_the_result(result):
    rows = {row["strategy"]: row for row in experiment.summary(result)}
    assert rows["full"]["x faster"] == pytest.approx(1)
    assert rows["head_only"]["x FLOPs"] == pytest.approx(3)
    found = {claim.id: claim.measure(result) for claim in claims_of("finetuning")}
    assert found["finetuning-rotating"].verdict != "not testable here"
    assert found["finetuning-time"].verdict == "not testable here"  # no ViT-S in this run
    as_real = copy.deepcopy(result)
    for table in as_real.tables.values():
        for row in table:
            if row.get("model") == "small":
                row["model"] = "vit-s"
    for name in ("time", "flops", "memory", "accuracy", "learns"):
        finding = next(c for c in claims_of("finetuning") if c.id == f"finetuning-{name}").measure(
            as_real
        )
        assert finding.verdict != "not testable here"
        assert finding.baselines


def test_strategies_of_ones_own_choice_are_compared(result, monkeypatch):
    monkeypatch.setattr(data, "task_of", random_task)
    recipe = Recipe("scratch", 28, 40, 20, 1, 10, 1e-3, 4)
    found = experiment.compare_strategies(("full", "last_k"), recipe, seeds=(1,))
    assert "--quick" not in found.provenance.command
    for row in found.tables["runs"]:
        wanted = tally.pick(result.tables["runs"], strategy=row["strategy"], seed=1)[0]
        assert (row["accuracy"], row["gflops"]) == (wanted["accuracy"], wanted["gflops"])
    assert [row["strategy"] for row in experiment.summary(found)][:2] == ["full", "last_k"]
    with pytest.raises(ValueError, match="one or more strategies"):
        experiment.compare_strategies((), recipe)


def test_same_seed_same_accuracy(result):
    recipe = Recipe("scratch", 28, 40, 20, 1, 10, 1e-3, 4)
    from labcore.finetuning.training import fine_tune

    found = fine_tune("alast_calibrated", recipe, random_task("", 40, 20), seed=0)
    wanted = tally.pick(result.tables["runs"], strategy="alast_calibrated", seed=0)[0]
    assert found.accuracy == wanted["accuracy"]
    assert [r.budgets for r in found.reports][-1] == pytest.approx(
        result.arrays["small/alast_calibrated/budgets"][-1].tolist(), rel=1e-5
    )


def test_a_run_can_be_cancelled():
    recipe = Recipe("scratch", 28, 40, 20, 1, 10, 1e-3, 4)
    from labcore.finetuning.training import fine_tune

    def stop(done, total, label):
        raise Cancelled

    with pytest.raises(Cancelled):
        fine_tune("full", recipe, random_task("", 40, 20), progress=stop)


def test_the_probe_separates_what_a_line_separates():
    g = torch.Generator().manual_seed(0)
    labels = torch.arange(200) % 10
    inputs = torch.randn(200, 16, generator=g) + 6 * torch.eye(16)[labels]
    weight, bias = linear_probe(inputs, labels)
    assert ((inputs @ weight.T + bias).argmax(1) == labels).float().mean() > 0.98


def test_unknown_strategy_and_photograph_are_refused():
    with pytest.raises(ValueError, match="strategy must be one of"):
        learner("merge", tiny(), num_layers=2, lr=1e-3)
    with pytest.raises(ValueError, match="china, flower"):
        data.photograph_pixels("tree")


def test_balanced_splits_and_sizes():
    labels = np.repeat(np.arange(10), 50)
    chosen = data.balanced(labels, 95, np.random.default_rng(0))
    counts = np.bincount(labels[chosen])
    assert counts.max() - counts.min() == 1
    assert len(set(chosen.tolist())) == 95
    with pytest.raises(ValueError, match="n=501"):
        data.balanced(labels, 501, np.random.default_rng(0))
    square = data.middle_square(np.zeros((30, 50, 3), np.uint8), 20)
    assert square.shape == (20, 20, 3)


def test_survivors_multiply_and_never_return(batch):
    model = tiny().eval()
    kept = survivors(model, batch[0][:1], 0.7)
    assert kept.sum(1).tolist() == [11, 7, 4, 2]
    assert (kept[1:] <= kept[:-1]).all()
    profile = delta_profile(model, batch[0])
    assert profile["absolute"].shape == profile["relative"].shape == (4,)
    with pytest.raises(ValueError, match="budget"):
        survivors(model, batch[0][:1], 0.0)


def test_the_committed_small_model_has_learned_digits():
    from safetensors import safe_open

    from labcore.finetuning.models import SMALL_WEIGHTS

    with safe_open(SMALL_WEIGHTS, "pt") as file:
        assert float(file.metadata()["digits"]) > 0.9
    assert SMALL_WEIGHTS.stat().st_size < 5e6
    fresh, trained = small_vit(pretrained=False), small_vit()
    assert not torch.equal(fresh.blocks[0].mlp.fc1.weight, trained.blocks[0].mlp.fc1.weight)


def test_figures_are_finished_and_say_their_numbers(result):
    arrays, tables = result.arrays, result.tables
    film = [arrays[f"small/alast_calibrated/{n}"] for n in ("budgets", "trained", "tokens")]
    drawn = [
        figures.budget_film(*film, step=2, model="small"),
        figures.delta_profile_figure(np.array([1.0, 30]), np.array([3.0, 0.1]), picture="x"),
        figures.filmstrip_figure(
            np.zeros((8, 8, 3), np.uint8), np.ones((3, 16), bool), budget=0.9, layers=(1, 3)
        ),
        figures.flops_figure(),
        figures.flops_figure(trained=0, budget=1.0),
        figures.trade_off(tables["runs"], tables["clock"], model="small"),
        figures.race(tables["race"], strategies=["full", "alast_080"]),
    ]
    for fig in drawn:
        assert len(viz.describe(fig)) > 40
        assert viz.caption(fig)
    assert "1.08 times" in viz.describe(figures.flops_figure(trained=9, budget=1.0))
    for step in (0, 5):
        with pytest.raises(ValueError, match="step must be 1..4"):
            figures.budget_film(*film, step=step)
    with pytest.raises(ValueError, match="no square"):
        figures.filmstrip_figure(np.zeros((8, 8, 3), np.uint8), np.ones((3, 15), bool), budget=1)
    with pytest.raises(ValueError, match="did not run"):
        figures.race(tables["race"], strategies=["lora"])
    with pytest.raises(ValueError, match="was not run"):
        figures.trade_off(tables["runs"], [], model="vit-s")


def test_a_single_run_has_no_spread():
    assert math.isnan(tally.spread([0.5]).sd)
    with pytest.raises(ValueError, match="no trials"):
        tally.spread([])
