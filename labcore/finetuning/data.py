"""What the experiment reads: pictures of clothing and of digits, and photographs.

Training and validation pictures come from the training part, test pictures from the test part; they
never meet, and the test pictures choose nothing.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from labcore.assets.dinov2 import MEAN, STD
from labcore.assets.images import fashion_mnist, mnist

_GREY_MEAN, _GREY_STD = 0.28, 0.35  # of Fashion-MNIST; the small model sees digits the same way
PHOTOGRAPHS = ("china", "flower")


@dataclass(frozen=True)
class Split:
    """Labelled pictures, ready for a model."""

    images: Float[Tensor, "n c y x"]
    labels: Int[Tensor, " n"]

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Task:
    """Pictures to fine-tune on and to test with, and the same as plain pixels."""

    train: Split
    test: Split
    train_pixels: Float[Tensor, "n p"]
    test_pixels: Float[Tensor, "m p"]

    @property
    def classes(self) -> int:
        """Labels are below this."""
        return int(max(self.train.labels.max(), self.test.labels.max())) + 1


def task_of(
    name: str, train: int, test: int, *, image_size: int = 28, channels: int = 1, seed: int = 0
) -> Task:
    """``fashion-mnist``, or a data set that torchvision knows and fetches (``CIFAR100``).

    Raises:
        ValueError: torchvision has no such data set, or it has too few pictures.
        ImportError: another data set than ours without torchvision.
        AssetError: the pictures are not here and cannot be fetched.
    """
    if name == "fashion-mnist":
        return clothing(train, test, image_size=image_size, channels=channels, seed=seed)
    from labcore.finetuning.torchvision_data import photographs_of

    return photographs_of(name, train, test, image_size=image_size, seed=seed)


def clothing(
    train: int, test: int, *, image_size: int = 28, channels: int = 1, seed: int = 0
) -> Task:
    """Fashion-MNIST: as many pictures of each class as fit, the training ones by seed.

    Args:
        train: Training pictures, drawn by ``seed`` from the training part.
        test: Test pictures, always the same, from the test part.
        image_size: Pixels; pictures are enlarged bilinearly.
        channels: 1 for grey, 3 for a model of photographs (grey repeated, then its normalisation).
        seed: Which training pictures.

    Raises:
        ValueError: fewer than one picture, or more than there are.
        AssetError: the pictures are not here and cannot be fetched.
    """
    held, pixels = {}, {}
    for part, n, number in (("train", train, seed), ("test", test, 0)):
        images, labels = fashion_mnist(part)
        chosen = balanced(labels, n, np.random.default_rng(1000 + number))
        grey = torch.from_numpy(images[chosen].astype(np.float32) / 255)
        wanted = torch.from_numpy(labels[chosen].astype(np.int64))
        pixels[part] = grey.flatten(1)
        held[part] = Split(_for_model(grey, image_size, channels), wanted)
    return Task(held["train"], held["test"], pixels["train"], pixels["test"])


def digits(n: int, *, part: str = "train", seed: int = 0) -> Split:
    """MNIST, which the small model is pre-trained on.

    Raises:
        ValueError: fewer than one picture, or more than there are.
        AssetError: the pictures are not here and cannot be fetched.
    """
    images, labels = mnist(part)
    chosen = balanced(labels, n, np.random.default_rng(seed))
    grey = torch.from_numpy(images[chosen].astype(np.float32) / 255)
    return Split(_for_model(grey, 28, 1), torch.from_numpy(labels[chosen].astype(np.int64)))


def photograph(name: str, image_size: int = 224) -> Float[Tensor, "1 3 y x"]:
    """One of the two photographs, its middle square, ready for the real model.

    Raises:
        ValueError: neither ``china`` nor ``flower``.
        AssetError: the photographs are not here and cannot be fetched.
    """
    return for_real_model(photograph_pixels(name), image_size)


def photograph_pixels(name: str) -> UInt8[np.ndarray, "y x 3"]:
    """A photograph as it is, red, green, blue.

    Raises:
        ValueError: neither ``china`` nor ``flower``.
        AssetError: the photographs are not here and cannot be fetched.
    """
    if name not in PHOTOGRAPHS:
        raise ValueError(f"name must be one of {', '.join(PHOTOGRAPHS)}, got {name!r}")
    from PIL import Image

    from labcore.assets import fetch

    with Image.open(fetch("digits-photos")[f"{name}.jpg"]) as picture:
        return np.asarray(picture.convert("RGB"))


def middle_square(
    pixels: UInt8[np.ndarray, "y x 3"], image_size: int = 224
) -> UInt8[np.ndarray, "s s 3"]:
    """The largest middle square of a picture, at ``image_size`` pixels."""
    from PIL import Image

    height, width = pixels.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = Image.fromarray(pixels[top : top + side, left : left + side])
    return np.asarray(square.resize((image_size, image_size), Image.Resampling.BICUBIC))


def for_real_model(
    pixels: UInt8[np.ndarray, "y x 3"], image_size: int = 224
) -> Float[Tensor, "1 3 s s"]:
    """The middle square of a picture, normalised as the real model wants it."""
    square = torch.from_numpy(middle_square(pixels, image_size).astype(np.float32) / 255)
    return _normalised(square.permute(2, 0, 1).unsqueeze(0))


def _for_model(grey: Tensor, image_size: int, channels: int) -> Tensor:
    images = grey.unsqueeze(1)
    if image_size != 28:
        size = (image_size, image_size)
        images = F.interpolate(images, size=size, mode="bilinear", align_corners=False)
    if channels == 1:
        return (images - _GREY_MEAN) / _GREY_STD
    return _normalised(images.expand(-1, 3, -1, -1))


def _normalised(images: Tensor) -> Tensor:
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (MEAN, STD))
    return (images - mean) / std


def balanced(labels: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """Row numbers: every class as often as the others, up to one, in random order."""
    classes = np.unique(labels)
    if not 1 <= n <= len(classes) * min(np.bincount(labels)[classes]):
        raise ValueError(f"n={n} pictures: give 1..{len(labels)}, the same number of each class")
    rows = []
    for i, label in enumerate(rng.permutation(classes)):
        share = n // len(classes) + (i < n % len(classes))
        rows.append(rng.choice(np.flatnonzero(labels == label), share, replace=False))
    return rng.permutation(np.concatenate(rows))
