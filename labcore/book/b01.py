"""Chapter 1: the test error of a small network on MNIST as it is given more pictures.

The number of steps stays the same, so that only the data grow; a second run with three times the
steps shows which resource runs out. Test pictures choose nothing: no early stopping, no search.
"""

import numpy as np

from labcore.book.numbers import Findings, Size, number
from labcore.runs import Progress, Table

SECONDS = 90
SIZES = (100, 300, 1000, 3000, 10000, 30000)
EXPECTED = (0.382, 0.245, 0.159, 0.115, 0.098, 0.092)
STEPS, LONGER, BATCH, LR = 600, 1800, 64, 1e-3


def measure(config: Size, progress: Progress) -> Findings:
    """Test error for every training size, and again with more steps for the large ones."""
    import torch

    from labcore.book.training import accuracy, mlp, mnist_tensors, train

    x, y = mnist_tensors("train")
    test_x, test_y = mnist_tensors("test")
    seeds = 1 if config.small else 3
    runs = [(n, STEPS) for n in (SIZES[:4] if config.small else SIZES)]
    runs += [] if config.small else [(n, LONGER) for n in SIZES[-2:]]
    rows: Table = []
    for draw in range(seeds):
        seed = config.seed + draw
        for number_of_run, (n, steps) in enumerate(runs):
            progress(draw * len(runs) + number_of_run, seeds * len(runs), f"{n} pictures")
            generator = torch.Generator().manual_seed(seed)
            chosen = torch.randperm(len(x), generator=generator)[:n]
            model = mlp((784, 128, 10), seed)
            train(model, x[chosen], y[chosen], steps=steps, lr=LR, batch=min(BATCH, n),
                  generator=generator)  # fmt: skip
            error = 1 - accuracy(model, test_x, test_y)
            rows.append({"seed": seed, "n": n, "steps": steps, "error": error})
    majority = 1 - float(torch.bincount(test_y).max()) / len(test_y)
    found = Findings(tables={"errors": rows, "numbers": _numbers(rows, majority, seeds)})
    if not config.small:
        found.arrays["digits"] = _five_pictures()
    return found


def slope(sizes: np.ndarray, errors: np.ndarray) -> float:
    """Exponent of a power law: least squares on logarithms of both axes."""
    return float(np.polyfit(np.log(sizes), np.log(errors), 1)[0])


def _numbers(rows: Table, majority: float, seeds: int) -> Table:
    def errors(n: int, steps: int) -> np.ndarray:
        return np.array([r["error"] for r in rows if r["n"] == n and r["steps"] == steps])

    table: Table = []
    for n, steps in dict.fromkeys((r["n"], r["steps"]) for r in rows):
        found = errors(n, steps)
        expected = EXPECTED[SIZES.index(n)] if steps == STEPS else None
        table.append(
            number(f"test error, {n} pictures, {steps} steps", found.mean(), expected, 0.02,
                   sample=f"10 000 pictures, {seeds} seeds",
                   spread=float(found.std(ddof=1)) if seeds > 1 else None)
        )  # fmt: skip
    first = [n for n in SIZES[:5] if len(errors(n, STEPS))]
    means = np.array([errors(n, STEPS).mean() for n in first])
    expected = -0.30 if len(first) == 5 else None
    table.append(number(f"exponent over the first {len(first)} sizes",
                        slope(np.array(first), means), expected, 0.05,
                        sample=f"{seeds} seeds"))  # fmt: skip
    table.append(number("test error, always the most frequent digit", majority,
                        sample="10 000 pictures"))  # fmt: skip
    return table


def _five_pictures() -> np.ndarray:
    """The first five training pictures (5, 28, 28), 0 to 255."""
    from labcore.assets.images import mnist

    return mnist("train")[0][:5].copy()
