"""From finished cells to tables, claims and figures; the committed result; bad settings."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest

from labcore import claims, viz
from labcore.grid import TaskResult, run_grid
from labcore.runs import Result, record
from labcore.speech import corpus, experiment, explorer, figures, tuning
from labcore.speech.labels import ADAPTERS
from labcore.speech.names import ALL, NO_LM
from labcore.speech.plan import plan
from labcore.speech.settings import COMMAND_STEPS, VARIANTS, Config
from labcore.speech.tables import tabulate

CLIPS = 6
POSITIONS = {"base": 60, "conv": 15, "cif": 4, "ctc": 10, "wlq": 4}  # of 60 frames


def config() -> Config:
    return replace(Config.full(), test_clips=CLIPS, repeats=(2, 1), watched=Config.full().lms,
                   resamples=40, resume=False)  # fmt: skip


def fake_cell(params: dict, rng: np.random.Generator) -> TaskResult:
    """A finished cell whose error rate depends on the encoder, and a little on the adapter."""
    words_of = params.get("words", "digits")
    spoken = corpus.load(words_of)
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
    for row in values["history"]:
        if params["adapter"] in ("cif", "ctc"):
            row["ctc"] = 0.2
        if params.get("watch"):
            row |= {"wer_asr": 0.8 / row["step"], "wer_words": 50}
    for split in ("test",) if words_of == "commands" else ("test", "real"):
        texts = [str(spoken.clips[i]["text"]) for i in spoken.where(split)[:CLIPS]]
        words = np.array([len(t.split()) for t in texts], np.int16)
        values[f"frames_{split}"] = np.full(CLIPS, 60, np.int16)
        values[f"positions_{split}"] = np.full(CLIPS, POSITIONS[params["adapter"]], np.int16)
        values[f"empty_{split}"] = 0.0
        for task in ("nearest", "asr", "st"):
            values[f"words_{task}_{split}"] = words
            values[f"errors_{task}_{split}"] = rng.binomial(words, min(rate, 1)).astype(np.int16)
            values[f"said_{task}_{split}"] = texts
    return TaskResult("id", params, 0, values)


def tables_of(config: Config) -> Result:
    rng = np.random.default_rng(0)
    done = [(at, fake_cell(params, rng)) for at, params in plan(config)]
    clock = record("speech", config, seeds=(0, 1), command="test")
    return clock.result(**tabulate(config, done))


@pytest.fixture(scope="module")
def result() -> Result:
    return tables_of(config())


def test_the_grid_is_a_whole_factorial_and_the_variants_change_one_thing() -> None:
    places, tasks = zip(*plan(config()), strict=True)
    cells = [(p["encoder"], p["adapter"], p["lm"], p["repeat"]) for p in places if not p["variant"]]
    assert len(set(cells)) == len(cells) == 2 * 5 * (2 + 1)
    assert [p["variant"] for p in places if p["variant"]] == [v.name for v in VARIANTS]
    assert json.loads(json.dumps(tasks)) == list(tasks)
    (plain,) = [
        t for p, t in zip(places, tasks, strict=True)
        if (p["encoder"], p["adapter"], p["lm"], p["repeat"], p["variant"])
        == ("conformer", "conv", "smollm2-135m", 0, "")
    ]  # fmt: skip
    (bare,) = [t for p, t in zip(places, tasks, strict=True) if p["variant"] == "no warm-up"]
    assert bare == {k: v for k, v in plain.items() if k != "keep"} | {
        "recipe": plain["recipe"] | {"warm_steps": 0}
    }


def test_one_training_of_each_watched_cell_is_followed() -> None:
    watched = [(p["encoder"], p["adapter"], p["lm"], p["repeat"])
               for p, t in plan(config()) if t.get("watch")]  # fmt: skip
    assert len(watched) == len(set(watched)) == 2 * 5 * 2
    assert {(lm, repeat) for _, _, lm, repeat in watched} == {
        ("smollm2-135m", 1), ("gemma3-270m", 0)
    }  # fmt: skip
    assert not any(t.get("watch") for _, t in plan(Config.quick()))


def test_a_stopped_run_leaves_whole_factorials() -> None:
    order = [(p["lm"], p["repeat"], bool(p["variant"])) for p, _ in plan(config())]
    changes = [order[0]] + [b for a, b in zip(order, order[1:], strict=False) if a != b]
    assert len(changes) == len(set(changes))  # no block is taken up again
    assert [r for _, r, variant in changes if not variant] == [0, 0, 1]


def test_repeats_that_do_not_fit_the_language_models_are_refused() -> None:
    with pytest.raises(ValueError, match="one number, 1 or more, for each"):
        replace(Config.full(), repeats=(1,))


def test_tables_hold_every_cell_and_each_variant_once(result: Result) -> None:
    names = [r["variant"] for r in result.tables["cells"]]
    assert names.count("") == 30
    assert sorted(n for n in names if n) == sorted(v.name for v in VARIANTS)
    assert result.arrays["errors/all/asr/test"].shape == (2, 5, 2, 1, CLIPS)
    assert result.arrays["errors/smollm2-135m/asr/test"].shape == (2, 5, 1, 2, CLIPS)
    rows = result.where("scores", task="st", split="real", variant="")
    assert {r["exact"] for r in rows} == {0.0}  # the fake answers are English
    (row,) = result.where("scores", task="asr", split="test", variant="commands")
    assert (row["corpus"], row["exact"]) == ("commands", 1.0)
    assert not result.where("scores", split="real", variant="commands")


def test_untrained_cells_are_counted_and_marked() -> None:
    rows = result_with_failures().where("shares", design=ALL, task="asr", split="test")
    assert {r["untrained"] for r in rows if r["adapters"] == "all five"} == {2}
    fig = figures.share_bars(rows, task="asr", split="test")
    assert "2 of 20 cells are not trained" in viz.describe(fig)
    assert fig.data[0].opacity < 1
    fig = figures.grid_map(result_with_failures().tables["scores"], task="asr", split="test")
    assert "2 of 20 cells not trained" in viz.describe(fig)
    assert len(fig.data) == 2  # the grey ones lie on top


def result_with_failures() -> Result:
    """The conformer's Base cells answer nothing right."""
    rng = np.random.default_rng(0)
    small, done = replace(config(), repeats=(1, 1)), []
    for at, params in plan(small):
        task = fake_cell(params, rng)
        if (at["encoder"], at["adapter"], at["variant"]) == ("conformer", "base", ""):
            task.values["errors_asr_test"] = task.values["words_asr_test"]
        elif not at["variant"]:
            task.values["errors_asr_test"] = task.values["words_asr_test"] // 2
        done.append((at, task))
    return record("speech", small, seeds=(0,), command="test").result(**tabulate(small, done))


def test_without_a_language_model_there_are_two_factors() -> None:
    rows = tables_of(replace(Config.quick(), test_clips=CLIPS)).where("shares", task="nearest")
    assert {r["design"] for r in rows} == {ALL}
    assert not any("language model" in r["term"] for r in rows)
    assert Config.quick().lms == (NO_LM,)


def test_the_constant_answer_is_chosen_on_training_clips(result: Result) -> None:
    rows = {(r["task"], r["split"]): r for r in result.tables["constant"]}
    assert set(rows) == {(t, s) for t in ("asr", "st") for s in ("test", "real")}
    assert all(0.5 < r["wer"] < 1 and len(set(r["said"].split())) == 1 for r in rows.values())


def test_shares_find_the_factor_that_was_put_in(result: Result) -> None:
    for adapters in ("all five", "without cif, ctc"):
        rows = result.where("shares", design=ALL, task="asr", split="test", adapters=adapters,
                            scale="rate")  # fmt: skip
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
        figures.share_bars(t["shares"], task="st", split="real", design="smollm2-135m"),
        figures.gap_bars(t["gaps"], task="asr", split="test"),
        figures.training_curves(t["curves"], encoder="whisper", lm="gemma3-270m", task="st"),
        figures.training_curves(
            t["curves"], encoder="conformer", lm="smollm2-135m", task="asr", column="listens"
        ),
        figures.training_curves(
            t["curves"], encoder="whisper", lm="smollm2-135m", task="asr", column="ctc"
        ),
        figures.error_curves(t["curves"], t["cells"], encoder="whisper", lm="gemma3-270m"),
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
    with pytest.raises(ValueError, match="no error rates of none with x"):
        figures.error_curves(t["curves"], t["cells"], encoder="none", lm="x")


def test_errors_stand_at_the_seconds_of_warm_up_and_training(result: Result) -> None:
    t = result.tables
    fig = figures.error_curves(t["curves"], t["cells"], encoder="conformer", lm="gemma3-270m")
    assert len(fig.data) == len(ADAPTERS)
    assert list(fig.data[0].x) == [2.0, 3.0, 4.0, 5.0]  # a second of warm-up, then one a step
    assert list(fig.data[0].y) == [0.8, 0.4, 0.8 / 3, 0.2]
    assert "on 50 words of the validation voices" in viz.describe(fig)


def test_the_cost_of_a_position_is_predicted_from_two_adapters(result: Result) -> None:
    cells = [
        r | {"positions_a_second_test": x, "step_seconds": 0.3 + 0.1 * x}
        for r, x in zip(result.where("cells", lm="gemma3-270m"), [50, 12, 3, 9, 4] * 2, strict=True)
    ]
    text = viz.describe(figures.cost_of_positions(cells, lm="gemma3-270m"))
    assert "miss the other cells by at most 0%" in text


def test_adapters_can_be_left_out_of_the_shares(result: Result) -> None:
    at = {"design": ALL, "task": "asr", "split": "test"}
    shares, gaps, name = explorer.shares_among(result, **at, adapters=("wlq", "base", "conv"))
    assert name == "base, conv, wlq"
    subset = result.where("shares", **at, adapters="without cif, ctc")
    assert [r["share"] for r in shares] == [r["share"] for r in subset]
    assert "encoder" in viz.describe(figures.gap_bars(gaps, task="asr", split="test",
                                                      adapters=name))  # fmt: skip
    (pair, *_), _, _ = explorer.shares_among(result, **at, adapters=("conv",))
    assert pair["cells"] == 4
    with pytest.raises(ValueError, match="no adapter is left"):
        explorer.shares_among(result, **at, adapters=())


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


def test_confounds_and_variants_are_listed_beside_the_scores(result: Result) -> None:
    parts = [r["part"] for r in explorer.confounds(result)]
    assert len(parts) == 2 + 5 + 2
    rows = explorer.variants(result)
    grid = {f"as in the grid ({v.encoder}, {v.adapter})" for v in VARIANTS}
    changed = {f"{v.name} ({v.encoder}, {v.adapter})" for v in VARIANTS}
    assert {r["what"] for r in rows} == grid | changed
    (row,) = [r for r in rows if r["what"].startswith("commands")]
    assert (row["split"], row["steps"], row["asr"]["exact"]) == ("test", COMMAND_STEPS, 1.0)
    assert len(explorer.variants_said(result)) == len(rows)
    assert {r["design"] for r in result.tables["shares"]} == {ALL, "smollm2-135m"}


def test_the_recipe_is_the_best_candidate_on_validation_voices() -> None:
    rows = experiment.load_tuning()
    assert {r["split"] for r in rows} == {"valid"}
    assert {r["candidate"] for r in rows} == set(tuning.CANDIDATES)
    assert rows[0]["mean"] == min(r["mean"] for r in rows)
    chosen = tuning.RECIPE | tuning.CANDIDATES[rows[0]["candidate"]]
    assert {k: getattr(Config.full(), k) for k in chosen} == chosen


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
    assert len(cells) == len(plain) == 10 * sum(full.config["repeats"])
    wanted = asdict(Config.full()) | {"jobs": full.config["jobs"]}
    assert full.config == json.loads(json.dumps(wanted))  # claims tell this size
    assert all(r["verdict"] for r in claims.table("speech"))
    for number in explorer.exhibit_names(full).values():
        view = explorer.clip_view_of(full, number)
        assert set(view.maps) == set(ADAPTERS)
        assert len(view.symbols) == len(view.alpha) == len(view.maps["base"])
