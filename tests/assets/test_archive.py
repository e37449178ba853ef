"""Extraction: listed members only, and no archive gets to write outside its folder."""

import hashlib
import io
import os
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labcore.assets import AssetCorrupt, AssetFile, AssetSourceError, UnsafeArchive
from labcore.assets.archive import extract
from labcore.assets.catalogue import unsafe_reason
from tests.assets.conftest import make_tgz, make_zip

GOOD = b"good" * 100
FILE = AssetFile("pkg/good.txt", "good.txt", len(GOOD), hashlib.sha256(GOOD).hexdigest())
UNSAFE = ["../evil", "pkg/../../evil", "/evil", "\\evil", "pkg\\..\\evil", "C:/evil", "c:evil"]


def everything_outside(tmp_path: Path, into: Path) -> set[Path]:
    return {path for path in tmp_path.rglob("*") if into not in path.parents and path != into}


@pytest.mark.parametrize("make", [make_zip, make_tgz])
def test_only_listed_members_are_written(make, tmp_path: Path) -> None:
    source = make(tmp_path / "a", {"pkg/good.txt": GOOD, "pkg/other.txt": b"x", "good.txt": b"y"})
    into = tmp_path / "into"
    into.mkdir()
    assert extract(source, (FILE,), into) == {FILE: into / "good.txt"}
    assert [path.name for path in into.iterdir()] == ["good.txt"]
    assert (into / "good.txt").read_bytes() == GOOD


@pytest.mark.parametrize("make", [make_zip, make_tgz])
@pytest.mark.parametrize("name", UNSAFE)
@pytest.mark.parametrize("first", [True, False])
def test_an_unsafe_name_refuses_the_whole_archive(
    make, name: str, first: bool, tmp_path: Path
) -> None:
    members = {name: b"evil", FILE.member: GOOD} if first else {FILE.member: GOOD, name: b"evil"}
    source = make(tmp_path / "a", members)
    into = tmp_path / "deep" / "into"
    into.mkdir(parents=True)
    before = everything_outside(tmp_path, into)
    with pytest.raises(UnsafeArchive, match="do not use this package"):
        extract(source, (FILE,), into)
    assert everything_outside(tmp_path, into) == before
    assert not (into / "evil").exists()


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE]
)
def test_links_and_devices_in_a_tar_are_refused(kind: bytes, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        info = tarfile.TarInfo(FILE.member)
        info.type, info.linkname = kind, "/etc/passwd"
        archive.addfile(info)
    with pytest.raises(UnsafeArchive, match="link or a device"):
        extract(tmp_path / "a.tar", (FILE,), tmp_path)


@pytest.mark.parametrize("mode", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO])
def test_links_and_devices_in_a_zip_are_refused(mode: int, tmp_path: Path) -> None:
    info = zipfile.ZipInfo(FILE.member)
    info.external_attr = (mode | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(info, "/etc/passwd")
    with pytest.raises(UnsafeArchive, match="link or a device"):
        extract(tmp_path / "a.zip", (FILE,), tmp_path)


def test_a_bomb_stops_at_the_recorded_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = make_zip(tmp_path / "a.zip", {FILE.member: bytes(50_000_000)})
    into = tmp_path / "into"
    into.mkdir()
    with pytest.raises(AssetCorrupt, match="longer than the 400 bytes"):
        extract(source, (FILE,), into)
    assert sum(path.stat().st_size for path in into.iterdir()) <= 2**20


def test_a_folder_gives_its_files(tmp_path: Path) -> None:
    (tmp_path / "from/pkg").mkdir(parents=True)
    (tmp_path / "from" / FILE.member).write_bytes(GOOD)
    assert (extract(tmp_path / "from", (FILE,), tmp_path)[FILE]).read_bytes() == GOOD


@pytest.mark.parametrize("make", [make_zip, make_tgz])
def test_a_missing_member_is_named(make, tmp_path: Path) -> None:
    source = make(tmp_path / "a", {"pkg/x": b""})
    with pytest.raises(AssetSourceError, match="holds no 'pkg/good.txt'"):
        extract(source, (FILE,), tmp_path)


@pytest.mark.parametrize("make", [make_zip, make_tgz])
@pytest.mark.parametrize("cut", [0.2, 0.5, 0.95])
def test_damaged_archives_are_said_to_be(make, cut: float, tmp_path: Path) -> None:
    members = {"pkg/noise": os.urandom(5000), FILE.member: GOOD, "pkg/more": os.urandom(5000)}
    source = make(tmp_path / "a", members)
    raw = source.read_bytes()
    source.write_bytes(raw[: int(len(raw) * cut)])
    with pytest.raises(AssetCorrupt, match="damaged"):
        extract(source, (FILE,), tmp_path)


def test_an_encrypted_or_nonsense_archive(tmp_path: Path) -> None:
    raw = bytearray(make_zip(tmp_path / "a.zip", {FILE.member: GOOD}).read_bytes())
    raw[6] |= 1
    raw[raw.rfind(b"PK\x01\x02") + 8] |= 1
    (tmp_path / "a.zip").write_bytes(raw)
    (tmp_path / "b.tgz").write_bytes(b"hello")
    for name in ("a.zip", "b.tgz"):
        with pytest.raises(AssetCorrupt, match="damaged"):
            extract(tmp_path / name, (FILE,), tmp_path)


@given(st.text(alphabet="a./\\:C\0 ", max_size=12))
def test_a_name_called_safe_stays_inside(name: str) -> None:
    if unsafe_reason(name) is None:
        for join in (os.path, __import__("ntpath")):
            base = join.abspath("/base") if join is os.path else "D:\\base"
            target = join.normpath(join.join(base, name))
            assert target == base or target.startswith(base + join.sep)


def test_tar_names_are_checked_as_they_are_written() -> None:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("/abs"))
    stream.seek(0)
    with tarfile.open(fileobj=stream) as archive:
        assert archive.getmembers()[0].name == "/abs"
