"""From finished cells to tables, claims and figures; the committed result; bad settings."""

import json
from dataclasses import replace

import numpy as np
import pytest

from labcore import claims, viz
from labcore.grid import TaskResult, run_grid
from labcore.runs import Result, record
from labcore.speech import corpus, experiment, explorer, figures
from labcore.speech.labels import ADAPTERS
from labcore.speech.settings import PROMPTS, VARIANTS, Config

CLIPS = 6


def config() -> Config:
    return replace(Config.full(), test_clips=CLIPS, repeats=2, resamples=40, resume=False)


def fake_cell(params: dict, rng: np.random.Generator) -> TaskResult:
    """A finished cell whose error rate depends on the encoder, and a little on the adapter."""
    spoken = corpus.load()
    rate = 0.2 + 0.5 * (params["encoder"] == "whisper") + 0.02 * len(params["adapter"])
    values: dict = {
        "parameters": 1000, "encoder_parameters": 2000, "skipped": 0, "warm": [3.0, 1.0],
        "warm_seconds": 1.0, "train_seconds": 8.0, "test_seconds": 1.0,
        "history": [
            {"step": s, "task": t, "ce": 2.0 / s, "lr": 1e-3, "compression": 4.0,
             "cpu_seconds": 1.0 * s, "listens_asr": 0.5, "listens_st": 0.4}
            for s, t in ((1, "asr"), (2, "st"), (3, "asr"), (4, "st"))
        ],
    }  # fmt: skip
    for split in ("test", "real"):
        texts = [str(spoken.clips[i]["text"]) for i in spoken.where(split)[:CLIPS]]
        words = np.array([len(t.split()) for t in texts], np.int16)
        values[f"words_{split}"] = words
        values[f"frames_{split}"] = np.full(CLIPS, 60, np.int16)
        values[f"positions_{split}"] = np.full(CLIPS, 15, np.int16)
        values[f"empty_{split}"] = 0.0
        for task in ("nearest", "asr", "st"):
            values[f"errors_{task}_{split}"] = rng.binomial(words, min(rate, 1)).astype(np.int16)
            values[f"said_{task}_{split}"] = texts
    return TaskResult("id", params, 0, values)


@pytest.fixture(scope="module")
def result() -> Result:
    rng = np.random.default_rng(0)
    done = [fake_cell(p, rng) for p in experiment._tasks(config())]
    clock = record("speech", config(), seeds=(0, 1), command="test")
    return clock.result(**experiment._tables(config(), done))


def test_the_grid_is_a_whole_factorial_and_the_variants_change_one_thing() -> None:
    tasks = list(experiment._tasks(config()))
    plain = [t for t in tasks if not {"pad", "unit_scale", "scrambled"} & set(t)]
    cells = {(t["encoder"], t["adapter"], t["lm"], t["repeat"]) for t in plain}
    assert len(cells) == 2 * 5 * 2 * 2
    assert len(tasks) == len(cells) + len(VARIANTS)
    assert json.loads(json.dumps(tasks)) == tasks


def test_tables_hold_every_cell_and_each_variant_once(result: Result) -> None:
    names = [r["variant"] for r in result.tables["cells"]]
    assert names.count("") == 40
    assert sorted(n for n in names if n) == sorted(v.name for v in VARIANTS)
    assert result.arrays["errors/asr/test"].shape == (2, 5, 2, 2, CLIPS)
    rows = result.where("scores", task="st", split="real", variant="")
    assert {r["exact"] for r in rows} == {0.0}  # the fake answers are English


def test_shares_find_the_factor_that_was_put_in(result: Result) -> None:
    for adapters in ("all five", "without cif, ctc"):
        rows = result.where("shares", task="asr", split="test", adapters=adapters, scale="rate")
        assert sum(r["share"] for r in rows) == pytest.approx(1)
        assert max(rows, key=lambda r: r["share"])["term"] == "encoder"


def test_summary_names_every_cell(result: Result) -> None:
    rows = experiment.summary(result)
    assert any("conformer + wlq" in r["what"] for r in rows)
    assert any(r["what"].startswith("share of encoder") for r in rows)


def test_claims_judge_by_their_rules(result: Result) -> None:
    rows = {r["id"]: r for r in claims.table("speech", result=result)}
    assert rows["speech-encoder"]["verdict"] == "holds"
    assert rows["speech-listens"]["verdict"] == "holds"
    assert all(r["baselines"] for r in rows.values())


def test_figures_say_their_numbers_and_refuse_what_was_not_measured(result: Result) -> None:
    t = result.tables
    drawn = [
        figures.grid_map(t["scores"], task="asr", split="test"),
        figures.share_bars(t["shares"], task="st", split="real"),
        figures.gap_bars(t["gaps"], task="asr", split="test"),
        figures.training_curves(t["curves"], encoder="whisper", lm="gemma3-270m", task="st"),
        figures.training_curves(
            t["curves"], encoder="conformer", lm="smollm2-135m", task="asr", column="listens"
        ),
        figures.cost_of_positions(t["cells"], lm="smollm2-135m"),
        figures.variant_bars(t["scores"], task="asr"),
    ]
    for fig in drawn:
        assert any(c.isdigit() for c in viz.describe(fig))
    with pytest.raises(ValueError, match="no scores"):
        figures.grid_map(t["scores"], task="asr", split="nowhere")
    with pytest.raises(ValueError, match="no shares"):
        figures.share_bars(t["shares"], task="mt", split="test")
    with pytest.raises(ValueError, match="no curves"):
        figures.training_curves(t["curves"], encoder="none", lm="x", task="asr")


def test_figures_of_a_clip_need_no_model() -> None:
    sound = corpus.load().sound(0)
    strips = {"conformer": np.zeros((30, 3), np.uint8)}
    fig = figures.clip_view(sound, strips, text="one", voice="v")
    assert "30 frames of Conformer" in viz.describe(fig)
    w = np.eye(30)[:, ::3]
    fig = figures.assignment_maps(dict.fromkeys(ADAPTERS, w), tokens=1, text="one")
    assert "base 10" in viz.describe(fig)
    fig = figures.cif_staircase(np.array([0.4, 0.8, 0.3, 0.7, 0.2]))
    assert "sum to 2.40" in viz.describe(fig)
    assert "is dropped" in viz.describe(fig)
    assert "2 runs, 1 of them blank" in viz.describe(figures.run_strip(["a", "a", "∅"], text="a"))
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        figures.cif_staircase(np.array([2.0]))
    with pytest.raises(ValueError, match="positive"):
        figures.cif_staircase(np.array([0.5]), threshold=0)


def test_prompts_show_every_digit_and_end_where_the_speech_begins() -> None:
    for task, words in (("asr", corpus.DIGITS), ("st", corpus.ITALIAN)):
        assert all(word in PROMPTS[task].prefix for word in words)
        assert PROMPTS[task].prefix.endswith(":")


def test_the_corpus_holds_voices_and_texts_apart() -> None:
    spoken = corpus.load()
    of = {s: [spoken.clips[i] for i in spoken.where(s)] for s in ("train", "test", "real")}
    assert not {c["voice"] for c in of["train"]} & {c["voice"] for c in of["test"] + of["real"]}
    assert not {c["text"] for c in of["train"]} & {c["text"] for c in of["test"] + of["real"]}
    assert min(len(of["test"]), len(of["real"])) >= Config.full().test_clips
    dropped = [v for v in spoken.voices if not v["kept"]]
    assert dropped
    assert not {v["voice"] for v in dropped} & {c["voice"] for c in spoken.clips}
    with pytest.raises(ValueError, match="no split 'dev'"):
        spoken.where("dev")
    with pytest.raises(ValueError, match="no digit"):
        corpus.translate("eleven")


def sleepy(x: int, seed: int) -> dict:
    return {"y": x * 2}


def test_cells_resume_where_they_were(tmp_path) -> None:  # noqa: ANN001
    first = run_grid(sleepy, [{"x": 1}], out=tmp_path, n_jobs=1)
    both = run_grid(sleepy, [{"x": 1}, {"x": 2}], out=tmp_path, n_jobs=1)
    assert both[0] == first[0]
    assert [r.values["y"] for r in both] == [2, 4]


def test_unknown_exhibits_are_refused(result: Result) -> None:
    shown = replace(result, tables=result.tables | {"exhibits": [{"clip": 3}]})
    with pytest.raises(ValueError, match=r"clip 9 is no exhibit: choose one of \[3\]"):
        explorer.clip_view_of(shown, 9)


def test_the_committed_result_is_whole_and_judged() -> None:
    full = experiment.load_result()
    assert full.config["encoders"] == ["whisper", "conformer"]
    plain = [r for r in full.tables["cells"] if not r["variant"]]
    cells = {(r["encoder"], r["adapter"], r["lm"], r["repeat"]) for r in plain}
    assert len(cells) == len(plain) == 20 * full.config["repeats"]
    assert all(r["verdict"] for r in claims.table("speech"))
    for number in explorer.exhibit_names(full).values():
        view = explorer.clip_view_of(full, number)
        assert set(view.maps) == set(ADAPTERS)
        assert len(view.symbols) == len(view.alpha) == len(view.maps["base"])
