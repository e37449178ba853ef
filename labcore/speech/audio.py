"""Sound as the encoders want it: mono, 16 kHz, float in [-1, 1]; and small enough to be kept."""

import io
import wave

import numpy as np
from jaxtyping import Float, UInt8

from labcore.uploads import UploadError

SAMPLE_RATE = 16_000
TELEPHONE = 8_000
MAX_SECONDS = 30.0
_MU = 255.0

Sound = Float[np.ndarray, " samples"]


def check_audio(audio: np.ndarray, rate: int = SAMPLE_RATE) -> Sound:
    """A clip as float32, or the reason why it cannot be used.

    Raises:
        ValueError: not one-dimensional, not 16 kHz, empty, longer than 30 s, or not finite.
    """
    if audio.ndim != 1:
        raise ValueError(f"audio has shape {audio.shape}: give one channel, shape (samples,)")
    if rate != SAMPLE_RATE:
        raise ValueError(f"audio has {rate} Hz: resample it to {SAMPLE_RATE} Hz (audio.resample)")
    if audio.size == 0:
        raise ValueError("audio is empty: give at least one sample")
    if audio.size > MAX_SECONDS * SAMPLE_RATE:
        raise ValueError(
            f"audio lasts {audio.size / SAMPLE_RATE:.1f} s: at most {MAX_SECONDS:.0f} s, cut it"
        )
    if not np.isfinite(audio).all():
        raise ValueError("audio holds NaN or infinity: export it again")
    return np.ascontiguousarray(audio, dtype=np.float32)


def resample(audio: Sound, rate: int, wanted: int = SAMPLE_RATE) -> Float[np.ndarray, " resampled"]:
    """Another sample rate, by scipy's polyphase filter.

    >>> resample(np.zeros(80), 8_000).shape
    (160,)

    Raises:
        ValueError: a rate is not positive.
    """
    if rate <= 0 or wanted <= 0:
        raise ValueError(f"sample rates must be positive, got {rate} and {wanted}")
    if rate == wanted:
        return np.asarray(audio, dtype=np.float32)
    from scipy.signal import resample_poly

    divisor = np.gcd(rate, wanted)
    return resample_poly(audio, wanted // divisor, rate // divisor).astype(np.float32)


def read_wav(data: bytes, filename: str = "sound.wav") -> tuple[Sound, str]:
    """A WAV file of a person's: one channel, 16 kHz, and a note that says what was changed.

    Raises:
        UploadError: no PCM WAV file, damaged, empty, or longer than 30 s.
    """
    if not data.startswith(b"RIFF"):
        raise UploadError(f"{filename} is no WAV file: save it as WAV, 16-bit PCM")
    try:
        with wave.open(io.BytesIO(data)) as file:
            channels, width = file.getnchannels(), file.getsampwidth()
            rate, count = file.getframerate(), file.getnframes()
            if rate and count / rate > MAX_SECONDS:
                raise UploadError(
                    f"{filename} lasts {count / rate:.1f} s: at most {MAX_SECONDS:.0f} s, cut it"
                )
            raw = file.readframes(count)
    except (wave.Error, EOFError, RuntimeError) as error:
        raise UploadError(
            f"{filename} cannot be read ({error}): save it as WAV, 16-bit PCM"
        ) from None
    values = _pcm(raw, width, filename)[: count * channels]
    if values.size < channels or rate <= 0:
        raise UploadError(f"{filename} is empty: record at least a word")
    mono = values[: values.size // channels * channels].reshape(-1, channels).mean(axis=1)
    changed = [f"{channels} channels averaged"] if channels > 1 else []
    if rate != SAMPLE_RATE:
        changed.append(f"resampled from {rate} to {SAMPLE_RATE} Hz")
    return resample(mono, rate), ", ".join(changed) or "used as it is"


def _pcm(raw: bytes, width: int, filename: str) -> Sound:
    raw = raw[: len(raw) // width * width]
    if width == 1:
        return (np.frombuffer(raw, np.uint8).astype(np.float32) - 128) / 128
    if width == 2:
        return np.frombuffer(raw, "<i2").astype(np.float32) / 2**15
    if width == 3:
        low = np.frombuffer(raw, np.uint8).reshape(-1, 3).astype(np.int32)
        values = (low[:, 0] << 8) | (low[:, 1] << 16) | (low[:, 2] << 24)
        return values.astype(np.float32) / 2**31
    if width == 4:
        return np.frombuffer(raw, "<i4").astype(np.float32) / 2**31
    raise UploadError(f"{filename} has samples of {width} bytes: save it as WAV, 16-bit PCM")


def trim(audio: Sound, *, quiet: float = 0.02, margin: int = 320) -> Float[np.ndarray, " trimmed"]:
    """Without the silence at both ends: what stays below ``quiet`` of the loudest sample."""
    loud = np.flatnonzero(np.abs(audio) > quiet * np.abs(audio).max())
    return audio[max(loud[0] - margin, 0) : loud[-1] + margin] if loud.size else audio


def compand(audio: Sound) -> UInt8[np.ndarray, " samples"]:
    """Mu-law: a byte a sample, as telephones do (ITU-T G.711's curve)."""
    clipped = np.clip(audio, -1, 1)
    curve = np.sign(clipped) * np.log1p(_MU * np.abs(clipped)) / np.log1p(_MU)
    return np.round((curve + 1) * 127.5).astype(np.uint8)


def expand(codes: UInt8[np.ndarray, " samples"]) -> Sound:
    """The inverse of :func:`compand`.

    >>> bool(np.allclose(expand(compand(np.array([0.5, -0.01]))), [0.5, -0.01], rtol=0.05))
    True
    """
    curve = codes.astype(np.float32) / 127.5 - 1
    return np.sign(curve) * (np.power(1 + _MU, np.abs(curve)) - 1) / _MU


def to_wav(audio: Sound, rate: int = SAMPLE_RATE) -> bytes:
    """A 16-bit WAV file, for players."""
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((np.clip(audio, -1, 1) * 32767).astype("<i2").tobytes())
    return out.getvalue()
