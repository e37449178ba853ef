"""What the experiment runs, at two sizes."""

from dataclasses import dataclass

from labcore.koopman.data import Recipe

# Graph states are means over nodes; the readout takes ten times that, where the penalty is 1.
ALPHA = 0.01


@dataclass(frozen=True)
class Training:
    """How :func:`labcore.koopman.training.fit` trains."""

    epochs: int = 16
    rate: float = 0.01
    halve_every: int = 10
    batch: int = 24
    clip: float = 1.0
    weight_decay: float = 0.0
    koopman_weight: float = 0.1  # of the trajectory error, with a Koopman head
    koopman_decay: float = 1e-3


@dataclass(frozen=True)
class Config:
    """The whole experiment.

    Attributes:
        seed: First seed; each network runs with ``seed``, ``seed + 1``, ...
        networks: Names, each with its number of seeds.
        graphs: Graphs of one data set.
        recipe: How they are made.
        hidden: Size of a layer's state.
        layers: Layers of the network.
        training: How it is trained.
        k: Axes of the embedding.
        alpha: Ridge penalty of the operator of graph states.
        explained: At most so many validation graphs of class 1 are explained.
        gradient_graphs: Of these, at most so many also by integrated gradients.
        window: Steps of the dilation of true times.
        threshold: Share of the maximum that a detected step exceeds.
        cuts: Steps whose contacts the deletion test removes.
        flips: Random sign flips a graph.
        flip_graphs: Graphs of the sign-flip lottery.
        shown: Graphs of the first seed that are kept for figures.
        pooled: Training graphs of the first seed whose graph states are kept for figures.
        resume: Keep finished parts until the run has ended well, and start from them again.
    """

    seed: int
    networks: tuple[tuple[str, int], ...]
    graphs: int
    recipe: Recipe
    hidden: int
    layers: int
    training: Training
    k: int
    alpha: float
    explained: int
    gradient_graphs: int
    window: int
    threshold: float
    cuts: tuple[int, ...]
    flips: int
    flip_graphs: int
    shown: int
    pooled: int
    resume: bool = False

    @classmethod
    def quick(cls, seed: int = 0) -> "Config":
        """About a minute: one network, one seed, the full data set and network."""
        return cls(
            seed=seed,
            networks=(("highschool2012", 1),),
            graphs=300,
            recipe=Recipe(),
            hidden=16,
            layers=2,
            training=Training(epochs=10),
            k=16,
            alpha=ALPHA,
            explained=30,
            gradient_graphs=5,
            window=6,
            threshold=0.4,
            cuts=(2, 5, 10, 20),
            flips=8,
            flip_graphs=5,
            shown=1,
            pooled=40,
        )

    @classmethod
    def full(cls, seed: int = 0) -> "Config":
        """The size of the committed results: about twenty minutes on one core."""
        return cls(
            seed=seed,
            networks=(
                ("highschool2012", 3),
                ("primaryschool", 3),
                ("hospital", 3),
                ("synthetic", 2),
            ),
            graphs=300,
            recipe=Recipe(),
            hidden=16,
            layers=2,
            training=Training(epochs=16),
            k=16,
            alpha=ALPHA,
            explained=30,
            gradient_graphs=30,
            window=6,
            threshold=0.4,
            cuts=(1, 2, 5, 10, 15, 20, 30),
            flips=8,
            flip_graphs=15,
            shown=3,
            pooled=80,
            resume=True,
        )
