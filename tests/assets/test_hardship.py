"""A disk that is full, a folder that cannot be made, a process that is killed or not alone."""

import errno
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from labcore import assets
from labcore.assets import archive, store
from tests.assets.conftest import CONTENT, NAMES, Client, Demo, leftovers, make_zip, read


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


@pytest.mark.parametrize(
    ("ballast", "message"), [(82_000, "disk is full at"), (200_000, "found the disk full")]
)
def test_a_really_full_disk(
    ballast: int,
    message: str,
    demo: Demo,
    client: Client,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A tiny disk in memory, filled by us or by the client; only root may make one."""
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=96k", "tmpfs", str(small)]
    if os.geteuid() or not shutil.which("mount") or subprocess.run(mount, check=False).returncode:
        pytest.skip("this user cannot mount a small disk")
    try:
        monkeypatch.setenv("LAB_CACHE", str(small))
        monkeypatch.setattr(store, "require_space", lambda needed: None)
        members = CONTENT | {"pkg/ballast": os.urandom(ballast)}
        client.plan(make_zip(tmp_path / "demo.whl", members))
        with pytest.raises(assets.AssetStorageError, match=message):
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
