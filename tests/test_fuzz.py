"""No bytes that a person can upload do anything but be read or be refused in a sentence.

The readers of arrays, tables, texts and pictures are fuzzed in test_uploads.py; these are the
readers that topics, results and the course add. Each may raise its own error only, must not run
what it reads, and must not take memory out of proportion.
"""

import io
import json
import tempfile
import tracemalloc
import wave
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save

from labcore.course import submissions
from labcore.koopman.series import read_series
from labcore.merging.upload import merge_uploads
from labcore.runs import Result, ResultError, record
from labcore.speech.audio import read_wav
from labcore.topology.graphs import read_edge_list
from labcore.uploads import UploadError

MOST = 64 * 2**20  # bytes at once, for inputs of a few hundred
Reader = Callable[[bytes], object]


def wav() -> bytes:
    """A tenth of a second of noise."""
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(np.random.default_rng(0).integers(-99, 99, 160, np.int16).tobytes())
    return out.getvalue()


def series() -> bytes:
    """Ten steps of three numbers."""
    return "\n".join("1,2,3" for _ in range(10)).encode()


def tensors() -> bytes:
    """A checkpoint of one matrix."""
    return save({"w": np.ones((3, 4), np.float32)})


def result() -> bytes:
    """A whole result file."""
    clock = record("kvcache", {"n": 1}, seeds=(0,), command="")
    made = clock.result(arrays={"x": np.arange(3)}, tables={"t": [{"a": 1}]})
    with tempfile.TemporaryDirectory() as folder:
        return made.save(Path(folder) / "r.npz").read_bytes()


def notebook() -> bytes:
    """A submitted notebook."""
    cell = {"cell_type": "code", "source": ["# exercise B04.1\n", "x = 1"], "metadata": {}}
    return json.dumps({"cells": [cell], "metadata": {"lab": {"id": "B04"}}}).encode()


@st.composite
def damaged(draw: st.DrawFn, good: bytes) -> bytes:
    """Random bytes, or the good file with bytes changed, cut, or doubled."""
    kind = draw(st.sampled_from(["random", "flip", "cut", "twice"]))
    if kind == "random":
        return good[: draw(st.integers(0, 16))] + draw(st.binary(max_size=120))
    data = bytearray(good)
    for _ in range(draw(st.integers(1, 4))):
        data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    if kind == "cut":
        return bytes(data[: draw(st.integers(0, len(data)))])
    return bytes(data) * (2 if kind == "twice" else 1)


def survives(reader: Reader, data: bytes, *expected: type[Exception]) -> None:
    """Read or refused in words; anything else ends the test."""
    tracemalloc.start()
    try:
        reader(data)
    except expected as error:
        said = str(error).strip()
    else:
        said = "read"
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert said, "a refusal says something"
    assert peak < MOST


quick = settings(max_examples=250, suppress_health_check=[HealthCheck.function_scoped_fixture])


@given(damaged(wav()))
@quick
def test_sound(data: bytes) -> None:
    survives(read_wav, data, UploadError)


@given(damaged(series()))
@quick
def test_series(data: bytes) -> None:
    for name in ("a.csv", "a.npy", "a.npz"):
        survives(lambda d, name=name: read_series(d, name), data, UploadError)


@given(damaged(b"ann bob\nbob,cid\n# note\n1\t2 0.5\n"))
@quick
def test_edges(data: bytes) -> None:
    survives(lambda d: read_edge_list(d.decode("utf-8", "replace")), data, ValueError)


@given(damaged(tensors()))
@quick
def test_checkpoints(data: bytes) -> None:
    good = tensors()

    def merge(d: bytes) -> object:
        return merge_uploads([("a.safetensors", good), ("b.safetensors", d)])

    survives(merge, data, ValueError)


@given(damaged(result()))
@quick
def test_results(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "r.npz"
    path.write_bytes(data)
    survives(lambda _: Result.load(path), data, ResultError)


@given(damaged(notebook()))
@quick
def test_submissions(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "B04_x.ipynb"
    path.write_bytes(data)
    survives(lambda _: submissions.read(path, "ann"), data, submissions.SubmissionError)


def test_the_good_files_are_read(tmp_path: Path) -> None:
    assert len(read_wav(wav())[0]) == 160
    assert read_series(series(), "a.csv").shape == (10, 3)
    assert submissions.MARK.search("# exercise B04.1")
    path = tmp_path / "B04_x.ipynb"
    path.write_bytes(notebook())
    assert submissions.read(path, "ann").answered == {"B04.1"}
    with pytest.raises(UploadError, match="RIFF|WAV"):
        read_wav(b"OggS")
