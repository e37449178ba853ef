"""What the experiment runs: two models, their recipes, strategies and seeds."""

from dataclasses import dataclass

from labcore.finetuning.training import Recipe

REAL = (
    "full", "head_only", "alast_calibrated", "alast_coauthor", "alast_paper", "lora", "last_k",
    "alast_lora", "random_k",
)  # fmt: skip
BUDGETS = (1.0, 0.95, 0.9, 0.85, 0.8, 0.7, 0.6, 0.5)


@dataclass(frozen=True)
class Trial:
    """One model with the strategies and seeds to run on it.

    Attributes:
        name: As in the tables, ``small`` or ``vit-s``.
        recipe: Amount of training.
        strategies: What runs with the first seed.
        seeds: Seeds: pictures, their order, layers drawn.
        repeated: What runs with the other seeds too.
    """

    name: str
    recipe: Recipe
    strategies: tuple[str, ...]
    seeds: tuple[int, ...]
    repeated: tuple[str, ...]


@dataclass(frozen=True)
class Config:
    """The whole experiment.

    Attributes:
        seed: First of the seeds.
        trials: What is fine-tuned.
        clock_rounds: Steps of each strategy on the clock, the strategies taking turns.
        photographs: Pictures for the delta profile and the token filmstrip; needs the real model.
        resume: Keep finished parts until the run has ended well, and start from them again.
    """

    seed: int
    trials: tuple[Trial, ...]
    clock_rounds: int = 0
    photographs: tuple[str, ...] = ()
    resume: bool = False

    @classmethod
    def quick(cls, seed: int = 0) -> "Config":
        """Under a minute: the small model, one seed."""
        recipe = Recipe("small", 28, 1000, 500, 2, 25, 3e-4, 4, look_every=20)
        names = ("full", "head_only", "last_k", "alast_paper", "alast_coauthor", "alast_calibrated")
        return cls(seed, (Trial("small", recipe, names, (seed,), names),))

    @classmethod
    def full(cls, seed: int = 0) -> "Config":
        """The committed results: about ten minutes on one core."""
        small = Recipe("small", 28, 1000, 600, 3, 25, 3e-4, 4, look_every=40)
        real = Recipe("vit-s", 70, 800, 400, 2, 20, 2e-5, 9)
        every = (*REAL, "alast_embedding", "alast_080")
        seeds = (seed, seed + 1, seed + 2)
        return cls(
            seed,
            (
                Trial("small", small, every, seeds, every),
                Trial("scratch", _scratch(small), ("full",), seeds, ("full",)),
                Trial("vit-s", real, REAL, (seed,), REAL),
            ),
            clock_rounds=3,
            photographs=("china", "flower"),
            resume=True,
        )


def _scratch(recipe: Recipe) -> Recipe:
    """The same training of a network that was not pre-trained."""
    return Recipe(
        "scratch", recipe.image_size, recipe.train, recipe.test, recipe.epochs, recipe.batch,
        recipe.lr, recipe.num_layers,
    )  # fmt: skip
