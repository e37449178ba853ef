"""The readers of foreign files, and the real encoders where their weights are here."""

import struct
import wave

import numpy as np
import pytest
import torch

from labcore import assets
from labcore.speech import corpus
from labcore.speech.conformer import collapse, read_container
from labcore.speech.encoders import (
    ConformerCTCEncoder,
    FeatureStore,
    WhisperEncoder,
    make_encoder,
    transcript,
)
from labcore.speech.whisper import load_whisper, log_mel, mel_filters, read_variables


def needs(*names: str) -> pytest.MarkDecorator:
    missing = [n for n in names if assets.status(n) != "ready"]
    return pytest.mark.skipif(bool(missing), reason=f"not fetched: {', '.join(missing)}")


def spec(count: int = 1) -> bytes:
    """A CTranslate2 file with one array of two float16 numbers and an alias."""

    def text(value: str) -> bytes:
        return struct.pack("<H", len(value) + 1) + value.encode() + b"\0"

    data = np.array([1.5, -2.0], "<f2").tobytes()
    body = text("a/weight") + struct.pack("<BIBI", 1, 2, 4, len(data)) + data
    head = struct.pack("<I", 6) + text("WhisperSpec") + struct.pack("<II", 3, count)
    return head + body + struct.pack("<I", 1) + text("b/weight") + text("a/weight")


def test_variables_and_aliases_are_read() -> None:
    found = read_variables(spec())
    assert found["b/weight"].tolist() == [1.5, -2.0]


@pytest.mark.parametrize("data", [b"", b"\x07\0\0\0", spec()[:40], spec(9)])
def test_damaged_ctranslate_files_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="give its model.bin"):
        read_variables(data)
    with pytest.raises(ValueError, match="give its model.bin"):
        load_whisper(data)


def container() -> bytes:
    body = np.array([[1, 2]], "<f4").tobytes()
    entry = struct.pack("<H", 1) + b"w" + struct.pack("<BBIIQQ", 0, 2, 1, 2, 0, len(body))
    head = b"HAMAPK\x01\x02" + struct.pack("<I", 1) + entry
    return head + b"\0" * (-len(head) % 16) + body


def test_the_container_is_read() -> None:
    assert read_container(container())["w"].tolist() == [[1.0, 2.0]]


@pytest.mark.parametrize(
    ("data", "message"),
    [(b"PK\x03\x04", "no HAMAPK container"), (container()[:30], "damaged"), (b"HAMAPK", "damaged")],
)
def test_damaged_containers_are_refused(data: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_container(data)


def test_collapse_reads_repeats_once() -> None:
    assert collapse([2, 0, 0, 2, 0, 1], ("a", "b", "")) == "a a b"


def test_mel_filters_have_area_one_and_cover_the_band() -> None:
    filters = mel_filters()
    assert filters.shape == (80, 201)
    assert (filters >= 0).all()
    assert filters.sum(axis=0)[2:199].min() > 0


def test_log_mel_has_a_frame_each_ten_milliseconds_and_a_floor() -> None:
    mel = log_mel(torch.sin(torch.arange(16_000) / 5.0))
    assert mel.shape == (80, 100)
    assert float(mel.max() - mel.min()) <= 2.0 + 1e-5


@needs("whisper", "beckett")
def test_whisper_reads_what_is_said() -> None:
    with wave.open(str(assets.fetch("beckett")["beckett.wav"])) as file:
        sound = np.frombuffer(file.readframes(10**9), "<i2").astype(np.float32) / 2**15
    assert transcript(WhisperEncoder(), sound) == (
        "Ever tried, ever failed. No matter, try again. Fail again. Fail better."
    )


@needs("conformer")
def test_the_conformer_hears_the_phonemes() -> None:
    spoken = corpus.load()
    (number,) = [
        i for i in spoken.where("exhibit") if spoken.clips[i]["text"].startswith("go forward")
    ]
    heard = transcript(ConformerCTCEncoder(), spoken.sound(number))
    for sounds in ("ɡ o", "t ɛ n", "m i t ɝ z"):
        assert sounds in heard


@needs("whisper", "conformer")
@pytest.mark.parametrize("name", ["whisper", "conformer"])
def test_clips_give_the_same_frames_alone_and_together(name: str) -> None:
    encoder, spoken = make_encoder(name), corpus.load()
    clips = [spoken.sound(i) for i in spoken.where("test")[:2]]
    both = encoder.encode(clips)
    assert both.features.shape[-1] == encoder.dim
    for i, clip in enumerate(clips):
        assert abs(int(both.lengths[i]) - len(clip) / 320) <= 1
        alone = encoder.encode([clip]).features[0]
        torch.testing.assert_close(both.features[i, : len(alone)], alone, atol=1e-4, rtol=1e-4)


@needs("whisper")
def test_padding_to_thirty_seconds_keeps_the_clips_frames() -> None:
    clip = corpus.load().sound(0)
    short, long = WhisperEncoder().encode([clip]), WhisperEncoder(pad="30s").encode([clip])
    assert short.lengths.tolist() == long.lengths.tolist()
    near = torch.nn.functional.cosine_similarity(short.features[0], long.features[0], dim=-1)
    assert float(near.mean()) > 0.8


@needs("conformer")
def test_features_are_computed_once_and_again_when_damaged(tmp_path) -> None:  # noqa: ANN001
    store, encoder, clip = FeatureStore(tmp_path), ConformerCTCEncoder(), corpus.load().sound(0)
    (first,) = store.get(encoder, [clip])
    path = store.path(encoder, clip)
    stamp = path.stat().st_mtime_ns
    (second,) = store.get(encoder, [clip])
    assert torch.equal(first, second)
    assert path.stat().st_mtime_ns == stamp
    path.write_bytes(path.read_bytes()[:200])
    (third,) = store.get(encoder, [clip])
    assert torch.equal(first, third)
    assert store.path(encoder, clip * 0.5) != path


@needs("conformer")
def test_a_very_short_clip_is_still_encoded() -> None:
    assert ConformerCTCEncoder().encode([np.full(10, 0.1)]).lengths.tolist() == [2]


@needs("whisper", "conformer")
def test_clips_that_cannot_be_used() -> None:
    encoder = ConformerCTCEncoder()
    with pytest.raises(ValueError, match="no clip to encode"):
        encoder.encode([])
    with pytest.raises(ValueError, match="empty"):
        encoder.encode([np.zeros(0)])
    with pytest.raises(ValueError, match='"none" or "30s", got \'60s\''):
        WhisperEncoder(pad="60s")
    with pytest.raises(ValueError, match="must not be negative"):
        WhisperEncoder(tail_seconds=-1)
    with pytest.raises(ValueError, match="unknown encoder 'wav2vec'"):
        make_encoder("wav2vec")
