"""The set-up's decisions about torch, and the launcher's failures, without a network."""

import os
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from labcore import bootstrap


@pytest.fixture
def constraints(tmp_path: Path) -> Path:
    path = tmp_path / "constraints.txt"
    path.write_text("numpy==2.4.6\ntorch==2.13.0\n")
    return path


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Record the commands; every one of them succeeds."""
    made: list[list[str]] = []

    def fake(command: list[str], *, quiet: bool = False) -> subprocess.CompletedProcess[str]:
        made.append(command)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(bootstrap, "run", fake)
    monkeypatch.setattr(bootstrap, "registry_build_is_cpu", lambda: False)
    return made


def install(monkeypatch: pytest.MonkeyPatch, constraints: Path, **have: object) -> None:
    monkeypatch.setattr(bootstrap, "installed_torch", lambda python: have.get("torch", ""))
    monkeypatch.setattr(bootstrap, "pip_sees_cpu_build", lambda *a: have.get("wheel", False))
    uv = "uv" if have.get("uv") else None
    bootstrap.install_torch(Path("python"), uv, constraints, cuda=bool(have.get("cuda")))


def test_pins_are_read(constraints: Path) -> None:
    assert bootstrap.pinned("torch", constraints) == "torch==2.13.0"
    with pytest.raises(bootstrap.SetupError, match="no line for plotly"):
        bootstrap.pinned("plotly", constraints)


def test_an_installed_torch_is_kept(
    monkeypatch: pytest.MonkeyPatch, constraints: Path, calls: list[list[str]]
) -> None:
    install(monkeypatch, constraints, torch="2.13.0+cpu")
    assert calls == []


def test_a_local_cpu_wheel_comes_before_uv(
    monkeypatch: pytest.MonkeyPatch, constraints: Path, calls: list[list[str]]
) -> None:
    install(monkeypatch, constraints, wheel=True, uv=True)
    assert calls[0][:4] == ["python", "-m", "pip", "install"]
    assert len(calls) == 1


def test_uv_is_asked_for_a_cpu_build(
    monkeypatch: pytest.MonkeyPatch, constraints: Path, calls: list[list[str]]
) -> None:
    install(monkeypatch, constraints, uv=True)
    assert "--torch-backend=cpu" in calls[0]


def test_an_index_of_the_user_is_used_for_torch_alone(
    monkeypatch: pytest.MonkeyPatch, constraints: Path, calls: list[list[str]]
) -> None:
    monkeypatch.setenv("LAB_TORCH_INDEX", "file:///wheels")
    install(monkeypatch, constraints)
    assert calls[0][-3:] == ["--index-url", "file:///wheels", "torch==2.13.0"]


def test_cuda_is_never_taken_unasked(
    monkeypatch: pytest.MonkeyPatch, constraints: Path, calls: list[list[str]]
) -> None:
    monkeypatch.delenv("LAB_TORCH_INDEX", raising=False)
    with pytest.raises(bootstrap.SetupError, match=r"6\.5 GB installed"):
        install(monkeypatch, constraints)
    assert calls == []
    install(monkeypatch, constraints, cuda=True)
    assert len(calls) == 1


def test_a_second_set_up_waits_for_the_first_and_does_nothing_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder, made = tmp_path / "venv", []

    def make(folder: Path, stamp: str, *, cuda: bool) -> None:
        made.append(stamp)
        time.sleep(0.3)
        folder.mkdir(exist_ok=True)
        (folder / ".lab-stamp").write_text(stamp + "\n")

    monkeypatch.setattr(bootstrap, "make", make)
    call = ["--venv", str(folder), "--stamp", "1 2"]
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(bootstrap.main, [call, call])) == [0, 0]
    assert made == ["1 2"]
    assert bootstrap.main(call) == 0
    assert len(made) == 2  # asked for alone, a set-up is done again


def test_constraints_hold_no_address_and_no_cuda(root: Path) -> None:
    lines = (root / "constraints.txt").read_text().splitlines()
    assert "torch==2.13.0" in lines
    for line in lines:
        assert line.count("==") == 1, line
        assert not line.startswith(("nvidia-", "cuda-", "triton"))
        assert "://" not in line


def test_launcher_without_a_suitable_python_says_what_it_needs(root: Path, tmp_path: Path) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("sh", "cat", "cksum", "dirname"):
        tools.joinpath(name).symlink_to(f"/usr/bin/{name}" if name != "sh" else "/bin/sh")
    env = {"PATH": str(tools), "LAB_VENV": str(tmp_path / "venv"), "HOME": os.environ["HOME"]}
    done = subprocess.run(
        ["/bin/sh", str(root / "lab"), "doctor"], env=env, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "needs Python 3.11, 3.12 or 3.13" in done.stderr
    assert len(done.stderr.splitlines()) == 1
