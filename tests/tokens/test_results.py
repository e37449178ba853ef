"""Claims, figures and live sending on the committed result; a small run from end to end."""

import json
from dataclasses import asdict

import numpy as np
import pytest

from labcore import claims, runs, viz
from labcore.claims.tokens import CLAIMS, RIVALS
from labcore.tokens import figures
from labcore.tokens.experiment import load_result, run, summary
from labcore.tokens.live import as_canvas, fragments_of, send
from labcore.tokens.settings import METHODS, Config
from labcore.tokens.training import BaseTraining, Tuning

BY_ID = {claim.id.removeprefix("tokens-"): claim for claim in CLAIMS}


def curve(method: str, accuracy: float, precision: float, rate: float | None = None) -> list[dict]:
    return [
        {"method": method, "seed": seed, "budget": b, "rate": b if rate is None else rate,
         "accuracy": accuracy + 0.001 * seed, "precision": precision, "recall": 0.5, "images": 10}
        for seed in range(3)
        for b in (0.1, 0.2, 0.3, 0.5, 0.8)
    ]  # fmt: skip


def made(gate: float, topk: float, sent_precision: float, precision: float, rate=None, whole=0.3):
    rows = curve("gate", gate, precision, rate) + curve("gate_topk", topk, precision)
    for rival in ("magnitude", "class_attention", "merging", "predictor"):
        rows += curve(rival, 0.6, 0.3)
    rows += curve("random", 0.5, 0.17)
    rows += [row | {"budget": 1.0} for row in rows if row["method"] in RIVALS]
    rows += curve("gate_fixed_topk", 0.62, 0.3)
    rows += curve("gate_sent_topk", 0.5, sent_precision)
    rows += [row | {"budget": 0.0} for row in curve("class_alone", 0.5, 0.0)]
    rows += [row | {"budget": 1.0} for row in curve("gate_topk", topk + whole, 0.17)]
    noise = [
        {"method": m, "channel": "awgn", "budget": 0.2, "snr_db": s, "accuracy": a, "images": 10,
         "seed": seed}
        for seed in (0, 1)
        for m, pair in (("gate", (topk, topk / 3 if gate < 0.6 else topk - 0.1)),
                        ("class_attention", (0.6, 0.5)))
        for s, a in zip((20.0, 0.0), pair, strict=True)
    ]  # fmt: skip
    rows += curve("halting", 0.6, 0.3)
    clock = runs.record("tokens", {"tuning": {"steps": 3, "batch": 5}}, seeds=(0,), command="test")
    base = [{"digit_share": 0.17, "accuracy": 0.9, "images": 10}]
    kinds = np.array([[2, 2, 0, 0, 1]], np.uint8)
    return clock.result(
        arrays={"kinds": kinds}, tables={"curves": rows, "noise": noise, "base": base}
    )


GOOD, POOR = made(0.7, 0.7, 0.1, 0.7), made(0.4, 0.4, 0.8, 0.2, rate=0.9, whole=0.0)


@pytest.mark.parametrize("name", sorted(BY_ID))
def test_verdicts_follow_from_the_numbers(name: str) -> None:
    assert BY_ID[name].measure(GOOD).verdict == "holds"
    assert BY_ID[name].measure(POOR).verdict == "does not hold here"


def test_half_of_a_claim_holds_in_part() -> None:
    assert BY_ID["fifth"].measure(made(0.7, 0.605 + 0.0, 0.1, 0.7)).verdict == "holds"
    assert BY_ID["meaningful"].measure(made(0.7, 0.7, 0.1, 0.4)).verdict == "holds in part"


def test_halting_is_a_part_of_the_first_claim_and_sizes_come_from_the_result() -> None:
    weaker = made(0.59, 0.7, 0.1, 0.7)  # above random, below halting
    found = BY_ID["better"].measure(weaker)
    assert found.verdict == "holds in part"
    assert found.passed[-1] is False
    assert "halting at its one rate -0.010" in found.measured
    assert "fine-tuned on 15 canvases" in found.sample


def test_the_committed_result_is_that_of_the_full_preset() -> None:
    result = load_result()
    assert result.config == json.loads(json.dumps(asdict(Config.full())))
    assert result.provenance.command == "lab run tokens --full --seed 0"
    assert {row["method"] for row in result.tables["curves"]} >= set(METHODS)


def test_the_committed_claims_show_numbers() -> None:
    rows = claims.table("tokens")
    assert {row["id"] for row in rows} == {claim.id for claim in CLAIMS}
    assert all(any(c.isdigit() for c in row["measured"]) for row in rows)


def test_every_figure_of_the_committed_result_is_finished() -> None:
    result = load_result()
    arrays, tables = result.arrays, result.tables
    drawn = [
        figures.accuracy_curves(tables["curves"], base=tables["base"][0]["accuracy"]),
        figures.noise_curves(tables["noise"]),
        figures.noise_map(tables["noise"]),
        figures.asked_spent(arrays["spent"], result.config["budgets"]),
        figures.score_histogram(
            arrays["scores"][2], arrays["thresholds"][2], arrays["kinds"], budget=0.2
        ),
        figures.precision_bars(tables["curves"]),
        figures.photo_patches(arrays["photo/china"], arrays["attention/china"]),
    ]
    for fig in drawn:
        assert any(c.isdigit() for c in viz.describe(fig))
        assert viz.caption(fig)
        assert len(viz.to_csv(fig)) > 30


def test_sending_one_canvas() -> None:
    picture = load_result().arrays["examples"][0]
    for method in ("gate", "class_attention", "random"):
        for channel in ("awgn", "rayleigh", "erasure"):
            sent = send(picture, 0.2, 0.0, method=method, channel=channel, loss=0.5)
            assert sent.probabilities.sum() == pytest.approx(1, abs=1e-5)
            assert sent.channel_uses == 16 * sent.tokens == 16 * sent.keep.sum()
            assert not (sent.arrived & ~sent.keep).any()
    again = [send(picture, 0.3, 0.0, draw=d).probabilities for d in (1, 1, 2)]
    assert np.array_equal(again[0], again[1])
    assert not np.array_equal(again[0], again[2])
    assert send(picture, 0.2, None, select="topk").tokens == 10
    with pytest.raises((ValueError, TypeError)):
        send(picture[:20], 0.2, None)
    with pytest.raises(ValueError, match="outside"):
        send(picture, 1.2, None)


def test_a_picture_of_ones_own_becomes_ink_on_paper() -> None:
    bright = np.full((60, 90, 3), 250, np.uint8)
    bright[20:40, 40:50] = 10
    canvas = as_canvas(bright)
    rows, columns = np.nonzero(canvas > 127)
    assert canvas.shape == (49, 49)
    assert (np.ptp(rows) + 1, np.ptp(columns) + 1) == (20, 10)  # the shape it had, MNIST's size
    assert canvas[0, 0] == 0
    assert canvas.max() == 255
    np.testing.assert_array_equal(as_canvas(255 - bright), canvas)
    with pytest.raises(ValueError, match="no ink"):
        as_canvas(np.full((60, 90, 3), 250, np.uint8))


def test_a_picture_of_ones_own_stands_among_fragments() -> None:
    arrays = load_result().arrays
    fragments = fragments_of(arrays["examples"][0], arrays["kinds"][0])
    cells = fragments.reshape(7, 7, 7, 7).any(axis=(1, 3)).reshape(-1)
    assert cells.any()
    assert (arrays["kinds"][0][cells] == 1).all()
    bright = np.full((60, 90, 3), 250, np.uint8)
    bright[20:40, 40:50] = 10
    canvas = as_canvas(bright, fragments)
    assert (canvas == fragments).mean() > 0.6
    assert send(canvas, 0.2, None).tokens < send(as_canvas(bright), 0.2, None).tokens


@pytest.mark.assets
def test_a_small_run_from_end_to_end() -> None:
    config = Config(
        7, 2, METHODS, BaseTraining(3, 3, 16), Tuning(steps=3, batch=16), test_images=20,
        budgets=(0.2, 1.0), snrs=(0.0, 10.0), fading_budgets=(0.2,),
    )  # fmt: skip
    result = run(config)
    assert {row["method"] for row in result.tables["curves"]} >= set(METHODS)
    assert {row["seed"] for row in result.tables["curves"]} == {7, 8}
    again = run(config)
    assert result.tables["curves"] == again.tables["curves"] or np.allclose(
        [r["accuracy"] for r in result.tables["curves"]],
        [r["accuracy"] for r in again.tables["curves"]],
    )
    lines = summary(result)
    assert lines[0]["method"].startswith("base")
    assert all(np.isfinite(line["accuracy"]) for line in lines)
