"""What the experiment runs, and its sizes."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Mixture:
    """Experiment 1: experts on a stream of digits and clothes; and upcycling."""

    arms: tuple[str, ...]
    train: int
    test: int
    epochs: float
    upcycle_train: int
    upcycle_epochs: float


@dataclass(frozen=True)
class Estimation:
    """Experiment 2: bias and variance of gradient estimators."""

    categories: tuple[int, ...]
    temperatures: tuple[float, ...]
    draws: int


@dataclass(frozen=True)
class Exits:
    """Experiment 3: early exits on Fashion-MNIST."""

    train: int
    val: int
    test: int
    epochs: float
    depth: int


@dataclass(frozen=True)
class Tokens:
    """Experiment 4: token selection, merging and halting on cluttered canvases."""

    train: int
    test: int
    epochs: float
    tune_epochs: float
    keep_ratios: tuple[float, ...]
    merged: tuple[float, ...]
    shifts: tuple[float, ...]


@dataclass(frozen=True)
class Features:
    """Early exits and upcycling on a real, pre-trained ViT-S that is not trained further."""

    train: int
    val: int
    test: int
    side: int


@dataclass(frozen=True)
class Config:
    """The whole experiment.

    Attributes:
        seed: First of the seeds; every part runs for ``seeds`` seeds from it on.
        seeds: Number of seeds.
        features: None leaves out what needs the ViT-S, photographs included.
        resume: Keep finished parts until the run has ended well, and start from them again.
    """

    seed: int
    seeds: int
    mixture: Mixture
    estimation: Estimation
    exits: Exits
    tokens: Tokens
    features: Features | None = None
    resume: bool = False

    @classmethod
    def quick(cls, seed: int = 0) -> "Config":
        """About half a minute: one seed, fewer arms, pictures and epochs."""
        arms = ("dense, equal FLOPs", "top-2, no balance", "top-2, balanced", "soft")
        return cls(
            seed=seed,
            seeds=1,
            mixture=Mixture(arms, 1500, 500, 1.0, 500, 1.0),
            estimation=Estimation((2, 16), (0.2, 1.0), 20_000),
            exits=Exits(1500, 400, 500, 1.0, 6),
            tokens=Tokens(1200, 300, 1.0, 0.5, (0.5, 0.8), (0.1, 0.25), (0.0, 2.0)),
        )

    @classmethod
    def full(cls, seed: int = 0) -> "Config":
        """The size of the committed results: three seeds, about a quarter of an hour."""
        from labcore.conditional.arms import ARMS

        return cls(
            seed=seed,
            seeds=3,
            mixture=Mixture(tuple(arm.name for arm in ARMS), 6000, 2000, 4.0, 2000, 4.0),
            estimation=Estimation((2, 16), (0.1, 0.2, 0.5, 1.0, 2.0, 5.0), 100_000),
            exits=Exits(6000, 2000, 2000, 4.0, 6),
            tokens=Tokens(
                10_000, 2000, 5.0, 1.5,
                (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9),
                (0.04, 0.08, 0.12, 0.16, 0.2, 0.25, 0.3, 0.35, 0.4),
                (-2.0, -1.0, 0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0),
            ),
            features=Features(train=500, val=200, test=300, side=70),
            resume=True,
        )  # fmt: skip
