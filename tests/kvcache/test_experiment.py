"""Every part of the experiment, on a tiny random model with a tokenizer of single characters."""

import dataclasses
import math
import random
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from labcore import parts
from labcore.kvcache import data, experiment, tally, workbench
from labcore.kvcache.ledger import MODELS, cache_bytes
from labcore.kvcache.settings import (
    POLICIES,
    Clock,
    Config,
    Needle,
    Passkey,
    Prune,
    Rolling,
    Sample,
)
from labcore.kvcache.sweeps import SKIPPING
from labcore.runs import Cancelled, Result
from tests.kvcache.conftest import tiny_llama

FIRST = 31  # character codes become ids 1..96


class Letters:
    """One token a character."""

    all_special_ids: tuple[int, ...] = (0,)

    def __call__(self, text: str, **options: Any) -> SimpleNamespace:
        return SimpleNamespace(input_ids=[96 if c == "\n" else ord(c) - FIRST for c in text])

    def decode(self, tokens: list[int]) -> str:
        return "".join("\n" if t == 96 else chr(t + FIRST) for t in tokens)

    def apply_chat_template(self, turns: list[dict[str, str]], **options: Any) -> str:
        return f"<user>{turns[0]['content']}<reply>"


def novel() -> str:
    rng = random.Random(0)
    words = ["whale", "sea", "the", "a", "ship", "of", "old", "captain", "saw", "and"]
    lines = [
        " ".join(rng.choices(words, k=9)) + (".\n\n" if i % 5 == 0 else ".\n")
        for i in range(30_000)
    ]
    return "Preface.\n\nCall me Ishmael. " + "".join(lines)


@pytest.fixture(autouse=True)
def _small_world(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> Iterator[None]:
    text = novel()
    monkeypatch.setattr(data, "moby_dick", lambda: text)
    monkeypatch.setattr(data, "address", lambda year: text[year * 10 :][:40_000])
    monkeypatch.setattr(workbench, "load_causal_lm", lambda *a, **k: (tiny_llama(), Letters()))
    monkeypatch.setattr(parts, "cache_root", lambda: tmp_path)
    return


def tiny(**changes: Any) -> Config:
    few = ("low_norm", "random+guards")
    config = Config(
        seed=0,
        model="tiny",
        window=8,
        score_window=8,
        map_lengths=(40,),
        bands=((0, 0), (1, 3), (4, 9)),
        skip_layers=(0,),
        prune=(Prune(48, 3, 6, (0.5,), tuple(n for n in POLICIES), (0.5,)),),
        rolling=(Rolling(44, 32, 30, 2, few),),
        passkey=(
            Passkey(260, "repeat", "after", 2, 1, (0.5,), few),
            Passkey(260, "prose", "inside", 2, 1, (0.5,), few),
        ),
        needle=Needle(200, 2, 1, (0.5,), few),
        sample=Sample(40, 16, 24, ("low_norm", "low_norm+recent")),
        clock=Clock((16,), 1),
    )
    return dataclasses.replace(config, **changes)


@pytest.fixture(scope="module")
def runs_of() -> dict[int, Result]:
    return {}


def result_of(seed: int, kept: dict[int, Result]) -> Result:
    if seed not in kept:
        kept[seed] = experiment.run(tiny(seed=seed))
    return kept[seed]


def test_two_runs_of_a_seed_are_equal(runs_of: dict[int, Result]) -> None:
    one, two = result_of(0, runs_of), experiment.run(tiny())
    assert one.arrays.keys() == two.arrays.keys()
    for name, array in one.arrays.items():
        np.testing.assert_array_equal(array, two.arrays[name])
    clocks = {"step_times", "parts"}
    assert {k: v for k, v in one.tables.items() if k not in clocks} == {
        k: v for k, v in two.tables.items() if k not in clocks
    }


def test_another_seed_changes_random_scores_and_nothing_that_has_none(
    runs_of: dict[int, Result],
) -> None:
    one, other = result_of(0, runs_of), experiment.run(tiny(seed=1))
    assert one.where("prune", policy="low_norm") == other.where("prune", policy="low_norm")
    assert one.where("prune", policy="random") != other.where("prune", policy="random")


def test_every_part_fills_its_table(runs_of: dict[int, Result]) -> None:
    result = result_of(0, runs_of)
    tables = result.tables
    assert {r["policy"] for r in tables["prune"]} == {"full", SKIPPING, *POLICIES}
    assert len(result.where("prune", policy="low_norm")) == 3  # one row a window
    assert {r["filler"] for r in tables["passkey"]} == {"repeat", "prose"}
    assert {r["question"] for r in tables["passkey"]} == {"after", "inside"}
    assert len(result.where("rolling", policy="full")) == 2
    assert all(0 <= r["accuracy"] <= 1 for r in tables["needle"])
    assert {r["first_layer"] for r in tables["low_norm_tokens"]} == {0, 1}  # 4.. is too deep
    assert len(tables["parts"]) == 2 + 1 + 1 + 2 + 1 + 3
    assert result.provenance.seconds == pytest.approx(sum(r["seconds"] for r in tables["parts"]))


def test_sample_size_and_spread_are_stored(runs_of: dict[int, Result]) -> None:
    result = result_of(0, runs_of)
    assert all(r["sd"] > 0 and r["heads"] == 16 for r in result.tables["maps"])
    assert all(r["windows"] == 3 and r["error"] >= 0 for r in result.tables["paired"])
    assert {r["tokens"] for r in result.tables["prune"]} == {6}
    for row in experiment.summary(result):
        assert set(row) == {"what", "value", "spread", "sample", "note"}
        assert any(c.isdigit() for c in row["sample"])


def test_kept_bytes_follow_the_ratio_and_the_skipped_layers(runs_of: dict[int, Result]) -> None:
    result = result_of(0, runs_of)
    half = result.where("prune", policy="low_norm")[0]
    skipping = result.where("prune", policy=SKIPPING)[0]
    assert half["overall_kept"] == half["bytes_kept"] == 0.5
    assert skipping["overall_kept"] == skipping["bytes_kept"] == (1 + 3 * 0.5) / 4


def test_arrays_of_the_sample_agree_with_the_model(runs_of: dict[int, Result]) -> None:
    arrays = result_of(0, runs_of).arrays
    model, tokenizer = tiny_llama(), Letters()
    ids = data.opening(tokenizer, 40)[None]
    stored = model(ids).past_key_values
    norms = torch.stack([layer.keys[0].norm(dim=-1) for layer in stored.layers])
    np.testing.assert_allclose(arrays["sample/norms"], norms.numpy(), rtol=1e-4)
    assert arrays["sample/triangle"].shape == (4, 4, 16, 16)
    np.testing.assert_allclose(arrays["sample/triangle"].sum(-1), 1, atol=5e-3)
    film = arrays["film/low_norm"]
    held = (film < 0).sum(-1)
    assert (held[0] == 40).all()  # the skipped layer
    assert (held[1:] == 24).all()  # the budget


def test_a_run_can_be_cancelled_between_steps_and_resumes() -> None:
    calls: list[str] = []

    def stop(done: int, total: int, label: str) -> None:
        assert 0 <= done <= total
        calls.append(label)
        if label == "prune 48":
            raise Cancelled("enough")

    config = tiny(resume=True)
    with pytest.raises(Cancelled):
        experiment.run(config, stop)
    folder = next(parts.cache_root().glob("unfinished/*"))
    kept = {path.stem for path in folder.glob("*.npz")}
    assert kept == {"map moby 40", "map 2010 40"}
    again: list[str] = []
    result = experiment.run(config, lambda d, t, label: again.append(label))
    assert not any(label.startswith("map moby 40:") for label in again)  # not measured again
    assert any(label.startswith("map moby 40:") for label in calls)
    assert result.arrays.keys() == experiment.run(tiny()).arrays.keys()
    assert not folder.exists()


def test_presets_differ_in_size_and_carry_the_seed() -> None:
    quick, full = Config.quick(seed=3), Config.full(seed=3)
    assert quick.seed == full.seed == 3
    assert sum(p.windows for p in quick.prune) < sum(p.windows for p in full.prune)
    assert full.resume
    for config in (quick, full):
        for part in (*config.prune, *config.rolling, *config.passkey, config.needle):
            assert set(part.policies) <= set(POLICIES)
        for prune in config.prune:  # every guard fits the smallest ratio
            k = math.ceil(min(prune.keep_ratios) * prune.length)
            assert k >= max(4 + 16, config.score_window + 1)


def test_paired_differences_need_the_same_texts() -> None:
    rows = [
        {"policy": "a", "text": "x", "nll": 1.0, "keep_ratio": 0.5},
        {"policy": "full", "text": "y", "nll": 1.0, "keep_ratio": 1.0},
    ]
    with pytest.raises(ValueError, match="same texts"):
        tally.paired(rows, "a", "full", keep_ratio=0.5)


def test_texts_have_exact_lengths_and_say_when_they_are_short() -> None:
    tokenizer = Letters()
    found = data.windows(tokenizer, 50, 6)
    assert len(found) == 6
    assert {len(ids) for ids in found.values()} == {50}
    assert len({tuple(ids.tolist()) for ids in found.values()}) == 6
    assert tokenizer.decode(data.opening(tokenizer, 16).tolist()) == "Call me Ishmael."
    assert data.prose(0, 50) != data.prose(1, 50)
    assert data.token_texts(tokenizer, [96, 66]) == ["⏎", "a"]
    with pytest.raises(ValueError, match="count must be 1..6"):
        data.windows(tokenizer, 50, 7)
    with pytest.raises(ValueError, match="has 40000 tokens, 40100 are needed"):
        data.windows(tokenizer, 40_000, 2)
    with pytest.raises(ValueError, match="name must be one of"):
        data.map_text(tokenizer, "alice", 50)


@pytest.mark.parametrize("tokens", [0, 1, 7, 1000])
@pytest.mark.parametrize("ratio", [0.07, 0.1, 0.5, 1.0])
def test_cache_bytes_count_what_the_cache_keeps(tokens: int, ratio: float) -> None:
    from labcore.kvcache import n_keep

    shape = MODELS[0]
    kept = n_keep(tokens, ratio) if tokens else 0
    pairs = 2 * tokens + 28 * kept
    wanted = 2 * 3 * 64 * 4 * pairs
    assert cache_bytes(shape, tokens, keep_ratio=ratio, skipped_layers=2) == wanted


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"tokens": -1}, "tokens"),
        ({"tokens": 1, "keep_ratio": 0.0}, "keep_ratio"),
        ({"tokens": 1, "skipped_layers": 31}, r"0\.\.30"),
    ],
)
def test_cache_bytes_refuses(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        cache_bytes(MODELS[0], **given)


def test_a_missing_result_says_how_to_make_it() -> None:
    with pytest.raises(FileNotFoundError, match="lab run kvcache --quick"):
        experiment.load_result("quick")
