"""Chapter 4, linear models: penguins by softmax regression, digits for calibration and sets.

The penguin split is that of the author's 2026 course. Digits are shuffled anew for every seed into
training, calibration and test rows; temperature and threshold see calibration rows only.
"""

import numpy as np

from labcore.blocks.calibration import conformal_threshold, ece, fit_temperature, predict_sets
from labcore.blocks.linear import fit_logistic, least_squares, softmax
from labcore.book import data
from labcore.book.numbers import Findings, Size, number, over_seeds
from labcore.runs import Progress, Table

SECONDS = 2
STEPS, LR, ALPHA = 200, 0.1, 0.1
SPLIT = (1000, 398, 399)  # digits: training, calibration, test
DIGIT_STEPS, DIGIT_LR = 600, 2.0


def measure(config: Size, progress: Progress) -> Findings:
    """Both experiments."""
    found = Findings()
    numbers: Table = [*_line(), *_course(found)]
    seeds = 2 if config.small else 10
    rows: Table = []
    for draw in range(seeds):
        progress(draw, seeds, f"digits, split {draw}")
        row, arrays = _digits(config.seed + draw)
        rows.append(row)
        if draw == 0:
            found.arrays |= arrays
    found.tables["digits"] = rows
    numbers += _over_seeds(rows)
    found.tables["numbers"] = numbers
    return found


def _line() -> Table:
    """Body mass on flipper length, all 342 penguins."""
    birds = data.penguins()
    flipper, mass = birds.x[:, 2], birds.x[:, 3]
    slope, bias = least_squares(np.column_stack([flipper, np.ones(len(mass))]), mass)
    rest = mass - slope * flipper - bias
    sample = f"{len(mass)} penguins"
    return [
        number("slope, body mass on flipper (g/mm)", slope, 49.6856, 1e-4, sample=sample),
        number("bias (g)", bias, -5780.831, 1e-3, sample=sample),
        number("variance of the rest (g²)", (rest**2).mean(), 154546.2, 0.1, sample=sample),
        number("R²", 1 - rest.var() / mass.var(), 0.7590, 1e-4, sample=sample),
    ]


def _course(found: Findings) -> Table:
    """Softmax regression from zeros on the course split, two learning rates."""
    train, validation, test = data.course_split(data.penguins())
    expected = {0.1: (201, 67, 67), 10.0: (205, 68, 67)}
    numbers: Table = []
    for lr, counts in expected.items():
        # the history holds the loss before each update: one step more shows the last one's
        _, _, history = fit_logistic(train.x, train.y, classes=3, lr=lr, steps=STEPS + 1)
        W, b, _ = fit_logistic(train.x, train.y, classes=3, lr=lr, steps=STEPS)
        parts = zip(("train", "validation", "test"), (train, validation, test), counts, strict=True)
        for name, part, count in parts:
            right = ((part.x @ W + b).argmax(axis=1) == part.y).sum()
            sample = f"{len(part.y)} penguins"
            numbers.append(number(f"right, {name}, lr {lr:g}", right, count, sample=sample))
        if lr == LR:
            found.arrays["penguin_logits"] = (test.x @ W + b).astype(np.float32)
            found.arrays["penguin_species"] = test.y.astype(np.uint8)
            sample = f"{len(train.y)} penguins"
            numbers += [
                number("loss at zero weights (nats)", history.loss[0], np.log(3), 1e-9),
                number("train loss after 200 steps", history.loss[-1], 0.10689, 1e-5,
                       sample=sample),
            ]  # fmt: skip
    majority = np.bincount(test.y).max()
    numbers.append(number("right, test, always Adelie", majority, 31, sample="69 penguins"))
    return numbers


def _digits(seed: int) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """Softmax regression on one split of the digits, its calibration and its sets."""
    pictures = data.digits()
    train, held, test = (pictures.take(i) for i in data.split_rows(len(pictures.y), SPLIT, seed))
    W, b, _ = fit_logistic(
        train.x / 16, train.y, classes=10, lr=DIGIT_LR, steps=DIGIT_STEPS, ridge=0.0
    )
    held_z, test_z = held.x / 16 @ W + b, test.x / 16 @ W + b
    heat = fit_temperature(held_z, held.y)
    row: dict[str, float] = {"seed": seed, "temperature": heat}
    row["accuracy"] = float((test_z.argmax(axis=1) == test.y).mean())
    row["majority"] = float(np.bincount(test.y).max() / len(test.y))
    row["ece"] = ece(softmax(test_z), test.y)
    row["ece_tempered"] = ece(softmax(test_z, temperature=heat), test.y)
    p_held, p_test = softmax(held_z), softmax(test_z)
    gamma = conformal_threshold(p_held[np.arange(len(held.y)), held.y], alpha=ALPHA)
    sets = predict_sets(p_test, gamma)
    row["gamma"] = gamma
    row["coverage"] = float(sets[np.arange(len(test.y)), test.y].mean())
    row["set_size"] = float(sets.sum(axis=1).mean())
    arrays = {
        "digit_logits": test_z.astype(np.float32),
        "digit_labels": test.y.astype(np.uint8),
        "held_logits": held_z.astype(np.float32),
        "held_labels": held.y.astype(np.uint8),
    }
    return row, arrays


def _over_seeds(rows: Table) -> Table:
    expected = {
        "coverage": ("coverage of sets at α = 0.1", 0.9, 0.03),
        "set_size": ("mean size of the sets", 0.95, 0.05),
        "accuracy": ("accuracy, digits", None, 0.0),
        "majority": ("accuracy, always the most frequent digit", None, 0.0),
        "ece": ("calibration error (ECE), 10 bins", None, 0.0),
        "ece_tempered": ("ECE at the fitted temperature", None, 0.0),
        "temperature": ("fitted temperature", None, 0.0),
    }
    sample = f"{SPLIT[2]} test digits"
    return [
        over_seeds(what, [r[key] for r in rows], want, band, sample=sample, runs="splits")
        for key, (what, want, band) in expected.items()
    ]
