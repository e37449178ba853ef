"""The book's engine against the scalar peer, and how long a slider's figure takes.

Peer of automatic differentiation: micrograd's rule (scalar nodes, a recursive order), written anew
from its description; the real package races instead when it is installed. Both sides take the same
step of a 2-16-16-1 network on 100 points, with the same weights, and must give the same gradient
before anything is timed. Times are CPU seconds.

Rows of the scans come from ``bench/book_scan.py`` when it is there and its peer is installed.
"""

import importlib.util
import statistics
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from labcore.blocks.autodiff import Tensor, backward
from labcore.runs import Progress, silent
from labcore.runtime import limit_threads

Row = dict[str, Any]
SIZES = (2, 16, 16, 1)
POINTS, GOAL, FIGURE_GOAL = 100, 1000.0, 0.050


class Scalar:
    """A number on a tape, by the rules of micrograd: one node a number, recursion for the order."""

    __slots__ = ("back", "data", "grad", "parents")

    def __init__(self, data: float, parents: tuple["Scalar", ...] = ()) -> None:
        self.data, self.grad, self.parents = data, 0.0, parents
        self.back: Callable[[], None] = lambda: None

    def __add__(self, other: "Scalar") -> "Scalar":
        out = Scalar(self.data + other.data, (self, other))

        def back() -> None:
            self.grad += out.grad
            other.grad += out.grad

        out.back = back
        return out

    def __mul__(self, other: "Scalar") -> "Scalar":
        out = Scalar(self.data * other.data, (self, other))

        def back() -> None:
            self.grad += other.data * out.grad
            other.grad += self.data * out.grad

        out.back = back
        return out

    def relu(self) -> "Scalar":
        """max(0, x)."""
        out = Scalar(max(self.data, 0.0), (self,))

        def back() -> None:
            self.grad += (out.data > 0) * out.grad

        out.back = back
        return out

    def backward(self) -> None:
        """Gradients of everything behind this node, by recursion."""
        order: list[Scalar] = []
        seen: set[Scalar] = set()

        def visit(node: Scalar) -> None:
            if node not in seen:
                seen.add(node)
                for parent in node.parents:
                    visit(parent)
                order.append(node)

        visit(self)
        self.grad = 1.0
        for node in reversed(order):
            node.back()


def rows(progress: Progress | None = None, quick: bool = False) -> list[Row]:
    """Every race, one row each."""
    limit_threads(1)
    report = progress or silent
    table = [engine(quick)]
    report(1, 3, "figures")
    table += figures()
    report(2, 3, "scans")
    if importlib.util.find_spec("bench.book_scan") is not None:
        try:
            table += importlib.import_module("bench.book_scan").rows(quick=quick)
        except ImportError as error:  # the peer is not installed
            warnings.warn(f"no rows for the scans: {error}", stacklevel=2)
    report(3, 3, "done")
    return table


def engine(quick: bool) -> Row:
    """One step (forward and gradient) of the network, vectorised against scalar."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(POINTS, SIZES[0]))
    y = np.sign(rng.normal(size=(POINTS, 1)))
    weights = [rng.normal(size=pair) / 2 for pair in zip(SIZES[:-1], SIZES[1:], strict=True)]
    biases = [rng.normal(size=n) / 4 for n in SIZES[1:]]
    value = scalar_value()
    ours, theirs = vector_step(x, y, weights, biases), scalar_step(value, x, y, weights, biases)
    gap = max(float(np.abs(a - b).max()) for a, b in zip(ours, theirs, strict=True))
    if gap > 1e-9:
        raise RuntimeError(f"the two sides give other gradients: they differ by {gap}")
    mine, peer = [], []
    for _ in range(2 if quick else 4):  # taking turns
        peer.append(seconds(lambda: scalar_step(value, x, y, weights, biases)))
        mine += [seconds(lambda: vector_step(x, y, weights, biases)) for _ in range(50)]
    named = "micrograd" if value is not Scalar else "micrograd's rule, written anew"
    return row(f"gradient step, {'-'.join(map(str, SIZES))}, {POINTS} points", named, "0.1.0",
               statistics.median(mine), statistics.median(peer), GOAL,
               f"gradients agree to {gap:.0e}")  # fmt: skip


def scalar_value() -> Any:
    """micrograd's own class where it is installed, else ours by the same rules."""
    try:
        from micrograd.engine import Value
    except ImportError:
        return Scalar
    return Value


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
    from labcore.book import figures_b01 as f1
    from labcore.book import figures_b02 as f2
    from labcore.book import figures_b03 as f3
    from labcore.book import figures_b04 as f4
    from labcore.book import figures_b05 as f5
    from labcore.book import figures_b06 as f6
    from labcore.book import figures_b07 as f7
    from labcore.book import figures_ba as fa
    from labcore.book import figures_bb as fb
    from labcore.book.experiment import load_result

    result = load_result()
    a = result.arrays
    four = [a[f"b04/{n}"] for n in ("penguin_logits", "penguin_species", "digit_logits",
                                    "digit_labels")]  # fmt: skip
    five = [a[f"b05/{n}"] for n in ("answers", "accuracy", "xor_x", "xor_y")]
    updates: dict[str, Callable[[], Any]] = {
        "B01": lambda: f1.scaling_figure(result.tables["b01/errors"]),
        "B02": lambda: f2.descent_figure(),
        "B03": lambda: f3.outlier_figure(a["b03/flippers"]),
        "B04": lambda: f4.temperature_figure(*four, temperature=0.7),
        "B05": lambda: f5.playground_figure(*five),
        "B06": lambda: f6.backward_figure(),
        "B07": lambda: f7.kernel_figure(a["b07/photo"]),
        "BA": lambda: fa.two_fits_figure(),
        "BB": lambda: fb.bins_figure(a["bb/bins"], a["bb/errors"], m=50),
    }
    table = []
    for name, update in updates.items():
        update()  # what is computed once does not count
        spent = statistics.median(seconds(update) for _ in range(7))
        table.append(row(f"one update of the centre-piece of {name}", "the goal, 50 ms", "-", spent,
                         FIGURE_GOAL, 1.0, "the page's own figure"))  # fmt: skip
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
