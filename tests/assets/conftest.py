"""A private cache and clients that stand in for pip and npm, so that no test needs a network."""

import hashlib
import io
import json
import os
import stat
import sys
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from labcore.assets import Asset, AssetPaths, load_registry, sources

CONTENT = {"pkg/data/one.bin": b"one" * 5000, "pkg/data/two.txt": b"zwei\n" * 900}

NAMES = {"one.bin": CONTENT["pkg/data/one.bin"], "two.txt": CONTENT["pkg/data/two.txt"]}
Demo = Callable[..., dict[str, Asset]]

FAKE_CLIENT = """
import os, shutil, sys, time
here = os.path.dirname(os.path.abspath(__file__))
with open(os.path.join(here, "calls.txt"), "a") as log:
    log.write(" ".join(sys.argv[1:]) + "\\n")
with open(os.path.join(here, "plan.txt"), encoding="utf-8") as plan:
    code, delay, archive, out, err = plan.read().split("\\0")
time.sleep(float(delay))
flag = "-d" if "-d" in sys.argv else "--pack-destination"
folder = sys.argv[sys.argv.index(flag) + 1]
if archive:
    shutil.copy(archive, folder)
sys.stdout.write(out)
sys.stderr.write(err)
sys.exit(int(code))
"""


def make_zip(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def make_tgz(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def write_registry(path: Path, kind: str, package: str = "demo", extra: str = "") -> Path:
    version = "" if kind == "file" else 'version = "1.0"\n'
    lines = [
        f"[demo]\nkind = {json.dumps(kind)}\npackage = {json.dumps(package)}\n{version}"
        f'license = "MIT"\nabout = "for tests"\n{extra}'
    ]
    for member, content in CONTENT.items():
        digest = hashlib.sha256(content).hexdigest()
        lines.append(
            f'[[demo.files]]\nmember = "{member}"\nbytes = {len(content)}\nsha256 = "{digest}"\n'
        )
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def read(paths: AssetPaths) -> dict[str, bytes]:
    """The content of each file of an asset."""
    return {name: path.read_bytes() for name, path in paths.items()}


def leftovers(cache: Path) -> list[Path]:
    """Files in the cache that are neither an asset nor a note of ours."""
    kept = (".verified", ".locks")
    found = [path for path in cache.rglob("*") if path.is_file()]
    return [
        path for path in found if path.name not in NAMES and not set(kept) & set(path.parts[-3:])
    ]


@dataclass
class Client:
    """A stand-in for pip or npm: what it will deliver, and what it was asked."""

    folder: Path

    def plan(
        self, archive: Path | None = None, code: int = 0, delay: float = 0, out: str = "", err=""
    ) -> None:
        fields = (str(code), str(delay), str(archive or ""), out, err)
        (self.folder / "plan.txt").write_text("\0".join(fields), encoding="utf-8")

    @property
    def script(self) -> Path:
        return self.folder / "client.py"

    @property
    def calls(self) -> list[str]:
        log = self.folder / "calls.txt"
        return log.read_text().splitlines() if log.exists() else []


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Path:
    """An empty cache of its own for each test; tests with real assets keep the user's."""
    for name in ("LAB_ASSETS", "LAB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "cache"
    if request.node.get_closest_marker("assets") is None:
        monkeypatch.setenv("LAB_CACHE", str(folder))
    return folder


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Client:
    """pip and npm are this stand-in; it delivers nothing until told what."""
    folder = tmp_path / "client"
    folder.mkdir()
    made = Client(folder)
    made.script.write_text(FAKE_CLIENT)
    made.plan(code=1, err="nothing planned")
    npm = folder / "npm"
    npm.write_text(f"#!/bin/sh\nexec '{sys.executable}' -S '{made.script}' \"$@\"\n")
    npm.chmod(npm.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    monkeypatch.setattr(sources, "pip_command", lambda: [sys.executable, "-S", str(made.script)])
    return made


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    return make_zip(tmp_path / "demo-1.0-py3-none-any.whl", {"pkg/__init__.py": b""} | CONTENT)


@pytest.fixture
def tarball(tmp_path: Path) -> Path:
    return make_tgz(tmp_path / "demo-1.0.tgz", {"pkg/package.json": b"{}"} | CONTENT)


@pytest.fixture
def demo(tmp_path: Path) -> Callable[..., dict[str, Asset]]:
    """A registry with one asset ``demo`` of the wanted kind."""

    def build(kind: str = "pypi", package: str = "demo", extra: str = "") -> dict[str, Asset]:
        return dict(load_registry(write_registry(tmp_path / f"{kind}.toml", kind, package, extra)))

    return build
