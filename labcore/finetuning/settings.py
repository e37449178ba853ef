"""What the experiment runs: models, their recipes, strategies and seeds."""

from dataclasses import dataclass

from labcore.finetuning.training import Recipe

REAL = (
    "full", "head_only", "last_k", "random_k", "lora", "alast_paper", "alast_coauthor",
    "alast_calibrated", "alast_lora",
)  # fmt: skip
RUNNERS = ("full", "last_k", "lora", "alast_coauthor", "alast_calibrated", "alast_080")
BUDGETS = (1.0, 0.95, 0.9, 0.85, 0.8, 0.7, 0.6, 0.5)


@dataclass(frozen=True)
class Trial:
    """One model with the strategies and seeds to run on it.

    Attributes:
        name: As in the tables, ``small`` or ``vit-s``.
        recipe: Amount of training.
        strategies: What runs, with every seed.
        seeds: Seeds: pictures, their order, layers drawn.
        runners: Who takes part in the race, with every seed.
        race_seconds: CPU time that each runner may train.
    """

    name: str
    recipe: Recipe
    strategies: tuple[str, ...]
    seeds: tuple[int, ...]
    runners: tuple[str, ...] = ()
    race_seconds: float = 4.0


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
        recipe = _small("small", test=500, epochs=1)
        names = ("full", "head_only", "last_k", "alast_paper", "alast_coauthor", "alast_calibrated")
        return cls(seed, (Trial("small", recipe, names, (seed,)),))

    @classmethod
    def full(cls, seed: int = 0) -> "Config":
        """The committed results: about half an hour on one core. LoRA needs peft."""
        small = _small("small", test=1000, epochs=2)
        scratch = _small("scratch", test=1000, epochs=2)
        # of 2e-5, 5e-5 and 1e-4 the best for full fine-tuning on 500 held-out training pictures
        real = Recipe("vit-s", 70, 800, 500, 2, 20, 2e-5, 9)
        seeds = (seed, seed + 1, seed + 2)
        return cls(
            seed,
            (
                Trial("vit-s", real, REAL, seeds),
                Trial("small", small, (*REAL, "alast_embedding", "alast_080"), seeds, RUNNERS),
                Trial("scratch", scratch, ("full",), seeds),
            ),
            clock_rounds=5,
            photographs=("china", "flower"),
            resume=True,
        )

    @classmethod
    def published(
        cls,
        model: str = "facebook/deit-small-patch16-224",
        data: str = "CIFAR100",
        *,
        train: int = 50_000,
        test: int = 10_000,
        epochs: int = 3,
        device: str = "cuda",
        seed: int = 0,
    ) -> "Config":
        """The paper's setting, for a machine with a network and a GPU: same table, same figures.

        Args:
            model: Hugging Face's name of a ViT, DeiT or DINOv2 at 224 pixels.
            data: A data set of torchvision.
            train, test: Pictures.
            epochs: Passes.
            device: Where it runs.
            seed: First of three.
        """
        recipe = Recipe(model, 224, train, test, epochs, 128, 1e-4, 9, data, device)
        seeds = (seed, seed + 1, seed + 2)
        trial = Trial(model.rpartition("/")[2], recipe, REAL, seeds)
        return cls(seed, (trial,), clock_rounds=7, resume=True)


def _small(model: str, *, test: int, epochs: int) -> Recipe:
    """1500 pictures, 50 a step, four layers of six."""
    return Recipe(model, 28, 1500, test, epochs, 50, 3e-4, 4)
