"""Chapter 1: the test error of a small network on MNIST as it is given more pictures.

The number of steps stays the same, so that only the data grow; a second run with three times the
steps shows which resource runs out. Test pictures choose nothing: no early stopping, no search.
"""

import numpy as np

from labcore.book.numbers import Findings, Size, number, over_seeds
from labcore.runs import Progress, Table

SECONDS = 25
SIZES = (100, 300, 1000, 3000, 10000, 30000)
KNOWN_ON = 2000  # the known errors are those of the first 2000 test pictures, the harder ones
EXPECTED = (0.382, 0.245, 0.159, 0.115, 0.098, 0.092)
STEPS, LONGER, BATCH, LR = 600, 1800, 64, 1e-3


def measure(config: Size, progress: Progress) -> Findings:
    """Test error for every training size, and again with more steps for the large ones."""
    import torch

    from labcore.book.training import accuracy, mlp, mnist_tensors, train

    x, y = mnist_tensors("train")
    test_x, test_y = mnist_tensors("test")
    runs = [(n, STEPS) for n in (SIZES[:4] if config.small else SIZES)]
    runs += [] if config.small else [(n, LONGER) for n in SIZES[-2:]]
    rows: Table = []
    for draw, seed in enumerate(config.seeds):
        for place, (n, steps) in enumerate(runs):
            progress(draw * len(runs) + place, len(config.seeds) * len(runs), f"{n} pictures")
            model = mlp((784, 128, 10), seed)
            train(model, x[:n], y[:n], steps=steps, lr=LR, batch=min(BATCH, n),
                  generator=torch.Generator().manual_seed(seed))  # fmt: skip
            for first in (2000, len(test_x)):
                error = 1 - accuracy(model, test_x[:first], test_y[:first])
                rows.append({"seed": seed, "n": n, "steps": steps, "tested": first,
                             "error": error})  # fmt: skip
    majority = 1 - float(torch.bincount(test_y).max()) / len(test_y)
    found = Findings(tables={"errors": rows, "numbers": _numbers(rows, majority)})
    if not config.small:
        found.arrays["digits"] = _five_pictures()
    return found


def slope(sizes: np.ndarray, errors: np.ndarray) -> float:
    """Exponent of a power law: least squares on logarithms of both axes."""
    return float(np.polyfit(np.log(sizes), np.log(errors), 1)[0])


def _numbers(rows: Table, majority: float) -> Table:
    def errors(n: int, steps: int, tested: int) -> np.ndarray:
        wanted = {"n": n, "steps": steps, "tested": tested}
        return np.array([r["error"] for r in rows if wanted.items() <= r.items()])

    table: Table = []
    for tested in dict.fromkeys(r["tested"] for r in rows):
        means = {}
        for n, steps in dict.fromkeys((r["n"], r["steps"]) for r in rows):
            found = errors(n, steps, tested)
            known = steps == STEPS and tested == KNOWN_ON
            if steps == STEPS and n in SIZES[:5]:
                means[n] = found.mean()
            table.append(
                over_seeds(f"test error, {n} pictures, {steps} steps", found,
                           EXPECTED[SIZES.index(n)] if known else None, 0.02,
                           sample=f"first {tested} test pictures")
            )  # fmt: skip
        whole = len(means) == 5 and tested == KNOWN_ON
        fitted = slope(np.array(list(means)), np.array(list(means.values())))
        table.append(number(f"exponent over the first {len(means)} sizes", fitted,
                            -0.30 if whole else None, 0.05 if whole else 0.0,
                            sample=f"first {tested} test pictures, mean of seeds"))  # fmt: skip
    table.append(number("test error, always the most frequent digit", majority,
                        sample="10 000 pictures"))  # fmt: skip
    return table


def _five_pictures() -> np.ndarray:
    """The first five training pictures (5, 28, 28), 0 to 255."""
    from labcore.assets.images import mnist

    return mnist("train")[0][:5].copy()
