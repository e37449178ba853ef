"""What the experiment runs: the grid's factors, its recipe, its prompts."""

from dataclasses import asdict, dataclass
from typing import Any

from labcore.speech.names import ADAPTERS, ALPHABET, ENCODERS, FACTORS, LMS, NO_LM
from labcore.speech.recipe import Prompt, Recipe

__all__ = ["ADAPTERS", "ALPHABET", "ENCODERS", "FACTORS", "LMS", "NO_LM", "PROMPTS", "Config"]

# Worked examples before the speech, so that a task is known before training. Commas stand where no
# word is, as in the warm-up. The text is cached: its length costs next to nothing.
_EXAMPLES = (
    ("four nine", "quattro nove"),
    ("seven two zero", "sette due zero"),
    ("six one eight three", "sei uno otto tre"),
    ("five three", "cinque tre"),
    ("nine nine four", "nove nove quattro"),
    ("zero eight seven one", "zero otto sette uno"),
    ("two six", "due sei"),
    ("one five five", "uno cinque cinque"),
    ("three four zero nine", "tre quattro zero nove"),
    ("eight seven", "otto sette"),
    ("four one two", "quattro uno due"),
    ("six zero five seven", "sei zero cinque sette"),
)


def _spaced(text: str, shift: int) -> str:
    """The words with one to four commas around them, as an adapter's positions might read."""
    words = [f" {w}{',' * (1 + (shift + 3 * i) % 4)}" for i, w in enumerate(text.split())]
    return "," * (1 + shift % 3) + "".join(words)


def _prefix(source: str, target: str, column: int) -> str:
    shown = [
        f"{source}:{_spaced(row[0], i)}\n{target}: {row[column]}\n\n"
        for i, row in enumerate(_EXAMPLES)
    ]
    return "".join(shown) + f"{source}:"


PROMPTS = {
    "asr": Prompt(_prefix("Speech", "Text", 0), "\nText:"),
    "st": Prompt(_prefix("English", "Italian", 1), "\nItalian:"),
}


@dataclass(frozen=True)
class Variant:
    """A cell outside the grid, one thing changed: an ablation or a control.

    Attributes:
        name: What is changed.
        encoder: Encoder of the cell.
        adapter: Adapter of the cell.
        options: Changed arguments of :func:`labcore.speech.cells.run_cell`.
    """

    name: str
    encoder: str
    adapter: str
    options: dict[str, Any]


VARIANTS = (
    Variant("no warm-up", "conformer", "conv", {"warm_steps": 0}),
    Variant("outputs start at 1", "conformer", "conv", {"unit_scale": True}),
    Variant("scrambled language model", "conformer", "conv", {"scrambled": True}),
)


@dataclass(frozen=True)
class Config:
    """The whole experiment.

    Attributes:
        seed: First of the repeats' seeds.
        repeats: Trainings of each cell; each has its own start and order of clips.
        encoders: Levels of the first factor.
        adapters: Levels of the second.
        lms: Levels of the third; ``"none"`` reads the nearest token embedding.
        steps: Steps on the language model's loss, tasks taking turns.
        batch: Clips a step.
        lr: Peak learning rate, chosen once on one cell (conformer, conv, SmolLM2).
        warm_steps: Steps of the warm-up.
        train_clips: Clips to train on.
        test_clips: Clips of each test set.
        variants: Cells outside the grid, on the first language model.
        live_steps: Steps of one more cell with a real model when the grid has none.
        resamples: Of the bootstrap.
        resume: Keep finished cells until the run has ended well.
        jobs: Worker processes on this machine.
        cluster: Address of a Dask scheduler, or ``"local"``; None uses ``jobs`` processes.
    """

    seed: int
    repeats: int
    encoders: tuple[str, ...]
    adapters: tuple[str, ...]
    lms: tuple[str, ...]
    steps: int
    batch: int
    lr: float
    warm_steps: int
    train_clips: int
    test_clips: int
    variants: tuple[Variant, ...] = ()
    live_steps: int = 0
    resamples: int = 1000
    resume: bool = False
    jobs: int = 1
    cluster: str | None = None

    @classmethod
    def quick(cls, seed: int = 0) -> "Config":
        """About a minute: no language model, and three steps with one to prove the path."""
        return cls(
            seed=seed, repeats=1, encoders=ENCODERS, adapters=ADAPTERS, lms=(NO_LM,), steps=0,
            batch=8, lr=1e-3, warm_steps=60, train_clips=192, test_clips=24, live_steps=3,
            resamples=200,
        )  # fmt: skip

    @classmethod
    def full(cls, seed: int = 0) -> "Config":
        """The size of the committed results: about a quarter of an hour on one free core."""
        return cls(
            seed=seed, repeats=1, encoders=ENCODERS, adapters=ADAPTERS, lms=LMS, steps=16,
            batch=4, lr=1e-3, warm_steps=100, train_clips=440, test_clips=12, variants=VARIANTS,
            resume=True,
        )  # fmt: skip

    def recipe(self, **changes: Any) -> dict[str, Any]:
        """The training recipe as plain numbers, some changed."""
        plain = asdict(Recipe(steps=self.steps, batch=self.batch, lr=self.lr))
        return plain | {"warm_steps": self.warm_steps} | changes
