"""Every figure speaks in numbers, on small made-up data and on the committed result."""

from collections.abc import Callable

import numpy as np
import plotly.graph_objects as go
import pytest

from labcore import viz
from labcore.conditional import figures
from labcore.conditional.experiment import load_result
from labcore.conditional.explorer import canvas_panels, likes, river_of
from labcore.conditional.photo import GRID, PAIRS, SIDE, kept_photo, paint, square
from labcore.conditional.river import budget_river, river
from labcore.conditional.switchboard import switch

ARM = "top-1, balanced"
RESULT = load_result()
ARRAYS, TABLES = RESULT.arrays, RESULT.tables


DRAWN: dict[str, Callable[[], go.Figure]] = {
    "board": lambda: figures.switchboard(ARRAYS[f"logits/{ARM}/4"][0], ARRAYS[f"pictures/{ARM}"][0],
                                         k=2, noise=0.5, capacity=0.75),
    "film": lambda: figures.load_film(ARRAYS[f"film/{ARM}"], layer=0, every=6, arm=ARM),
    "likes": lambda: figures.likes_map(likes(ARRAYS, ARM, 4, "patches"), arm=ARM, layer=4,
                                       tokens="patches"),
    "best": lambda: figures.favourite_patches(ARRAYS[f"best/{ARM}/4"], arm=ARM, layer=4),
    "gradients": lambda: figures.gradient_histogram(0.5, 1.0),
    "bias": lambda: figures.bias_and_spread(TABLES["estimators"], categories=16),
    "river": lambda: figures.exit_river(river_of(ARRAYS, "joint", "confidence", 0.7, False),
                                        setting="0.7"),
    "curves": lambda: figures.exit_curves(TABLES["rules"], TABLES["oracle"], TABLES["heads"],
                                          training="separate"),
    "heads": lambda: figures.head_accuracy(TABLES["heads"]),
    "gallery": lambda: figures.exit_gallery(ARRAYS["exits/easiest"], ARRAYS["exits/hardest"]),
    "canvas": lambda: figures.canvas_tokens(ARRAYS["canvas/images"][1],
                                            canvas_panels(ARRAYS, 1, "strong"), label=3),
    "anytime": lambda: figures.anytime_curve(TABLES["anytime"]),
    "real": lambda: figures.real_exits(TABLES["feature_heads"], TABLES["feature_budgets"],
                                       TABLES["feature_oracle"]),
    "merge": lambda: figures.merge_map(kept_photo(ARRAYS, "china", 24)),
    "kept": lambda: figures.feature_kept(TABLES["photographs"]),
    "cost": lambda: figures.cost_accuracy(TABLES),
    "cost by time": lambda: figures.cost_accuracy(TABLES, "time"),
    "time": lambda: figures.flops_and_time(TABLES),
}  # fmt: skip


@pytest.mark.parametrize("name", DRAWN)
def test_every_figure_speaks_in_numbers(name: str) -> None:
    fig = DRAWN[name]()
    assert any(character.isdigit() for character in viz.describe(fig))
    assert "nan" not in viz.describe(fig)
    assert viz.caption(fig).endswith(".")
    assert fig.layout.title.text
    assert fig.layout.meta["source"] in figures.__all__
    fig.to_json()


def test_every_figure_is_tested_here() -> None:
    assert {fig().layout.meta["source"] for fig in DRAWN.values()} == set(figures.__all__)


def test_the_switchboard_routes_as_the_layer() -> None:
    logits = np.random.default_rng(0).normal(size=(9, 4))
    board = switch(logits, 2)
    assert (np.sort(board.expert, 1) == np.sort(np.argsort(logits, 1)[:, -2:], 1)).all()
    np.testing.assert_allclose(board.weight.sum(1), 1, rtol=1e-6)
    assert board.load.sum() == 18
    tight = switch(logits, 2, capacity=0.5)
    assert tight.load.max() <= 3
    assert tight.dropped.sum() == 18 - tight.load.sum()
    assert (switch(logits, 1, noise=3.0, seed=1).expert != switch(logits, 1).expert).any()
    with pytest.raises(ValueError, match="noise and capacity"):
        switch(logits, 1, noise=-1.0)


def test_a_river_adds_up_and_a_budget_is_met_on_validation() -> None:
    flow = river_of(ARRAYS, "joint", "confidence", 0.7, True)
    total = len(ARRAYS["exits/test_labels"])
    assert flow.leaving.sum() == total
    assert flow.accuracy == pytest.approx(flow.right.sum() / total)
    heads = len(flow.leaving)
    assert flow.ratio == pytest.approx(
        (flow.leaving * np.arange(1, heads + 1)).sum() / total / heads
    )
    val, y = ARRAYS["exits/joint/val"], ARRAYS["exits/val_labels"]
    same = budget_river(val, y, val, y, 0.5)
    assert same.ratio == pytest.approx(0.5, abs=0.005)
    everything = river(val, y, 1.1)
    assert everything.accuracy == everything.whole
    with pytest.raises(ValueError, match="the result holds no"):
        likes(ARRAYS, "magic", 2, "patches")
    with pytest.raises(ValueError, match="level must be"):
        canvas_panels(ARRAYS, 0, "magic")


def test_a_photograph_merges_and_nothing_stays_the_same_without_pairs() -> None:
    tokens = [kept_photo(ARRAYS, "flower", r).tokens for r in PAIRS]
    assert tokens == [GRID**2 - 11 * r for r in PAIRS]  # in all of twelve blocks but the last
    same = kept_photo(ARRAYS, "china", 0)
    mean = same.picture.reshape(GRID, 14, GRID, 14, 3).mean((1, 3))
    np.testing.assert_allclose(same.painted[::14, ::14], mean, atol=0.5)
    with pytest.raises(ValueError, match="no photograph 'china' with 7 pairs"):
        kept_photo(ARRAYS, "china", 7)


def test_groups_are_painted_in_their_mean_colour() -> None:
    picture = np.zeros((4, 4, 3), np.uint8)
    picture[:2, :2], picture[2:, 2:] = 200, 100
    found = paint(picture, np.array([3, 5, 5, 3]))
    assert found.painted[0, 0].tolist() == found.painted[3, 3].tolist() == [150, 150, 150]
    assert found.painted[0, 3].tolist() == [0, 0, 0]
    assert (found.tokens, found.patches) == (2, 4)
    with pytest.raises(ValueError, match="do not tile"):
        paint(picture, np.arange(9))
    assert square(np.full((30, 50, 3), 7, np.uint8)).shape == (SIDE, SIDE, 3)
    with pytest.raises(ValueError, match="with pixels"):
        square(np.zeros((0, 5, 3), np.uint8))


def test_figures_refuse_what_was_not_measured() -> None:
    with pytest.raises(ValueError, match="layer must lie"):
        figures.load_film(ARRAYS[f"film/{ARM}"], layer=5, every=6, arm=ARM)
    with pytest.raises(ValueError, match="no problem with 3"):
        figures.bias_and_spread(TABLES["estimators"], categories=3)
    with pytest.raises(ValueError, match="was not measured"):
        figures.exit_curves(TABLES["rules"], TABLES["oracle"], TABLES["heads"], training="magic")
    with pytest.raises(ValueError, match="no panel"):
        figures.canvas_tokens(ARRAYS["canvas/images"][0], {}, label=1)
    with pytest.raises(ValueError, match="axis must be"):
        figures.cost_accuracy(TABLES, "magic")
    with pytest.raises(ValueError, match="no token"):
        figures.likes_map(np.zeros((8, 20)), arm=ARM, layer=2, tokens="patches")
