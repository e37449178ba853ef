"""Where a file may come from, and in which order."""

import sys
from pathlib import Path

import pytest

from labcore import assets
from tests.assets.conftest import CONTENT, NAMES, Client, Demo, read


def test_a_given_folder_comes_first(
    demo: Demo, client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    given = tmp_path / "given"
    (given / "demo").mkdir(parents=True)
    (given / "demo" / "one.bin").write_bytes(NAMES["one.bin"])
    (given / "two.txt").write_bytes(NAMES["two.txt"])
    monkeypatch.setenv("LAB_ASSETS", str(given))
    paths = assets.fetch("demo", assets=demo(), offline=True)
    assert dict(paths) == {"one.bin": given / "demo" / "one.bin", "two.txt": given / "two.txt"}
    assert client.calls == []
    assert not list((cache / "assets").glob("??/*"))


def test_a_wrong_given_file_is_named_and_left_alone(
    demo: Demo, client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "one.bin").write_bytes(b"mine")
    monkeypatch.setenv("LAB_ASSETS", str(tmp_path))
    registry = demo()
    assert assets.status("demo", assets=registry) == "corrupt"
    with pytest.raises(assets.AssetCorrupt, match="one.bin is not the registered.*LAB_ASSETS"):
        assets.fetch("demo", assets=registry)
    assert (tmp_path / "one.bin").read_bytes() == b"mine"
    assert client.calls == []


def install(folder: Path, version: str, members: dict[str, bytes]) -> None:
    """What pip leaves of a package in site-packages."""
    for name, content in members.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    info = folder / f"demo-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: demo\nVersion: {version}\n")
    (info / "RECORD").write_text("".join(f"{name},,\n" for name in members))


def test_an_installed_package_is_read_in_place_and_not_imported(
    demo: Demo, client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = tmp_path / "site"
    install(site, "1.0", {"pkg/__init__.py": b"raise SystemExit('imported')"} | CONTENT)
    monkeypatch.syspath_prepend(str(site))
    paths = assets.fetch("demo", assets=demo(), offline=True)
    assert paths["one.bin"] == site / "pkg/data/one.bin"
    assert client.calls == []
    assert "pkg" not in sys.modules


@pytest.mark.parametrize(
    ("version", "content"), [("2.0", CONTENT), ("1.0", dict.fromkeys(CONTENT, b"other"))]
)
def test_another_installed_package_is_passed_over(
    version: str,
    content: dict[str, bytes],
    demo: Demo,
    client: Client,
    wheel: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    install(tmp_path / "site", version, content)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    client.plan(wheel)
    paths = assets.fetch("demo", assets=demo())
    assert read(paths) == NAMES
    assert len(client.calls) == 1
