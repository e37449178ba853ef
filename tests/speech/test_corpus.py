"""The committed corpora and the prompts: splits that share nothing, exact translations."""

import pytest

from labcore.speech import commands, corpus
from labcore.speech.settings import ASKED, EXAMPLES, PROMPTS, Config, prompts


def test_prompts_show_every_digit_and_end_where_the_speech_begins() -> None:
    for task, words in (("asr", corpus.DIGITS), ("st", corpus.ITALIAN)):
        assert all(word in PROMPTS[task].prefix for word in words)
        assert PROMPTS[task].prefix.endswith(":")
    with pytest.raises(ValueError, match="got 'long'"):
        prompts("digits", "long")


@pytest.mark.parametrize("words", corpus.WORDS)
def test_the_corpus_holds_voices_and_texts_apart(words: str) -> None:
    spoken = corpus.load(words)
    splits = {clip["split"] for clip in spoken.clips} - {"exhibit"}
    of = {s: [spoken.clips[i] for i in spoken.where(s)] for s in sorted(splits)}
    for name, field in ((n, f) for n in splits for f in ("voice", "text")):
        others = {c[field] for other in splits - {name} for c in of[other]}
        assert not {c[field] for c in of[name]} & others
    shown = {english for english, _ in EXAMPLES[words]}
    assert not shown & {c["text"] for rows in of.values() for c in rows}
    assert {c["voice"] for c in of["valid"]} == set(corpus.VALID_VOICES)
    assert min(len(of[s]) for s in ("valid", "test")) >= Config.full().test_clips
    with pytest.raises(ValueError, match="no split 'dev'"):
        spoken.where("dev")


def test_dropped_voices_say_nothing_and_bad_names_are_refused() -> None:
    spoken = corpus.load()
    dropped = {v["voice"] for v in spoken.voices if not v["kept"]}
    assert dropped
    assert not dropped & {c["voice"] for c in spoken.clips}
    with pytest.raises(ValueError, match="no digit"):
        corpus.translate("eleven")
    with pytest.raises(ValueError, match="no corpus 'songs'"):
        corpus.load("songs")


def test_commands_are_translated_word_for_word() -> None:
    spoken = corpus.load("commands")
    for number in spoken.where("test"):
        words = spoken.answer(number, "asr").split()
        assert set(words) <= commands.vocabulary()
        its = spoken.answer(number, "st")
        assert all(commands.NUMBERS[w] in its.split() for w in words if w in commands.NUMBERS)
    assert all(t["st"].prefix.count("Italian:") == 12 for t in ASKED.values())
