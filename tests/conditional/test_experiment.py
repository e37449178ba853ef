"""The experiment on made-up pictures: parts, seeds, resuming, cancelling, tables and arrays."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from labcore import parts
from labcore.blocks.calibration import reliability
from labcore.blocks.vit import VisionTransformer, ViTConfig
from labcore.conditional import (
    data,
    experiment,
    photo,
    run_clock,
    run_features,
    run_photographs,
    timing,
)
from labcore.conditional.clock_again import AGAIN, clock_again
from labcore.conditional.measure import at_cost, mutual_information, paired, spread
from labcore.conditional.settings import Config, Estimation, Exits, Features, Mixture, Tokens
from labcore.parts import Findings
from labcore.runs import Cancelled, Result

ARMS = ("dense, equal FLOPs", "top-1, balanced", "expert choice", "soft")


def pictures(split: str = "train") -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0 if split == "train" else 1)
    labels = np.arange(600, dtype=np.uint8) % 10
    images = rng.integers(0, 60, (600, 28, 28)).astype(np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[2 * label : 2 * label + 4, 6:20] = 220
    return images, labels


def tiny(seed: int = 0, **changes: Any) -> Config:
    config = Config(
        seed=seed,
        seeds=1,
        mixture=Mixture(ARMS, 96, 60, 1.0, 64, 1.0),
        estimation=Estimation((2,), (0.5,), 500),
        exits=Exits(96, 60, 60, 1.0, 4),
        tokens=Tokens(64, 40, 1.0, 0.5, (0.5,), (0.2,), (0.0,)),
    )
    return dataclasses.replace(config, **changes)


@pytest.fixture(autouse=True)
def _small_world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(data, "mnist", pictures)
    monkeypatch.setattr(data, "fashion_mnist", pictures)
    monkeypatch.setattr(parts, "cache_root", lambda: tmp_path)
    monkeypatch.setattr(run_clock, "clock", lambda settings, tick: Findings(tables={"clock": []}))


def timeless(result: Result) -> dict[str, Any]:
    """The tables without what a clock said."""
    clocked = {"time_ratio", "ms"}
    return {
        name: [{k: v for k, v in row.items() if k not in clocked} for row in rows]
        for name, rows in result.tables.items()
        if name != "parts"
    }


def test_two_runs_of_a_seed_are_equal_and_every_table_is_filled() -> None:
    one, two = experiment.run(tiny()), experiment.run(tiny())
    assert one.arrays.keys() == two.arrays.keys()
    for name, array in one.arrays.items():
        np.testing.assert_array_equal(array, two.arrays[name])
    assert timeless(one) == timeless(two)
    assert {r["arm"] for r in one.tables["mixture"]} == set(ARMS)
    assert {r["training"] for r in one.tables["heads"]} == {"joint", "separate"}
    assert all(0 < r["ratio"] <= 1.05 for r in one.tables["tokens"])
    assert len(one.tables["parts"]) == 1 + 2 + 4 + 1 + 1 + 1
    for row in experiment.summary(one):
        assert set(row) == {"what", "value", "spread", "sample", "note"}
    choice = [r for r in one.tables["experts"] if r["arm"] == "expert choice"]
    assert all(r["largest"] == pytest.approx(1 / 8, abs=1e-3) for r in choice)


def test_a_cancelled_run_resumes(tmp_path: Path) -> None:
    seen: list[str] = []

    def stop(done: int, total: int, label: str) -> None:
        seen.append(label)
        if label.startswith("mixture") and "working" in label:
            raise Cancelled

    config = tiny(resume=True)
    with pytest.raises(Cancelled):
        experiment.run(config, stop)
    kept = list((tmp_path / "unfinished").rglob("*.npz"))
    assert {p.stem for p in kept} == {"estimators 0", "exits joint 0", "exits separate 0"}
    result = experiment.run(config)
    assert not list((tmp_path / "unfinished").rglob("*.npz"))
    assert result.tables["mixture"]


def test_the_clock_is_taken_again_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    timed = [p for p in experiment.parts_of(tiny()) if p.name.startswith(("exits", "clock"))]
    monkeypatch.setattr(experiment, "parts_of", lambda config: timed)
    result = experiment.run(tiny())
    result.tables["parts"].append({"part": AGAIN})  # of an earlier time
    again = clock_again(result, tiny())
    assert again.tables.keys() == result.tables.keys()
    assert timeless(again) == timeless(result)
    assert again.provenance == result.provenance
    assert [row["part"] for row in again.tables["parts"]].count(AGAIN) == 1
    assert again.tables["race"] != result.tables["race"]  # times of another minute
    budgets = [row | {"accuracy": row["accuracy"] + 0.1} for row in result.tables["budgets"]]
    other = dataclasses.replace(result, tables={**result.tables, "budgets": budgets})
    with pytest.raises(ValueError, match="run the whole experiment"):
        clock_again(other, tiny())


def test_the_committed_result_is_the_full_one_with_three_seeds() -> None:
    result = experiment.load_result()
    assert result.config == json.loads(json.dumps(dataclasses.asdict(Config.full())))
    assert result.provenance.command == "lab run conditional --full --seed 0"
    assert result.provenance.seeds == (0, 1, 2)
    assert {row["seed"] for row in result.tables["tokens"]} == {0, 1, 2}
    assert isinstance(result, Result)
    with pytest.raises(FileNotFoundError, match="lab run conditional --quick"):
        experiment.load_result("quick")


def small_vit(side: int = 28) -> VisionTransformer:
    """In place of the ViT-S: three channels, layer scale, no head."""
    config = ViTConfig(image_size=side, in_channels=3, hidden_size=16, depth=4, num_heads=2,
                       layer_scale=True)  # fmt: skip
    return VisionTransformer(config, generator=torch.Generator().manual_seed(0)).eval()


def test_exits_on_a_pre_trained_network(monkeypatch: pytest.MonkeyPatch) -> None:
    model = small_vit()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    monkeypatch.setattr(run_features, "vit_s", lambda side: model)
    settings = Features(train=60, val=30, test=30, side=28)
    found = run_features.features(settings, 0, tick=lambda: None)
    assert [row["head"] for row in found.tables["feature_heads"]] == [1, 2, 3, 4]
    best = found.tables["feature_oracle"][0]["accuracy"]
    assert all(row["accuracy"] <= best for row in found.tables["feature_budgets"])
    for name, value in model.state_dict().items():  # the trunk is as it was, its MLPs too
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)


def test_photographs_lose_nothing_with_all_their_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    model = small_vit(336)
    for home in (run_photographs, photo):
        monkeypatch.setattr(home, "vit_s", lambda side=336: model)
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 255, (336, 336, 3)).astype(np.uint8)
    monkeypatch.setattr(run_photographs, "photograph", lambda name: picture)
    monkeypatch.setattr(run_photographs, "STAGES", (0, 1))
    monkeypatch.setattr(run_photographs, "KEPT", (1.0, 0.5))
    for home in (run_photographs, photo):
        monkeypatch.setattr(home, "PAIRS", (0, 24))
    found = run_photographs.photographs(lambda: None)
    rows = found.tables["photographs"]
    whole = [row for row in rows if row["ratio"] == 1]
    assert len(whole) == 2 * 4  # two photographs, four methods
    assert all(row["cosine"] == pytest.approx(1, abs=1e-5) for row in whole)
    square, groups = photo.merge_upload(picture)
    np.testing.assert_array_equal(groups[24], found.arrays["photo/china/24"])
    np.testing.assert_array_equal(square, picture)
    with pytest.raises(ValueError, match="name must be one of china, flower"):
        photo.photograph("magic")


def test_the_clock_takes_turns() -> None:
    seen: list[str] = []
    batches = timing.batches_of(torch.zeros(5, 1), 3, size=2)
    assert [len(b) for b in batches] == [2, 2, 2]
    took = timing.clock(lambda x: seen.append("ours"), lambda x: seen.append("whole"), batches)
    assert seen == ["ours", "whole"] * 3
    assert took.ratio == took.ours / took.whole
    with pytest.raises(ValueError, match="at least two batches"):
        timing.clock(len, len, batches[:1])


def test_canvases_know_their_ink() -> None:
    found = data.canvases("train", 5, 0)
    assert found.images.shape == (5, 1, 49, 49)
    assert found.ink is not None
    back = data.to_bytes(found.images).reshape(5, 7, 7, 7, 7).max((2, 4)).reshape(5, 49)
    assert (back[found.ink.numpy()] > 64).all()
    assert (found.ink.sum(1) <= 16).all()
    with pytest.raises(ValueError, match="mnist"):
        data.one_domain("magic", "train", 3, 0)


def test_measures() -> None:
    assert mutual_information(np.eye(4)) == 2
    assert mutual_information(np.ones((3, 5))) == pytest.approx(0, abs=1e-12)
    assert mutual_information(np.zeros((3, 5))) == 0
    curve = [{"ratio": 0.2, "accuracy": 0.5}, {"ratio": 0.6, "accuracy": 0.9}]
    assert np.isnan(at_cost(curve, 0.1))
    with pytest.raises(ValueError, match="no trials"):
        spread([])
    with pytest.raises(ValueError, match="same seeds"):
        paired([{"seed": 0, "accuracy": 1}], [{"seed": 1, "accuracy": 1}])


def test_mutual_information_equals_scikit_learns() -> None:
    cluster = pytest.importorskip("sklearn.metrics", reason="the peer scikit-learn")
    counts = np.random.default_rng(0).integers(0, 9, (8, 20))
    nats = cluster.mutual_info_score(None, None, contingency=counts)
    assert mutual_information(counts) == pytest.approx(nats / np.log(2))


def test_calibration_equals_scikit_learns() -> None:
    curve = pytest.importorskip("sklearn.calibration", reason="the peer scikit-learn")
    rng = np.random.default_rng(1)
    high = rng.uniform(0.5, 1, 4000)  # of two classes the larger probability, so bins from 0.5 on
    y = (rng.uniform(size=4000) > high**2).astype(int)  # too sure of class 0
    found = reliability(np.stack((high, 1 - high), axis=1), y, bins=10)
    right, sure = curve.calibration_curve(1 - y, high, n_bins=10)
    np.testing.assert_allclose(found.accuracy[5:], right)
    np.testing.assert_allclose(found.confidence[5:], sure)
