"""Taking listed members, and nothing else, out of an archive that nobody has vouched for.

The whole archive is refused when any member has a name that leaves the folder or is a link or a
device. Bytes are counted and hashed while they are written, so a bomb stops at the recorded size
and a file that has its final name is known to be whole and right.
"""

import hashlib
import os
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import IO

from labcore.assets.catalogue import AssetFile, unsafe_reason
from labcore.assets.errors import AssetCorrupt, AssetError, AssetSourceError, UnsafeArchive

_CHUNK = 1 << 20
_Member = tuple[str, Callable[[], AbstractContextManager[IO[bytes]]]]
_DAMAGED = (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, RuntimeError)


def extract(source: Path, files: tuple[AssetFile, ...], into: Path) -> dict[AssetFile, Path]:
    """Copy the listed members of ``source`` (zip, tar or folder) to ``into / save_as``.

    Raises:
        UnsafeArchive: a member is absolute, leaves its folder, is a link or a device.
        AssetCorrupt: the archive is damaged, or a member is longer or other than recorded.
        AssetSourceError: a listed member is not there.
    """
    wanted = {file.member: file for file in files}
    done: dict[AssetFile, Path] = {}
    try:
        for name, opener in _members(source, wanted):
            file = wanted.pop(name, None)
            if file is None:
                continue
            with opener() as stream:
                done[file] = write_checked(stream.read, file, into / file.save_as)
    except AssetError:
        raise
    except (OSError, *_DAMAGED) as error:
        if _is_storage(error):
            raise
        raise AssetCorrupt(
            f"the archive {source.name} is damaged ({error}); run the same command again"
        ) from error
    if wanted:
        raise AssetSourceError(
            f"{source.name} holds no {sorted(wanted)[0]!r}; correct `member` in the registry"
        )
    return done


def write_checked(read: Callable[[int], bytes], file: AssetFile, target: Path) -> Path:
    """Write what ``read`` gives to ``target`` by way of a ``.part`` file, counting and hashing.

    Raises:
        AssetCorrupt: more bytes, fewer bytes or another hash than recorded.
    """
    part = target.with_name(f"{target.name}.part")
    digest = hashlib.sha256()
    count = 0
    with part.open("wb") as out:
        while piece := read(_CHUNK):
            count += len(piece)
            if count > file.bytes:
                raise AssetCorrupt(
                    f"{file.member} is longer than the {file.bytes} bytes on record; it is not "
                    "the registered file: check the version in the registry"
                )
            digest.update(piece)
            out.write(piece)
        out.flush()
        os.fsync(out.fileno())
    if count != file.bytes or digest.hexdigest() != file.sha256:
        raise AssetCorrupt(
            f"{file.member} has {count} bytes and sha256 {digest.hexdigest()[:12]}, wanted "
            f"{file.bytes} and {file.sha256[:12]}; run the same command again, and if it stays "
            "so check the version in the registry"
        )
    os.replace(part, target)
    return target


def _members(source: Path, wanted: dict[str, AssetFile]) -> Iterator[_Member]:
    if source.is_dir():
        return _folder_members(source, wanted)
    if zipfile.is_zipfile(source):
        return _zip_members(source)
    return _tar_members(source)


def _folder_members(source: Path, wanted: dict[str, AssetFile]) -> Iterator[_Member]:
    for name in list(wanted):
        path = source / name
        if path.is_file():
            yield name, partial(path.open, "rb")


def _zip_members(source: Path) -> Iterator[_Member]:
    with zipfile.ZipFile(source) as archive:
        for info in archive.infolist():
            mode = info.external_attr >> 16
            special = stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR)
            # orig_filename: the name as written, before zipfile makes backslashes into slashes.
            _refuse_unsafe(source, info.orig_filename, link=special)
            if not info.is_dir():
                yield info.filename, partial(archive.open, info)


def _tar_members(source: Path) -> Iterator[_Member]:
    with tarfile.open(source) as archive:
        for info in archive:
            _refuse_unsafe(source, info.name, link=not (info.isreg() or info.isdir()))
            stream = archive.extractfile(info) if info.isreg() else None
            if stream is not None:
                yield info.name, partial(nullcontext, stream)


def _refuse_unsafe(source: Path, name: str, *, link: bool) -> None:
    reason = "is a link or a device" if link else unsafe_reason(name)
    if reason is not None:
        raise UnsafeArchive(
            f"{source.name} was refused: its member {name!r} {reason}; do not use this package"
        )


def _is_storage(error: BaseException) -> bool:
    """Whether the error is about our disk and not about the archive's content."""
    return isinstance(error, OSError) and error.errno is not None
