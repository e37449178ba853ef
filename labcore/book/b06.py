"""Chapter 6: the tape on small graphs, and the penguin classifier trained beside torch.

``wrong_trace`` visits nodes in the order in which they are first discovered, which is the mistake
that the centre-piece shows.
"""

import numpy as np

from labcore.blocks.autodiff import (
    Array,
    Step,
    Tensor,
    backward,
    checkpoint,
    pull,
    stored_values,
    trace,
)
from labcore.book import data
from labcore.book.numbers import Findings, Size, number
from labcore.runs import Progress, Table

SECONDS = 2
STEPS, LR, HIDDEN = 200, 0.1, 8


def small_graph(at: float = 1.5) -> Tensor:
    """L = u sin u + u with u = x², its nodes named."""
    x = Tensor(at, "x")
    u = x * x
    s = u.sin()
    p = u * s
    out = p + u
    for node, name in ((u, "u = x²"), (s, "s = sin u"), (p, "p = u·s"), (out, "L = p + u")):
        node.name = name
    return out


def wrong_trace(output: Tensor) -> list[Step]:
    """Visits in the order of first discovery: a node may fire before all its consumers did."""
    adjoints: dict[Tensor, Array] = {output: np.ones(output.shape)}
    queue, seen, steps = [output], {output}, []
    while queue:
        node = queue.pop(0)
        sent = pull(node, adjoints[node])
        steps.append(Step(node, adjoints[node], sent))
        for parent, share in sent:
            adjoints[parent] = adjoints.get(parent, np.zeros(parent.shape)) + share
            if parent not in seen:
                seen.add(parent)
                queue.append(parent)
    return steps


def cross_entropy(logits: Tensor, y: np.ndarray) -> Tensor:
    """Mean cross-entropy on the tape; the largest logit of each row is taken out as a constant."""
    shifted = logits - logits.value.max(axis=1, keepdims=True)
    wanted = np.eye(logits.shape[1])[y]
    return (shifted.exp().sum(1).log() - (shifted * wanted).sum(1)).mean()


def start_weights(seed: int) -> list[np.ndarray]:
    """Weights of a 4-8-3 network with a tanh."""
    rng = np.random.default_rng(seed)
    return [rng.normal(size=(4, HIDDEN)) / 2, np.zeros(HIDDEN),
            rng.normal(size=(HIDDEN, 3)) / np.sqrt(HIDDEN), np.zeros(3)]  # fmt: skip


def train_on_tape(x: np.ndarray, y: np.ndarray, seed: int, steps: int) -> np.ndarray:
    """Losses of full-batch gradient descent with the engine (steps,)."""
    weights, losses = start_weights(seed), np.empty(steps)
    for step in range(steps):
        leaves = [Tensor(w) for w in weights]
        loss = cross_entropy((x @ leaves[0] + leaves[1]).tanh() @ leaves[2] + leaves[3], y)
        found = backward(loss)
        weights = [w - LR * found[leaf] for w, leaf in zip(weights, leaves, strict=True)]
        losses[step] = float(loss.value)
    return losses


def train_in_torch(x: np.ndarray, y: np.ndarray, seed: int, steps: int) -> np.ndarray:
    """The same in torch, float64."""
    import torch

    weights = [torch.tensor(w, requires_grad=True) for w in start_weights(seed)]
    inputs, labels, losses = torch.tensor(x), torch.tensor(y), np.empty(steps)
    for step in range(steps):
        hidden = (inputs @ weights[0] + weights[1]).tanh()
        loss = torch.nn.functional.cross_entropy(hidden @ weights[2] + weights[3], labels)
        for w, g in zip(weights, torch.autograd.grad(loss, weights), strict=True):
            w.data -= LR * g
        losses[step] = loss.item()
    return losses


def sigmoid_stack(depth: int, seed: int, width: int = 16) -> list[float]:
    """Norm of the loss's gradient by the weights of each layer of a sigmoid stack."""
    rng = np.random.default_rng(seed)
    layers = [Tensor(rng.normal(size=(width, width)) / np.sqrt(width)) for _ in range(depth)]
    x = Tensor(rng.normal(size=(32, width)), constant=True)
    for layer in layers:
        x = (x @ layer).sigmoid()
    found = backward((x * x).mean())
    return [float(np.linalg.norm(found[layer])) for layer in layers]


def _stored(keep: bool) -> int:
    """Stored values of a chain of 6 blocks of 4 layers, with or without checkpoints."""

    def block(x: Tensor) -> Tensor:
        for _ in range(4):
            x = (x * 0.9).tanh()
        return x

    x = Tensor(np.ones(100))
    step = checkpoint(block) if keep else block
    for _ in range(6):
        x = step(x)
    return stored_values(x.sum())


def measure(config: Size, progress: Progress) -> Findings:
    """Known answers, the cost of order and memory, and the distance to torch."""
    output = small_graph()
    x = trace(output)[-1].node
    doubled = Tensor(1.0)
    for _ in range(12):
        doubled = doubled + doubled
    visits = trace(doubled)
    train, _, _ = data.course_split(data.penguins())
    steps = 40 if config.small else STEPS
    progress(1, 2, "penguins on the tape and in torch")
    ours = train_on_tape(train.x, train.y, config.seed, steps)
    theirs = train_in_torch(train.x, train.y, config.seed, steps)
    norms = sigmoid_stack(20, config.seed)
    wrong = sum(float(s.adjoint) * 2 * 1.5 for s in wrong_trace(output) if s.node.name == "u = x²")
    numbers: Table = [
        number("L at x = 1.5", float(output.value), 4.000665, 1e-6),
        number("dL/dx at x = 1.5", float(backward(output)[x]), 1.094048, 1e-6),
        number("dL/dx in the wrong order", wrong),
        number("nodes of 12 doublings", len(visits), 13),
        number("VJP calls of 12 doublings", sum(bool(v.sent) for v in visits), 12),
        number("largest gap of the loss to torch (nats)", np.abs(ours - theirs).max(), 0, 1e-9,
               sample=f"{len(train.y)} penguins, {steps} steps"),
        number("train loss at the end (nats)", ours[-1], sample=f"{len(train.y)} penguins"),
        number("log₄ of first/last gradient, 20 sigmoid layers",
               np.log(norms[0] / norms[-1]) / np.log(4), sample="width 16, 32 rows"),
        number("stored values, 24 layers of 100, plain", _stored(False)),
        number("stored values, a checkpoint every 4 layers", _stored(True)),
    ]  # fmt: skip
    arrays = {"losses": ours.astype(np.float32), "gradient_norms": np.array(norms)}
    return Findings(arrays, {"numbers": numbers})
