"""The clients: each way they fail ends in its own sentence with the next step."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from labcore import assets
from labcore.assets import Asset, sources
from labcore.assets.catalogue import Alternative
from tests.assets.conftest import CONTENT, Client

Demo = Callable[..., dict[str, Asset]]

# What the clients really print (pip 23.2 and npm 11), shortened.
PIP_OFFLINE = (
    "WARNING: Retrying (Retry(total=0)) after connection broken by 'ProxyError('Cannot connect')'\n"
    "ERROR: Could not find a version that satisfies the requirement demo==1.0 "
    "(from versions: none)\nERROR: No matching distribution found for demo==1.0\n"
)
PIP_NO_VERSION = (
    "ERROR: Could not find a version that satisfies the requirement demo==1.0 "
    "(from versions: 0.1, 0.1.1)\nERROR: No matching distribution found for demo==1.0\n"
)
PIP_NO_NAME = PIP_NO_VERSION.replace("0.1, 0.1.1", "none")
PIP_FULL = "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device"


def npm_error(code: str) -> str:
    return json.dumps({"error": {"code": code, "summary": "x"}}, indent=2)


@pytest.mark.parametrize(
    ("err", "kind", "message"),
    [
        (PIP_OFFLINE, assets.AssetOffline, "cannot reach its package index for demo==1.0"),
        (PIP_NO_VERSION, assets.AssetSourceError, "PyPI has no such version: demo==1.0"),
        (PIP_NO_NAME, assets.AssetSourceError, "either the package index cannot be reached or"),
        (PIP_FULL, assets.AssetStorageError, "pip found the disk full"),
        ("No module named pip", assets.AssetSourceError, "-m ensurepip"),
        (
            "strange\nfailure",
            assets.AssetSourceError,
            r"demo==1.0 \(failure\); run `pip --version`",
        ),
        ("", assets.AssetSourceError, "exit code 3"),
    ],
)
def test_pip_failures(
    err: str, kind: type[Exception], message: str, demo: Demo, client: Client
) -> None:
    client.plan(code=3, err=err)
    with pytest.raises(kind, match=message) as error:
        assets.fetch("demo", assets=demo("pypi"))
    assert "\n" not in str(error.value)
    assert not list((assets.assets_root() / ".scratch").iterdir())


@pytest.mark.parametrize(
    ("out", "err", "kind", "message"),
    [
        (npm_error("ETARGET"), "", assets.AssetSourceError, "npm has no such version: demo@1.0"),
        (npm_error("E404"), "", assets.AssetSourceError, "npm has no such version: demo@1.0"),
        (npm_error("ENOTFOUND"), "", assets.AssetOffline, "npm cannot reach its package index"),
        ("", "npm error code ECONNREFUSED", assets.AssetOffline, "npm cannot reach"),
        (npm_error("ENOSPC"), "", assets.AssetStorageError, "npm found the disk full"),
        ("not json", "bad luck", assets.AssetSourceError, r"\(bad luck\); run `npm --version`"),
    ],
)
def test_npm_failures(
    out: str, err: str, kind: type[Exception], message: str, demo: Demo, client: Client
) -> None:
    client.plan(code=1, out=out, err=err)
    with pytest.raises(kind, match=message) as error:
        assets.fetch("demo", assets=demo("npm"))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("kind", ["pypi", "npm"])
def test_a_client_that_leaves_nothing(kind: str, demo: Demo, client: Client) -> None:
    client.plan(code=0)
    with pytest.raises(assets.AssetSourceError, match="left nothing; run it again"):
        assets.fetch("demo", assets=demo(kind))


def test_npm_not_installed(
    demo: Demo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, client: Client
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(assets.AssetSourceError, match=r"npm is not installed; install Node\.js"):
        assets.fetch("demo", assets=demo("npm"))


def test_pip_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert sources.pip_command() == [sys.executable, "-m", "pip"]
    monkeypatch.setattr(sources.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(assets.AssetSourceError, match="pip is not installed.*ensurepip"):
        sources.pip_command()


def test_a_file_that_is_not_there(demo: Demo, tmp_path: Path) -> None:
    with pytest.raises(assets.AssetSourceError, match="does not exist; put the file there"):
        assets.fetch("demo", assets=demo("file", str(tmp_path / "gone.zip")))


# The hub, with a stand-in for its client.


class _Hub:
    """huggingface_hub as far as it is used: records what it is asked, gives a folder or fails."""

    def __init__(self, folder: Path, failure: Exception | None = None):
        self.folder, self.failure, self.asked = folder, failure, []

    def snapshot_download(self, repo: str, **options: object) -> str:
        self.asked.append((repo, options))
        if self.failure is not None:
            raise self.failure
        return str(self.folder)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> _Hub:
    from huggingface_hub import errors

    folder = tmp_path / "snapshot"
    (folder / "pkg/data").mkdir(parents=True)
    for name, content in CONTENT.items():
        (folder / name).write_bytes(content)
    made = _Hub(folder)
    fake = SimpleNamespace(errors=errors, snapshot_download=made.snapshot_download)
    monkeypatch.setitem(sys.modules, "huggingface_hub", fake)
    return made


COMMIT = "0123456789" * 4


def hub_asset(demo: Demo) -> dict[str, Asset]:
    """The demo asset as a repository on the hub, pinned to a commit."""
    from dataclasses import replace

    made = replace(demo("file")["demo"], kind="hub", package="own/er", version=COMMIT)
    return {"demo": replace(made, alternative=Alternative("own/er-large", COMMIT))}


def test_a_hub_repository_is_pinned_and_copied(demo: Demo, hub: _Hub) -> None:
    paths = assets.fetch("demo", assets=hub_asset(demo))
    assert {path.read_bytes() for path in paths.values()} == set(CONTENT.values())
    (repo, options) = hub.asked[0]
    assert repo == "own/er"
    assert options["revision"] == COMMIT
    assert options["allow_patterns"] == list(CONTENT)


def test_the_larger_alternative(demo: Demo, hub: _Hub) -> None:
    paths = assets.fetch("demo", assets=hub_asset(demo), full=True, offline=True)
    assert set(paths) == set(CONTENT)
    assert hub.asked == [
        (
            "own/er-large",
            {"revision": COMMIT, "allow_patterns": None, "local_files_only": True},
        )
    ]


def test_hub_failures(demo: Demo, hub: _Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import errors

    hub.failure = errors.LocalEntryNotFoundError("offline")
    with pytest.raises(assets.AssetOffline, match="hub cannot be reached"):
        assets.fetch("demo", assets=hub_asset(demo))
    hub.failure = ConnectionError("no route")
    with pytest.raises(assets.AssetOffline, match="hub cannot be reached"):
        assets.fetch("demo", assets=hub_asset(demo))
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(assets.AssetSourceError, match="huggingface_hub is not installed"):
        assets.fetch("demo", assets=hub_asset(demo))
