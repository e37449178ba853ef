"""The folder where assets live, and the memory of what in it has been verified.

Hashing 98 MB takes a fifth of a second, so the hash of a file is remembered with its size and
modification time and computed again only when one of them changes (or when asked to).
"""

import contextlib
import errno
import hashlib
import json
import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

from labcore.assets.errors import AssetStorageError

_FULL = (errno.ENOSPC, errno.EDQUOT)


def cache_root() -> Path:
    """The folder of everything labcore caches: ``LAB_CACHE``, else the user's cache folder."""
    override = os.environ.get("LAB_CACHE")
    if override:
        return Path(override).expanduser().absolute()
    import platformdirs

    return Path(platformdirs.user_cache_dir("labcore", appauthor=False))


def assets_root() -> Path:
    """The folder of the fetched files inside the cache."""
    return cache_root() / "assets"


def hash_file(path: Path) -> str:
    """SHA-256 of a file in lower-case hex, read in pieces."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def remembered_hash(path: Path, *, rehash: bool = False) -> str:
    """SHA-256 of a file, from memory when its size and modification time are unchanged."""
    stat = path.stat()
    state = [str(path.absolute()), stat.st_size, stat.st_mtime_ns]
    note = _note(path)
    if not rehash:
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            known = json.loads(note.read_text(encoding="utf-8"))
            if known["state"] == state:
                return str(known["sha256"])
    digest = hash_file(path)
    # The note only saves time: a read-only cache must not keep anyone from using good files.
    with contextlib.suppress(OSError):
        write_text(note, json.dumps({"state": state, "sha256": digest}))
    return digest


def _note(path: Path) -> Path:
    name = hashlib.sha256(str(path.absolute()).encode()).hexdigest()[:32]
    return assets_root() / ".verified" / f"{name}.json"


def write_text(path: Path, text: str) -> None:
    """Write a small text file so that nobody ever sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not a private temporary file: a cache may be shared, and others must be able to read it.
    part = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.part")
    try:
        part.write_text(text, encoding="utf-8")
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


@contextlib.contextmanager
def locked(name: str) -> Iterator[None]:
    """Hold the lock ``name`` of this cache: of two processes, the second one waits."""
    import filelock

    folder = assets_root() / ".locks"
    with storage_errors():
        folder.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(folder / f"{name}.lock")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def scratch(name: str) -> Iterator[Path]:
    """An empty folder on the cache's disk, removed afterwards; call it under the lock ``name``.

    What a killed process left there is removed first.
    """
    folder = assets_root() / ".scratch" / name
    with storage_errors():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def require_space(needed: int) -> None:
    """Refuse early when the cache's disk cannot take ``needed`` bytes more.

    Raises:
        AssetStorageError: less is free.
    """
    root = assets_root()
    with storage_errors():
        root.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(root).free
    if free < needed:
        raise AssetStorageError(
            f"{needed / 1e6:.0f} MB are needed in {root} and {free / 1e6:.0f} MB are free; "
            "free some space or set LAB_CACHE to a folder on another disk"
        )


@contextlib.contextmanager
def storage_errors() -> Iterator[None]:
    """Turn a full disk or a folder that cannot be written into one clear sentence."""
    try:
        yield
    except OSError as error:
        where = error.filename or assets_root()
        if error.errno in _FULL:
            raise AssetStorageError(
                f"the disk is full at {where}; free some space or set LAB_CACHE to a folder on "
                "another disk"
            ) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST):
            raise AssetStorageError(
                f"cannot write to {where} ({os.strerror(error.errno)}); set LAB_CACHE to a folder "
                "you may write to"
            ) from error
        raise
