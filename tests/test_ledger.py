"""The ledger: what benches measured is kept whole, fitted and drawn."""

import json
from pathlib import Path

import numpy as np
import pytest

from labcore import ledger

RACE = {
    "name": "a race", "work": "kvcache", "peer": "peer", "peer_version": "1", "ours_s": 1.0,
    "peer_s": 2.0, "ratio": 2.0, "goal": 1.5, "agreement": "equal", "threads": 1,
}  # fmt: skip


def measurements(power: float, *, known_bytes: bool = True) -> list[ledger.Row]:
    same = {"method": "m", "work": "kvcache", "axis": "tokens", "theory": "2", "memory_theory": "1"}
    return [
        same | {"size": n, "seconds": 3e-6 * n**power, "bytes": 8 * n if known_bytes else None}
        for n in (10, 20, 40, 80)
    ]


def test_what_is_kept_comes_back(tmp_path: Path) -> None:
    path = ledger.keep("kvcache", [RACE], quick=True, folder=tmp_path)
    run = ledger.kept("kvcache", tmp_path)
    assert run is not None
    assert run.rows == [RACE]
    assert run.quick
    assert "python" in run.versions
    assert list(tmp_path.iterdir()) == [path]
    assert ledger.kept("merging", tmp_path) is None


def test_a_goal_that_cannot_be_compared_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="goal '>= 8' should be a ratio or None"):
        ledger.keep("a", [RACE | {"goal": ">= 8"}], quick=False, folder=tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_saved_races_can_be_read() -> None:
    assert {row["met"] for row in ledger.races()} <= {True, False, None}


def test_a_damaged_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "kvcache.json").write_text('{"rows": [')
    with pytest.raises(ValueError, match="run lab bench kvcache --save again"):
        ledger.kept("kvcache", tmp_path)
    (tmp_path / "kvcache.json").write_text(json.dumps({"other": 1}))
    with pytest.raises(ValueError, match=r"kvcache\.json is damaged"):
        ledger.kept("kvcache", tmp_path)


def test_races_say_whether_the_goal_is_met(tmp_path: Path) -> None:
    rows = [RACE, RACE | {"ratio": 1.4}, RACE | {"goal": None}]
    ledger.keep("kvcache", rows, quick=False, folder=tmp_path)
    ledger.keep("growth", measurements(1), quick=False, folder=tmp_path)
    assert [row["met"] for row in ledger.races(tmp_path)] == [True, False, None]
    assert "1 of 2 races" in ledger.races_figure(ledger.races(tmp_path)).layout.meta["alt"]


@pytest.mark.parametrize("power", [0.0, 1.0, 2.5])
def test_exponents_are_found(power: float) -> None:
    (curve,) = ledger.curves(measurements(power))
    assert curve["exponent"] == pytest.approx(power, abs=1e-9)
    assert curve["memory_exponent"] == pytest.approx(1.0)
    (curve,) = ledger.curves(measurements(power, known_bytes=False))
    assert curve["memory_exponent"] is None


def test_the_error_covers_noise() -> None:
    rng = np.random.default_rng(0)
    sizes = np.array([1, 2, 4, 8, 16, 32])
    outside = 0
    for _ in range(200):
        noisy = sizes**1.5 * np.exp(0.1 * rng.standard_normal(6))
        slope, error = ledger.exponent(sizes.tolist(), noisy.tolist())
        outside += abs(slope - 1.5) > 3 * error
    assert outside < 20


@pytest.mark.parametrize("sizes", [[1, 2], [0, 1, 2], [1, 2, -3]])
def test_too_few_or_impossible_points(sizes: list[int]) -> None:
    with pytest.raises(ValueError, match="three or more positive points"):
        ledger.exponent(sizes, [1.0] * len(sizes))


def test_figures_say_their_numbers(tmp_path: Path) -> None:
    ledger.keep(
        "kvcache", [RACE, RACE | {"ratio": 0.5, "name": "slow"}], quick=False, folder=tmp_path
    )
    fig = ledger.races_figure(ledger.races(tmp_path), "kvcache")
    assert "1 of 2 races" in fig.layout.meta["alt"]
    assert "slow, ratio 0.5 for a goal of 1.5" in fig.layout.meta["alt"]
    np.testing.assert_allclose(fig.data[0].x, [2.0 / 1.5])
    first, last = fig.layout.yaxis.categoryarray  # the worst race is on top
    assert first == "kvcache: slow" != last
    assert fig.layout.yaxis.range == (1.5, -0.5)
    with pytest.raises(ValueError, match="lab bench book --save"):
        ledger.races_figure(ledger.races(tmp_path), "book")
    grown = ledger.growth_figure(measurements(2.0))
    assert "exponent 2.00" in grown.layout.meta["alt"]
    np.testing.assert_allclose(grown.data[0].y, [1, 4, 16, 64])
    assert "exponent 1.00" in ledger.growth_figure(measurements(2.0), "bytes").layout.meta["alt"]
    with pytest.raises(ValueError, match="no growth curve"):
        ledger.growth_figure(measurements(2.0, known_bytes=False), "bytes")
