"""Chapter 7: a small convolutional network on MNIST, what shifts do to it, and a global pool.

All networks see the same 6000 pictures for two epochs; the test pictures choose nothing. The pages'
photograph and the responses of a few kernels are kept small, so that the page needs no package that
reads photographs.
"""

from typing import Any

import numpy as np

from labcore.book import data
from labcore.book.numbers import Findings, Size, over_seeds
from labcore.runs import Progress, Table

SECONDS = 35
ROWS, EPOCHS, BATCH, LR = 6000, 2, 32, 1e-3
SHIFTS, SHIFTED_ROWS = (0, 2, 4), 2000
EXPECTED = {"cnn": {0: 0.944, 2: 0.873, 4: 0.480}, "mlp": {0: 0.871, 2: 0.633, 4: 0.264}}


def measure(config: Size, progress: Progress) -> Findings:
    """Accuracy of three networks, plain and on shifted pictures."""
    import torch

    from labcore.book.training import accuracy, mnist_tensors, train

    x, y = mnist_tensors("train")
    test_x, test_y = mnist_tensors("test")
    x, test_x = x.view(-1, 1, 28, 28), test_x.view(-1, 1, 28, 28)
    kinds = ("cnn", "mlp") if config.small else ("cnn", "mlp", "pooled")
    n = 1500 if config.small else ROWS
    rows: Table = []
    for draw, seed in enumerate(config.seeds):
        for place, kind in enumerate(kinds):
            done, whole = draw * len(kinds) + place, len(config.seeds) * len(kinds)
            progress(done, whole, f"{kind}, seed {seed}")
            model = network(kind, seed)
            train(model, x[:n], y[:n], steps=EPOCHS * (n // BATCH), lr=LR, batch=BATCH,
                  generator=torch.Generator().manual_seed(seed))  # fmt: skip
            model.eval()
            rows.append({"kind": kind, "seed": seed, "shift": -1, "rows": len(test_y),
                         "accuracy": accuracy(model, test_x, test_y)})  # fmt: skip
            for shift in SHIFTS:
                moved = torch.roll(test_x[:SHIFTED_ROWS], shift, dims=3)
                share = accuracy(model, moved, test_y[:SHIFTED_ROWS])
                rows.append({"kind": kind, "seed": seed, "shift": shift, "rows": SHIFTED_ROWS,
                             "accuracy": share})  # fmt: skip
    found = Findings(tables={"accuracy": rows, "numbers": _numbers(rows, config.small)})
    found.arrays["photo"] = grey_photo()
    return found


def _numbers(rows: Table, small: bool) -> Table:
    table: Table = []
    whole = {"cnn": 0.958, "pooled": None, "mlp": None}
    for kind, shift in dict.fromkeys((r["kind"], r["shift"]) for r in rows):
        mine = [r for r in rows if r["kind"] == kind and r["shift"] == shift]
        found = [r["accuracy"] for r in mine]
        expected = whole[kind] if shift < 0 else EXPECTED.get(kind, {}).get(shift)
        where = "all test pictures" if shift < 0 else f"shifted {shift} pixels to the right"
        # a shifted accuracy varies more from seed to seed, and the known figures are of one seed
        table.append(
            over_seeds(f"accuracy, {kind}, {where}", found, None if small else expected,
                       0.02 if shift <= 0 else 0.05, sample=f"{mine[0]['rows']} pictures")
        )  # fmt: skip
    return table


def grey_photo() -> np.ndarray:
    """The middle of the photograph "china", every third pixel, 0 to 255 (y, x)."""
    red_green_blue = data.photo("china").astype(np.float64)
    return (red_green_blue @ [0.299, 0.587, 0.114])[60:420:3, 100:540:3].round().astype(np.uint8)


def network(kind: str, seed: int) -> Any:
    """A CNN of 16 and 32 channels with a flattened head, one with a global pool, or an MLP.

    Raises:
        ValueError: another kind.
    """
    import torch
    from torch import nn

    torch.manual_seed(seed)
    block = (nn.Conv2d(1, 16, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
             nn.Conv2d(16, 32, 5, padding=2), nn.ReLU())  # fmt: skip
    if kind == "cnn":
        return nn.Sequential(*block, nn.MaxPool2d(2), nn.Flatten(), nn.Linear(32 * 49, 10))
    if kind == "pooled":
        return nn.Sequential(*block, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10))
    if kind == "mlp":
        return nn.Sequential(nn.Flatten(), nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 10))
    raise ValueError(f'kind must be "cnn", "pooled" or "mlp", got {kind!r}')
