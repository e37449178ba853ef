"""The experiment on made-up pictures: parts, seeds, resuming, cancelling, tables and arrays."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from labcore.conditional import data, experiment, run_clock
from labcore.conditional.measure import at_cost, mutual_information, paired, spread
from labcore.conditional.parts import Findings
from labcore.conditional.settings import Config, Estimation, Exits, Mixture, Tokens
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
    monkeypatch.setattr(experiment, "cache_root", lambda: tmp_path)
    photo = Findings(arrays={"photo": np.zeros((224, 224, 3), np.uint8)})
    monkeypatch.setattr(run_clock, "photograph", lambda tick: photo)
    monkeypatch.setattr(run_clock, "clock", lambda tick: Findings(tables={"clock": []}))


def test_two_runs_of_a_seed_are_equal_and_every_table_is_filled() -> None:
    one, two = experiment.run(tiny()), experiment.run(tiny())
    assert one.arrays.keys() == two.arrays.keys()
    for name, array in one.arrays.items():
        np.testing.assert_array_equal(array, two.arrays[name])
    assert {k: v for k, v in one.tables.items() if k != "parts"} == {
        k: v for k, v in two.tables.items() if k != "parts"
    }
    assert {r["arm"] for r in one.tables["mixture"]} == set(ARMS)
    assert {r["training"] for r in one.tables["heads"]} == {"joint", "separate"}
    assert all(0 < r["ratio"] <= 1.05 for r in one.tables["tokens"])
    assert len(one.tables["parts"]) == 1 + 2 + 4 + 1 + 1 + 2
    for row in experiment.summary(one):
        assert set(row) == {"what", "value", "spread", "sample", "note"}
    choice = [r for r in one.tables["experts"] if r["arm"] == "expert choice"]
    assert all(r["largest"] == pytest.approx(1 / 8, abs=1e-3) for r in choice)


def test_a_cancelled_run_resumes(tmp_path: Path) -> None:
    seen: list[str] = []

    def stop(done: int, total: int, label: str) -> None:
        seen.append(label)
        if label.startswith("mixture"):
            raise Cancelled

    config = tiny(resume=True)
    with pytest.raises(Cancelled):
        experiment.run(config, stop)
    kept = list((tmp_path / "unfinished").rglob("*.npz"))
    assert {p.stem for p in kept} == {"estimators 0", "exits joint 0", "exits separate 0"}
    result = experiment.run(config)
    assert not list((tmp_path / "unfinished").rglob("*.npz"))
    assert result.tables["mixture"]


def test_the_committed_result_is_the_full_one_with_three_seeds() -> None:
    result = experiment.load_result()
    assert result.provenance.seeds == (0, 1, 2)
    assert {row["seed"] for row in result.tables["tokens"]} == {0, 1, 2}
    assert isinstance(result, Result)
    with pytest.raises(FileNotFoundError, match="lab run conditional --quick"):
        experiment.load_result("quick")


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
    with pytest.raises(ValueError, match="no values"):
        spread([])
    with pytest.raises(ValueError, match="same seeds"):
        paired([{"seed": 0, "accuracy": 1}], [{"seed": 1, "accuracy": 1}])
