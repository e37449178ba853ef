"""Results and progress: round trip, damage, atomic writes."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from labcore import runs


@dataclass(frozen=True)
class Config:
    size: int = 3
    names: tuple[str, ...] = ("a", "b")


def make() -> runs.Result:
    recorder = runs.record("kvcache", Config(), seeds=[0, 1], command="lab run kvcache")
    table = [{"score": "low", "value": 1.5}, {"score": "high", "value": float("inf")}]
    return recorder.result(arrays={"x": np.arange(6.0).reshape(2, 3)}, tables={"scores": table})


def test_round_trip_keeps_everything(tmp_path: Path) -> None:
    saved = make()
    loaded = runs.Result.load(saved.save(tmp_path / "a" / "r.npz"))
    assert loaded.provenance == saved.provenance
    assert loaded.tables == saved.tables
    assert loaded.config == {"size": 3, "names": ["a", "b"]}
    np.testing.assert_array_equal(loaded.arrays["x"], saved.arrays["x"])
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["r.npz"]


def test_provenance_tells_how_to_repeat() -> None:
    made = make().provenance
    assert made.seeds == (0, 1)
    assert made.command == "lab run kvcache"
    assert made.versions["numpy"] == np.__version__
    assert made.seconds >= 0


@pytest.mark.parametrize("cut", [0, 10, 200, -1])
def test_damaged_file_is_named(tmp_path: Path, cut: int) -> None:
    path = make().save(tmp_path / "r.npz")
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(runs.ResultError, match=r"r\.npz is damaged"):
        runs.Result.load(path)


def test_pickle_in_a_result_is_refused_and_does_not_run(tmp_path: Path) -> None:
    trap = tmp_path / "ran"

    class Payload:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (trap,))  # type: ignore[return-value]

    meta = np.array([Payload()], dtype=object)
    np.savez(tmp_path / "r.npz", meta=meta, allow_pickle=True)
    with pytest.raises(runs.ResultError):
        runs.Result.load(tmp_path / "r.npz")
    assert not trap.exists()


def test_where_filters_and_names_the_tables() -> None:
    result = make()
    assert result.where("scores", score="low") == [{"score": "low", "value": 1.5}]
    with pytest.raises(ValueError, match="scores"):
        result.where("nothing")


def test_replacing_keeps_the_old_file_when_the_block_fails(tmp_path: Path) -> None:
    path = tmp_path / "f.txt"
    path.write_text("old")

    def broken() -> None:
        with runs.replacing(path) as part:
            part.write_text("half")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        broken()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_meta_is_plain_json(tmp_path: Path) -> None:
    path = make().save(tmp_path / "r.npz")
    with np.load(path, allow_pickle=False) as file:
        assert json.loads(bytes(file["meta"]).decode())["topic"] == "kvcache"
