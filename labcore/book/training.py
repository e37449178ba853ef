"""One short training loop for the chapters' small networks: Adam on mini-batches of rows."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn


def mlp(
    sizes: tuple[int, ...], seed: int, activation: Callable[[], nn.Module] = nn.ReLU
) -> nn.Module:
    """Linear layers with an activation between them, torch's own initial weights for the seed."""
    torch.manual_seed(seed)
    layers: list[nn.Module] = []
    for left, right in zip(sizes[:-1], sizes[1:], strict=True):
        layers += [nn.Linear(left, right), activation()]
    return nn.Sequential(*layers[:-1])


def train(
    model: nn.Module,
    x: Float[Tensor, "n ..."],
    y: Int[Tensor, " n"],
    *,
    steps: int,
    lr: float,
    batch: int,
    generator: torch.Generator,
) -> Float[Tensor, " steps"]:
    """Adam on the mean cross-entropy; every row is used once before any is used again.

    Returns:
        The loss of each step's batch.
    """
    optimiser = torch.optim.Adam(model.parameters(), lr=lr)
    losses = torch.empty(steps)
    order, place = torch.randperm(len(x), generator=generator), 0
    for step in range(steps):
        if place + batch > len(x) and place > 0:
            order, place = torch.randperm(len(x), generator=generator), 0
        index = order[place : place + batch]
        place += batch
        loss = F.cross_entropy(model(x[index]), y[index])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses[step] = loss.item()
    return losses


@torch.no_grad()
def accuracy(model: nn.Module, x: Float[Tensor, "n ..."], y: Int[Tensor, " n"]) -> float:
    """Share of rows whose largest logit is the right one."""
    parts = zip(x.split(2000), y.split(2000), strict=True)
    right = sum(int((model(a).argmax(dim=1) == b).sum()) for a, b in parts)
    return right / len(y)


def mnist_tensors(split: str) -> tuple[Float[Tensor, "n 784"], Int[Tensor, " n"]]:
    """MNIST as float32 rows and labels.

    Raises:
        AssetError: the data set is not here and cannot be fetched.
    """
    from labcore.book import data

    rows = data.mnist(split)
    return torch.from_numpy(rows.x).float(), torch.from_numpy(rows.y)
