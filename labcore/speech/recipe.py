"""How a cell is trained and asked: plain settings, no torch."""

from dataclasses import dataclass

FILLER = ","  # one token; stands for "no word here" in worked examples and in the warm-up


@dataclass(frozen=True)
class Prompt:
    """The text around the speech; the answer ends with ``end``, which must be one token.

    Worked examples in ``prefix`` cost nothing at training time, because it is cached.
    """

    prefix: str
    suffix: str
    end: str = "\n"


@dataclass(frozen=True)
class Recipe:
    """How an adapter is trained; the same for every cell of a grid.

    Attributes:
        steps: Steps on the language model's loss.
        batch: Clips a step.
        lr: Peak learning rate.
        warm_steps: Steps of the warm-up, which needs no language model.
        warm_batch: Clips a step of it.
        warm_lr: Its peak learning rate.
        rise: Share of the steps in which the rate rises.
    """

    steps: int = 100
    batch: int = 8
    lr: float = 1e-3
    warm_steps: int = 250
    warm_batch: int = 16
    warm_lr: float = 1e-3
    rise: float = 0.03
