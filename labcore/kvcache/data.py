"""The texts of the experiment, as windows of token ids of an exact length.

Six windows of prose, three from a novel and three from speeches, so that a spread can be shown;
two texts for the correlation of norm and attention; the opening of Moby Dick for the pictures; and
prose to hide a pass key in. All from :mod:`labcore.assets`, at fixed places.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from labcore.assets.text import address, moby_dick

MOBY_PART = slice(100_000, 400_000)  # characters that the windows of the novel are cut from
MOBY_MAP = 50_000  # character at which the correlation text begins
ADDRESS_MAP = (2010, 2_000)  # year, and character at which its correlation text begins
OPENING = "Call me Ishmael."
PROSE_AT = (150_000, 450_000, 750_000, 950_000)  # characters near which retrieval filler begins
CHARACTERS_PER_TOKEN = 12  # generous: English has about four


@dataclass(frozen=True)
class Window:
    """A place in a text: ``"moby"`` or the year of an address, and a token offset."""

    source: str
    offset: int

    @property
    def name(self) -> str:
        """How tables call it, as ``"moby@9000"``."""
        return f"{self.source}@{self.offset}"


WINDOWS = (  # novel and speeches take turns, so that the first few are a fair sample
    Window("moby", 0),
    Window("2010", 100),
    Window("moby", 9_000),
    Window("2016", 100),
    Window("moby", 20_000),
    Window("1999", 300),
)
MAP_TEXTS = ("moby", "2010")


def windows(tokenizer: Any, length: int, count: int) -> dict[str, Int[Tensor, " length"]]:
    """The first ``count`` windows of ``length`` tokens, by name.

    Raises:
        ValueError: ``count`` is outside 1..6, or a text is too short for ``length``.
    """
    if not 1 <= count <= len(WINDOWS):
        raise ValueError(f"there are {len(WINDOWS)} windows, so count must be 1..{len(WINDOWS)}")
    chosen = WINDOWS[:count]
    tokens = {w.source: _ids(tokenizer, _window_text(w.source)) for w in chosen}
    return {w.name: _cut(tokens[w.source], w.offset, length, w.name) for w in chosen}


def map_text(tokenizer: Any, name: str, length: int) -> Int[Tensor, " length"]:
    """The first ``length`` tokens of a correlation text.

    Raises:
        ValueError: unknown name, or the text is too short.
    """
    if name not in MAP_TEXTS:
        raise ValueError(f"name must be one of {', '.join(MAP_TEXTS)}, got {name!r}")
    year, start = ADDRESS_MAP
    text = moby_dick()[MOBY_MAP:] if name == "moby" else address(year)[start:]
    return _cut(_ids(tokenizer, text[: CHARACTERS_PER_TOKEN * length]), 0, length, name)


def opening(tokenizer: Any, length: int) -> Int[Tensor, " length"]:
    """The first ``length`` tokens of the novel's first chapter."""
    text = moby_dick()
    text = text[max(text.find(OPENING), 0) :]
    return _cut(_ids(tokenizer, text[: CHARACTERS_PER_TOKEN * length]), 0, length, "opening")


def prose(number: int, length: int) -> str:
    """Prose for about ``length`` tokens of filler; another ``number``, another chapter."""
    text = moby_dick()
    start = text.find("\n\n", PROSE_AT[number % len(PROSE_AT)])
    return text[start + 2 :][: CHARACTERS_PER_TOKEN * length]


def token_texts(tokenizer: Any, tokens: Sequence[int]) -> list[str]:
    """Each token as text; line ends are shown as a sign, since they are tokens too."""
    return [tokenizer.decode([token]).replace("\n", "⏎") for token in tokens]


def _window_text(source: str) -> str:
    return moby_dick()[MOBY_PART] if source == "moby" else address(int(source))


def _ids(tokenizer: Any, text: str) -> list[int]:
    # The text is longer than the model's context; the tokenizer's warning about that is beside
    # the point here, because only a window is used.
    return list(tokenizer(text, add_special_tokens=False, verbose=False).input_ids)


def _cut(tokens: list[int], offset: int, length: int, name: str) -> Tensor:
    if len(tokens) < offset + length:
        raise ValueError(
            f"text {name!r} has {len(tokens)} tokens, {offset + length} are needed: take a shorter "
            "length"
        )
    return torch.tensor(tokens[offset : offset + length])
