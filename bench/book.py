"""The book's engine against micrograd, its scan against mambapy, and how long a slider takes.

``lab bench --setup-peers micrograd mambapy`` installs the peers. The engines take the same step of
a 2-16-16-1 network on 100 points, with the same weights, and must give the same gradient before
anything is timed; the scans are in :mod:`.book_scan`. Times are CPU seconds of one thread, medians
over turns.
"""

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from bench import book_scan, peers
from bench.book_figures import centre_pieces
from labcore.blocks.autodiff import Tensor, backward
from labcore.book.experiment import load_result
from labcore.runs import Progress, silent
from labcore.runtime import limit_threads

Row = dict[str, Any]
SIZES = (2, 16, 16, 1)
POINTS, GOAL, FIGURE_GOAL = 100, 1000.0, 0.050


def rows(progress: Progress | None = None, quick: bool = False) -> list[Row]:
    """Every race, one row each.

    Raises:
        PeerMissing: micrograd or mambapy is not installed; the message names the command.
    """
    limit_threads(1)
    report = progress or silent
    table = [engine(quick)]
    report(1, 3, "figures")
    table += figures()
    report(2, 3, "scans")
    table += book_scan.rows(quick=quick)
    report(3, 3, "done")
    return table


def engine(quick: bool) -> Row:
    """One step (forward and gradient) of the network, vectorised against scalar."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(POINTS, SIZES[0]))
    y = np.sign(rng.normal(size=(POINTS, 1)))
    weights = [rng.normal(size=pair) / 2 for pair in zip(SIZES[:-1], SIZES[1:], strict=True)]
    biases = [rng.normal(size=n) / 4 for n in SIZES[1:]]
    version = peers.use("micrograd")
    from micrograd.engine import Value

    ours, theirs = vector_step(x, y, weights, biases), scalar_step(Value, x, y, weights, biases)
    gap = max(float(np.abs(a - b).max()) for a, b in zip(ours, theirs, strict=True))
    if gap > 1e-9:
        raise RuntimeError(f"the two sides give other gradients: they differ by {gap}")
    mine, peer = [], []
    for _ in range(2 if quick else 4):  # taking turns
        peer.append(seconds(lambda: scalar_step(Value, x, y, weights, biases)))
        mine += [seconds(lambda: vector_step(x, y, weights, biases)) for _ in range(50)]
    shape = "-".join(map(str, SIZES))
    return row(f"gradient step, {shape}, {POINTS} points", "micrograd", version,
               statistics.median(mine), statistics.median(peer), GOAL,
               f"gradients agree to {gap:.0e}")  # fmt: skip


def vector_step(x: Any, y: Any, weights: Any, biases: Any) -> list[np.ndarray]:
    """Our engine: mean squared error of the whole batch, gradients of all parameters."""
    leaves = [(Tensor(w), Tensor(b)) for w, b in zip(weights, biases, strict=True)]
    z = Tensor(x, constant=True)
    for place, (w, b) in enumerate(leaves):
        z = z @ w + b
        z = z.relu() if place < len(leaves) - 1 else z
    found = backward(((z - y) ** 2).mean())
    return [found[leaf] for pair in leaves for leaf in pair]


def scalar_step(value: Any, x: Any, y: Any, weights: Any, biases: Any) -> list[np.ndarray]:
    """The scalar engine: the same network, one node a number."""
    w = [[[value(float(v)) for v in r] for r in matrix] for matrix in weights]
    b = [[value(float(v)) for v in vector] for vector in biases]
    total = value(0.0)
    for point, target in zip(x, y, strict=True):
        z = [value(float(v)) for v in point]
        for place, (matrix, bias) in enumerate(zip(w, b, strict=True)):
            outputs = []
            for j in range(len(bias)):
                s = bias[j]
                for i, entry in enumerate(z):
                    s = s + entry * matrix[i][j]
                outputs.append(s.relu() if place < len(w) - 1 else s)
            z = outputs
        error = z[0] + value(-float(target[0]))
        total = total + error * error * value(1 / len(x))
    total.backward()
    found = []
    for matrix, bias in zip(w, b, strict=True):
        found.append(np.array([[v.grad for v in r] for r in matrix]))
        found.append(np.array([v.grad for v in bias]))
    return found


def figures() -> list[Row]:
    """CPU time of one update of each centre-piece, against the 50 ms that a slider may take."""
    result = load_result()
    table = []
    for name, (draw, *settings) in centre_pieces(result).items():
        draw(**settings[0])  # what is computed once does not count
        spent = max(
            statistics.median(seconds(lambda d=draw, s=setting: d(**s)) for _ in range(5))
            for setting in settings
        )
        table.append(row(f"one update of the centre-piece of {name}", "the goal, 50 ms", "-", spent,
                         FIGURE_GOAL, 1.0, "the slower of two settings"))  # fmt: skip
    return table


def seconds(run: Callable[[], Any]) -> float:
    """CPU seconds of one call."""
    start = time.process_time()
    run()
    return time.process_time() - start


def row(
    name: str, peer: str, version: str, ours: float, theirs: float, goal: float, agreement: str
) -> Row:
    """One line of the table; the ratio says how many times cheaper ours is."""
    return {
        "name": name,
        "work": "book",
        "peer": peer,
        "peer_version": version,
        "ours_s": ours,
        "peer_s": theirs,
        "ratio": theirs / ours,
        "goal": goal,
        "agreement": agreement,
        "threads": 1,
    }
