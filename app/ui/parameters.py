"""What a page lets people change: its table of parameters, without any of Streamlit.

Each page declares ``PARAMETERS``, a dict from key to one of the kinds below. The key is the name in
the address bar, so it is short, lower case and never renamed. The table is what controls, links,
presets and tests read; :meth:`read` is the one place that judges text from a link.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

Number = int | float


class Parameter(Protocol):
    """What every kind of parameter can do."""

    @property
    def default(self) -> Any:
        """The value of a link that does not name the parameter."""

    @property
    def about(self) -> str:
        """What it means, with its unit."""

    def read(self, raw: Sequence[str]) -> Any:
        """The value that a link's text means; ValueError says what is wrong with it."""

    def write(self, value: Any) -> list[str]:
        """The text of a value in a link; ValueError when the page would refuse it."""

    def samples(self) -> tuple[Any, ...]:
        """Values at the edges, for tests: the default, the least and the most."""


@dataclass(frozen=True)
class Range:
    """A number between two ends, both allowed.

    Whole numbers when ``default``, ``low`` and ``high`` are ints. A link may hold any number in the
    range, also one between two steps of the slider.

        >>> Range(4, 1, 16, about="rank").read(["7"])
        7
        >>> Range(4, 1, 16, about="rank").read(["99"])
        Traceback (most recent call last):
        ValueError: is outside 1..16
    """

    default: Number
    low: Number
    high: Number
    step: Number | None = None
    about: str = ""

    def __post_init__(self) -> None:
        if not self.low <= self.default <= self.high or self.low == self.high:
            raise ValueError(f"default {self.default} must lie in {self.low}..{self.high}")

    @property
    def whole(self) -> bool:
        """Whether it holds whole numbers only."""
        return all(isinstance(v, int) for v in (self.default, self.low, self.high))

    @property
    def stride(self) -> Number:
        """The step, or a fitting one: 1 for whole numbers, else a hundredth of the range."""
        if self.step is not None:
            return self.step
        return 1 if self.whole else (self.high - self.low) / 100

    def read(self, raw: Sequence[str]) -> Number:
        """See :class:`Parameter`."""
        try:
            value = float(raw[-1])
        except ValueError:
            raise ValueError("is not a number") from None
        if math.isnan(value):
            raise ValueError("is not a number")
        if not self.low <= value <= self.high:
            raise ValueError(f"is outside {self.low}..{self.high}")
        if not self.whole:
            return value
        if value != int(value):
            raise ValueError("is not a whole number")
        return int(value)

    def write(self, value: Any) -> list[str]:
        """See :class:`Parameter`."""
        return [f"{self.read([str(value)]):g}" if not self.whole else str(self.read([str(value)]))]

    def samples(self) -> tuple[Any, ...]:
        """See :class:`Parameter`."""
        return (self.default, self.low, self.high)


@dataclass(frozen=True)
class Choice:
    """One of a few values, told apart by their text."""

    default: Any
    choices: tuple[Any, ...]
    about: str = ""

    def __post_init__(self) -> None:
        if self.default not in self.choices:
            raise ValueError(f"default {self.default!r} must be one of {self.choices}")
        if len({str(c) for c in self.choices}) < len(self.choices):
            raise ValueError(f"two choices read the same: {self.choices}")

    def read(self, raw: Sequence[str]) -> Any:
        """See :class:`Parameter`."""
        for choice in self.choices:
            if str(choice) == raw[-1]:
                return choice
        raise ValueError(f"is not one of {', '.join(map(str, self.choices))}")

    def write(self, value: Any) -> list[str]:
        """See :class:`Parameter`."""
        return [str(self.read([str(value)]))]

    def samples(self) -> tuple[Any, ...]:
        """See :class:`Parameter`."""
        return (self.default, self.choices[0], self.choices[-1])


@dataclass(frozen=True)
class Several:
    """Any subset of a few values, in their order."""

    default: tuple[Any, ...]
    choices: tuple[Any, ...]
    about: str = ""

    def __post_init__(self) -> None:
        if not set(self.default) <= set(self.choices):
            raise ValueError(f"default {self.default} must be among {self.choices}")

    def read(self, raw: Sequence[str]) -> tuple[Any, ...]:
        """See :class:`Parameter`; the empty text means none of them."""
        wanted = [text for text in raw if text]
        unknown = [text for text in wanted if text not in map(str, self.choices)]
        if unknown:
            raise ValueError(f"is not among {', '.join(map(str, self.choices))}")
        return tuple(c for c in self.choices if str(c) in wanted)

    def write(self, value: Any) -> list[str]:
        """See :class:`Parameter`."""
        return [str(v) for v in self.read([str(v) for v in value])] or [""]

    def samples(self) -> tuple[Any, ...]:
        """See :class:`Parameter`."""
        return (self.default, (), self.choices)


@dataclass(frozen=True)
class Flag:
    """Yes or no."""

    default: bool
    about: str = ""

    def read(self, raw: Sequence[str]) -> bool:
        """See :class:`Parameter`."""
        text = raw[-1].lower()
        if text not in ("true", "false"):
            raise ValueError("is neither true nor false")
        return text == "true"

    def write(self, value: Any) -> list[str]:
        """See :class:`Parameter`."""
        return [str(self.read([str(value)])).lower()]

    def samples(self) -> tuple[Any, ...]:
        """See :class:`Parameter`."""
        return (self.default, False, True)


@dataclass(frozen=True)
class Text:
    """Free text, not empty, up to a number of characters."""

    default: str
    most: int
    about: str = ""

    def __post_init__(self) -> None:
        if not 1 <= len(self.default) <= self.most:
            raise ValueError(f"the default text must have 1..{self.most} characters")

    def read(self, raw: Sequence[str]) -> str:
        """See :class:`Parameter`."""
        text = raw[-1]
        if not text.strip():
            raise ValueError("is empty")
        if len(text) > self.most:
            raise ValueError(f"has {len(text)} characters, at most {self.most} are read")
        return text

    def write(self, value: Any) -> list[str]:
        """See :class:`Parameter`."""
        return [self.read([str(value)])]

    def samples(self) -> tuple[Any, ...]:
        """See :class:`Parameter`."""
        return (self.default, "a", (self.default * self.most)[: self.most])


Table = Mapping[str, Parameter]
_KEY = re.compile(r"[a-z][a-z0-9_]{0,15}")


def checked(table: Table) -> Table:
    """The table itself, when its keys can stand in a link and every entry says what it means.

    Raises:
        ValueError: a key is not short and lower case, or an entry has no ``about``.
    """
    for key, parameter in table.items():
        if not _KEY.fullmatch(key) or key.startswith("embed"):
            raise ValueError(f"key {key!r} must be 1-16 lower-case letters, digits or _")
        if not parameter.about:
            raise ValueError(f"parameter {key!r} has no about: say what it means")
    return table


def problem(key: str, raw: Sequence[str], parameter: Parameter, shown: Any) -> str:
    """The sentence about a link whose text gave another value than it says; empty when all is well.

    >>> problem("k", ["999"], Range(4, 1, 16, about="rank"), 4)
    'k=999 in the link is outside 1..16; showing 4.'
    """
    try:
        if parameter.read(raw) == shown:
            return ""
        reason = "cannot be shown"
    except ValueError as error:
        reason = str(error)
    return f"{key}={_short(','.join(raw))} in the link {reason}; showing {_short(_plain(shown))}."


def _plain(value: Any) -> str:
    return ", ".join(map(str, value)) or "none" if isinstance(value, tuple) else str(value)


def _short(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:37]}..."
