"""Fetching: the look-up order, what is verified and mended, and what ends in which error."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from labcore import assets
from labcore.assets import store
from tests.assets.conftest import CONTENT, NAMES, Client, Demo, leftovers, make_tgz, make_zip, read


@pytest.mark.parametrize("kind", ["pypi", "npm", "file"])
def test_a_package_is_fetched_once(
    kind: str, demo: Demo, client: Client, wheel: Path, tarball: Path, cache: Path
) -> None:
    client.plan(wheel if kind == "pypi" else tarball)
    registry = demo(kind, str(wheel) if kind == "file" else "demo")
    assert assets.status("demo", assets=registry) == "missing"
    paths = assets.fetch("demo", assets=registry)
    assert read(paths) == NAMES
    assert assets.status("demo", assets=registry) == "ready"
    assert all(paths.root in path.parents for path in paths.values())
    digest = registry["demo"].files[0].sha256
    assert paths["one.bin"] == cache / "assets" / digest[:2] / digest / "one.bin"
    calls = len(client.calls)
    assert calls == (kind != "file")
    start = time.perf_counter()
    assert assets.fetch("demo", assets=registry) == paths
    assert time.perf_counter() - start < 0.05
    assert len(client.calls) == calls
    assert leftovers(cache) == []


def test_the_clients_are_asked_for_an_archive_only(
    demo: Demo, client: Client, wheel: Path, tarball: Path
) -> None:
    client.plan(wheel)
    assets.fetch("demo", assets=demo("pypi"))
    shutil.rmtree(assets.assets_root())
    client.plan(tarball)
    assets.fetch("demo", assets=demo("npm", "@demo/data"))
    pip, npm = client.calls
    assert pip.startswith("download --no-deps --only-binary=:all:")
    assert pip.endswith(" demo==1.0")
    assert npm.startswith("pack @demo/data@1.0 --json --ignore-scripts")


def test_a_second_call_opens_no_file_of_the_asset(
    demo: Demo, client: Client, wheel: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.plan(wheel)
    registry = demo()
    assets.fetch("demo", assets=registry)
    hashed: list[Path] = []
    monkeypatch.setattr(store, "hash_file", lambda path: hashed.append(path) or "")
    assets.fetch("demo", assets=registry)
    assert hashed == []


def test_progress_ends_at_the_whole(demo: Demo, client: Client, wheel: Path) -> None:
    client.plan(wheel, delay=0.5)
    seen: list[tuple[int, int]] = []
    registry = demo(extra="download_bytes = 4321\n")
    assets.fetch("demo", assets=registry, progress=lambda done, total: seen.append((done, total)))
    assert len(seen) >= 2
    assert seen[-1] == (4321, 4321)
    assert all(total == 4321 for _, total in seen)
    assert seen == sorted(seen)


def test_cancelling_ends_the_client(demo: Demo, client: Client, wheel: Path, cache: Path) -> None:
    client.plan(wheel, delay=60)

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    start = time.perf_counter()
    with pytest.raises(KeyboardInterrupt):
        assets.fetch("demo", assets=demo(), progress=stop)
    assert time.perf_counter() - start < 20
    assert leftovers(cache) == []


# Verification and repair.


def test_a_flipped_byte_is_found_and_mended(demo: Demo, client: Client, wheel: Path) -> None:
    client.plan(wheel)
    registry = demo()
    path = assets.fetch("demo", assets=registry)["one.bin"]
    before = path.stat()
    flipped = bytearray(path.read_bytes())
    flipped[100] ^= 1
    path.write_bytes(flipped)
    assert assets.status("demo", assets=registry) == "corrupt"
    assert read(assets.fetch("demo", assets=registry)) == NAMES
    assert len(client.calls) == 2
    # Damage that keeps size and time is found when asked to look.
    path.write_bytes(flipped)
    os.utime(path, ns=(before.st_atime_ns, path.stat().st_mtime_ns))
    assets.status("demo", assets=registry)
    stamp = path.stat().st_mtime_ns
    path.write_bytes(NAMES["one.bin"])
    os.utime(path, ns=(stamp, stamp))
    assert assets.status("demo", assets=registry) == "corrupt"
    assert read(assets.fetch("demo", assets=registry, verify=True)) == NAMES
    assert len(client.calls) == 2


def test_silent_damage_is_found_by_verify(demo: Demo, client: Client, wheel: Path) -> None:
    client.plan(wheel)
    registry = demo()
    path = assets.fetch("demo", assets=registry)["one.bin"]
    stamp = path.stat().st_mtime_ns
    path.write_bytes(bytes(len(NAMES["one.bin"])))
    os.utime(path, ns=(stamp, stamp))
    assert assets.status("demo", assets=registry) == "ready", "size and time are trusted"
    assert read(assets.fetch("demo", assets=registry, verify=True)) == NAMES


def test_a_truncated_file_is_mended(demo: Demo, client: Client, wheel: Path) -> None:
    client.plan(wheel)
    registry = demo()
    path = assets.fetch("demo", assets=registry)["two.txt"]
    path.write_bytes(NAMES["two.txt"][:-1])
    assert assets.status("demo", assets=registry) == "corrupt"
    assert read(assets.fetch("demo", assets=registry)) == NAMES


def test_only_what_is_missing_is_taken(demo: Demo, client: Client, wheel: Path) -> None:
    client.plan(wheel)
    registry = demo()
    paths = assets.fetch("demo", assets=registry)
    inode = paths["two.txt"].stat().st_ino
    paths["one.bin"].unlink()
    assert read(assets.fetch("demo", assets=registry)) == NAMES
    assert paths["two.txt"].stat().st_ino == inode


@pytest.mark.parametrize(
    "change",
    [lambda b: b"x" + b[1:], lambda b: b[:-1], lambda b: b + b"x"],
    ids=["other", "shorter", "longer"],
)
def test_wrong_bytes_are_never_kept(
    change: Callable[[bytes], bytes], demo: Demo, client: Client, tmp_path: Path, cache: Path
) -> None:
    members = CONTENT | {"pkg/data/two.txt": change(CONTENT["pkg/data/two.txt"])}
    client.plan(make_zip(tmp_path / "demo.whl", members))
    registry = demo()
    with pytest.raises(assets.AssetCorrupt, match="pkg/data/two.txt"):
        assets.fetch("demo", assets=registry)
    assert assets.status("demo", assets=registry) == "missing"
    assert [path for path in cache.rglob("*") if path.name in NAMES] == []
    assert leftovers(cache) == []


def test_a_failed_repair_keeps_what_was_there(
    demo: Demo, client: Client, wheel: Path, tmp_path: Path
) -> None:
    client.plan(wheel)
    registry = demo()
    path = assets.fetch("demo", assets=registry)["one.bin"]
    path.write_bytes(b"damaged")
    client.plan(make_zip(tmp_path / "bad.whl", dict.fromkeys(CONTENT, b"wrong")))
    with pytest.raises(assets.AssetCorrupt):
        assets.fetch("demo", assets=registry)
    assert path.read_bytes() == b"damaged"


# No network, unknown names, a full disk.


def test_offline_says_what_to_do(
    demo: Demo, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = demo()
    with pytest.raises(assets.AssetOffline, match="`lab fetch demo`.*put one.bin at /") as error:
        assets.fetch("demo", assets=registry, offline=True)
    assert "\n" not in str(error.value)
    monkeypatch.setenv("LAB_OFFLINE", "1")
    with pytest.raises(assets.AssetOffline):
        assets.fetch("demo", assets=registry)
    assert client.calls == []


def test_the_manual_path_works(demo: Demo, client: Client) -> None:
    registry = demo()
    for file in registry["demo"].files:
        path = assets.assets_root() / file.key
        path.parent.mkdir(parents=True)
        path.write_bytes(NAMES[file.save_as])
    assert read(assets.fetch("demo", assets=registry, offline=True)) == NAMES


def test_offline_can_be_overruled(
    demo: Demo, client: Client, wheel: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.plan(wheel)
    monkeypatch.setenv("LAB_OFFLINE", "1")
    assert read(assets.fetch("demo", assets=demo(), offline=False)) == NAMES


def test_unknown_names_come_with_the_nearest() -> None:
    with pytest.raises(assets.UnknownAsset, match="'mnis'; did you mean mnist"):
        assets.fetch("mnis")
    with pytest.raises(assets.UnknownAsset, match="`lab assets` lists all"):
        assets.status("zzzzzz")


def test_there_is_no_larger_form(demo: Demo) -> None:
    with pytest.raises(assets.AssetSourceError, match="no larger alternative"):
        assets.fetch("demo", assets=demo(), full=True)


def test_importing_is_quick_and_light() -> None:
    code = (
        "import sys, time; start = time.process_time(); import labcore.assets; "
        "print(time.process_time() - start); "
        "print([m for m in ('torch', 'pooch', 'requests', 'huggingface_hub', 'numpy', 'plotly') "
        "if m in sys.modules])"
    )
    runs = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        for _ in range(3)
    ]
    assert {run.stdout.splitlines()[1] for run in runs} == {"[]"}
    assert min(float(run.stdout.splitlines()[0]) for run in runs) < 0.1


def test_the_table_has_a_row_for_each_asset(demo: Demo, tmp_path: Path) -> None:
    rows = assets.table()
    assert [row["name"] for row in rows] == list(assets.registry())
    for row in rows:
        # a package that some test environment has installed is read in place
        assert row["state"] == "missing" or "site-packages" in row["path"]
        assert row["size"] > 0
        assert all(row[key] for key in ("licence", "data_licence", "source", "path", "about"))
    assert assets.table(demo())[0]["size"] == sum(map(len, CONTENT.values()))


def test_a_tarball_serves_as_well(demo: Demo, tmp_path: Path) -> None:
    package = make_tgz(tmp_path / "own.tgz", CONTENT)
    assert read(assets.fetch("demo", assets=demo("file", str(package)))) == NAMES
    (tmp_path / "folder/pkg/data").mkdir(parents=True)
    for name, content in CONTENT.items():
        (tmp_path / "folder" / name).write_bytes(content)
    shutil.rmtree(assets.assets_root())
    assert read(assets.fetch("demo", assets=demo("file", str(tmp_path / "folder")))) == NAMES
