"""Faults while something is being written: a kill, a full disk, little memory. Nothing is lost.

What a kill does to a fetch stands in tests/assets, to a merge in tests/merging.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from labcore import ledger, runtime
from labcore.course import building, commands
from labcore.grid import run_grid
from labcore.runs import Result, record
from tests import grid_tasks

ROOT = Path(__file__).resolve().parents[1]
GRID = [{"a": a} for a in range(12)]


def killed_when(ready: Callable[[], bool], code: str) -> None:
    """Run Python code in a process of its own and kill it outright once ``ready``."""
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT)
    end = time.monotonic() + 60
    while not ready():
        assert process.poll() is None, "the process ended before it could be killed"
        assert time.monotonic() < end
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    assert process.wait(20) == -signal.SIGKILL


def test_a_killed_grid_resumes_with_the_same_bytes(tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    run_grid(grid_tasks.slowly, GRID, out=whole, n_jobs=1)
    code = (
        "from labcore.grid import run_grid\nfrom tests import grid_tasks\n"
        f"run_grid(grid_tasks.slowly, {GRID!r}, out={str(cut)!r}, n_jobs=1)"
    )
    killed_when(lambda: len(list(cut.glob("*.json"))) >= 3, code)
    finished = len(list(cut.glob("*.json")))
    assert finished < len(GRID)
    steps: list[int] = []
    run_grid(
        grid_tasks.slowly, GRID, out=cut, n_jobs=1, progress=lambda done, *_: steps.append(done)
    )
    assert steps[0] == finished
    files = {path.name for path in whole.iterdir()}
    assert {p.name for p in cut.iterdir() if not p.name.startswith(".")} == files
    for name in files:
        assert (whole / name).read_bytes() == (cut / name).read_bytes()


def test_a_killed_build_leaves_whole_notebooks_and_is_mended(tmp_path: Path) -> None:
    folder = tmp_path / "notebooks"
    shutil.copytree(ROOT / "notebooks" / "src", folder / "src")
    code = (
        "from pathlib import Path\nfrom labcore.course import commands\n"
        f"commands.build_all(Path({str(folder)!r}))"
    )
    killed_when(lambda: len(list(folder.glob("s*/*/*.ipynb"))) >= 5, code)
    import nbformat

    for path in folder.glob("s*/*/*.ipynb"):
        nbformat.validate(nbformat.read(path, as_version=4))
    assert commands.build_all(folder) == []
    assert commands.build_all(folder, check=True) == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 64 kB in memory; only root may make one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    if os.geteuid() or not shutil.which("mount") or subprocess.run(mount, check=False).returncode:
        pytest.skip("this user cannot mount a small disk")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_keeps_the_result_that_was_there(small_disk: Path) -> None:
    clock = record("kvcache", {}, seeds=(0,), command="")
    good = clock.result(arrays={"x": np.arange(4)}, tables={})
    path = good.save(small_disk / "full.npz")
    noise = np.random.default_rng(0).standard_normal(40_000)
    with pytest.raises(OSError, match="No space left"):
        clock.result(arrays={"x": noise}, tables={}).save(path)
    assert Result.load(path).arrays["x"].tolist() == [0, 1, 2, 3]
    assert [p.name for p in small_disk.iterdir()] == ["full.npz"]


def test_a_full_disk_keeps_the_ledger_and_the_notebook(small_disk: Path) -> None:
    path = ledger.keep("kvcache", [], quick=True, folder=small_disk)
    before = path.read_text()
    with pytest.raises(OSError, match="No space left"):
        ledger.keep("kvcache", [{"name": "x" * 100_000}], quick=True, folder=small_disk)
    assert path.read_text() == before
    notebook = small_disk / "a.ipynb"
    building.write_text(notebook, "{}\n")
    with pytest.raises(OSError, match="No space left"):
        building.write_text(notebook, "x" * 100_000)
    assert notebook.read_text() == "{}\n"
    assert sorted(p.name for p in small_disk.iterdir()) == ["a.ipynb", "kvcache.json"]


def test_little_memory_is_told_before_it_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "available_memory", lambda: 2**29)
    (check,) = [c for c in runtime.doctor() if c.name == "memory"]
    assert not check.ok
    assert "0.5 GiB" in check.detail
    assert "close other programs" in check.fix
