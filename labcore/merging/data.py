"""The twenty image tasks of the merging experiment, and the glyphs that the base is trained on.

Pictures are 28x28, 0 = paper, 1 = ink. Digits and clothing are MNIST, UCI's and Fashion-MNIST;
glyphs are drawn here from the DejaVu fonts, each with a random face, size, place, turn and slant.
The base never sees a character of a task.
"""

import gzip
import unicodedata
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

Split = Literal["train", "val", "test"]
Pictures = tuple[Float[Tensor, "n 28 28"], Int[Tensor, " n"]]
_SPLITS = {"train": 0, "val": 1, "test": 2, "pretrain": 3}
_FACES = ("Sans", "Sans-Bold", "Sans-Oblique", "SansMono", "Serif", "Serif-Bold")
_DRAWN = 48  # glyphs are drawn once at this size, then warped down to 28

_SCRIPTS: dict[str, tuple[tuple[int, int], ...]] = {
    "latin_upper": ((0x41, 0x5A),),
    "greek": ((0x3B1, 0x3C9),),
    "hebrew": ((0x5D0, 0x5EA),),
    "tifinagh": ((0x2D30, 0x2D65),),
    "cyrillic": ((0x430, 0x44F),),
    "armenian": ((0x561, 0x586),),
    "georgian": ((0x10D0, 0x10F0),),
    "arabic": ((0x621, 0x63A), (0x641, 0x64A)),
    "lisu": ((0xA4D0, 0xA4FF),),
    "nko": ((0x7CA, 0x7EA),),
    "lao": ((0xE81, 0xEAE),),
    "latin_lower": ((0x61, 0x7A),),
}
_PRETRAINING = (
    (0x1401, 0x1676),  # Canadian syllabics
    (0x2190, 0x21FF),  # arrows
    (0x2200, 0x22FF),  # mathematical operators
    (0x250, 0x2AF),  # phonetic alphabet
    (0x25A0, 0x25FF),  # shapes
    (0x10A0, 0x10C5),  # old Georgian capitals
    (0x1681, 0x169A),  # ogham
    (0x2801, 0x28FF),  # braille
)
TASKS: tuple[str, ...] = (
    *("mnist", "fashion", "latin_upper", "greek", "hebrew", "tifinagh", "cyrillic", "armenian"),
    *("georgian", "arabic", "lisu", "nko", "lao", "latin_lower"),
    *("uci_digits", "mnist_turned", "mnist_inverted", "fashion_turns", "gratings", "counting"),
)


@dataclass(frozen=True)
class Glyphs:
    """Drawn characters: each drawing, and the class of each drawing."""

    drawings: Float[Tensor, "d 1 48 48"]
    classes: Int[Tensor, " d"]

    @property
    def num_classes(self) -> int:
        """Number of characters."""
        return int(self.classes.max()) + 1


def pictures(task: str, split: Split, n: int, *, seed: int = 0) -> Pictures:
    """``n`` labelled pictures of a task; the splits never share a picture.

    ``uci_digits`` has 1047 pictures for training, 200 for validation and 550 for testing.

    Raises:
        ValueError: unknown task, fewer than one picture, or more than the split has.
        AssetError: the pictures or the fonts are not here and cannot be fetched.
    """
    if task not in TASKS:
        raise ValueError(f"unknown task {task!r}: tasks are {', '.join(TASKS)}")
    if n < 1:
        raise ValueError(f"n must be at least 1, got {n}")
    number = TASKS.index(task)
    generator = torch.Generator().manual_seed(1000 * (10 * seed + _SPLITS[split]) + number)
    if task in _SCRIPTS:
        return render(_draw(_SCRIPTS[task]), n, generator)
    if task == "gratings":
        return _gratings(n, generator)
    if task == "counting":
        return _counting(n, generator)
    images, labels = _photographs(task.split("_")[0], split, n, generator)
    return _altered(task, images, labels, generator)


def pretraining(n: int, *, seed: int = 0) -> Pictures:
    """``n`` renders of about 1200 characters that are in no task."""
    generator = torch.Generator().manual_seed(1000 * (10 * seed + _SPLITS["pretrain"]))
    return render(_draw(_PRETRAINING), n, generator)


def render(glyphs: Glyphs, n: int, generator: torch.Generator) -> Pictures:
    """Warp ``n`` random drawings: size 0.85-1.2, turn 15 degrees, slant 0.15, shift 2 pixels."""
    which = torch.randint(len(glyphs.classes), (n,), generator=generator)
    u = torch.rand(n, 5, generator=generator) * 2 - 1
    turn, slant, size = u[:, 0] * np.pi / 12, u[:, 1] * 0.15, 1.0 + 0.18 * u[:, 2]
    cos, sin = size * turn.cos(), size * turn.sin()
    rows = (cos, slant - sin, 0.14 * u[:, 3], sin, cos, 0.14 * u[:, 4])
    theta = torch.stack(rows, 1).view(n, 2, 3)
    out = torch.empty(n, 28, 28)
    for start in range(0, n, 4096):  # bounded memory
        part = slice(start, start + 4096)
        grid = F.affine_grid(theta[part], [len(theta[part]), 1, 28, 28], align_corners=False)
        warped = F.grid_sample(glyphs.drawings[which[part]], grid, align_corners=False)
        out[part] = warped[:, 0]
    noise = 0.05 * torch.randn(out.shape, generator=generator)
    return (out + noise).clamp(0, 1), glyphs.classes[which]


@lru_cache(maxsize=16)
def _draw(ranges: tuple[tuple[int, int], ...]) -> Glyphs:
    """Draw every assigned character of the ranges in each face that has it."""
    from PIL import ImageFont

    from labcore.assets import fetch

    paths = fetch("dejavu-fonts")
    fonts = [ImageFont.truetype(str(paths[f"DejaVu{face}.ttf"]), 30) for face in _FACES]
    missing = [_ink(font, "\uffff") for font in fonts]
    points = [p for low, high in ranges for p in range(low, high + 1)]
    drawings: list[np.ndarray] = []
    classes: list[int] = []
    number = 0
    for point in (p for p in points if unicodedata.name(chr(p), "")):
        found = [_ink(font, chr(point)) for font in fonts]
        kept = [d for d, m in zip(found, missing, strict=True) if d.any() and (d != m).any()]
        drawings += kept
        classes += [number] * len(kept)
        number += bool(kept)
    stack = torch.from_numpy(np.stack(drawings)).float().div(255).unsqueeze(1)
    return Glyphs(stack, torch.tensor(classes))


def _ink(font: object, character: str) -> np.ndarray:
    """The character centred on a 48x48 canvas."""
    from PIL import Image, ImageDraw

    canvas = Image.new("L", (_DRAWN, _DRAWN))
    draw = ImageDraw.Draw(canvas)
    draw.text((_DRAWN // 2, _DRAWN // 2), character, fill=255, font=font, anchor="mm")  # type: ignore[arg-type]
    return np.asarray(canvas)


def _photographs(source: str, split: Split, n: int, generator: torch.Generator) -> Pictures:
    """Pictures of a data set; training pictures come again when more are wanted than there are."""
    images, labels, pool = _pool(source, split)
    rounds = -(-n // len(pool)) if split == "train" else 1
    if n > rounds * len(pool):
        raise ValueError(f"n={n} pictures of {source}, split {split}: there are {len(pool)}")
    drawn = torch.cat([torch.randperm(len(pool), generator=generator) for _ in range(rounds)])
    chosen = pool[drawn[:n].numpy()]
    picked = torch.from_numpy(images[chosen].astype(np.float32) / images.max())
    return picked, torch.from_numpy(labels[chosen].astype(np.int64))


def _pool(source: str, split: Split) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Images and labels of a data set, and which of them belong to a split, by a fixed shuffle."""
    from labcore.assets.images import fashion_mnist, mnist

    if source == "uci":
        images, labels = _uci_digits()
        order = np.random.default_rng(0).permutation(len(labels))
        train, val, test = np.split(order, [len(order) - 750, len(order) - 550])
        return images, labels, {"train": train, "val": val, "test": test}[split]
    load = mnist if source == "mnist" else fashion_mnist
    images, labels = load("test" if split == "test" else "train")
    order = np.random.default_rng(0).permutation(len(labels))
    if split == "test":
        return images, labels, order
    train, val = np.split(order, [len(order) * 9 // 10])
    return images, labels, train if split == "train" else val


def _uci_digits() -> tuple[np.ndarray, np.ndarray]:
    """1797 digits of 8x8 pixels, enlarged to 28x28."""
    from labcore.assets import fetch

    with gzip.open(fetch("digits-photos")["digits.csv.gz"], "rt", encoding="ascii") as file:
        table = torch.from_numpy(np.loadtxt(file, delimiter=",", dtype=np.float32))
    small = table[:, :-1].view(-1, 1, 8, 8)
    images = F.interpolate(small, size=(28, 28), mode="bilinear")[:, 0]
    return images.numpy(), table[:, -1].numpy()


def _altered(task: str, images: Tensor, labels: Tensor, generator: torch.Generator) -> Pictures:
    if task == "mnist_turned":
        return images.rot90(1, (1, 2)).contiguous(), labels
    if task == "mnist_inverted":
        return 1 - images, labels
    if task == "fashion_turns":
        turns = torch.randint(4, (len(images),), generator=generator)
        turned = [image.rot90(int(t), (0, 1)) for image, t in zip(images, turns, strict=True)]
        return torch.stack(turned), turns
    return images, labels


def _gratings(n: int, generator: torch.Generator) -> Pictures:
    """Stripes of 8 directions and 3 widths: 24 classes."""
    labels = torch.randint(24, (n,), generator=generator)
    u = torch.rand(n, 3, generator=generator)
    angle = (labels % 8 + 0.6 * (u[:, 0] - 0.5)) * np.pi / 8
    frequency = (2 * np.pi / torch.tensor([4.0, 7.0, 12.0]))[labels // 8]
    y, x = torch.meshgrid(torch.arange(28.0), torch.arange(28.0), indexing="ij")
    along = angle.cos()[:, None, None] * x + angle.sin()[:, None, None] * y
    wave = (frequency[:, None, None] * along + 2 * np.pi * u[:, 1, None, None]).sin()
    noise = 0.3 * torch.randn(n, 28, 28, generator=generator)
    return (0.5 + 0.4 * wave + noise).clamp(0, 1), labels


def _counting(n: int, generator: torch.Generator) -> Pictures:
    """One to eight small squares on a 6x6 lattice: 8 classes."""
    labels = torch.randint(8, (n,), generator=generator)
    order = torch.rand(n, 36, generator=generator).argsort(1).argsort(1)
    lattice = (order <= labels[:, None]).float().view(n, 1, 6, 6)
    mask = F.interpolate(lattice, scale_factor=4, mode="nearest")
    stencil = torch.tensor([1.0, 1.0, 1.0, 0.0]).repeat(6)
    squares = F.pad(mask[:, 0] * stencil * stencil[:, None], (2, 2, 2, 2))
    noise = 0.1 * torch.randn(n, 28, 28, generator=generator)
    return (squares + noise).clamp(0, 1), labels
