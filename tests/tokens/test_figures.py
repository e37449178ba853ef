"""Figures draw what they are given, say it in numbers, and refuse what does not fit."""

import numpy as np
import pytest

from labcore import viz
from labcore.tokens import figures
from labcore.tokens.figures_compare import _latency_lines
from labcore.tokens.link import Latency, LinkBudget
from labcore.tokens.live import Sent

SNRS, BUDGETS = (0.0, 10.0), (0.1, 0.2, 0.5)
CURVES = [
    {"method": m, "seed": seed, "budget": b, "rate": b + 0.01, "accuracy": a + b / 10 + seed / 100,
     "precision": 0.5, "recall": b, "images": 40}
    for m, a in (("gate", 0.5), ("random", 0.3))
    for seed in (0, 1)
    for b in BUDGETS
]  # fmt: skip
NOISE = [
    {"method": "gate", "seed": seed, "channel": kind, "budget": b, "snr_db": snr, "rate": b,
     "accuracy": 0.4 + b / 2 + snr / 50 + seed, "images": 40}
    for seed, kinds in ((3, ("awgn", "rayleigh")), (4, ("awgn",)))
    for kind in kinds for b in BUDGETS for snr in SNRS
]  # fmt: skip


def sent(keep: np.ndarray, arrived: np.ndarray) -> Sent:
    chances = np.full(10, 0.02)
    chances[7] = 0.82
    count = int(keep.sum())
    link = LinkBudget()
    return Sent(
        keep, arrived, np.zeros(49), 0.5, chances, count, 16 * count, 12.3, link.latency(count)
    )


def test_accuracy_is_drawn_over_the_rate_spent_with_its_spread() -> None:
    fig = figures.accuracy_curves(CURVES, base=0.9)
    gate = fig.data[0]
    np.testing.assert_allclose(gate.x, [0.11, 0.21, 0.51])
    np.testing.assert_allclose(gate.y, [0.515, 0.525, 0.555])
    np.testing.assert_allclose(gate.error_y.array, np.std([0, 0.01], ddof=1))
    assert "gate, threshold 0.525 at 0.21" in viz.describe(fig)
    looks = {(t.marker.symbol, t.line.dash) for t in fig.data}
    assert len(looks) == len(fig.data)  # not by colour alone
    assert [t.name for t in figures.accuracy_curves(CURVES, methods=("random",)).data] == ["random"]
    with pytest.raises(ValueError, match=r"\['magic'\] were not measured"):
        figures.accuracy_curves(CURVES, methods=("magic",))


def test_noise_is_that_of_the_first_seed() -> None:
    fig = figures.noise_curves(NOISE, budgets=(0.2,))
    solid, dashed = fig.data
    assert (solid.line.dash, dashed.line.dash) == ("solid", "dash")
    np.testing.assert_allclose(solid.y, [3.5, 3.7])
    with pytest.raises(ValueError, match=r"\[0.3\] were not measured"):
        figures.noise_curves(NOISE, budgets=(0.3,))


def test_the_map_has_lines_of_equal_latency_at_their_places() -> None:
    link = LinkBudget(symbols_per_second=1e5)
    fig = figures.noise_map(NOISE, link=link)
    np.testing.assert_allclose(fig.data[0].z, [[3.45, 3.5, 3.65], [3.65, 3.7, 3.85]])
    times = [1e3 * link.latency(b * 49).total for b in BUDGETS]
    names, marks = fig.layout.annotations, len(fig.data[0].y) + 1  # one above and below each row
    assert len(names) >= 2
    assert len(fig.layout.shapes) == marks * len(names)
    for line, name in zip(fig.layout.shapes[::marks], names, strict=True):
        ms = float(name.text.removesuffix(" ms"))
        assert line.x0 == pytest.approx(np.interp(ms, times, range(3)), abs=1e-6)
    assert _latency_lines([4.0, 4.0, 6.4])[-1] == pytest.approx((6.0, 1 + 2 / 2.4))
    assert 1 <= len(_latency_lines([1.0, 900.0])) <= 10


def test_a_canvas_shows_what_is_sent_and_what_is_lost() -> None:
    picture = np.full((49, 49), 255, np.uint8)
    keep = np.zeros(49, bool)
    keep[[0, 8]] = True
    arrived = keep.copy()
    arrived[8] = False
    fig = figures.send_figure(picture, sent(keep, arrived), alpha=0.2, snr_db=None, label=7)
    shade = np.array(fig.data[0].z)
    assert shade[0, 0] == shade[7, 7] == 1.0
    assert shade[0, 7] < 0.3
    (lost,) = [t for t in fig.data if t.name == "lost"]
    assert (lost.x[0], lost.y[0]) == (10.0, 10.0)
    assert "2 are sent" in viz.describe(fig)
    assert "says 7 with probability 0.82, the digit is a 7" in viz.describe(fig)


def test_the_waterfall_adds_up() -> None:
    fig = figures.latency_bars(Latency(0.001, 0.002, 0.0005), tokens=1)
    assert fig.data[0].text[-1] == "3.50"
    assert "1 token goes" in fig.layout.title.text


def test_histograms_and_bars_count_what_they_say() -> None:
    scores = np.array([[0.9, 0.8, 0.1], [0.2, 0.6, 0.3]], np.float16)
    kinds = np.array([[2, 1, 0], [2, 0, 1]], np.uint8)
    fig = figures.score_histogram(scores, np.array([0.5, 0.5]), kinds, budget=0.2)
    assert "Kept: 50% of digit tokens, 50% of clutter tokens, 50% of blank" in viz.describe(fig)
    assert fig.data[0].y.sum() == pytest.approx(1)
    bars = figures.precision_bars(CURVES, budget=0.2, chance=0.17)
    assert bars.data[1].x == (0.5, 0.5)
    assert "0.17 by chance" in viz.describe(bars)
    with pytest.raises(ValueError, match="no precision was measured at budget 0.3"):
        figures.precision_bars(CURVES, budget=0.3)


def test_spent_rates_stand_beside_the_asked_ones() -> None:
    fig = figures.asked_spent(np.array([[0.1, 0.3], [0.6, 0.4]], np.float16), (0.2, 0.5))
    assert "0.20 for 0.2, 0.50 for 0.5; 2 images" in viz.describe(fig)
    with pytest.raises(ValueError, match="1 rows of rates for 2 budgets"):
        figures.asked_spent(np.zeros((1, 2)), (0.2, 0.5))


def test_a_photograph_is_dimmed_where_nothing_is_sent() -> None:
    picture, attention = np.full((224, 224, 3), 200, np.uint8), np.zeros(256)
    attention[[0, 255]] = 0.5
    fig = figures.photo_patches(picture, attention, share=2 / 256)
    assert "2 of 256 patches hold 100%" in viz.describe(fig)
    with pytest.raises(ValueError, match="share=0"):
        figures.photo_patches(picture, attention, share=0.0)
    with pytest.raises(ValueError, match="form no square"):
        figures.photo_patches(picture, attention[:-1])
