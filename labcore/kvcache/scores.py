"""Every rule of keeping, as one score: what is kept is what scores highest.

The method (`low_norm`) stands beside its mirror, the trivial rules and the attention-based peers,
so that a comparison changes one word. A score sees one layer (:class:`LayerState`) and returns one
number for every batch row, key/value head and pair. Scores that read attention average it over the
query heads that share a key/value head, unless said.

A score is *static* when a pair's value never changes and needs only the pair itself; a rolling
cache then computes it once, when the pair arrives.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from labcore.kvcache.norms import check_guards, key_norms

POOL = 5  # SnapKV's smoothing width


class LayerState(NamedTuple):
    """What a score may look at, for one layer.

    Attributes:
        keys: Cached keys ``(b, g, n, d)``.
        values: Cached values ``(b, g, n, d)``.
        positions: Original positions ``(b, g, n)``, ascending.
        received: Attention that each pair received, summed over all queries ``(b, h, n)``.
        window_mean: Mean attention from the last ``window`` queries ``(b, h, n)``.
        last: Attention from the last query ``(b, h, n)``.
        window: Number of queries behind ``window_mean``.
        special: Marks special, punctuation and newline tokens ``(b, n)``.
        generator: Source of randomness.
    """

    keys: Float[Tensor, "b g n d"]
    values: Float[Tensor, "b g n d"]
    positions: Int[Tensor, "b g n"]
    received: Float[Tensor, "b h n"] | None = None
    window_mean: Float[Tensor, "b h n"] | None = None
    last: Float[Tensor, "b h n"] | None = None
    window: int = 0
    special: Bool[Tensor, "b n"] | None = None
    generator: torch.Generator | None = None

    def by_group(self, attention: Float[Tensor, "b h n"]) -> Float[Tensor, "b g n"]:
        """Mean over the query heads that share a key/value head: head h belongs to ⌊h·G/H⌋."""
        groups = self.keys.shape[1]
        return attention.unflatten(1, (groups, -1)).mean(2)


@dataclass(frozen=True)
class Score:
    """A named rule: higher is kept.

    Attributes:
        name: Its key in :data:`SCORES`.
        function: From a :class:`LayerState`, and the field that it needs, to ``(b, g, n)``.
        needs: Field of the state that must be there besides keys, values and positions.
        static: Whether a pair's score depends on that pair alone and never changes.
        sinks: First positions that the rule keeps by definition.
        recent: Newest pairs that the rule keeps by definition.
        keeps_window: Whether it keeps the observation window by definition.
        source: Where the rule comes from.
    """

    name: str
    function: Callable[..., Tensor]
    needs: str | None = None
    static: bool = False
    sinks: int = 0
    recent: int = 0
    keeps_window: bool = False
    source: str = ""

    def __call__(self, state: LayerState) -> Float[Tensor, "b g n"]:
        """The score of every pair, higher is kept.

        Raises:
            ValueError: The state lacks what the score needs.
        """
        if self.needs is None:
            return self.function(state)
        needed = getattr(state, self.needs)
        if needed is None:
            raise self.lacking()
        return self.function(state, needed)

    def check_room(self, k: int, window: int) -> None:
        """Raise ``ValueError`` when the rule keeps its window and ``k`` pairs leave no other."""
        if self.keeps_window and k <= window:
            raise ValueError(
                f"score {self.name!r} keeps its window of {window} queries and needs more pairs "
                f"than that, got n_keep={k}: profile with a smaller window or raise keep_ratio"
            )

    def lacking(self) -> ValueError:
        """The error for a state without what the score needs."""
        return ValueError(f"score {self.name!r} needs {_LACKS.get(self.needs or '', 'nothing')}")

    def guards(self, sinks: int, recent: int, window: int = 0) -> tuple[int, int]:
        """The asked guards, widened to what the rule keeps by definition.

        Raises:
            ValueError: A negative guard.
        """
        check_guards(sinks, recent, sys.maxsize)
        forced = max(self.recent, window if self.keeps_window else 0)
        return max(sinks, self.sinks), max(recent, forced)


_ATTENTION = "attention: call compress(profile, ...) on a profile made by profile_attention"
_LACKS = {
    "received": _ATTENTION,
    "window_mean": _ATTENTION,
    "last": _ATTENTION,
    "special": "the special tokens: call compress(..., special=special_mask(tokenizer, input_ids))",
    "generator": "a seed: pass generator=torch.Generator().manual_seed(0)",
}


def _low_norm(state: LayerState) -> Tensor:
    return -key_norms(state.keys)


def _high_norm(state: LayerState) -> Tensor:
    return key_norms(state.keys)


def _low_value_norm(state: LayerState) -> Tensor:
    return -key_norms(state.values)


def _random(state: LayerState, generator: torch.Generator) -> Tensor:
    # Drawn where the generator lives, so that a seed gives the same set on every device.
    draw = torch.rand(state.positions.shape, generator=generator, device=generator.device)
    return draw.to(state.keys.device)


def _window(state: LayerState) -> Tensor:
    return state.positions.float()


def _observation(state: LayerState, window_mean: Tensor) -> Tensor:
    before = window_mean[..., : -state.window]  # the window itself is kept by definition
    smooth = F.avg_pool1d(before, POOL, stride=1, padding=POOL // 2)
    return F.pad(state.by_group(smooth), (0, state.window), value=1.0)


def _accumulated(state: LayerState, received: Tensor) -> Tensor:
    return state.by_group(received)


def _received_mean(state: LayerState, received: Tensor) -> Tensor:
    n = received.shape[-1]
    could_see = torch.arange(n, 0, -1, device=received.device)  # key j is seen by n − j queries
    return state.by_group(received / could_see)


def _last_query(state: LayerState, last: Tensor) -> Tensor:
    return last.mean(1, keepdim=True).expand(state.positions.shape)  # over *all* heads


def _key_difference(state: LayerState) -> Tensor:
    directions = F.normalize(state.keys.float(), dim=-1)
    mean = directions.mean(dim=-2, keepdim=True)
    return -F.cosine_similarity(directions, mean, dim=-1)


def _special(state: LayerState, special: Tensor) -> Tensor:
    n = special.shape[-1]
    return torch.where(special[:, None], 1.0, state.positions / n)


_RULES = (
    Score("low_norm", _low_norm, static=True, source="arXiv 2406.11430"),
    Score("high_norm", _high_norm, static=True, source="its mirror"),
    Score("low_value_norm", _low_value_norm, static=True, source="control"),
    Score("random", _random, needs="generator", static=True, source="control"),
    Score("window", _window, static=True, source="sliding window"),
    Score("sink_window", _window, static=True, sinks=4, source="StreamingLLM, arXiv 2309.17453"),
    Score(
        "observation",
        _observation,
        needs="window_mean",
        keeps_window=True,
        source="SnapKV, arXiv 2404.14469",
    ),
    Score("accumulated", _accumulated, needs="received", source="H2O, arXiv 2306.14048"),
    Score("received_mean", _received_mean, needs="received", source="kvpress ObservedAttention"),
    Score("last_query", _last_query, needs="last", recent=1, source="TOVA, arXiv 2401.06104"),
    Score("key_difference", _key_difference, source="KeyDiff, arXiv 2504.15364"),
    Score("special", _special, needs="special", source="after FastGen, arXiv 2310.01801"),
)

SCORES: dict[str, Score] = {rule.name: rule for rule in _RULES}


def get_score(score: str | Score) -> Score:
    """The rule of that name; a :class:`Score` is returned as it is.

    Raises:
        ValueError: No rule has that name; the message lists the names.

    >>> get_score("low_norm").source
    'arXiv 2406.11430'
    """
    if isinstance(score, Score):
        return score
    if score not in SCORES:
        raise ValueError(f"unknown score {score!r}; choose one of {', '.join(SCORES)}")
    return SCORES[score]


def special_mask(tokenizer: Any, input_ids: Int[Tensor, "b n"]) -> Bool[Tensor, "b n"]:
    """Marks special tokens and tokens without a letter or digit (punctuation, newlines).

    Args:
        tokenizer: A Hugging Face tokenizer.
        input_ids: Token ids.
    """
    special = set(tokenizer.all_special_ids)

    def is_special(token: int) -> bool:
        text = tokenizer.decode([token])
        return token in special or not any(character.isalnum() for character in text)

    marks = [[is_special(token) for token in row] for row in input_ids.tolist()]
    return torch.tensor(marks, dtype=torch.bool, device=input_ids.device)
