"""The corpus can be made again: voices, texts, and what is said when a program is missing."""

import shutil

import numpy as np
import pytest

from labcore.speech import corpus, synthesis


@pytest.mark.parametrize(("voice", "program"), [("espeak:en-us+f5", "espeak-ng"),
                                                ("flite:rms", "flite")])  # fmt: skip
def test_a_voice_speaks(voice: str, program: str) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed: apt-get install {program}")
    sound = synthesis.speak("seven two", voice)
    assert 0.3 < len(sound) / 8_000 < 2
    assert np.abs(sound).max() == pytest.approx(0.7, abs=1e-3)
    assert np.array_equal(sound, synthesis.speak("seven two", voice))


def test_a_missing_program_and_an_unknown_voice_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(FileNotFoundError, match="espeak-ng is not installed: apt-get install"):
        synthesis.speak("one", "espeak:en")
    with pytest.raises(ValueError, match="unknown voice 'mbrola:en1'"):
        synthesis.speak("one", "mbrola:en1")


def test_digit_strings_differ_and_avoid_what_is_taken() -> None:
    rng = np.random.default_rng(0)
    first = synthesis.digit_strings(40, rng, set())
    second = synthesis.digit_strings(40, rng, set(first))
    assert len(set(first)) == 40
    assert not set(first) & set(second)
    assert all(2 <= len(t.split()) <= 4 for t in first + second)


def test_a_corpus_comes_back_from_disk(tmp_path, monkeypatch) -> None:  # noqa: ANN001
    clips = [{"split": "test", "voice": "v", "text": "one"}]
    made = corpus.Corpus(clips, [np.sin(np.arange(400.0)).astype(np.float32) * 0.5], [])
    path = corpus.save(made, tmp_path / "corpus.npz")
    monkeypatch.setattr(corpus, "_FOLDER", path.parent)
    found = corpus.load.__wrapped__()
    assert found.clips == clips
    np.testing.assert_allclose(found.sounds[0], made.sounds[0], atol=0.02)
    assert found.answer(0, "st") == "uno"
    assert len(found.sound(0)) == 800
