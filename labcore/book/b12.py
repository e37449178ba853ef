"""Chapter 12, graph models: what smoothing along friendships tells, and what it erases.

On Zachary's karate club: the spectrum of its Laplacian, diffusion from the two leaders, and graph
convolutional networks of growing depth that know the club of the two leaders only.
"""

from collections.abc import Sequence

import networkx as nx
import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from labcore.blocks.graph import (
    diffuse,
    dirichlet,
    gcn_layer,
    laplacian,
    normalised,
    random_walk_embedding,
)
from labcore.book.data import karate
from labcore.book.numbers import Findings, Size, number, over_seeds
from labcore.runs import Progress, Table

SECONDS = 10
LEADERS = (0, 33)  # the instructor and the officer: the only labels that a network sees
DEPTHS = (1, 2, 3, 4, 6, 8, 12, 16)
KNOWN_ENERGY = {0: (0.809, 0.05), 1: (0.439, 0.05), 4: (0.047, 0.02), 16: (0.002, 0.002)}


class GCN(nn.Module):
    """``depth`` graph convolutions with ReLU between them, on features that name each node.

    Networks of several seeds side by side: every weight is ``(seed, d, e)``, drawn as if alone.
    """

    def __init__(
        self, nodes: int, classes: int, *, depth: int, hidden: int, seeds: Sequence[int]
    ) -> None:
        super().__init__()
        sizes = [nodes, *[hidden] * (depth - 1), classes]
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        for fan_in, fan_out in zip(sizes, sizes[1:], strict=False):
            bound = (6 / (fan_in + fan_out)) ** 0.5  # Glorot and Bengio, 2010
            drawn = torch.stack([torch.rand(fan_in, fan_out, generator=g) for g in generators])
            self.weights.append(nn.Parameter((2 * drawn - 1) * bound))
            self.biases.append(nn.Parameter(torch.zeros(len(generators), 1, fan_out)))

    def forward(self, s: Float[Tensor, "n n"], x: Float[Tensor, "n d"]) -> Float[Tensor, "k n c"]:
        """Logits of every node, for each of k seeds."""
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = gcn_layer(s, x.relu() if layer else x, weight, bias)
        return x


def train_gcn(
    a: Float[Tensor, "n n"],
    clubs: Int[Tensor, " n"],
    *,
    depth: int = 2,
    hidden: int = 16,
    steps: int = 200,
    seeds: Sequence[int] = (0,),
    known: Sequence[int] = LEADERS,
) -> Float[Tensor, "k n c"]:
    """Train on the labels of ``known`` (Adam 0.01, decay 5e-4); every seed's logits."""
    s, x, known = normalised(a), torch.eye(len(a)), list(known)
    model = GCN(len(a), int(clubs.max()) + 1, depth=depth, hidden=hidden, seeds=seeds)
    optimiser = torch.optim.Adam(model.parameters(), lr=0.01, weight_decay=5e-4)
    labels = clubs[known].repeat(len(seeds))
    for _ in range(steps):
        logits = model(s, x)[:, known].flatten(0, 1)
        loss = F.cross_entropy(logits, labels) * len(seeds)  # the sum of the seeds' own means
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        found: Tensor = model(s, x)
    return found


def smoothing_ratio(s: Float[Tensor, "n n"], x: Float[Tensor, "n d"]) -> float:
    """Dirichlet energy of ``I - S`` per unit of size: 0 for features that S leaves alone."""
    lap = torch.eye(len(s), dtype=s.dtype) - s
    return float(dirichlet(lap, x).sum() / x.square().sum())


def spread_opinions(
    a: Float[np.ndarray, "n n"], *, share: float, steps: int
) -> tuple[Float[np.ndarray, "steps n"], Float[np.ndarray, " steps"]]:
    """Diffusion of +1 at one leader and -1 at the other.

    Args:
        a: Adjacency matrix.
        share: Step size as a share of the stability limit ``2 / lambda_max``.
        steps: How many steps.

    Returns:
        (states, energies): the value of every node after 0..steps steps, and its Dirichlet energy.
    """
    lap = laplacian(torch.from_numpy(a))
    start = torch.zeros(len(a), dtype=lap.dtype)
    start[list(LEADERS)] = torch.tensor([-1.0, 1.0], dtype=lap.dtype)
    step = share * 2 / float(torch.linalg.eigvalsh(lap)[-1])
    states = diffuse(lap, start, step=step, n=steps)
    return states.numpy(), dirichlet(lap, states.T).numpy()


def measure(config: Size, progress: Progress) -> Findings:
    """Spectrum, random walks, smoothing, and GCNs by depth and seed."""
    raw, labels = karate()
    a, clubs = torch.tensor(raw, dtype=torch.float64), torch.tensor(labels)
    seeds = range(config.seed, config.seed + (2 if config.small else 10))
    depths = DEPTHS[1::3] if config.small else DEPTHS
    rows: Table = []
    chances = np.zeros((len(depths), len(raw)))
    for i, depth in enumerate(depths):
        progress(i, len(depths), f"GCN of {depth} layers")
        logits = train_gcn(a.float(), clubs, depth=depth, seeds=seeds)
        chances[i] = logits.softmax(-1)[..., 1].mean(0).numpy()
        rows += [{"depth": depth, "seed": seed, **_scores(own, clubs)}
                 for seed, own in zip(seeds, logits, strict=True)]  # fmt: skip
    alone = train_gcn(0 * a.float(), clubs, seeds=seeds).argmax(-1) == clubs
    numbers = [*_spectrum(a, clubs), *_smoothing(a), *_trained(rows),
               over_seeds("accuracy of 2 layers that do not see the graph",
                          alone.double().mean(1).numpy(), sample="34 nodes, 2 labels")]  # fmt: skip
    positions = nx.spring_layout(nx.from_numpy_array(raw), seed=7, iterations=200, k=0.35)
    places = np.array([positions[n] for n in range(len(raw))], dtype=np.float32)
    arrays = {"places": places, "depths": np.array(depths), "chances": chances.astype(np.float32)}
    return Findings(arrays, {"numbers": numbers, "gcn": rows})


def _scores(logits: Float[Tensor, "n c"], clubs: Int[Tensor, " n"]) -> dict[str, float]:
    """Share of members named rightly, and how much their logits differ, per unit of size."""
    return {
        "accuracy": (logits.argmax(-1) == clubs).double().mean().item(),
        "difference": float((logits - logits.mean(0)).square().sum() / logits.square().sum()),
    }


def _spectrum(a: Tensor, clubs: Tensor) -> Table:
    values, vectors = torch.linalg.eigh(laplacian(a))
    cut = (vectors[:, 1] > 0).long()
    agree = max(int((cut == clubs).sum()), int((cut != clubs).sum()))
    back = random_walk_embedding(a, 3)[0]
    return [
        number("largest eigenvalue of L", float(values[-1]), 18.1367, 1e-4),
        number("stability limit of the step", 2 / float(values[-1]), 0.110274, 1e-6),
        number("second eigenvalue of L", float(values[1]), 0.468525, 1e-6),
        number("members on the right side of its eigenvector, of 34", agree, 32),
        number("walk from node 0 back after 2 steps", float(back[1]), 0.324653, 1e-6),
        number("walk from node 0 back after 3 steps", float(back[2]), 0.101007, 1e-6),
    ]


def _smoothing(a: Tensor, draws: int = 200) -> Table:
    """Energy of random features after k smoothings; the known figures are of one draw."""
    s = normalised(a)
    x = torch.randn(draws, 34, 16, dtype=a.dtype, generator=torch.Generator().manual_seed(0))
    found = []
    for k in KNOWN_ENERGY:
        smooth = torch.linalg.matrix_power(s, k)
        ratios = torch.tensor([smoothing_ratio(s, smooth @ one) for one in x])
        found.append(over_seeds(f"energy of random features after {k} smoothings", ratios.numpy(),
                                *KNOWN_ENERGY[k], sample="34 x 16 numbers",
                                runs="draws"))  # fmt: skip
    return found


def _trained(rows: Table) -> Table:
    found = []
    for depth in sorted({row["depth"] for row in rows}):
        accuracy = [row["accuracy"] for row in rows if row["depth"] == depth]
        what = f"accuracy of a GCN of {depth} {'layer' if depth == 1 else 'layers'}"
        found.append(over_seeds(what, accuracy, 0.968 if depth == 2 else None, 0.02,
                                sample="34 nodes, 2 labels"))  # fmt: skip
    return found
