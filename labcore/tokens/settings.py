"""What the experiment runs: the methods, and the sizes of the two presets."""

from dataclasses import dataclass

from labcore.tokens.training import BaseTraining, Tuning

SPLIT, SYMBOLS = 1, 16
LEARNED = ("gate", "gate_sent", "gate_fixed", "predictor", "halting")  # scores are trained
# In the order of the figures; gate_topk is the trained gate with an exact rate.
COMPARED = ("gate", "class_attention", "random", "merging", "magnitude", "predictor")
AUDITS = ("gate_sent", "gate_joint", "gate_fixed", "halting")  # first seed only
METHODS = COMPARED + AUDITS
ONE_RATE = {"gate_fixed": 0.2, "halting": 0.2}  # networks trained for one rate


@dataclass(frozen=True)
class Config:
    """The whole experiment.

    Attributes:
        seed: First seed of the fine-tunings, and seed of the base network.
        seeds: How many fine-tunings of each method.
        methods: What is compared; those in ``AUDITS`` with the first seed only.
        base: Training of the one network that all start from; None loads the committed one.
        tuning: Fine-tuning, equal for all; None loads the committed gate (quick).
        frozen: Share of the steps in which learned scorers leave the backbone as it is.
        test_images: Canvases of the test set.
        budgets: Rates asked for.
        snrs: Decibels of the noise maps; infinite is no noise.
        curve_snr: Decibels at which methods are compared.
        resume: Keep finished parts until the run has ended well.
    """

    seed: int
    seeds: int
    methods: tuple[str, ...]
    base: BaseTraining | None
    tuning: Tuning | None
    frozen: float = 0.4
    test_images: int = 2000
    budgets: tuple[float, ...] = (0.05, 0.1, 0.2, 0.3, 0.5, 0.8, 1.0)
    snrs: tuple[float, ...] = (-5.0, 0.0, 5.0, 10.0, 20.0)
    curve_snr: float = 10.0
    resume: bool = False
    fading_budgets: tuple[float, ...] = (0.1, 0.2, 0.5)

    @classmethod
    def quick(cls, seed: int = 0) -> "Config":
        """Half a minute: the committed base and gate on 500 canvases, class attention untrained."""
        return cls(
            seed, 1, ("gate", "class_attention", "random"), None, None, test_images=500,
            snrs=(0.0, 10.0, 20.0), budgets=(0.05, 0.1, 0.2, 0.3, 0.5, 1.0),
            fading_budgets=(0.2,),
        )  # fmt: skip

    @classmethod
    def full(cls, seed: int = 0) -> "Config":
        """The size of the committed results: about eleven minutes on one core."""
        return cls(
            seed, 3, METHODS, BaseTraining(), Tuning(steps=220, batch=64), frozen=0.3, resume=True
        )
