"""The data of the chapters: small, real, checked by their hashes, offline once fetched.

Every loader returns numpy arrays and names, so that the chapters on linear models and automatic
differentiation need no torch; ``torch.from_numpy`` makes tensors of them. :func:`source` says where
a data set comes from and under which licence.
"""

import csv
import gzip
import hashlib
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int, UInt8

from labcore.assets import AssetCorrupt, fetch, registry

SPECIES = ("Adelie", "Chinstrap", "Gentoo")
MEASURES = ("bill_length_mm", "bill_depth_mm", "flipper_length_mm", "body_mass_g")
ALICE_SHA256 = "4cbce86540bcef439f901c89de486d295aa3848e8c4cbc911561054479e73960"
_ASSET = {"penguins": "penguins", "digits": "digits-photos", "photo": "digits-photos",
          "mnist": "mnist"}  # fmt: skip
_ELSEWHERE = {
    "alice": "Alice's Adventures in Wonderland, Lewis Carroll, 1865, public domain: the file "
    "alice29.txt of the Brotli 1.2.1 source package, line ends normalised; it comes with the lab",
    "karate": "Zachary's karate club, 1977, from networkx (BSD-3-Clause), edges without weights",
}


@dataclass(frozen=True)
class Rows:
    """A table of examples.

    Attributes:
        x: Inputs (n, d), float64.
        y: Class of each row (n,).
        features: Name of each column.
        classes: Name of each class.
    """

    x: Float[np.ndarray, "n d"]
    y: Int[np.ndarray, " n"]
    features: tuple[str, ...]
    classes: tuple[str, ...]

    def take(self, index: Int[np.ndarray, " m"]) -> "Rows":
        """The rows at these places."""
        return Rows(self.x[index], self.y[index], self.features, self.classes)


def source(name: str) -> str:
    """Where a data set comes from, and its licence.

    Raises:
        ValueError: there is no loader of this name.
    """
    if name in _ELSEWHERE:
        return _ELSEWHERE[name]
    if name not in _ASSET:
        raise ValueError(f"no data set {name!r}: there are {', '.join([*_ASSET, *_ELSEWHERE])}")
    asset = registry()[_ASSET[name]]
    return f"{asset.about}; {asset.source}, licence {asset.data_license}"


@cache
def penguins() -> Rows:
    """342 penguins with all four measures (of 344; millimetres and grams), by species.

    Raises:
        AssetError: the table is not here and cannot be fetched.
    """
    with fetch("penguins")["penguins.csv"].open(encoding="utf-8", newline="") as file:
        whole = [row for row in csv.DictReader(file) if row["body_mass_g"] not in ("", "NA")]
    x = np.array([[float(row[name]) for name in MEASURES] for row in whole])
    y = np.array([SPECIES.index(row["species"]) for row in whole])
    return Rows(_fixed(x), _fixed(y), MEASURES, SPECIES)


@cache
def digits() -> Rows:
    """1797 handwritten digits of 8x8 pixels, each 0 to 16, as rows of 64.

    Raises:
        AssetError: the table is not here and cannot be fetched.
    """
    with gzip.open(fetch("digits-photos")["digits.csv.gz"], "rt", encoding="ascii") as file:
        table = np.loadtxt(file, delimiter=",")
    names = tuple(f"pixel_{row}_{column}" for row in range(8) for column in range(8))
    labels = _fixed(table[:, -1].astype(np.int64))
    return Rows(_fixed(table[:, :-1]), labels, names, tuple("0123456789"))


def mnist(split: str = "train") -> Rows:
    """MNIST as rows of 784 pixels in [0, 1]: 60 000 for training, 10 000 for testing.

    Raises:
        ValueError: ``split`` is neither "train" nor "test".
        AssetError: the data set is not here and cannot be fetched.
    """
    from labcore.assets.images import mnist as pictures

    images, labels = pictures(split)
    names = tuple(f"pixel_{row}_{column}" for row in range(28) for column in range(28))
    x = images.reshape(len(images), -1) / 255.0
    return Rows(x, labels.astype(np.int64), names, tuple("0123456789"))


@cache
def photo(name: str = "china") -> UInt8[np.ndarray, "y x 3"]:
    """One of two photographs, 427 x 640 pixels, red, green, blue from 0 to 255. Needs Pillow.

    Raises:
        ValueError: another name than "china" or "flower".
        AssetError: the picture is not here and cannot be fetched.
    """
    if name not in ("china", "flower"):
        raise ValueError(f'name must be "china" or "flower", got {name!r}')
    from PIL import Image

    with Image.open(fetch("digits-photos")[f"{name}.jpg"]) as picture:
        return _fixed(np.asarray(picture.convert("RGB")).copy())


@cache
def alice() -> str:
    """The novel as one string of 148 481 characters, 73 different ones.

    Raises:
        AssetCorrupt: the file that comes with the lab was changed.
    """
    path = Path(__file__).with_name("alice.txt")
    raw = path.read_bytes()
    if hashlib.sha256(raw).hexdigest() != ALICE_SHA256:
        raise AssetCorrupt(f"{path.name} is not the text that came with the lab: restore the file")
    return raw.decode("ascii")


@cache
def karate() -> tuple[UInt8[np.ndarray, "n n"], Int[np.ndarray, " n"]]:
    """Adjacency matrix (34, 34) without weights, and the club (0 or 1) that each member joined."""
    import networkx as nx

    graph = nx.karate_club_graph()
    members = sorted(graph)
    adjacency = nx.to_numpy_array(graph, nodelist=members, weight=None).astype(np.uint8)
    clubs = np.array([int(graph.nodes[n]["club"] != "Mr. Hi") for n in members])
    return _fixed(adjacency), _fixed(clubs)


def split_rows(n: int, sizes: tuple[int, ...], seed: int) -> tuple[Int[np.ndarray, " _"], ...]:
    """Shuffled row numbers, cut into parts of these sizes that share no row.

    Raises:
        ValueError: the parts need more rows than there are.
    """
    if sum(sizes) > n or min(sizes) < 1:
        raise ValueError(f"sizes {sizes} must be positive and fit in {n} rows")
    order = np.random.default_rng(seed).permutation(n)
    ends = np.cumsum(sizes)
    return tuple(order[end - size : end] for end, size in zip(ends, sizes, strict=True))


def stratified_split(
    y: Int[np.ndarray, " n"], share: float, seed: int
) -> tuple[Int[np.ndarray, " m"], Int[np.ndarray, " k"]]:
    """Two parts with about the same mix of classes; the second has ⌈share · n⌉ rows.

    Draws in the order of scikit-learn's stratified ``train_test_split``, so that a course that uses
    it has the same rows.

    Raises:
        ValueError: share outside (0, 1).
    """
    if not 0 < share < 1:
        raise ValueError(f"share must be in (0, 1), got {share}")
    rng = np.random.RandomState(seed)
    counts = np.bincount(y)
    second = int(np.ceil(share * len(y)))
    first_of = _quota(counts, len(y) - second, rng)
    second_of = _quota(counts - first_of, second, rng)
    parts: tuple[list[int], list[int]] = ([], [])
    for label, count in enumerate(counts):
        mine = np.flatnonzero(y == label)[rng.permutation(count)]
        parts[0].extend(mine[: first_of[label]])
        parts[1].extend(mine[first_of[label] : first_of[label] + second_of[label]])
    return rng.permutation(parts[0]), rng.permutation(parts[1])


def _quota(counts: Int[np.ndarray, " c"], draws: int, rng: Any) -> Int[np.ndarray, " c"]:
    """How many rows of each class make ``draws``: whole shares, then the largest remainders."""
    exact = counts / counts.sum() * draws
    quota = np.floor(exact).astype(np.int64)
    rest = exact - quota
    for value in np.unique(rest)[::-1]:
        missing = draws - int(quota.sum())
        if missing == 0:
            break
        tied = np.flatnonzero(rest == value)
        quota[rng.choice(tied, size=min(len(tied), missing), replace=False)] += 1
    return quota


def course_split(rows: Rows) -> tuple[Rows, Rows, Rows]:
    """Training, validation and test penguins (205, 68, 69) of the author's 2026 course, scaled.

    Stratified with seed 7 and standardised by the training rows.
    """
    train, rest = stratified_split(rows.y, 0.4, seed=7)
    validation, test = stratified_split(rows.y[rest], 0.5, seed=7)
    parts = [rows.take(index) for index in (train, rest[validation], rest[test])]
    scaled = standardise(*(part.x for part in parts))
    whole = [replace(part, x=x) for part, x in zip(parts, scaled, strict=True)]
    return whole[0], whole[1], whole[2]


def standardise(
    train: Float[np.ndarray, "n d"], *others: Float[np.ndarray, "_ d"]
) -> tuple[Float[np.ndarray, "_ d"], ...]:
    """Mean 0 and deviation 1 by the training rows' own statistics; constant columns stay 0."""
    mean, deviation = train.mean(axis=0), train.std(axis=0)
    scale = np.where(deviation > 0, deviation, 1.0)
    return tuple((x - mean) / scale for x in (train, *others))


def _fixed(array: np.ndarray) -> np.ndarray:
    """The same array, read-only: the loaders hand one copy to everybody."""
    array.setflags(write=False)
    return array
