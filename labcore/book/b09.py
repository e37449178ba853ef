"""Chapter 9, scaling up: networks of growing depth on the digits, plain, with skips, with norms.

1200 digits train, the other 597 test; the test rows choose nothing.
"""

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from labcore.blocks.norm import ResidualStack, layer_norm, linear
from labcore.book import data
from labcore.book.numbers import Findings, Size, over_seeds
from labcore.runs import Progress, Table

SECONDS = 11
TRAIN, BATCH, EPOCHS, WIDTH = 1200, 100, 8, 64
KINDS = {"plain": (False, False), "residual": (True, False), "residual + norm": (True, True)}
DEPTHS = (2, 5, 10, 20, 30)
KNOWN = {("plain", 2): 0.873, ("residual", 2): 0.889, ("residual + norm", 2): 0.960,
         ("plain", 20): 0.087, ("residual", 20): 0.908, ("residual + norm", 20): 0.965}  # fmt: skip


class DeepClassifier(nn.Module):
    """A stack of equal layers on the 64 pixels, and a linear read-out of its last state."""

    def __init__(self, depth: int, kind: str, generator: torch.Generator) -> None:
        super().__init__()
        residual, norm = KINDS[kind]
        self.norm = norm
        self.stack = ResidualStack(depth, WIDTH, residual, norm, generator=generator)
        self.head = linear(WIDTH, 10, generator)

    def forward(self, x: Float[Tensor, "b d"]) -> Float[Tensor, "b c"]:
        """Logits."""
        h = self.stack(x)
        return self.head(layer_norm(h) if self.norm else h)


def digits(seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Training pixels and labels, test pixels and labels; pixels from 0 to 1."""
    table = data.digits()
    train, test = data.split_rows(len(table.y), (TRAIN, len(table.y) - TRAIN), seed)
    x, y = torch.tensor(table.x / 16, dtype=torch.float32), torch.tensor(table.y)
    return x[train], y[train], x[test], y[test]


def gradients(model: DeepClassifier, x: Tensor, y: Tensor) -> Float[np.ndarray, " depth"]:
    """Norm of the loss's gradient in the weights of every layer."""
    model.zero_grad()
    F.cross_entropy(model(x), y).backward()
    weights = [w for name, w in model.stack.named_parameters() if name.endswith("weight")]
    return np.array([float(w.grad.norm()) for w in weights if w.grad is not None])


def train(
    depth: int, kind: str, *, seed: int = 0, epochs: int = EPOCHS
) -> tuple[Float[np.ndarray, " depth"], Float[np.ndarray, " epochs"], float]:
    """Adam, learning rate 1e-3; gradient norms at the start, losses by epoch, test accuracy."""
    generator = torch.Generator().manual_seed(seed)
    x, y, x_test, y_test = digits(seed)
    model = DeepClassifier(depth, kind, generator)
    start = gradients(model, x[:BATCH], y[:BATCH])
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)
    losses = []
    for _ in range(epochs):
        seen = 0.0
        for rows in torch.randperm(TRAIN, generator=generator).split(BATCH):
            loss = F.cross_entropy(model(x[rows]), y[rows])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            seen += loss.item() * len(rows) / TRAIN
        losses.append(seen)
    with torch.no_grad():
        accuracy = (model(x_test).argmax(-1) == y_test).double().mean().item()
    return start, np.array(losses), accuracy


def first_to_last(activation: str, *, depth: int = 20, seed: int = 0) -> float:
    """Gradient norm of the first layer over the last one's, in a plain stack at its start."""
    generator = torch.Generator().manual_seed(seed)
    x, y, *_ = digits(seed)
    model = DeepClassifier(depth, "plain", generator)
    model.stack.activation = activation
    norms = gradients(model, x[:BATCH], y[:BATCH])
    return float(norms[0] / norms[-1])


def measure(config: Size, progress: Progress) -> Findings:
    """Every kind at every depth, over seeds."""
    depths = (2, 20) if config.small else DEPTHS
    epochs = 2 if config.small else EPOCHS
    runs = [(kind, depth, seed) for depth in depths for kind in KINDS for seed in config.seeds]
    rows: Table = []
    found = Findings()
    for i, (kind, depth, seed) in enumerate(runs):
        progress(i, len(runs), f"{kind}, {depth} layers")
        start, losses, accuracy = train(depth, kind, seed=seed, epochs=epochs)
        rows.append({"kind": kind, "depth": depth, "seed": seed, "accuracy": accuracy,
                     "ratio": float(start[0] / start[-1])})  # fmt: skip
        if seed == config.seed:
            found.arrays[f"gradients/{kind}/{depth}"] = start.astype(np.float32)
            found.arrays[f"losses/{kind}/{depth}"] = losses.astype(np.float32)
    numbers: Table = []
    for kind, depth in KNOWN:
        right = [r["accuracy"] for r in rows if r["kind"] == kind and r["depth"] == depth]
        wanted = None if config.small else KNOWN[kind, depth]
        numbers.append(over_seeds(f"test accuracy, {kind}, {depth} layers", right, wanted, 0.02,
                                  sample="597 digits"))  # fmt: skip
    for activation, power in (("relu", -6.4), ("sigmoid", -16.1)):
        logs = [np.log10(first_to_last(activation, seed=s)) for s in range(5)]
        numbers.append(over_seeds(f"log10 of first/last gradient, plain 20 layers, {activation}",
                                  logs, power, 0.5, sample="100 digits"))  # fmt: skip
    found.tables |= {"numbers": numbers, "runs": rows}
    return found
