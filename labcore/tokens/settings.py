"""What the experiment runs: the methods, and the sizes of the two presets."""

from dataclasses import dataclass

from labcore.tokens.training import BaseTraining, Tuning

SPLIT, SYMBOLS = 1, 16
LEARNED = ("gate", "gate_sent", "gate_fixed", "predictor")  # rankings with weights of their own
REST = 0.3  # share of the steps in which these learn alone
# In the order of the figures; gate_topk is the trained gate with an exact rate.
COMPARED = ("gate", "class_attention", "random", "merging", "magnitude", "predictor")
AUDITS = ("gate_sent", "gate_joint", "gate_fixed", "halting", "class_alone")  # first seed only
METHODS = COMPARED + AUDITS
# Networks trained for one rate; class_alone sends the device's class token and no patch.
ONE_RATE = {"gate_fixed": 0.2, "halting": 0.2, "class_alone": 0.0}


@dataclass(frozen=True)
class Config:
    """The whole experiment.

    Attributes:
        seed: First seed of the fine-tunings, and seed of the base network.
        seeds: How many fine-tunings of each method.
        methods: What is compared; those in ``AUDITS`` with the first seed only.
        base: Training of the one network that all start from; None loads the committed one.
        tuning: Fine-tuning, equally long for all; None loads the committed gate (quick).
        test_images: Canvases of the test set.
        budgets: Rates asked for.
        snrs: Decibels of the noise maps; infinite is no noise.
        curve_snr: Decibels at which methods are compared.
        noise_budget: Rate at which every seed is measured at every SNR.
        fading_budgets: Rates of the fading channel (first seed's gate).
        resume: Keep finished parts until the run has ended well.
    """

    seed: int
    seeds: int
    methods: tuple[str, ...]
    base: BaseTraining | None
    tuning: Tuning | None
    test_images: int = 2000
    budgets: tuple[float, ...] = (0.05, 0.1, 0.2, 0.3, 0.5, 0.8, 1.0)
    snrs: tuple[float, ...] = (-5.0, 0.0, 5.0, 10.0, 20.0)
    curve_snr: float = 10.0
    noise_budget: float = 0.2
    fading_budgets: tuple[float, ...] = (0.1, 0.2, 0.5)
    resume: bool = False

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
        """The size of the committed results: about twelve minutes on one core."""
        return cls(seed, 3, METHODS, BaseTraining(), Tuning(), resume=True)
