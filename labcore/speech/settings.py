"""What the experiment runs: the grid's factors, its recipe, its prompts."""

from dataclasses import asdict, dataclass
from typing import Any

from labcore.speech.names import ADAPTERS, ALPHABET, ENCODERS, LMS, NO_LM
from labcore.speech.recipe import Prompt, Recipe

__all__ = ["ADAPTERS", "ALPHABET", "ENCODERS", "LMS", "NO_LM", "PROMPTS", "Config", "prompts"]

# Worked examples before the speech, so that a task is known before training. Commas stand where no
# word is, as in the warm-up. The text is cached: its length costs next to nothing. No clip of any
# split says one of them.
EXAMPLES = {
    "digits": (
        ("nine one", "nove uno"),
        ("seven two zero", "sette due zero"),
        ("six one eight three", "sei uno otto tre"),
        ("five three", "cinque tre"),
        ("nine nine four", "nove nove quattro"),
        ("zero eight seven one", "zero otto sette uno"),
        ("two four", "due quattro"),
        ("one five five", "uno cinque cinque"),
        ("three four zero nine", "tre quattro zero nove"),
        ("three two", "tre due"),
        ("four one two", "quattro uno due"),
        ("six zero five seven", "sei zero cinque sette"),
    ),
    "commands": (
        ("set lamp two to green", "metti lampada due su verde"),
        ("turn on fan seven", "accendi ventola sette"),
        ("move the table to the kitchen", "sposta il tavolo in cucina"),
        ("open door three", "apri porta tre"),
        ("turn off screen nine", "spegni schermo nove"),
        ("close window four", "chiudi finestra quattro"),
        ("set heater one to high", "metti stufa uno su alto"),
        ("move the robot to the hall", "sposta il robot in sala"),
        ("open gate six", "apri cancello sei"),
        ("set radio eight to red", "metti radio otto su rosso"),
        ("close valve five", "chiudi valvola cinque"),
        ("move the camera to the office", "sposta la telecamera in ufficio"),
    ),
}


def _spaced(text: str, shift: int) -> str:
    """The words with one to four commas around them, as an adapter's positions might read."""
    words = [f" {w}{',' * (1 + (shift + 3 * i) % 4)}" for i, w in enumerate(text.split())]
    return "," * (1 + shift % 3) + "".join(words)


def _asked(source: str, target: str, examples: tuple[tuple[str, str], ...], column: int) -> Prompt:
    shown = [
        f"{source}:{_spaced(row[0], i)}\n{target}: {row[column]}\n\n"
        for i, row in enumerate(examples)
    ]
    return Prompt("".join(shown) + f"{source}:", f"\n{target}:")


ASKED = {
    words: {
        "asr": _asked("Speech", "Text", rows, 0),
        "st": _asked("English", "Italian", rows, 1),
    }
    for words, rows in EXAMPLES.items()
}
PROMPTS = ASKED["digits"]
PLAIN = {
    "asr": Prompt("Repeat this:", "\nText:"),
    "st": Prompt("Translate this to Italian:", "\nItalian:"),
}


def prompts(words: str = "digits", kind: str = "examples") -> dict[str, Prompt]:
    """What each task is asked with.

    Args:
        words: Which corpus: worked examples are of its kind.
        kind: ``"examples"`` or ``"plain"``, one line of instruction.

    Raises:
        ValueError: another kind.
    """
    if kind not in ("examples", "plain"):
        raise ValueError(f'a prompt is "examples" or "plain", got {kind!r}')
    return PLAIN if kind == "plain" else ASKED[words]


COMMAND_STEPS = 200  # twice the digits': a larger vocabulary, longer answers; not tuned


@dataclass(frozen=True)
class Variant:
    """A cell outside the grid, one thing changed: an ablation or a control.

    Attributes:
        name: What is changed.
        encoder: Encoder of the cell.
        adapter: Adapter of the cell.
        options: Changed arguments of :func:`labcore.speech.cells.run_cell` or of its recipe.
    """

    name: str
    encoder: str
    adapter: str
    options: dict[str, Any]


VARIANTS = (
    Variant("no warm-up", "conformer", "conv", {"warm_steps": 0}),
    Variant("outputs start at 1", "conformer", "conv", {"unit_scale": True}),
    Variant("scrambled language model", "conformer", "conv", {"scrambled": True}),
    Variant("padded to 30 s", "whisper", "conv", {"pad": "30s"}),
    Variant("commands", "conformer", "conv", {"words": "commands", "steps": COMMAND_STEPS}),
)


@dataclass(frozen=True)
class Config:
    """The whole experiment.

    Attributes:
        seed: First of the repeats' seeds.
        repeats: Trainings of each cell, one number a language model; each training has its own
            start and order of clips. The design of all factors uses the fewest, the designs of
            one language model use all of its.
        encoders: Levels of the first factor.
        adapters: Levels of the second.
        lms: Levels of the third; ``"none"`` reads the nearest token embedding.
        steps: Steps on the language model's loss, tasks taking turns.
        batch: Clips a step.
        lr: Peak learning rate, chosen on validation voices (:mod:`labcore.speech.tuning`).
        warm_steps: Steps of the warm-up, chosen there too.
        train_clips: Most clips to train on.
        test_clips: Clips of each test set.
        watched: Language models in whose last training the error rate is followed (it takes time).
        variants: Cells outside the grid, on the first language model.
        live_steps: Steps of one more cell with a real model when the grid has none.
        resamples: Of the bootstrap.
        resume: Keep finished cells until the run has ended well.
        jobs: Worker processes on this machine.
        cluster: Address of a Dask scheduler, or ``"local"``; None uses ``jobs`` processes.
    """

    seed: int
    repeats: tuple[int, ...]
    encoders: tuple[str, ...]
    adapters: tuple[str, ...]
    lms: tuple[str, ...]
    steps: int
    batch: int
    lr: float
    warm_steps: int
    train_clips: int
    test_clips: int
    watched: tuple[str, ...] = ()
    variants: tuple[Variant, ...] = ()
    live_steps: int = 0
    resamples: int = 1000
    resume: bool = False
    jobs: int = 1
    cluster: str | None = None

    def __post_init__(self) -> None:
        if len(self.repeats) != len(self.lms) or min(self.repeats) < 1:
            raise ValueError(
                f"repeats {self.repeats}: one number, 1 or more, for each of {self.lms}"
            )

    @classmethod
    def quick(cls, seed: int = 0) -> "Config":
        """About a minute: no language model, and three steps with one to prove the path."""
        return cls(
            seed=seed, repeats=(1,), encoders=ENCODERS, adapters=ADAPTERS, lms=(NO_LM,), steps=0,
            batch=8, lr=1e-3, warm_steps=60, train_clips=192, test_clips=24, live_steps=3,
            resamples=200,
        )  # fmt: skip

    @classmethod
    def full(cls, seed: int = 0) -> "Config":
        """The size of the committed results: about an hour and a half of CPU time."""
        return cls(
            seed=seed, repeats=(2, 2), encoders=ENCODERS, adapters=ADAPTERS, lms=LMS, steps=100,
            batch=8, lr=1e-3, warm_steps=250, train_clips=400, test_clips=60, watched=LMS[1:],
            variants=VARIANTS, resume=True, jobs=2,
        )  # fmt: skip

    def recipe(self, **changes: Any) -> dict[str, Any]:
        """The training recipe as plain numbers, some changed."""
        plain = asdict(Recipe(steps=self.steps, batch=self.batch, lr=self.lr))
        return plain | {"warm_steps": self.warm_steps} | changes
