"""Conversion: keyed by its inputs, mended when damaged, and the inputs are let go."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from labcore import assets
from labcore.assets import Asset, AssetFile, convert
from labcore.assets.catalogue import Conversion
from tests.assets.conftest import Client, make_tgz


def clothes(seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {f"{k}.json": rng.integers(0, 256, (3 + k % 2, 784)) for k in range(10)}


def as_json(rows: np.ndarray, holes: bool) -> bytes:
    listed = rows.tolist()
    return json.dumps({"data": [*listed[:1], [], *listed[1:], []] if holes else listed}).encode()


def build(path: Path, seed: int = 0) -> tuple[dict[str, Asset], Path]:
    raw = {name: as_json(rows, name == "0.json") for name, rows in clothes(seed).items()}
    files = tuple(
        AssetFile(f"package/{name}", name, len(data), hashlib.sha256(data).hexdigest())
        for name, data in raw.items()
    )
    step = Conversion("fashion_json_to_npz", "small.npz")
    asset = Asset("demo", "npm", "demo", "1.0", "MIT", "MIT", "x", files, convert=step)
    archive = make_tgz(path / f"{seed}.tgz", {f"package/{name}": d for name, d in raw.items()})
    return {"demo": asset}, archive


def test_the_arrays_are_those_of_the_json(tmp_path: Path, client: Client, cache: Path) -> None:
    registry, archive = build(tmp_path)
    client.plan(archive)
    assert assets.status("demo", assets=registry) == "missing"
    paths = assets.fetch("demo", assets=registry)
    assert list(paths) == ["small.npz"]
    with np.load(paths["small.npz"]) as data:
        wanted = np.concatenate(list(clothes().values())).reshape(-1, 28, 28)
        assert np.array_equal(data["images"], wanted)
        assert data["images"].dtype == np.uint8
        counts = [len(rows) for rows in clothes().values()]
        assert np.array_equal(data["labels"], np.repeat(np.arange(10), counts))
        assert np.array_equal(data["rows"], np.concatenate([np.arange(n) for n in counts]))
    assert not [path for path in cache.rglob("?.json") if ".verified" not in path.parts]
    assert assets.fetch("demo", assets=registry, offline=True) == paths
    assert assets.table(registry)[0]["path"] == str(paths["small.npz"])
    assert len(client.calls) == 1


def test_other_inputs_are_another_file(tmp_path: Path) -> None:
    first, _ = build(tmp_path)
    second, _ = build(tmp_path, seed=1)
    assert convert.target(first["demo"]) != convert.target(second["demo"])
    assert convert.target(first["demo"]) == convert.target(build(tmp_path)[0]["demo"])


def test_a_damaged_result_is_made_again(tmp_path: Path, client: Client) -> None:
    registry, archive = build(tmp_path)
    client.plan(archive)
    path = assets.fetch("demo", assets=registry)["small.npz"]
    good = path.read_bytes()
    path.write_bytes(good[:-1])
    assert assets.status("demo", assets=registry) == "corrupt"
    assert assets.fetch("demo", assets=registry)["small.npz"].read_bytes() == good


def test_a_failed_conversion_leaves_nothing(
    tmp_path: Path, client: Client, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    registry, archive = build(tmp_path)
    client.plan(archive)

    def stop(*args: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(np, "savez_compressed", stop)
    with pytest.raises(KeyboardInterrupt):
        assets.fetch("demo", assets=registry)
    assert not list(cache.rglob("small.npz*"))
    assert assets.status("demo", assets=registry) == "missing"


@pytest.mark.parametrize(
    "content", [b"{", b"[]", b'{"data": 3}', json.dumps({"data": [[300] * 784]}).encode()]
)
def test_inputs_of_another_form(content: bytes, tmp_path: Path) -> None:
    paths = {}
    for k in range(10):
        paths[f"{k}.json"] = tmp_path / f"{k}.json"
        paths[f"{k}.json"].write_bytes(content)
    with pytest.raises(assets.AssetCorrupt, match=r"0\.json"):
        convert.fashion_json_to_npz(paths, tmp_path / "out.npz")
    assert not (tmp_path / "out.npz").exists()


def test_an_unknown_step_is_named(tmp_path: Path) -> None:
    from dataclasses import replace

    asset = replace(build(tmp_path)[0]["demo"], convert=Conversion("melt", "x.npz"))
    with pytest.raises(assets.BadRegistry, match="'melt'; known are fashion_json_to_npz"):
        assets.fetch("demo", assets={"demo": asset})
