"""Estimates: power laws are carried on exactly; none is shorter than its longest task."""

import pytest

from labcore import estimate, ledger
from labcore.estimate import Shape, experiment, merging, one_matrix, shared


def curve(power: float) -> list[ledger.Row]:
    return [
        {"method": estimate.METHOD, "axis": estimate.AXIS, "size": n, "seconds": 1e-6 * n**power}
        for n in (100, 200, 400)
    ]


def test_a_cube_is_carried_on_exactly() -> None:
    fitted, theory = one_matrix(4000, curve(3.0))
    assert fitted == pytest.approx(1e-6 * 4000**3)
    assert theory == pytest.approx(fitted)
    fitted, theory = one_matrix(4000, curve(2.5))
    assert fitted < theory


def test_the_width_of_a_rectangle_costs_as_much() -> None:
    assert Shape(64, 64, 1).width == pytest.approx(64)
    assert Shape(64, 512, 1).width == pytest.approx(128)


def test_machines_share_the_work(monkeypatch) -> None:
    run = ledger.Kept("growth", curve(3.0), "", "", {}, quick=False)
    monkeypatch.setattr(ledger, "kept", lambda name: run)
    one, four = merging((1, 4), 1, shapes=(Shape(1000, 1000, 8),))
    assert float(one["hours"]) == pytest.approx(8 * 1000 / 3600, rel=0.05)
    assert float(four["hours"]) == pytest.approx(2 * 1000 / 3600, rel=0.05)
    (many,) = merging((100,), 8, shapes=(Shape(1000, 1000, 8),))
    assert float(many["hours"]) == pytest.approx(1000 / 3600, rel=0.05)
    monkeypatch.setattr(ledger, "kept", lambda name: None)
    with pytest.raises(ValueError, match="lab bench growth --save"):
        merging((1,), 1)


def test_a_committed_experiment() -> None:
    (one,) = experiment("kvcache", (1,), 1)
    assert float(one["hours"]) > 0
    assert "parts" in one["besides"]
    with pytest.raises(ValueError, match="at least 1, got 0 and 2"):
        shared(1.0, 1.0, 0, 2)
