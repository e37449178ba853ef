"""Sound at the door: rates, channels, lengths, damaged files."""

import io
import wave

import numpy as np
import pytest

from labcore.speech import audio
from labcore.uploads import UploadError

TONE = np.sin(np.arange(8_000) / 10).astype(np.float32) * 0.5


def wav(values: np.ndarray, rate: int = 16_000, channels: int = 1, width: int = 2) -> bytes:
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(rate)
        file.writeframes(values.tobytes())
    return out.getvalue()


def sixteen(values: np.ndarray) -> np.ndarray:
    return (values * 32767).astype("<i2")


def test_a_wav_comes_back_as_it_went() -> None:
    sound, changed = audio.read_wav(audio.to_wav(TONE))
    np.testing.assert_allclose(sound, TONE, atol=1e-4)
    assert changed == "used as it is"


def test_another_rate_is_resampled_and_channels_are_averaged_and_both_said() -> None:
    stereo = np.stack([sixteen(TONE), sixteen(-TONE)], axis=1)
    sound, changed = audio.read_wav(wav(stereo, rate=8_000, channels=2))
    assert len(sound) == 2 * len(TONE)
    assert np.abs(sound).max() < 1e-3
    assert changed == "2 channels averaged, resampled from 8000 to 16000 Hz"


@pytest.mark.parametrize("width", [1, 2, 3, 4])
def test_every_width_of_pcm_is_read(width: int) -> None:
    scaled = {
        1: np.round(TONE * 128 + 128).astype(np.uint8),
        2: sixteen(TONE),
        4: (TONE.astype(np.float64) * (2**31 - 1)).astype("<i4"),
    }
    if width == 3:
        whole = (TONE.astype(np.float64) * (2**31 - 1)).astype("<i4")
        values = whole.view(np.uint8).reshape(-1, 4)[:, 1:].copy()
    else:
        values = scaled[width]
    sound, _ = audio.read_wav(wav(values, width=width))
    np.testing.assert_allclose(sound, TONE, atol=0.01)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"ID3 an mp3", "is no WAV file: save it as WAV"),
        (b"RIFF0000WAVE", "cannot be read"),
        (wav(sixteen(TONE))[:30], "cannot be read"),
        (wav(np.zeros(0, "<i2")), "is empty: record at least a word"),
        (wav(np.zeros(31 * 8_000, "<i2"), rate=8_000), r"lasts 31\.0 s: at most 30 s"),
    ],
)
def test_uploads_that_cannot_be_used(data: bytes, message: str) -> None:
    with pytest.raises(UploadError, match=f"a.wav.*{message}"):
        audio.read_wav(data, "a.wav")


@pytest.mark.parametrize(
    ("sound", "rate", "message"),
    [
        (np.zeros((2, 9)), 16_000, r"shape \(2, 9\): give one channel"),
        (np.zeros(9), 8_000, "has 8000 Hz: resample it to 16000"),
        (np.zeros(0), 16_000, "is empty"),
        (np.zeros(16_000 * 31), 16_000, r"lasts 31\.0 s"),
        (np.array([0.0, np.nan]), 16_000, "NaN or infinity"),
    ],
)
def test_audio_that_does_not_fit(sound: np.ndarray, rate: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        audio.check_audio(sound, rate)


def test_resampling_refuses_a_rate_of_nothing() -> None:
    with pytest.raises(ValueError, match="positive, got 0"):
        audio.resample(TONE, 0)


def test_mu_law_keeps_a_clip_to_a_few_per_cent() -> None:
    back = audio.expand(audio.compand(TONE))
    assert np.abs(back - TONE).max() < 0.02


def test_trimming_keeps_what_is_loud() -> None:
    padded = np.concatenate([np.zeros(4_000, np.float32), TONE, np.zeros(4_000, np.float32)])
    assert len(TONE) <= len(audio.trim(padded)) <= len(TONE) + 700
    assert len(audio.trim(np.zeros(100, np.float32))) == 100
