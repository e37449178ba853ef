"""Explore a figure function without a kernel: try its ends, or turn a control into frames.

Widgets are dead in a page that nobody computes behind. There the first control becomes a slider
over frames drawn beforehand, so that the centre-piece still moves. The page draws that slider
itself (``page.js``), under the figure: legends and turned labels are in nobody's way, and arrow
keys move it.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import plotly.graph_objects as go

from labcore import viz

MAX_FRAMES = 24
EXPLORE = "explore"  # the slider that the page draws, by its name in the layout


def values(control: Any, limit: int = MAX_FRAMES) -> list[Any]:
    """The settings of a control, thinned to ``limit``: both ends are kept.

    >>> values((1, 4)), values((0.0, 1.0, 0.5)), values(True), values(["a", "b"])
    ([1, 2, 3, 4], [0.0, 0.5, 1.0], [True, False], ['a', 'b'])
    """
    if isinstance(control, bool):
        return [control, not control]
    if isinstance(control, list):
        return control[:limit]
    low, high, *rest = control
    whole = all(isinstance(v, int) for v in control)
    step = rest[0] if rest else (1 if whole else (high - low) / 50)
    count = int(np.floor((high - low) / step + 1e-9)) + 1
    picked = np.unique(np.linspace(0, count - 1, min(count, limit)).round().astype(int))
    settings = [low + int(i) * step for i in picked]
    return settings if whole else [float(np.round(v, 12)) for v in settings]


def start_values(controls: Mapping[str, Any]) -> dict[str, Any]:
    """Where :func:`labcore.viz.explore` starts: sliders near the middle, menus at the first."""
    begin = {}
    for name, control in controls.items():
        settings = values(control, 10**6)
        begin[name] = settings[(len(settings) - 1) // 2 if isinstance(control, tuple) else 0]
    return begin


def sweep(figure_fn: Callable[..., go.Figure], controls: Mapping[str, Any]) -> None:
    """Draw with each control at both of its ends, so that an error there is not met by a reader.

    Raises:
        TypeError: ``figure_fn`` returned something else than a Figure.
    """
    begin = start_values(controls)
    for name, control in controls.items():
        ends = control if isinstance(control, list) else values(control)
        for value in (ends[0], ends[-1]):
            _draw(figure_fn, {**begin, name: value})


def animate(figure_fn: Callable[..., go.Figure], controls: Mapping[str, Any]) -> go.Figure:
    """The figure at its starting values, with the first control as a slider over frames.

    Raises:
        ValueError: There are no controls.
        TypeError: ``figure_fn`` returned something else than a Figure.
    """
    if not controls:
        raise ValueError("explore needs at least one control, such as layer=(0, 11)")
    begin = start_values(controls)
    name = next(iter(controls))
    settings = values(controls[name])
    if all(isinstance(value, int | float) for value in settings):
        settings = sorted(settings)  # a menu begins with its default, a slider with the least
    if begin[name] not in settings:
        begin[name] = settings[(len(settings) - 1) // 2]
    fig = _draw(figure_fn, begin)
    drawn = [_draw(figure_fn, {**begin, name: value}) for value in settings]
    width = max(len(f.data) for f in [fig, *drawn])
    meta = fig.layout.meta
    fig = go.Figure(data=_padded(fig, width), layout=fig.layout)
    fig.frames = [
        go.Frame(data=_padded(f, width), layout=f.layout, name=str(v))
        for f, v in zip(drawn, settings, strict=True)
    ]
    slider = _slider(name, settings, settings.index(begin[name]))
    return fig.update_layout(sliders=[slider], meta=meta)


def _draw(figure_fn: Callable[..., go.Figure], settings: Mapping[str, Any]) -> go.Figure:
    fig = figure_fn(**settings)
    if not isinstance(fig, go.Figure):
        raise TypeError(f"explore wants a plotly Figure, got {type(fig).__name__}: return fig")
    viz.describe(fig)  # an unfinished figure has no alt text
    return fig


def _padded(fig: go.Figure, width: int) -> list[Any]:
    """The figure's traces, and empty ones up to ``width``: plotly wants equally many a frame."""
    return [*fig.data, *(go.Scatter(x=[], y=[]) for _ in range(width - len(fig.data)))]


def _slider(name: str, settings: list[Any], active: int) -> dict[str, Any]:
    how = {"mode": "immediate", "frame": {"duration": 0, "redraw": True}}
    shown = [f"{v:.4g}" if isinstance(v, float) else str(v) for v in settings]
    steps = [
        {"label": label, "method": "animate", "args": [[str(value)], how]}
        for label, value in zip(shown, settings, strict=True)
    ]
    prefix = {"prefix": f"{name.replace('_', ' ')}: "}
    return {"name": EXPLORE, "active": active, "steps": steps, "currentvalue": prefix}
