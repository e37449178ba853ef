"""What the experiment runs: its parts and their sizes, and the policies that it compares.

Guards are 4 first and 16 newest positions. Any score profits from them, because they save the
attention sink and the local context, so every claim about a score is also checked at equal guards.
"""

from dataclasses import dataclass

SINKS, RECENT = 4, 16

# name -> score, sinks, recent
POLICIES: dict[str, tuple[str, int, int]] = {
    "low_norm": ("low_norm", 0, 0),
    "low_norm+recent": ("low_norm", 0, RECENT),
    "low_norm+guards": ("low_norm", SINKS, RECENT),
    "random": ("random", 0, 0),
    "random+guards": ("random", SINKS, RECENT),
    "high_norm": ("high_norm", 0, 0),
    "high_norm+sink": ("high_norm", 1, 0),
    "high_norm+guards": ("high_norm", SINKS, RECENT),
    "low_value_norm": ("low_value_norm", 0, 0),
    "window": ("window", 0, 0),
    "sink_window": ("sink_window", 0, 0),
    "observation": ("observation", 0, 0),
    "accumulated": ("accumulated", 0, 0),
    "last_query": ("last_query", 0, 0),
    "key_difference": ("key_difference", 0, 0),
    "special": ("special", 0, 0),
}

_CORE = (
    "low_norm", "low_norm+guards", "random", "random+guards", "high_norm", "high_norm+guards",
    "sink_window",
)  # fmt: skip
_LONG = (*_CORE, "special", "observation", "accumulated", "key_difference")
_ALL = tuple(name for name in POLICIES if name != "low_norm+recent")
_STREAM = (
    "low_norm", "low_norm+recent", "low_norm+guards", "random+guards", "high_norm+guards",
    "sink_window", "window", "random", "high_norm",
)  # fmt: skip
_RETRIEVAL = (
    "low_norm", "low_norm+guards", "random+guards", "sink_window", "high_norm", "observation",
    "accumulated", "key_difference",
)  # fmt: skip
_BANDS = ((0, 0), (1, 2), (3, 8), (9, 11), (12, 29))


@dataclass(frozen=True)
class Prune:
    """Perplexity of the next ``tokens`` after one prune of a prompt of ``length``."""

    length: int
    windows: int
    tokens: int
    keep_ratios: tuple[float, ...]
    policies: tuple[str, ...]
    skip_ratios: tuple[float, ...] = ()  # low_norm again, with the first layers left whole


@dataclass(frozen=True)
class Rolling:
    """Perplexity of a stream of ``tokens`` with at most ``budget`` pairs a layer."""

    tokens: int
    budget: int
    prune_to: int
    windows: int
    policies: tuple[str, ...]


@dataclass(frozen=True)
class Passkey:
    """Pass-key retrieval in one filler, the question after or inside what is compressed."""

    length: int
    filler: str
    question: str
    depths: int
    keys: int
    keep_ratios: tuple[float, ...]
    policies: tuple[str, ...]


@dataclass(frozen=True)
class Needle:
    """A sentence to be found in a novel, at ``depths`` places in ``texts`` chapters."""

    length: int
    depths: int
    texts: int
    keep_ratios: tuple[float, ...]
    policies: tuple[str, ...]


@dataclass(frozen=True)
class Sample:
    """What pictures need: one text's norms and attention, and the life of a rolling cache."""

    tokens: int
    triangle: int
    budget: int
    policies: tuple[str, ...]


@dataclass(frozen=True)
class Clock:
    """CPU time of one decode step at some cache lengths, median of ``repeats``."""

    lengths: tuple[int, ...]
    repeats: int


@dataclass(frozen=True)
class Config:
    """The whole experiment.

    Attributes:
        seed: Decides random scores and pass keys.
        model: A registered model, a folder or a hub id (:func:`labcore.assets.load_causal_lm`).
        window: Last queries whose attention is compared with the norms.
        score_window: Last queries that the ``observation`` score looks at.
        map_lengths: Lengths of the texts of the correlation maps.
        bands: First and last layer of each depth band of the table of low-norm tokens.
        skip_layers: Layers left whole in retrieval and streaming, and in a control of pruning.
        resume: Keep finished parts until the run has ended well, and start from them again.
    """

    seed: int
    model: str
    window: int
    score_window: int
    map_lengths: tuple[int, ...]
    bands: tuple[tuple[int, int], ...]
    skip_layers: tuple[int, ...]
    prune: tuple[Prune, ...]
    rolling: tuple[Rolling, ...]
    passkey: tuple[Passkey, ...]
    needle: Needle
    sample: Sample
    clock: Clock
    resume: bool = False

    @classmethod
    def quick(cls, seed: int = 0) -> "Config":
        """About a minute: shorter texts, two windows, few policies."""
        few = ("low_norm", "random+guards", "sink_window", "high_norm")
        return cls(
            seed=seed,
            model="smollm2-135m",
            window=32,
            score_window=16,
            map_lengths=(256,),
            bands=_BANDS,
            skip_layers=(0, 1),
            prune=(Prune(256, 2, 32, (0.5, 0.1), (*_CORE, "special")),),
            rolling=(Rolling(96, 64, 56, 2, _STREAM[:5]),),
            passkey=(
                Passkey(192, "repeat", "after", 3, 1, (0.5, 0.1), few),
                Passkey(192, "prose", "after", 3, 1, (0.5, 0.1), few),
            ),
            needle=Needle(192, 2, 1, (0.5,), few),
            sample=Sample(80, 48, 32, ("low_norm", "low_norm+recent")),
            clock=Clock((256, 1024), 3),
        )

    @classmethod
    def full(cls, seed: int = 0) -> "Config":
        """The size of the committed results: about half an hour on one core."""
        ratios = (0.9, 0.75, 0.5, 0.25, 0.1)
        found = ratios[1:]
        inside = ("low_norm", "random+guards", "observation")
        return cls(
            seed=seed,
            model="smollm2-135m",
            window=64,
            score_window=32,
            map_lengths=(512, 1024),
            bands=_BANDS,
            skip_layers=(0, 1),
            prune=(
                Prune(512, 6, 64, ratios, _ALL, ratios),
                Prune(1024, 6, 64, (0.5, 0.25, 0.1), _LONG),
            ),
            rolling=(
                Rolling(448, 128, 128, 3, _STREAM),
                Rolling(448, 128, 112, 3, _STREAM[:6]),
                Rolling(1024, 128, 128, 3, ("low_norm", *_STREAM[2:6])),
            ),
            passkey=(
                Passkey(512, "repeat", "after", 12, 2, found, _RETRIEVAL),
                Passkey(512, "prose", "after", 12, 2, found, _RETRIEVAL),
                Passkey(512, "repeat", "inside", 12, 1, found, inside),
                Passkey(512, "prose", "inside", 12, 1, found, inside),
            ),
            needle=Needle(512, 6, 2, ratios[:4], _RETRIEVAL[:5]),
            sample=Sample(256, 64, 64, ("low_norm", "low_norm+recent", "sink_window")),
            clock=Clock((256, 1024, 2048, 4096, 8192), 15),
            resume=True,
        )
