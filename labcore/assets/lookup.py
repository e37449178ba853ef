"""Where a file of an asset may already be.

In this order: the folder ``LAB_ASSETS`` (yours, never written to), the package if it is installed
in this environment (read in place, not imported), the cache.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from labcore.assets import store
from labcore.assets.catalogue import Asset, AssetFile

State = Literal["ready", "missing", "corrupt"]


@dataclass(frozen=True)
class Found:
    """A file's state, its place, and whether that place is the user's own folder."""

    state: State
    path: Path
    given: bool = False  # lies in LAB_ASSETS: the user's own, not ours to mend


def look(asset: Asset, file: AssetFile, *, rehash: bool = False) -> Found:
    """Where a file of an asset is, or where it would go.

    Args:
        asset: the asset it belongs to.
        file: the file.
        rehash: hash it again instead of trusting its size and modification time.
    """
    for path in _given(asset, file):
        if path.is_file():
            return Found(_match(path, file, rehash), path, given=True)
    installed = _installed(asset, file)
    if installed is not None and _match(installed, file, rehash) == "ready":
        return Found("ready", installed)
    cached = store.assets_root() / file.key
    return Found(_match(cached, file, rehash), cached)


def _given(asset: Asset, file: AssetFile) -> tuple[Path, ...]:
    folder = os.environ.get("LAB_ASSETS")
    if not folder:
        return ()
    root = Path(folder).expanduser()
    return (root / asset.name / file.save_as, root / file.save_as)


def _installed(asset: Asset, file: AssetFile) -> Path | None:
    if asset.kind != "pypi":
        return None
    import importlib.metadata

    try:
        package = importlib.metadata.distribution(file.package or asset.package)
    except importlib.metadata.PackageNotFoundError:
        return None
    if package.version != asset.version:
        return None
    for entry in package.files or ():
        if str(entry).replace(os.sep, "/") == file.member:
            return Path(str(entry.locate()))
    return None


def _match(path: Path, file: AssetFile, rehash: bool) -> State:
    try:
        if path.stat().st_size != file.bytes:
            return "corrupt"
        same = store.remembered_hash(path, rehash=rehash) == file.sha256
    except (FileNotFoundError, NotADirectoryError):
        return "missing"
    return "ready" if same else "corrupt"
