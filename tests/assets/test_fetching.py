"""Fetching: the look-up order, what is verified and mended, and what ends in which error."""

import errno
import importlib.metadata
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from labcore import assets
from labcore.assets import Asset, archive, store
from tests.assets.conftest import CONTENT, Client, make_tgz, make_zip

Demo = Callable[..., dict[str, Asset]]
NAMES = {"one.bin": CONTENT["pkg/data/one.bin"], "two.txt": CONTENT["pkg/data/two.txt"]}


def read(paths: assets.AssetPaths) -> dict[str, bytes]:
    return {name: path.read_bytes() for name, path in paths.items()}


def leftovers(cache: Path) -> list[Path]:
    """Files in the cache that are neither an asset nor a note of ours."""
    kept = (".verified", ".locks")
    found = [path for path in cache.rglob("*") if path.is_file()]
    return [
        path for path in found if path.name not in NAMES and not set(kept) & set(path.parts[-3:])
    ]


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


# Where a file may come from, in this order.


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
    importlib.metadata.MetadataPathFinder.invalidate_caches()
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


def test_a_disk_too_small_is_said_before_the_download(
    demo: Demo, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 9, 1))
    with pytest.raises(assets.AssetStorageError, match="0 MB are free; .*LAB_CACHE"):
        assets.fetch("demo", assets=demo())
    assert client.calls == []


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_disk_that_fills_up_while_writing(
    code: int, demo: Demo, client: Client, wheel: Path, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    def full(handle: int) -> None:
        raise OSError(code, os.strerror(code), "somewhere")

    client.plan(wheel)
    monkeypatch.setattr(archive.os, "fsync", full)
    with pytest.raises(assets.AssetStorageError, match="disk is full at somewhere; free"):
        assets.fetch("demo", assets=demo())
    assert [path for path in cache.rglob("*") if path.name in NAMES] == []
    assert leftovers(cache) == []


def test_a_really_full_disk(
    demo: Demo, client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tiny disk in memory; only root may make one."""
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=96k", "tmpfs", str(small)]
    if os.geteuid() or not shutil.which("mount") or subprocess.run(mount, check=False).returncode:
        pytest.skip("this user cannot mount a small disk")
    try:
        monkeypatch.setenv("LAB_CACHE", str(small))
        monkeypatch.setattr(store, "require_space", lambda needed: None)
        ballast = {f"pkg/{i}": os.urandom(30_000) for i in range(2)}
        client.plan(make_zip(tmp_path / "demo.whl", CONTENT | ballast))
        with pytest.raises(assets.AssetError, match="full"):
            assets.fetch("demo", assets=demo())
        assert [path for path in small.rglob("*") if path.name in NAMES] == []
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_a_cache_that_cannot_be_made(
    demo: Demo, client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "taken").write_text("a file")
    monkeypatch.setenv("LAB_CACHE", str(tmp_path / "taken" / "cache"))
    registry = demo()
    assert assets.status("demo", assets=registry) == "missing"
    with pytest.raises(assets.AssetStorageError, match="cannot write to .*taken.*set LAB_CACHE"):
        assets.fetch("demo", assets=registry)


# Other processes.

RUN = """
import sys
from labcore import assets
from labcore.assets import sources
sources.pip_command = lambda: [sys.executable, "-S", {script!r}]
print(sorted(assets.fetch("demo", assets=assets.load_registry({registry!r}))))
"""


def start(client: Client, registry: Path, patch: str = "") -> subprocess.Popen[str]:
    code = patch + RUN.format(script=str(client.script), registry=str(registry))
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)


def test_two_processes_share_one_download(
    demo: Demo, client: Client, wheel: Path, tmp_path: Path
) -> None:
    client.plan(wheel, delay=1.5)
    demo()
    both = [start(client, tmp_path / "pypi.toml") for _ in range(2)]
    for process in both:
        out, _ = process.communicate(timeout=60)
        assert out.strip() == "['one.bin', 'two.txt']"
        assert process.returncode == 0
    assert len(client.calls) == 1


HALF = """
import os, time
from labcore.assets import archive
real = os.fsync
def half(handle):
    print("writing", flush=True)
    time.sleep(60)
archive.os.fsync = half
"""


def test_a_killed_process_leaves_no_file_under_a_final_name(
    demo: Demo, client: Client, wheel: Path, tmp_path: Path, cache: Path
) -> None:
    client.plan(wheel)
    registry = demo()
    process = start(client, tmp_path / "pypi.toml", HALF)
    assert process.stdout is not None
    assert process.stdout.readline().strip() == "writing"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert [path for path in cache.rglob("*") if path.name in NAMES] == []
    assert list(cache.rglob("*.part")), "the process was not in the middle of writing"
    assert assets.status("demo", assets=registry) == "missing"
    assert read(assets.fetch("demo", assets=registry)) == NAMES
    assert leftovers(cache) == []


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
        assert row["state"] == "missing"
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
