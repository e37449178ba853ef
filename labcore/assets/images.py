"""MNIST and Fashion-MNIST as arrays."""

from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from labcore.assets.errors import AssetCorrupt
from labcore.assets.fetching import fetch

Pictures = tuple[UInt8[np.ndarray, "n 28 28"], UInt8[np.ndarray, " n"]]
FASHION_CLASSES = (
    "T-shirt",
    "trousers",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "trainer",
    "bag",
    "ankle boot",
)
_TEST_ROWS = 1000  # of each class; the package's files start with them


def mnist(split: str = "train") -> Pictures:
    """The handwritten digits: 60 000 for training or 10 000 for testing, in the original order.

    Returns:
        images (n, 28, 28), 0 = paper, 255 = ink; labels (n,), 0 to 9. Both read-only uint8.

    Raises:
        ValueError: ``split`` is neither "train" nor "test".
        AssetError: the data set is not here and cannot be fetched.
    """
    prefix = {"train": "train", "test": "t10k"}[_checked(split)]
    paths = fetch("mnist")
    images = _idx(paths[f"{prefix}-images-idx3-ubyte"])
    return images, _idx(paths[f"{prefix}-labels-idx1-ubyte"])


def fashion_mnist(split: str = "train") -> Pictures:
    """The pictures of clothing: 60 000 for training or 10 000 for testing.

    The package keeps one file a class: a block of 1000 rows, then one of 6000 (in class 0 an empty
    row stands between them). We take the first block as the test set; whether it is the published
    test set row by row is not known. Rows come class after class, so shuffle before training.

    Returns:
        images (n, 28, 28), 0 = background; labels (n,), as in ``FASHION_CLASSES``. Both uint8.

    Raises:
        ValueError: ``split`` is neither "train" nor "test".
        AssetError: the data set is not here and cannot be fetched.
    """
    wants_test = _checked(split) == "test"
    with np.load(fetch("fashion-mnist")["fashion-mnist.npz"], allow_pickle=False) as data:
        chosen = (data["rows"] < _TEST_ROWS) == wants_test
        return data["images"][chosen], data["labels"][chosen]


def _checked(split: str) -> str:
    if split not in ("train", "test"):
        raise ValueError(f'split must be "train" or "test", got {split!r}')
    return split


def _idx(path: Path) -> np.ndarray:
    """An idx file of bytes: two zeros, type 8, number of axes, the axes as big-endian u32, data."""
    raw = path.read_bytes()
    if len(raw) < 4 or raw[:3] != b"\0\0\x08":
        raise AssetCorrupt(f"{path} is no idx file of bytes; run `lab fetch mnist --verify`")
    axes = raw[3]
    shape = tuple(int(n) for n in np.frombuffer(raw, ">u4", count=axes, offset=4))
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * axes).reshape(shape)
