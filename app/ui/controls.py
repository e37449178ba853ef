"""The one way to make a control: its key is its name in the address bar, its range is the table's.

Streamlit drops values that a link gets wrong without a word. So a control looks at the raw text
before its widget exists, and says what was wrong and what is shown instead.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import streamlit as st

from app.ui.parameters import Choice, Flag, Parameter, Range, Several, Table, Text, checked, problem

Kind = TypeVar("Kind")


@dataclass(frozen=True)
class Preset:
    """A button that leads to a discovery.

    Attributes:
        label: What to see, in a few words.
        about: What to look at after pressing it.
        values: Parameters to set; all others go back to their defaults.
    """

    label: str
    about: str
    values: Mapping[str, Any] = field(default_factory=dict)


class Controls:
    """The controls of one page.

    Each method makes one widget in the current container and returns its value; the value is also
    in the address bar under ``key``. All other facts come from the page's table.

    Args:
        table: The page's ``PARAMETERS``.

    Raises:
        ValueError: a key or entry of the table is not allowed.
    """

    def __init__(self, table: Table) -> None:
        self.table = checked(table)

    def slider(self, key: str, label: str) -> Any:
        """A slider for a :class:`Range`; it reports when it is let go."""
        p = self._get(key, Range)
        return self._made(key, st.slider, label, **_ends(p))

    def number(self, key: str, label: str) -> Any:
        """A box for a number in a :class:`Range`."""
        p = self._get(key, Range)
        return self._made(key, st.number_input, label, **_ends(p))

    def select(self, key: str, label: str) -> Any:
        """A row of segments for up to four values of a :class:`Choice`, a menu for more."""
        p = self._get(key, Choice)
        if len(p.choices) > 4:
            index = p.choices.index(p.default)
            return self._made(key, st.selectbox, label, options=p.choices, index=index)
        return self._made(
            key,
            st.segmented_control,
            label,
            options=p.choices,
            default=p.default,
            required=True,
        )

    def steps(self, key: str, label: str) -> Any:
        """A slider over the values of a :class:`Choice`, for a grid that was computed before."""
        p = self._get(key, Choice)
        return self._made(key, st.select_slider, label, options=p.choices, value=p.default)

    def many(self, key: str, label: str) -> tuple[Any, ...]:
        """Pills for a :class:`Several`; the values come in the table's order."""
        p = self._get(key, Several)
        chosen = self._made(
            key,
            st.pills,
            label,
            options=p.choices,
            default=list(p.default),
            selection_mode="multi",
        )
        return tuple(choice for choice in p.choices if choice in chosen)

    def toggle(self, key: str, label: str) -> bool:
        """A switch for a :class:`Flag`."""
        p = self._get(key, Flag)
        return bool(self._made(key, st.toggle, label, value=p.default))

    def text(self, key: str, label: str, *, lines: int = 3) -> str:
        """A box for a :class:`Text`; an emptied box gives the default, and says so."""
        p = self._get(key, Text)
        height: dict[str, Any] = {"height": 28 * lines + 16} if lines > 1 else {}
        widget: Callable[..., Any] = st.text_area if lines > 1 else st.text_input
        value = self._made(key, widget, label, value=p.default, max_chars=p.most, **height)
        if not st.session_state[key].strip():
            st.info("The box is empty; showing the default text.")
        return str(value) if value.strip() else p.default

    def presets(self, presets: Sequence[Preset]) -> None:
        """Buttons that set all parameters at once; the last one pressed says what to look at.

        Raises:
            ValueError: a preset names a parameter that the page lacks, or a value it refuses.
        """
        with st.container(horizontal=True, gap="small"):
            for number, preset in enumerate(presets):
                values = self._full(preset)
                st.button(
                    preset.label,
                    key=f"preset-{number}",
                    icon=":material/explore:",
                    on_click=_apply,
                    args=(values, self._about, preset.about),
                )
        if about := st.session_state.get(self._about):
            st.caption(about)

    def settings(self) -> dict[str, Any]:
        """Every parameter's present value (its default before its control exists)."""
        return {key: _present(key, p) for key, p in self.table.items()}

    @property
    def _about(self) -> str:
        """Where the pressed preset's sentence is kept; another page has another table."""
        return f"preset-about {' '.join(self.table)}"

    def _get(self, key: str, kind: type[Kind]) -> Kind:
        parameter = self.table.get(key)
        if not isinstance(parameter, kind):
            found = "nothing" if parameter is None else f"a {type(parameter).__name__}"
            raise TypeError(f"PARAMETERS[{key!r}] must be a {kind.__name__}, it is {found}")
        return parameter

    def _made(self, key: str, widget: Callable[..., Any], label: str, **options: Any) -> Any:
        fresh = key not in st.session_state
        raw = st.query_params.get_all(key)
        about = self.table[key].about
        number = isinstance(self.table[key], Range)
        bind = None if number and _endless(raw) else "query-params"
        value = widget(label, key=key, bind=bind, help=about, **options)
        if value is None or value == "":  # nothing chosen, or an emptied box
            value = self.table[key].default
        shown = tuple(value) if isinstance(value, list) else value
        if fresh and raw and (text := problem(key, raw, self.table[key], shown)):
            st.warning(text, icon=":material/link_off:")
        return value

    def _full(self, preset: Preset) -> dict[str, Any]:
        unknown = set(preset.values) - set(self.table)
        if unknown:
            raise ValueError(f"preset {preset.label!r} sets {sorted(unknown)}, not in PARAMETERS")
        for key, value in preset.values.items():
            self.table[key].write(value)
        return {key: preset.values.get(key, p.default) for key, p in self.table.items()}


def _present(key: str, p: Parameter) -> Any:
    value = st.session_state.get(key, p.default)
    try:
        p.write(value)
    except ValueError:  # an emptied box: the page shows the default
        return p.default
    return tuple(value) if isinstance(value, list) else value


def _endless(raw: Sequence[str]) -> bool:
    """Whether a link holds an infinite number, which makes Streamlit's number box fail.

    >>> _endless(["9" * 400]), _endless(["7"]), _endless(["abc"]), _endless([])
    (True, False, False, False)
    """
    try:
        return math.isinf(float(raw[-1]))
    except (ValueError, IndexError):
        return False


def _ends(p: Range) -> dict[str, Any]:
    """Streamlit wants all four numbers of one type."""
    cast = int if p.whole else float
    ends = {"min_value": p.low, "max_value": p.high, "value": p.default, "step": p.stride}
    return {name: cast(value) for name, value in ends.items()}


def _apply(values: Mapping[str, Any], place: str, about: str) -> None:
    for key, value in values.items():
        st.session_state[key] = list(value) if isinstance(value, tuple) else value
    st.session_state[place] = about
