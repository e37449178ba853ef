"""Named models and data sets: pinned to a version and a hash, fetched once, offline from then on.

    >>> from labcore import assets
    >>> sorted(assets.registry())[:2]
    ['fashion-mnist', 'mnist']

``fetch(name)`` gives paths, ``status(name)`` only looks, ``table()`` is what ``lab assets`` shows.
Importing this package is cheap: pooch, torch and the rest come in when they are needed.
"""

from labcore.assets.catalogue import Asset, AssetFile, load_registry, registry
from labcore.assets.errors import (
    AssetCorrupt,
    AssetError,
    AssetOffline,
    AssetSourceError,
    AssetStorageError,
    BadRegistry,
    UnknownAsset,
    UnsafeArchive,
)
from labcore.assets.fetching import AssetPaths, fetch, status, table
from labcore.assets.store import assets_root, cache_root

__all__ = [
    "Asset",
    "AssetCorrupt",
    "AssetError",
    "AssetFile",
    "AssetOffline",
    "AssetPaths",
    "AssetSourceError",
    "AssetStorageError",
    "BadRegistry",
    "UnknownAsset",
    "UnsafeArchive",
    "assets_root",
    "cache_root",
    "fetch",
    "load_registry",
    "registry",
    "status",
    "table",
]
