"""Chapter 5: XOR by hand and by training, and a playground of small networks in the plane.

The playground's networks are trained beforehand for every setting, all seeds of a setting at once,
and only their answers on a grid are kept. Digits are the classes 0 to 4 on their two principal
components.
"""

import itertools
import math
from typing import Any

import numpy as np

from labcore.blocks.linear import least_squares
from labcore.book import data
from labcore.book.numbers import Findings, Size, number, over_seeds
from labcore.runs import Progress, Table

SECONDS = 35
DATA = ("xor", "digits")
WIDTHS, DEPTHS = (2, 4, 16), (0, 1, 2, 3)
ACTIVATIONS = ("identity", "relu", "tanh")
BATCHES = (16, 0)  # 0: all rows
SEEDS, STEPS, LR = 3, 400, 0.02
GRID, REACH = 72, 2.6
XOR_X = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
XOR_Y = np.array([0.0, 1.0, 1.0, 0.0])


def solve_by_hand(x: np.ndarray) -> np.ndarray:
    """XOR with two ReLU units: h = relu(x [[1, 1], [1, 1]] + (0, −1)), read out by (1, −2)."""
    hidden = np.maximum(x @ np.ones((2, 2)) + np.array([0.0, -1.0]), 0.0)
    return hidden @ np.array([1.0, -2.0])


def points(name: str, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Training and test points in the plane with their classes: "xor" or "digits".

    Raises:
        ValueError: another name.
    """
    rng = np.random.default_rng(seed)
    if name == "xor":
        corner = rng.integers(0, 2, size=(400, 2))
        x = (2.0 * corner - 1 + 0.35 * rng.standard_normal((400, 2))) * 1.2
        y = corner[:, 0] ^ corner[:, 1]
        return x[:200], y[:200], x[200:], y[200:]
    if name != "digits":
        raise ValueError(f'points are "xor" or "digits", got {name!r}')
    pictures = data.digits()
    few = pictures.take(np.flatnonzero(pictures.y < 5))
    train, test = data.split_rows(len(few.y), (400, 300), seed)
    centre = few.x[train].mean(axis=0)
    axes = np.linalg.svd(few.x[train] - centre, full_matrices=False)[2][:2].T
    plane = (few.x - centre) @ axes
    plane = plane / plane[train].std(axis=0)
    return plane[train], few.y[train], plane[test], few.y[test]


def grid() -> np.ndarray:
    """The points whose answers are kept (GRID², 2), row by row from below."""
    axis = np.linspace(-REACH, REACH, GRID)
    return np.stack(np.meshgrid(axis, axis, indexing="xy"), axis=-1).reshape(-1, 2)


def measure(config: Size, progress: Progress) -> Findings:
    """XOR, then the whole playground."""
    found = Findings(tables={"numbers": _xor(10 if config.small else 50)})
    widths, depths = (WIDTHS[:2], DEPTHS[:2]) if config.small else (WIDTHS, DEPTHS)
    shape = (len(DATA), len(widths), len(depths), len(ACTIVATIONS), len(BATCHES), SEEDS)
    answers = np.zeros((*shape, GRID * GRID), dtype=np.uint8)
    accuracy = np.zeros(shape, dtype=np.float32)
    for d, name in enumerate(DATA):
        sets = points(name, config.seed)
        found.arrays[f"{name}_x"] = sets[0][:150].astype(np.float32)
        found.arrays[f"{name}_y"] = sets[1][:150].astype(np.uint8)
        linear: dict[int, Any] = {}
        cells = list(itertools.product(*(range(n) for n in shape[1:5])))
        for done, (w, k, a, b) in enumerate(cells):
            progress(d * len(cells) + done, len(DATA) * len(cells), f"playground, {name}")
            if depths[k] == 0 and b in linear:  # no hidden layer: width and activation are idle
                ours = linear[b]
            else:
                ours = train_answers(sets, widths[w], depths[k], ACTIVATIONS[a], BATCHES[b], config)
                if depths[k] == 0:
                    linear[b] = ours
            answers[d, w, k, a, b], accuracy[d, w, k, a, b] = ours
    found.arrays |= {"answers": answers, "accuracy": accuracy}
    if not config.small:
        found.tables["numbers"] += _playground(accuracy)
    return found


def train_answers(
    sets: Any, width: int, depth: int, activation: str, batch: int, config: Size
) -> tuple[np.ndarray, np.ndarray]:
    """Train SEEDS networks side by side: their answers on the grid, and their test accuracy.

    Args:
        sets: Points and classes for training, then for the test; see :func:`points`.
        width: Units of each hidden layer.
        depth: Hidden layers; 0 is a linear model.
        activation: Between layers, of ACTIVATIONS.
        batch: Rows a step, the same ones for every network; 0 takes all.
        config: Seed, and whether to take few steps.

    Returns:
        Classes (seeds, grid points), and shares right (seeds,).
    """
    import torch
    import torch.nn.functional as F

    x, test_x, ask = (torch.tensor(v, dtype=torch.float32) for v in (sets[0], sets[2], grid()))
    y, test_y = torch.tensor(sets[1]), torch.tensor(sets[3])
    generator = torch.Generator().manual_seed(config.seed)
    sizes = (2, *([width] * depth), int(y.max()) + 1)
    weights = []
    for left, right in itertools.pairwise(sizes):
        bound = 1 / math.sqrt(left)
        for shape in ((SEEDS, left, right), (SEEDS, 1, right)):
            draw = (torch.rand(shape, generator=generator) * 2 - 1) * bound
            weights.append(draw.requires_grad_())
    bend = {"identity": lambda z: z, "relu": torch.relu, "tanh": torch.tanh}[activation]

    def run(inputs: torch.Tensor) -> torch.Tensor:
        z = inputs
        for place in range(0, len(weights), 2):
            z = torch.matmul(z, weights[place]) + weights[place + 1]  # (seeds, rows, width)
            z = bend(z) if place < len(weights) - 2 else z
        return z

    optimiser = torch.optim.Adam(weights, lr=LR)
    for _ in range(60 if config.small else STEPS):
        index = torch.randint(len(x), (batch,), generator=generator) if batch else slice(None)
        logits = run(x[index])
        loss = F.cross_entropy(logits.flatten(0, 1), y[index].repeat(SEEDS)) * SEEDS
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        share = (run(test_x).argmax(dim=2) == test_y).float().mean(dim=1)
        return run(ask).argmax(dim=2).to(torch.uint8).numpy(), share.numpy()


def _xor(seeds: int) -> Table:
    """What a line, a hand-made network and a trained one make of XOR."""
    import torch
    from torch import nn

    weights = least_squares(np.column_stack([XOR_X, np.ones(4)]), XOR_Y)
    x, y, solved = torch.tensor(XOR_X).float(), torch.tensor(XOR_Y).float(), {4: 0, 16: 0}
    for width, seed in itertools.product(solved, range(seeds)):
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Linear(2, width), nn.ReLU(), nn.Linear(width, 1))
        optimiser = torch.optim.Adam(model.parameters(), lr=0.05)
        for _ in range(300):
            loss = nn.functional.binary_cross_entropy_with_logits(model(x)[:, 0], y)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        solved[width] += int(((model(x)[:, 0] > 0) == (y > 0.5)).all())
    return [
        number("least squares on XOR, largest weight", np.abs(weights[:2]).max(), 0, 1e-9),
        number("least squares on XOR, bias", weights[2], 0.5, 1e-9),
        number("largest error of the network by hand", np.abs(solve_by_hand(XOR_X) - XOR_Y).max(),
               0, 1e-12),
        *(number(f"seeds of {seeds} on which trained {width} ReLUs solve XOR", count,
                 *((32, 1) if (seeds, width) == (50, 4) else ()),
                 sample="Adam 0.05, 300 steps, cross-entropy") for width, count in solved.items()),
    ]  # fmt: skip


def _playground(accuracy: np.ndarray) -> Table:
    """Test accuracy of a few corners of the playground, full batches."""
    rows: Table = []
    for d, name in enumerate(DATA):
        for label, (w, k, a) in {
            "no hidden layer": (2, 0, 1),
            "3 layers of 16, no activation": (2, 3, 0),
            "1 layer of 16, ReLU": (2, 1, 1),
            "3 layers of 16, ReLU": (2, 3, 1),
        }.items():
            what, sample = f"test accuracy, {name}, {label}", f"{(200, 300)[d]} points"
            rows.append(over_seeds(what, accuracy[d, w, k, a, 1], sample=sample))
    return rows
