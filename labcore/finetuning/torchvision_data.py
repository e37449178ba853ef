"""Photographs of torchvision's data sets, for a machine with a network (CIFAR100, Food101, ...).

Nothing here is needed for the committed results; torchvision is imported when it is called.
"""

import inspect
from typing import Any

import numpy as np
import torch

from labcore.assets.store import cache_root
from labcore.finetuning.data import Split, Task, balanced, for_real_model, middle_square

_PIXELS = 28  # side of the plain pixels that the trivial baseline reads


def photographs_of(
    name: str, train: int, test: int, *, image_size: int = 224, seed: int = 0
) -> Task:
    """Pictures of a data set, as many of each class as fit.

    Args:
        name: A class of ``torchvision.datasets``.
        train: Training pictures, drawn by ``seed`` from the training part.
        test: Test pictures, always the same, from the test part.
        image_size: Pixels; middle squares, normalised as for ImageNet.
        seed: Which training pictures.

    Raises:
        ValueError: no such data set, or too few pictures.
        ImportError: torchvision is not installed.
    """
    try:
        from torchvision import datasets
    except ImportError as error:
        raise ImportError(
            f"the data set {name!r} needs torchvision: python -m pip install torchvision ({error})"
        ) from error
    kind = getattr(datasets, name, None)
    if kind is None:
        raise ValueError(f"torchvision.datasets has no {name!r}: give CIFAR100, Flowers102, ...")
    drawn = {}
    for part, n, number in (("train", train, seed), ("test", test, 0)):
        held = _part(kind, part)
        chosen = balanced(_labels(held), n, np.random.default_rng(1000 + number))
        drawn[part] = _pictures(held, chosen, image_size)
    (train_split, train_pixels), (test_split, test_pixels) = drawn["train"], drawn["test"]
    return Task(train_split, test_split, train_pixels, test_pixels)


def _part(kind: Any, part: str) -> Any:
    """Most classes take ``split``, the older ones ``train``."""
    root = cache_root() / "torchvision"
    if "split" in inspect.signature(kind).parameters:
        return kind(root, split=part, download=True)
    return kind(root, train=part == "train", download=True)


def _labels(held: Any) -> np.ndarray:
    for name in ("targets", "_labels", "labels"):
        if hasattr(held, name):
            return np.asarray(getattr(held, name), dtype=np.int64)
    raise ValueError(f"{type(held).__name__} does not tell its labels before it is read")


def _pictures(held: Any, chosen: np.ndarray, size: int) -> tuple[Split, torch.Tensor]:
    images, pixels, labels = [], [], []
    for row in chosen.tolist():
        picture, label = held[row]
        array = np.asarray(picture.convert("RGB"))
        images.append(for_real_model(array, size))
        pixels.append(torch.from_numpy(middle_square(array, _PIXELS).astype(np.float32) / 255))
        labels.append(int(label))
    split = Split(torch.cat(images), torch.tensor(labels))
    return split, torch.stack(pixels).flatten(1)
