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

from labcore.blocks.graph import dirichlet, gcn_layer, laplacian, normalised, random_walk_embedding
from labcore.book.data import karate
from labcore.book.numbers import Findings, Size, number, over_seeds
from labcore.runs import Progress, Table

SECONDS = 85
LEADERS = (0, 33)  # the instructor and the officer: the only labels that a network sees
DEPTHS = (1, 2, 3, 4, 6, 8, 12, 16)
KNOWN_ENERGY = {0: (0.809, 0.05), 1: (0.439, 0.05), 4: (0.047, 0.02), 16: (0.002, 0.002)}


class GCN(nn.Module):
    """``depth`` graph convolutions with ReLU between them, on features that name each node."""

    def __init__(
        self, nodes: int, classes: int, *, depth: int, hidden: int, generator: torch.Generator
    ) -> None:
        super().__init__()
        sizes = [nodes, *[hidden] * (depth - 1), classes]
        self.weights = nn.ParameterList()
        self.biases = nn.ParameterList(torch.zeros(size) for size in sizes[1:])
        for fan_in, fan_out in zip(sizes, sizes[1:], strict=False):
            bound = (6 / (fan_in + fan_out)) ** 0.5  # Glorot and Bengio, 2010
            drawn = torch.rand(fan_in, fan_out, generator=generator)
            self.weights.append(nn.Parameter((2 * drawn - 1) * bound))

    def forward(self, s: Float[Tensor, "n n"], x: Float[Tensor, "n d"]) -> Float[Tensor, "n c"]:
        """Logits of every node."""
        return self.states(s, x)[-1]

    def states(self, s: Float[Tensor, "n n"], x: Float[Tensor, "n d"]) -> list[Tensor]:
        """What every layer gives; the last are the logits."""
        found: list[Tensor] = []
        for weight, bias in zip(self.weights, self.biases, strict=True):
            x = gcn_layer(s, x.relu() if found else x, weight, bias)
            found.append(x)
        return found


def train_gcn(
    a: Float[Tensor, "n n"],
    clubs: Int[Tensor, " n"],
    *,
    depth: int = 2,
    hidden: int = 16,
    steps: int = 200,
    seed: int = 0,
    known: Sequence[int] = LEADERS,
) -> tuple[GCN, Float[Tensor, "n c"]]:
    """Train on the labels of ``known`` (Adam 0.01, decay 5e-4); the model and its probabilities."""
    s, x, known = normalised(a), torch.eye(len(a)), list(known)
    generator = torch.Generator().manual_seed(seed)
    model = GCN(len(a), int(clubs.max()) + 1, depth=depth, hidden=hidden, generator=generator)
    optimiser = torch.optim.Adam(model.parameters(), lr=0.01, weight_decay=5e-4)
    for _ in range(steps):
        loss = F.cross_entropy(model(s, x)[known], clubs[known])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        return model, model(s, x).softmax(-1)


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
    lap = np.diag(a.sum(1)) - a
    step = share * 2 / np.linalg.eigvalsh(lap)[-1]
    states = [np.zeros(len(a))]
    states[0][list(LEADERS)] = -1.0, 1.0
    for _ in range(steps):
        states.append(states[-1] - step * lap @ states[-1])
    found = np.array(states)
    return found, np.einsum("tn,nm,tm->t", found, lap, found)


def measure(config: Size, progress: Progress) -> Findings:
    """Spectrum, random walks, smoothing, and GCNs by depth and seed."""
    raw, labels = karate()
    a, clubs = torch.tensor(raw, dtype=torch.float64), torch.tensor(labels)
    seeds = range(config.seed, config.seed + (2 if config.small else 10))
    depths = DEPTHS[1::3] if config.small else DEPTHS
    rows: Table = []
    chances = np.zeros((len(depths), len(raw)))
    for i, depth in enumerate(depths):
        for seed in seeds:
            done = i * len(seeds) + seed - config.seed
            progress(done, len(depths) * len(seeds), f"GCN of {depth} layers")
            model, p = train_gcn(a.float(), clubs, depth=depth, seed=seed)
            chances[i] += p[:, 1].numpy() / len(seeds)
            rows.append({"depth": depth, "seed": seed, **_scores(model, a.float(), p, clubs)})
    alone = [train_gcn(0 * a.float(), clubs, seed=seed)[1].argmax(-1) == clubs for seed in seeds]
    numbers = [*_spectrum(a, clubs), *_smoothing(a), *_trained(rows),
               over_seeds("accuracy of 2 layers that do not see the graph",
                          [float(hit.double().mean()) for hit in alone],
                          sample="34 nodes, 2 labels")]  # fmt: skip
    positions = nx.spring_layout(nx.from_numpy_array(raw), seed=7, iterations=200, k=0.35)
    places = np.array([positions[n] for n in range(len(raw))], dtype=np.float32)
    arrays = {"places": places, "depths": np.array(depths), "chances": chances.astype(np.float32)}
    return Findings(arrays, {"numbers": numbers, "gcn": rows})


def _scores(model: GCN, a: Tensor, p: Tensor, clubs: Tensor) -> dict[str, float]:
    hit = (p.argmax(-1) == clubs).double()
    unseen = [n for n in range(len(clubs)) if n not in LEADERS]
    with torch.no_grad():
        last = model(normalised(a), torch.eye(len(a)))
    return {
        "accuracy": hit.mean().item(),
        "unseen": hit[unseen].mean().item(),
        "difference": float((last - last.mean(0)).square().sum() / last.square().sum()),
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
