"""The frozen language model behind an adapter: cache, batches, frozen weights, learning."""

import pytest
import torch

from labcore.speech.adapters import KINDS, make_adapter
from labcore.speech.meter import EVERY, Meter
from labcore.speech.metrics import word_errors
from labcore.speech.recipe import Prompt, Recipe
from labcore.speech.speech_llm import FrozenLM, SpeechLLM
from labcore.speech.training import (
    Clips,
    History,
    batches,
    listens,
    rate_at,
    train_adapter,
    warm_up,
)

PROMPT = Prompt("Audio:, one,\nText: one\nAudio:", "\nText:")
ALPHABET = "abcdefghijklmnopqrstuvwxyz "


def model_of(kind: str, lm: FrozenLM) -> SpeechLLM:
    torch.manual_seed(1)
    extra = {"vocab": 27} if kind in ("cif", "ctc") else {"window": 5} if kind == "wlq" else {}
    adapter = make_adapter(
        kind, 10, 24, 50.0, hidden=16, heads=2, output_rms=lm.embedding_rms(), **extra
    )
    return SpeechLLM(adapter, lm, ALPHABET)


def test_the_cached_prefix_gives_the_same_loss_as_the_whole_row(lm: FrozenLM, clips: Clips) -> None:
    model = model_of("conv", lm)
    batch = clips.batch([0, 1, 2], "asr")
    loss, read = model.loss(batch, PROMPT)
    total = []
    for z, n, text in zip(read.embeds, read.lengths.tolist(), batch.answers, strict=True):
        wanted = lm.ids(f" {text}") + lm.ids("\n")
        start = lm.start(PROMPT) + []
        row = torch.cat([lm.embed(start), z[:n], lm.embed(lm.ids(PROMPT.suffix) + wanted)])
        logits = lm.model(inputs_embeds=row[None]).logits[0, -len(wanted) - 1 : -1]
        total.append(
            torch.nn.functional.cross_entropy(logits, torch.tensor(wanted), reduction="none")
        )
    torch.testing.assert_close(loss, torch.cat(total).mean(), atol=1e-4, rtol=0)


def test_a_batch_of_one_equals_a_batch_of_many(lm: FrozenLM, clips: Clips) -> None:
    model = model_of("base", lm)
    many = clips.batch([0, 4, 8], "asr")
    together = model.generate(many.frames, many.lengths, PROMPT, 4)
    alone = []
    for i in (0, 4, 8):
        one = clips.batch([i], "asr")
        alone += model.generate(one.frames, one.lengths, PROMPT, 4)
    assert together == alone


@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_falls_and_everything_frozen_stays(kind: str, lm: FrozenLM, clips: Clips) -> None:
    model = model_of(kind, lm)
    before = {k: v.clone() for k, v in lm.model.state_dict().items()}
    history = train_adapter(
        model, clips, {"asr": PROMPT}, Recipe(steps=25, batch=12, lr=3e-3, warm_steps=0),
        generator=torch.Generator().manual_seed(0),
    )  # fmt: skip
    losses = [float(row["ce"]) for row in history.rows]
    assert losses[-1] < losses[0] - 0.2
    assert all(torch.equal(v, before[k]) for k, v in lm.model.state_dict().items())
    assert all(p.grad is None for p in lm.model.parameters())


def test_warm_up_points_at_the_right_tokens(lm: FrozenLM, clips: Clips) -> None:
    history = History()
    recipe = Recipe(warm_steps=60, warm_batch=12, warm_lr=3e-3)
    model = model_of("base", lm)
    warm_up(model, clips, recipe, torch.Generator().manual_seed(0), history)
    assert history.warm[-1] < 0.3 * history.warm[0]
    assert history.skipped == 0


def test_clips_with_fewer_outputs_than_tokens_are_counted(lm: FrozenLM, clips: Clips) -> None:
    history = History()
    torch.manual_seed(0)
    adapter = make_adapter("wlq", 10, 24, 50.0, hidden=16, heads=2, window=60)
    model = SpeechLLM(adapter, lm, ALPHABET)
    recipe = Recipe(warm_steps=1, warm_batch=12)
    warm_up(model, clips, recipe, torch.Generator().manual_seed(0), history)
    assert history.skipped == sum(len(t.split()) > 1 for t in clips.transcripts)


def test_training_is_the_same_again(lm: FrozenLM, clips: Clips) -> None:
    def run() -> list[float]:
        model = model_of("cif", lm)
        recipe = Recipe(steps=3, batch=4, warm_steps=3, warm_batch=4)
        history = train_adapter(
            model, clips, {"asr": PROMPT}, recipe, generator=torch.Generator().manual_seed(5)
        )
        return [float(row["ce"]) for row in history.rows]

    assert run() == run()


def test_the_meter_is_zero_when_all_clips_are_equal(lm: FrozenLM, clips: Clips) -> None:
    model = model_of("conv", lm)
    same = clips.batch([3, 3, 3], "asr")
    assert abs(listens(model, same, PROMPT)) < 1e-5
    other = clips.batch([0, 1, 2], "asr")
    assert abs(listens(model, other, PROMPT)) > 1e-4


def test_batches_show_each_clip_once_a_round() -> None:
    pick = batches(8, 4, torch.Generator().manual_seed(0))
    assert sorted(next(pick) + next(pick)) == list(range(8))


def test_rate_rises_then_falls_to_nothing() -> None:
    rates = [rate_at(step, 100, 2.0, 0.03) for step in range(100)]
    assert max(rates) == 2.0
    assert rates.index(max(rates)) in (2, 3)
    assert rates[-1] < 0.01


def test_widths_that_do_not_fit_are_refused(lm: FrozenLM) -> None:
    adapter = make_adapter("base", 10, 20, 50.0, hidden=16, heads=2)
    with pytest.raises(ValueError, match="20 wide, the language model reads 24"):
        SpeechLLM(adapter, lm, ALPHABET)


def test_a_loss_that_is_no_number_stops_the_training(lm: FrozenLM, clips: Clips) -> None:
    model = model_of("base", lm)
    with torch.no_grad():
        model.adapter.out_norm.weight.fill_(float("nan"))
    with pytest.raises(FloatingPointError, match="step 1"):
        train_adapter(
            model, clips, {"asr": PROMPT}, Recipe(steps=1, batch=4, warm_steps=0),
            generator=torch.Generator().manual_seed(0),
        )  # fmt: skip


def test_watching_tells_the_error_rate_and_changes_nothing_else(lm: FrozenLM, clips: Clips) -> None:
    recipe, runs = Recipe(steps=EVERY, batch=4, warm_steps=0), []
    for most in (0, 4):
        model = model_of("conv", lm)
        meter = Meter(model, clips, {"asr": PROMPT}, most)
        history = train_adapter(
            model, clips, {"asr": PROMPT}, recipe, each=meter, clock=meter.clock,
            generator=torch.Generator().manual_seed(0),
        )  # fmt: skip
        runs.append((history.rows, meter.asking, model))
    (plain, none, _), (watched, spent, model) = runs
    assert none == 0 < spent
    assert [r["ce"] for r in plain] == [r["ce"] for r in watched]
    assert "wer_asr" not in plain[-1]
    assert [r["step"] for r in watched if "wer_asr" in r] == [EVERY]
    every = clips.batch(range(12), "asr")
    said = model.generate(every.frames, every.lengths, PROMPT, 4)
    errors = sum(word_errors(w, s)[0] for w, s in zip(every.answers, said, strict=True))
    assert watched[-1]["wer_words"] == sum(len(t.split()) for t in clips.transcripts)
    assert watched[-1]["wer_asr"] == errors / watched[-1]["wer_words"]


def test_the_clock_of_training_stands_while_answers_are_asked(
    lm: FrozenLM, clips: Clips, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = iter(range(0, 1000, 10))
    monkeypatch.setattr("labcore.speech.meter.time.process_time", lambda: float(next(now)))
    meter = Meter(model_of("conv", lm), clips, {"asr": PROMPT}, 2)
    began = meter.clock()
    meter(EVERY - 1)  # two readings of the clock, ten seconds apart
    assert meter.clock() - began == 20.0  # of 30 that went by
