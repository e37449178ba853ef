"""A plain training loop: AdamW, one cosine cycle, a fixed order of batches for a seed."""

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from labcore.conditional.data import Pictures

Loss = Callable[[Tensor, Tensor], Tensor]
After = Callable[[int], None]


def batches(count: int, size: int, epochs: float, seed: int) -> Iterator[Tensor]:
    """Rows of each step; every epoch is a new permutation."""
    generator = torch.Generator().manual_seed(seed)
    steps = math.ceil(epochs * count / size)
    per_epoch = max(count // size, 1)
    for step in range(steps):
        if step % per_epoch == 0:
            order = torch.randperm(count, generator=generator)
        at = (step % per_epoch) * size
        yield order[at : at + size]


def train(
    parameters: list[nn.Parameter],
    loss: Loss,
    data: Pictures,
    *,
    epochs: float,
    seed: int,
    batch: int = 32,
    rate: float = 2e-3,
    after: After | None = None,
) -> None:
    """Minimise ``loss(images, labels)`` over ``data``.

    Args:
        parameters: What may change.
        loss: Of one batch, with its graph.
        data: Training pictures.
        epochs: How often each is seen; fractions are allowed.
        seed: Order of the batches.
        batch: Pictures a step.
        rate: Largest learning rate; it rises for a tenth of the steps, then falls as a cosine.
        after: Called with the step's number when it is done; may raise to stop.
    """
    steps = math.ceil(epochs * len(data) / batch)
    warm = max(steps // 10, 1)
    optimizer = torch.optim.AdamW(parameters, lr=rate, weight_decay=0.01)

    def factor(step: int) -> float:
        if step < warm:
            return (step + 1) / warm
        return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(steps - warm, 1)))

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    for step, rows in enumerate(batches(len(data), batch, epochs, seed)):
        optimizer.zero_grad()
        loss(data.images[rows], data.labels[rows]).backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        if after is not None:
            after(step)


@torch.no_grad()
def accuracy(model: Callable[[Tensor], Tensor], data: Pictures, batch: int = 500) -> float:
    """Share of right answers."""
    right = 0
    for start in range(0, len(data), batch):
        part = data.part(start, start + batch)
        right += int((model(part.images).argmax(-1) == part.labels).sum())
    return right / len(data)
