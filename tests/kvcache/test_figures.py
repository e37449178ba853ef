"""Figures draw what they are given, say it in numbers, and refuse what does not fit."""

import math
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest

from labcore import viz
from labcore.kvcache import figures, labels
from labcore.kvcache.ledger import GIB, MODELS, cache_bytes
from labcore.kvcache.settings import POLICIES

TOKENS = ["Call", " me", " Ishmael", ".", "⏎", " <b>", " sea", " "]
N = len(TOKENS)
RNG = np.random.default_rng(0)
NORMS = RNG.uniform(5, 20, N)
ATTENTION = np.tril(RNG.dirichlet(np.ones(N), N))
MAP = RNG.uniform(0, 2, (5, 3))


def prune_rows() -> list[dict[str, Any]]:
    return [
        {
            "policy": policy, "keep_ratio": ratio, "overall_kept": ratio, "text": text,
            "length": 64, "nll": nll + (1 - ratio) + shift, "bytes": 1000 * ratio,
        }
        for policy, shift, ratios in (
            ("full", 0.0, (1.0,)), ("low_norm", 0.1, (0.5, 0.25)), ("random", 0.6, (0.5, 0.25)),
            ("low_norm+skip", 0.1, (0.5,)),
        )
        for ratio in ratios
        for text, nll in (("x", 3.0), ("y", 3.5))
    ]  # fmt: skip


def rolling_rows() -> list[dict[str, Any]]:
    return [
        {"tokens": 64, "budget": 16, "prune_to": 12, "policy": policy, "text": text,
         "nll": nll + shift, "perplexity": math.exp(nll + shift)}
        for policy, shift in (("full", 0.0), ("low_norm", 0.4), ("low_norm+recent", 0.1))
        for text, nll in (("x", 3.0), ("y", 3.5))
    ]  # fmt: skip


def trials() -> list[dict[str, Any]]:
    return [
        {"policy": policy, "keep_ratio": ratio, "depth": depth, "exact": hit, "accuracy": 0.5}
        for policy, ratio, hit in (
            ("full", 1.0, True), ("low_norm", 0.5, True), ("low_norm", 0.1, False),
            ("random+guards", 0.5, False), ("random+guards", 0.1, False),
            ("sink_window", 0.5, True), ("sink_window", 0.1, False),
        )
        for depth in (0.25, 0.75)
    ]  # fmt: skip


def times() -> list[dict[str, Any]]:
    pieces = ("MLP", "projections", "vocabulary", "attention", "cache", "rest", "whole step",
              "cache of the library")  # fmt: skip
    return [
        {"cached": n, "part": piece, "ms": float(i + n / 100)}
        for n in (256, 1024)
        for i, piece in enumerate(pieces)
    ]


def low_rows() -> list[dict[str, Any]]:
    return [
        {"text": "moby", "first_layer": a, "last_layer": b, "rank": rank, "token": TOKENS[rank],
         "position": rank, "percentile": 0.1 * rank, "norm": 5.0 + rank, "mean_norm": 12.0}
        for a, b in ((0, 0), (1, 3))
        for rank in range(3)
    ]  # fmt: skip


DROPPED = np.array([-1, 6, -1, 5, 7, -1, 8, -1], dtype=np.int16)

DRAWN: dict[str, Callable[[], go.Figure]] = {
    "triangle": lambda: figures.attention_triangle(ATTENTION, NORMS, TOKENS, layer=1, head=2),
    "loss": lambda: figures.loss_curves_figure(
        np.cumsum(np.sort(ATTENTION[-1])), np.cumsum(ATTENTION[-1]), layer=1, head=2
    ),
    "map": lambda: figures.head_map_figure(MAP, text="moby"),
    "scatter": lambda: figures.norm_scatter(
        NORMS, ATTENTION[-1], TOKENS, layer=1, head=2, relative_alr=0.25
    ),
    "strip": lambda: figures.token_strip(TOKENS, np.linspace(0, 1, N), NORMS < 12),
    "low": lambda: figures.low_norm_tokens(low_rows(), text="moby"),
    "perplexity": lambda: figures.perplexity_curves(prune_rows(), length=64),
    "film": lambda: figures.rolling_film(
        DROPPED, TOKENS, budget=4, policy="low_norm", layer=1, head=0
    ),
    "rolling": lambda: figures.rolling_bars(rolling_rows(), tokens=64, budget=16, prune_to=12),
    "grid": lambda: figures.retrieval_grid_figure(trials()),
    "curves": lambda: figures.retrieval_curves(trials()),
    "passkey": lambda: figures.passkey_norms({"repeat": np.full(4, 0.25), "prose": np.eye(4)[3]}),
    "time": lambda: figures.time_ledger(times()),
    "bytes": lambda: figures.bytes_ledger(),
}


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


def test_no_figure_needs_torch() -> None:
    code = "import sys, labcore.kvcache.figures; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_triangle_is_the_attention() -> None:
    fig = DRAWN["triangle"]()
    heat, *bars = fig.data
    inside = np.tri(N, dtype=bool)
    shown = 10 ** np.array(heat.z, dtype=float)
    np.testing.assert_allclose(shown[inside], np.clip(ATTENTION[inside], 1e-4, 1), rtol=1e-6)
    assert np.isnan(shown[~inside]).all()
    drawn = {int(x): y for bar in bars for x, y in zip(bar.x, bar.y, strict=True)}
    np.testing.assert_allclose([drawn[i] for i in range(N)], NORMS)
    small = next(bar for bar in bars if bar.name == "smallest quarter")
    assert set(small.x) == set(np.argsort(NORMS)[: N // 4])


def test_the_loss_curves_and_their_area() -> None:
    best, by_norm = np.array([0.1, 0.3, 0.6, 1.0]), np.array([0.4, 0.6, 0.9, 1.0])
    fig = figures.loss_curves_figure(best, by_norm, layer=0, head=0)
    np.testing.assert_array_equal(fig.data[0].y, best)
    np.testing.assert_array_equal(fig.data[1].y, by_norm)
    np.testing.assert_allclose(fig.data[2].y, [0.25, 0.5, 0.75, 1.0])
    # area 0.9, random's area 0.5: the norm's order is worse than random
    assert "<b>0.9</b>" in fig.layout.annotations[0].text
    assert "<b>1.80</b>" in fig.layout.annotations[0].text


def test_the_map_marks_what_is_no_better_than_random() -> None:
    loss = figures.head_map_figure(MAP)
    np.testing.assert_array_equal(loss.data[0].z, MAP)
    np.testing.assert_array_equal(np.array(loss.data[0].text) == "×", MAP >= 1)
    assert (loss.data[0].zmin, loss.data[0].zmax) == (0, 2)
    correlation = figures.head_map_figure(MAP - 1, metric="spearman", without_first=True)
    np.testing.assert_array_equal(np.array(correlation.data[0].text) == "×", MAP <= 1)
    assert correlation.data[0].reversescale
    assert "position 0 left out" in correlation.layout.title.text


def test_the_scatter_holds_every_token_once() -> None:
    fig = DRAWN["scatter"]()
    points = {}
    for trace in fig.data:
        for text, x, y in zip(trace.text, trace.x, trace.y, strict=True):
            points[int(text.split(":")[0])] = (x, y, trace.name)
    assert sorted(points) == list(range(N))
    np.testing.assert_allclose([points[i][0] for i in range(N)], NORMS)
    np.testing.assert_allclose([points[i][1] for i in range(N)], np.clip(ATTENTION[-1], 1e-5, None))
    assert points[0][2] == "first token"
    assert points[3][2] == points[4][2] == "punctuation"
    assert "0.25" in viz.describe(fig)


def test_the_strip_strikes_out_what_is_dropped() -> None:
    kept = np.array([True, False] * 4)
    fig = figures.token_strip(TOKENS, np.linspace(0, 1, N), kept, width=20)
    bar = fig.data[0]
    struck = np.array([text.startswith("<s>") for text in bar.text])
    np.testing.assert_array_equal(struck, ~kept)
    np.testing.assert_array_equal(np.array(bar.marker.pattern.shape) == "/", ~kept)
    np.testing.assert_allclose(bar.marker.color, np.linspace(0, 1, N))
    assert "&lt;b>" in bar.text[5]  # text is shown, not obeyed
    assert max(b + w for b, w in zip(bar.base, bar.x, strict=True)) <= 20
    assert len(set(bar.y)) > 1


def test_perplexity_is_the_geometric_mean_over_windows() -> None:
    fig = DRAWN["perplexity"]()
    line = next(t for t in fig.data if t.name == "low norm")
    np.testing.assert_allclose(line.x, [0.25, 0.5])
    np.testing.assert_allclose(line.y, np.exp([3.25 + 0.85, 3.25 + 0.6]))
    np.testing.assert_allclose(line.customdata[1], np.exp([3.6, 4.1]))  # its windows
    np.testing.assert_allclose(line.error_y.array, 0, atol=1e-9)  # windows move together
    assert fig.layout.yaxis.type == "log"
    assert "MiB" in fig.layout.xaxis2.ticktext[0]
    skip = next(t for t in fig.data if "whole" in (t.name or ""))
    assert skip.mode == "markers"
    only = figures.perplexity_curves(prune_rows(), length=64, policies=("random",))
    assert [t.name for t in only.data if t.name] == ["random"]


def test_the_film_shows_the_life_of_every_pair() -> None:
    fig = DRAWN["film"]()
    state = np.array(fig.data[0].z)
    for row, step in enumerate(range(1, N + 1)):
        for position in range(N):
            alive = DROPPED[position] < 0 or DROPPED[position] > step
            wanted = 0 if position >= step else 2 if alive else 1
            assert state[row, position] == wanted
    assert len(fig.frames) == N
    assert fig.frames[-1].name == str(N)
    long = np.full(200, -1)
    assert len(figures.rolling_film(
        long, ["a"] * 200, budget=200, policy="low_norm", layer=0, head=0
    ).frames) == 60  # fmt: skip


def test_rolling_bars_are_sorted_and_carry_every_text() -> None:
    bar, dots = DRAWN["rolling"]().data
    np.testing.assert_allclose(bar.x, np.exp([3.65, 3.35]))
    assert [y.split("  ")[0] for y in bar.y] == ["low norm", "low norm + recent 16"]
    assert len(dots.x) == 4


def test_the_grid_holds_the_means_of_the_trials() -> None:
    fig = DRAWN["grid"]()
    assert len(fig.data) == 3
    np.testing.assert_array_equal(fig.data[0].z, [[1, 0], [1, 0]])
    np.testing.assert_array_equal(fig.data[1].z, [[0, 0], [0, 0]])
    assert list(fig.data[0].x) == ["0.5", "0.1"]
    by_token = figures.retrieval_grid_figure(trials(), policies=("low_norm",), column="accuracy")
    np.testing.assert_array_equal(by_token.data[0].z, np.full((2, 2), 0.5))
    curve = DRAWN["curves"]().data[0]
    np.testing.assert_array_equal(curve.y, [1, 0])


def test_passkey_means_and_the_ledgers() -> None:
    fig = DRAWN["passkey"]()
    assert "mean 0.50" in fig.data[0].name
    assert "mean 0.88" in fig.data[1].name
    bars = {bar.name: list(bar.y) for bar in DRAWN["time"]().data}
    assert bars["attention"] == [3 + 2.56, 3 + 10.24]
    assert "whole step" not in bars
    kept, full = figures.bytes_ledger(4096, keep_ratio=0.5, skipped_layers=2).data
    assert full.x[-1] == cache_bytes(MODELS[-1], 4096) / GIB == 2.0
    assert kept.x[-1] == 1.0625


def test_policies_have_names_and_looks_of_their_own() -> None:
    named = {labels.label(name) for name in POLICIES}
    looks = {labels.style(name) for name in POLICIES}
    assert len(named) == len(looks) == len(POLICIES)
    assert labels.label("mine") == "mine"


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: figures.attention_triangle(ATTENTION, NORMS[:-1], TOKENS, layer=0, head=0),
         r"attention has shape \(8, 8\), \(7, 7\) is wanted"),
        (lambda: figures.loss_curves_figure(NORMS, NORMS[:-1], layer=0, head=0), "by_norm"),
        (lambda: figures.head_map_figure(MAP, metric="guess"), "metric must be one of"),
        (lambda: figures.norm_scatter(NORMS, NORMS[1:], TOKENS, layer=0, head=0), "attention"),
        (lambda: figures.token_strip(TOKENS, NORMS[1:]), "percentiles"),
        (lambda: figures.low_norm_tokens(low_rows(), text="alice"), r"texts are \['moby'\]"),
        (lambda: figures.perplexity_curves(prune_rows(), length=9), r"lengths are \[64\]"),
        (lambda: figures.perplexity_curves(prune_rows(), length=64, policies=("window",)),
         "not measured here"),
        (lambda: figures.rolling_film(DROPPED, TOKENS, budget=4, policy="x", layer=0, head=0,
                                      frames=61), "frames must be 2..60"),
        (lambda: figures.rolling_film(DROPPED, TOKENS[1:], budget=4, policy="x", layer=0, head=0),
         "do not fit a history"),
        (lambda: figures.rolling_bars(rolling_rows(), tokens=1, budget=1, prune_to=1),
         r"\(64, 16, 12\)"),
        (lambda: figures.retrieval_grid_figure([]), "no trials"),
        (lambda: figures.retrieval_curves(trials(), policies=("window",)), "not measured"),
        (lambda: figures.passkey_norms({}), "histograms must be given"),
        (lambda: figures.time_ledger([]), "table is empty"),
        (lambda: figures.bytes_ledger(keep_ratio=2.0), "keep_ratio"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(draw: Callable[[], go.Figure], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        draw()
