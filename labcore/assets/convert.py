"""Steps that turn the files of an asset into one compact file.

The code is ours, never the asset's. The result is kept under a key made of the step's name, its
revision and the hashes of its inputs, so another input or a changed step is another file.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from labcore.assets import store
from labcore.assets.catalogue import Asset
from labcore.assets.errors import AssetCorrupt, BadRegistry

_PIXELS = 28 * 28


@dataclass(frozen=True)
class _Step:
    run: Callable[[Mapping[str, Path], Path], None]
    revision: int  # raise it when the code changes what it writes


def fashion_json_to_npz(paths: Mapping[str, Path], target: Path) -> None:
    """Ten files ``0.json`` ... ``9.json``, one a class, to one .npz: images, labels, rows.

    Each JSON file is ``{"data": [[784 numbers 0..255], ...]}``; class 0 also holds empty rows,
    which are dropped. ``images`` is (70000, 28, 28) uint8, ``labels`` (70000,) uint8, both in
    class order; ``rows`` (70000,) int32 is the row's place in its class after that.

    Raises:
        AssetCorrupt: a file is not of this form.
    """
    import numpy as np

    images, labels, places = [], [], []
    for label in range(10):
        path = paths[f"{label}.json"]
        try:
            data = json.loads(path.read_bytes())["data"]
            rows = np.array([row for row in data if len(row) == _PIXELS])
        except (ValueError, KeyError, TypeError) as error:
            raise AssetCorrupt(f"{path} is not rows of pixels ({error}); fetch it again") from error
        if rows.ndim != 2 or rows.dtype.kind not in "iu" or rows.min() < 0 or rows.max() > 255:
            raise AssetCorrupt(f"{path} holds values outside 0..255; fetch it again")
        images.append(rows.astype(np.uint8).reshape(-1, 28, 28))
        labels.append(np.full(len(rows), label, dtype=np.uint8))
        places.append(np.arange(len(rows), dtype=np.int32))
    with target.open("wb") as out:
        np.savez_compressed(
            out,
            images=np.concatenate(images),
            labels=np.concatenate(labels),
            rows=np.concatenate(places),
        )
        out.flush()
        os.fsync(out.fileno())


def join_parts(paths: Mapping[str, Path], target: Path) -> None:
    """The parts of one file, in the order of their names, one after the other."""
    with target.open("wb") as out:
        for name in sorted(paths):
            with paths[name].open("rb") as part:
                shutil.copyfileobj(part, out, 1 << 20)
        out.flush()
        os.fsync(out.fileno())


STEPS = {
    "fashion_json_to_npz": _Step(fashion_json_to_npz, revision=1),
    "join_parts": _Step(join_parts, revision=1),
}


def target(asset: Asset) -> Path:
    """Where the converted file of an asset is or goes."""
    step, save_as = _step(asset)
    name = asset.convert.function if asset.convert else ""
    parts = [name, str(step.revision), *(f"{f.save_as}:{f.sha256}" for f in asset.files)]
    key = hashlib.sha256("\n".join(parts).encode()).hexdigest()
    return store.assets_root() / "converted" / key[:2] / key / save_as


def state(asset: Asset, *, rehash: bool = False) -> Literal["ready", "missing", "corrupt"]:
    """Whether the converted file is there and still the one that was written."""
    path = target(asset)
    try:
        recorded = _note(path).read_text(encoding="utf-8").strip()
        same = store.remembered_hash(path, rehash=rehash) == recorded
    except (FileNotFoundError, NotADirectoryError):
        return "missing"
    return "ready" if same else "corrupt"


def run(asset: Asset, paths: Mapping[str, Path]) -> Path:
    """Convert, then give the result its final name; call it under the asset's lock."""
    step, _ = _step(asset)
    path = target(asset)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    try:
        step.run(paths, part)
        # The note goes first: a file without a note is "missing", a note without a file too.
        store.write_text(_note(path), store.hash_file(part))
        os.replace(part, path)
        store.remembered_hash(path)
    finally:
        part.unlink(missing_ok=True)
    return path


def _note(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def _step(asset: Asset) -> tuple[_Step, str]:
    if asset.convert is None or asset.convert.function not in STEPS:
        wanted = asset.convert.function if asset.convert else None
        raise BadRegistry(
            f"[{asset.name}] asks for the conversion {wanted!r}; known are {', '.join(STEPS)}"
        )
    return STEPS[asset.convert.function], asset.convert.save_as
