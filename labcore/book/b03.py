"""Chapter 3: what losses ask for, on penguins: constants, one outlier, learned variance, memory."""

import numpy as np

from labcore.blocks.losses import lookup_table, minimise_location, squared
from labcore.blocks.prob import mle_gaussian
from labcore.book import data
from labcore.book.numbers import Findings, Size, number
from labcore.runs import Progress, Table

SECONDS = 1
FAR = 2000.0  # mm: a flipper that somebody typed with one zero too many
SAMPLE = 20


def measure(config: Size, progress: Progress) -> Findings:
    """Exact figures of chapter 3."""
    birds = data.penguins()
    flipper, mass = birds.x[:, 2], birds.x[:, 3]
    spoiled = np.append(flipper, FAR)
    birds_said = f"{len(flipper)} penguins"
    numbers: Table = [
        number("mean flipper (mm)", flipper.mean(), 200.915, 1e-3, sample=birds_said),
        number("median flipper (mm)", np.median(flipper), 197, sample=birds_said),
        number("mean with one value of 2000 (mm)", spoiled.mean(), 206.160, 1e-3,
               sample="343 values"),
        number("median with one value of 2000 (mm)", np.median(spoiled), 197, sample="343 values"),
        number("minimiser of the squared loss (mm)", minimise_location(squared, flipper),
               flipper.mean(), 1e-4, sample=birds_said),
        number("most likely variance of body mass (g²)", mle_gaussian(mass)[1], 641250.6, 0.1,
               sample=birds_said),
        number("unbiased variance of body mass (g²)", mle_gaussian(mass, unbiased=True)[1],
               643131.1, 0.1, sample=birds_said),
    ]  # fmt: skip
    numbers += _memory(birds, config.seed)
    order = np.sort(flipper)
    few = order[np.linspace(5, len(order) - 6, SAMPLE).round().astype(int)]
    return Findings({"flippers": few}, {"numbers": numbers})


def _memory(birds: data.Rows, seed: int) -> Table:
    """The model that remembers: body mass looked up by flipper and bill."""
    first, second = data.split_rows(len(birds.y), (242, 100), seed)
    train, test = birds.take(first), birds.take(second)
    default = float(train.x[:, 3].mean())
    model = lookup_table(train.x[:, :3], train.x[:, 3], default)
    on_train = squared(train.x[:, 3] - model(train.x[:, :3])).mean()
    on_test = squared(test.x[:, 3] - model(test.x[:, :3])).mean()
    constant = squared(test.x[:, 3] - default).mean()
    return [
        number("risk of the look-up table, train (g²)", on_train, 0, sample="242 penguins"),
        number("risk of the look-up table, test (g²)", on_test, constant, 1e-6,
               sample="100 other penguins; expected: that of its default alone"),
    ]  # fmt: skip
