"""Chapters 1 to 7, A and B: their experiments at a small size, their figures, their claims."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest

from labcore import viz
from labcore.book import (
    b02,
    b03,
    b05,
    b06,
    ba,
    bb,
    figures_b01,
    figures_b02,
    figures_b03,
    figures_b04,
    figures_b05,
    figures_b06,
    figures_b07,
    figures_ba,
    figures_bb,
)
from labcore.book.experiment import Config
from labcore.book.numbers import within
from labcore.claims.book import CLAIMS
from labcore.runs import Result, record, silent

Draw = Callable[[Result], go.Figure]


def temperature(result: Result, **options: Any) -> go.Figure:
    names = ("penguin_logits", "penguin_species", "digit_logits", "digit_labels")
    return figures_b04.temperature_figure(*(result.arrays[f"b04/{n}"] for n in names), **options)


def playground(result: Result, **options: Any) -> go.Figure:
    name = options.get("name", "xor")
    names = ("answers", "accuracy", f"{name}_x", f"{name}_y")
    return figures_b05.playground_figure(*(result.arrays[f"b05/{n}"] for n in names), **options)


FIGURES: dict[str, tuple[Draw, Draw]] = {
    "b01": (
        lambda r: figures_b01.scaling_figure(r.tables["b01/errors"]),
        lambda r: figures_b01.scaling_figure(r.tables["b01/errors"], 30000, longer=True),
    ),
    "b02": (
        lambda r: figures_b02.descent_figure(),
        lambda r: figures_b02.descent_figure(lr=3.9, momentum=0.9, steps=100),
    ),
    "b03": (
        lambda r: figures_b03.outlier_figure(r.arrays["b03/flippers"]),
        lambda r: figures_b03.outlier_figure(r.arrays["b03/flippers"], 150.0, 6.0),
    ),
    "b04": (temperature, lambda r: temperature(r, temperature=0.1, bins=20)),
    "b05": (
        playground,
        lambda r: playground(r, name="digits", width=16, depth=3, activation="tanh", seed=2),
    ),
    "b06": (
        lambda r: figures_b06.backward_figure(),
        lambda r: figures_b06.backward_figure(5, "first discovered"),
    ),
    "b07": (
        lambda r: figures_b07.kernel_figure(r.arrays["b07/photo"]),
        lambda r: figures_b07.kernel_figure(r.arrays["b07/photo"], (0.0,) * 9, row=0, layers=12),
    ),
    "ba": (
        lambda r: figures_ba.two_fits_figure(),
        lambda r: figures_ba.two_fits_figure(6.0, 0.3, 0.0),
    ),
    "bb": (
        lambda r: figures_bb.bins_figure(r.arrays["bb/bins"], r.arrays["bb/errors"]),
        lambda r: figures_bb.bins_figure(r.arrays["bb/bins"], r.arrays["bb/errors"], m=100),
    ),
}


@pytest.mark.parametrize("name", FIGURES)
def test_figures_are_finished_and_move(name: str, committed: Result) -> None:
    first, second = (draw(committed) for draw in FIGURES[name])
    for fig in (first, second):
        assert any(c.isdigit() for c in viz.describe(fig))
        assert fig.layout.title.text
        assert fig.layout.meta["source"]
    assert first.to_dict()["data"] != second.to_dict()["data"] or name == "b06"
    assert first.layout.title.text != second.layout.title.text


@pytest.mark.parametrize("name", FIGURES)
def test_figures_do_not_compute_for_long(name: str, committed: Result) -> None:
    """The bench holds the goal of 50 ms; here only what a busy machine allows too."""
    draw = FIGURES[name][0]
    draw(committed)
    seconds = []
    for _ in range(3):
        start = time.process_time()
        draw(committed)
        seconds.append(time.process_time() - start)
    assert min(seconds) < 0.5


def test_a_figure_refuses_what_was_not_trained(committed: Result) -> None:
    for options in ({"width": 3}, {"seed": 9}, {"activation": "sine"}):
        with pytest.raises(ValueError, match="not trained"):
            playground(committed, **options)
    with pytest.raises(ValueError, match="order"):
        figures_b06.backward_figure(1, "random")
    with pytest.raises(ValueError, match="0..5"):
        figures_b06.backward_figure(6)
    with pytest.raises(ValueError, match="nine"):
        figures_b07.kernel_figure(committed.arrays["b07/photo"], (1.0,))
    with pytest.raises(ValueError, match="one of"):
        figures_b01.scaling_figure(committed.tables["b01/errors"], 100)


@pytest.mark.parametrize("module", [b02, b06, ba, bb], ids=lambda m: m.__name__[-3:])
def test_small_runs_reproduce_the_known_figures(module: Any) -> None:
    found = module.measure(Config.quick(), silent)
    assert found.tables["numbers"]
    assert [row for row in found.tables["numbers"] if not within(row)] == []


def test_the_gradient_of_the_landscape_is_right() -> None:
    from labcore.blocks.optim import numeric_gradient

    for x in np.random.default_rng(0).uniform(0, 10, size=(20, 2)):
        np.testing.assert_allclose(
            b02.practice_gradient(x), numeric_gradient(b02.value, x), atol=1e-8
        )


def test_xor_by_hand_and_points_in_the_plane() -> None:
    np.testing.assert_array_equal(b05.solve_by_hand(b05.XOR_X), b05.XOR_Y)
    x, y, new_x, new_y = b05.points("xor", 0)
    assert x.shape == new_x.shape == (200, 2)
    assert set(np.unique(y)) == set(np.unique(new_y)) == {0, 1}
    with pytest.raises(ValueError, match="digits"):
        b05.points("moons", 0)


def test_the_wrong_order_loses_a_payment() -> None:
    steps = b06.wrong_trace(b06.small_graph())
    assert [s.node.name for s in steps][:3] == ["L = p + u", "p = u·s", "u = x²"]
    losses = b06.train_on_tape(np.eye(4), np.array([0, 1, 2, 0]), seed=0, steps=30)
    theirs = b06.train_in_torch(np.eye(4), np.array([0, 1, 2, 0]), seed=0, steps=30)
    np.testing.assert_allclose(losses, theirs, atol=1e-12)


def test_divergences_on_the_grid_and_their_best_fits() -> None:
    forward, reverse = ba.best_fits(7.0)
    assert forward == pytest.approx((0.0, np.sqrt(1 + 3.5**2)), abs=1e-3)
    assert reverse[0] == pytest.approx(3.5)
    assert reverse[1] < 1.3
    assert ba.best_fits(4.0)[1][0] == 0.0  # near humps are covered by both


def empty() -> Result:
    return record("book", {}, seeds=[0], command="test").result(arrays={}, tables={})


def test_claims_are_judged_from_numbers(committed: Result) -> None:
    assert len({c.id for c in CLAIMS}) == len(CLAIMS) >= 9
    for claim in CLAIMS[:9]:
        assert claim.measure(empty()).verdict == "not testable here"
        assert any(c.isdigit() for c in claim.measure(committed).measured)


def test_a_verdict_follows_the_numbers() -> None:
    by_id = {claim.id: claim for claim in CLAIMS}
    for measured, verdict in ((1.0, "holds"), (1.2, "does not hold here")):
        rows = [{"momentum": 0.0, "limit": 1.0, "measured": measured}]
        result = record("book", {}, seeds=[0], command="test").result(
            arrays={}, tables={"b02/limits": rows}
        )
        assert by_id["book-stability"].measure(result).verdict == verdict


def test_the_sample_of_the_centre_piece(committed: Result) -> None:
    flippers = committed.arrays["b03/flippers"]
    assert len(flippers) == b03.SAMPLE
    assert (np.diff(flippers) >= 0).all()
