"""What every figure of the lab shares: template, palettes, alt text, exports, notebook display.

A figure function builds a ``plotly`` Figure from plain arrays and ends with :func:`finish`, which
gives it the template and the text that stands in for it: a caption (what to see) and an alt text
(the main numbers). Notebook, app page, reading copy and tests all read the same text.

Colours are Okabe and Ito's (2008) for categories, cividis (Nuñez et al., 2018) for ramps and a
blue-orange scale centred at zero for signed values; categories also differ by symbol or dash.
"""

import csv
import html
import io
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import plotly.graph_objects as go
import plotly.io as pio

PALETTE = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#D55E00",
    "#CC79A7",
    "#56B4E9",
    "#F0E442",
    "#000000",
)
SYMBOLS = ("circle", "square", "diamond", "cross", "triangle-up", "x", "star", "triangle-down")
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
SEQUENTIAL = "Cividis"
DIVERGING = (
    (0.0, "#00457A"),
    (0.25, "#4F9BD0"),
    (0.5, "#F7F7F7"),
    (0.75, "#E89A3C"),
    (1.0, "#8F4A00"),
)
INK = "#1F2933"
GRID = "#E4E8EE"
CONFIG = {"displaylogo": False, "showSendToCloud": False, "responsive": True}


def theme() -> None:
    """Register the template ``lab`` and make it plotly's default."""
    axis = {
        "gridcolor": GRID,
        "zerolinecolor": GRID,
        "linecolor": "#9AA5B1",
        "ticks": "outside",
        "ticklen": 4,
        "tickcolor": "#9AA5B1",
        "title": {"standoff": 10},
        "automargin": True,
    }
    pio.templates["lab"] = go.layout.Template(
        layout={
            "font": {
                "family": "Source Sans, Source Sans Pro, Helvetica, Arial, sans-serif",
                "size": 14,
                "color": INK,
            },
            "title": {"font": {"size": 17}, "x": 0, "xref": "paper", "xanchor": "left"},
            "colorway": list(PALETTE),
            "paper_bgcolor": "white",
            "plot_bgcolor": "white",
            "xaxis": axis,
            "yaxis": axis,
            "margin": {"l": 64, "r": 24, "t": 56, "b": 56},
            "hoverlabel": {"font": {"size": 14}},
            "legend": {"bgcolor": "rgba(255,255,255,0.8)"},
            "colorscale": {
                "sequential": SEQUENTIAL,
                "diverging": [list(stop) for stop in DIVERGING],
            },
        }
    )
    pio.templates.default = "lab"


def finish(
    fig: go.Figure,
    *,
    title: str,
    alt: str,
    caption: str = "",
    source: str = "",
    params: Mapping[str, Any] | None = None,
    height: int = 420,
) -> go.Figure:
    """Give ``fig`` the lab's template, a title, and the text that stands in for it.

    Args:
        fig: The figure to finish; returned for chaining.
        title: What is plotted, in a few words.
        alt: One or two sentences with the main numbers, for people who cannot see the figure.
        caption: One sentence that says what to see. Defaults to ``alt``.
        source: Name of the figure function.
        params: The parameters it was called with, for the download.
        height: Pixels.

    Raises:
        ValueError: ``alt`` is empty.
    """
    if not alt.strip():
        raise ValueError(
            "alt is empty: say in a sentence, with its main numbers, what the figure shows"
        )
    if "lab" not in pio.templates:
        theme()
    meta = {"alt": alt, "caption": caption or alt, "source": source, "params": dict(params or {})}
    return fig.update_layout(template="lab", title_text=title, height=height, meta=meta)


def describe(fig: go.Figure) -> str:
    """The alt text that :func:`finish` stored.

    Raises:
        ValueError: the figure was not finished.
    """
    return _meta(fig, "alt")


def caption(fig: go.Figure) -> str:
    """The caption that :func:`finish` stored."""
    return _meta(fig, "caption")


def _meta(fig: go.Figure, key: str) -> str:
    meta = fig.layout.meta
    if not isinstance(meta, dict) or key not in meta:
        raise ValueError(f"this figure has no {key}: end its function with viz.finish(...)")
    return str(meta[key])


def to_html(fig: go.Figure, *, offline: bool = True) -> bytes:
    """A page of its own with the figure, its caption and its alt text.

    With ``offline`` the page carries plotly.js (about 5 MB) and asks the network for nothing.
    """
    plot = fig.to_html(
        include_plotlyjs=True if offline else "cdn", full_html=False, auto_play=False, config=CONFIG
    )
    title = html.escape(fig.layout.title.text or "figure")
    body = (
        f'<figure role="img" aria-label="{html.escape(describe(fig), quote=True)}">{plot}'
        f"<figcaption>{html.escape(caption(fig))}</figcaption></figure>"
    )
    head = (
        f'<meta charset="utf-8"><title>{title}</title><style>body{{font-family:sans-serif}}</style>'
    )
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{body}</body></html>'.encode()


def to_csv(fig: go.Figure) -> bytes:
    """The plotted data in long form: one row a point, with its trace and its coordinates."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(["trace", "x", "y", "z", "text"])
    for number, trace in enumerate(fig.data):
        name = trace.name or f"trace {number}"
        x, y, text = (_listed(getattr(trace, key, None)) for key in ("x", "y", "text"))
        z = getattr(trace, "z", None)
        if z is not None:
            _write_grid(writer, name, x, y, z)
            continue
        for i in range(max(len(x), len(y))):
            writer.writerow([name, _at(x, i), _at(y, i), "", _at(text, i)])
    return out.getvalue().encode()


def _write_grid(writer: Any, name: str, x: list[Any], y: list[Any], z: Any) -> None:
    for i, row in enumerate(z):
        for j, value in enumerate(row):
            at = [x[j] if j < len(x) else j, y[i] if i < len(y) else i]
            writer.writerow([name, *at, value, ""])


def _listed(values: Any) -> list[Any]:
    if values is None or isinstance(values, str):
        return []
    return list(values)


def _at(values: list[Any], i: int) -> Any:
    return values[i] if i < len(values) else ""


def show(fig: go.Figure, alt: str | None = None) -> None:
    """Display a figure in a notebook and print its alt text under it.

    The alt text also goes into the output's metadata, where the reading copy finds it.

    Raises:
        TypeError: ``fig`` is not a plotly Figure.
        ValueError: neither ``alt`` nor a finished figure's own text is there.
    """
    _require_figure(fig, "show")
    text = alt or describe(fig)
    from IPython.display import HTML, display

    bundle: dict[str, Any] = {}
    for name in (pio.renderers.default or "plotly_mimetype").split("+"):
        renderer = pio.renderers[name]
        if hasattr(renderer, "config"):
            renderer.config = {**(renderer.config or {}), **CONFIG}
        if hasattr(renderer, "to_mimebundle"):
            bundle.update(renderer.to_mimebundle(fig.to_dict()))
    if not bundle:  # a script, not a notebook: nothing can be drawn, so say what would be
        print(f"[figure] {text}")
        return
    display(bundle, raw=True, metadata={"alt": text})
    display(HTML(f'<p class="lab-alt"><em>{html.escape(text)}</em></p>'))


def _require_figure(fig: object, where: str) -> None:
    if not isinstance(fig, go.Figure):
        raise TypeError(
            f"{where} wants a plotly Figure, got {type(fig).__name__}: return fig itself"
        )


Control = Sequence[float] | Sequence[str] | bool | int | float | str


def explore(figure_fn: Callable[..., go.Figure], **controls: Control) -> Any:
    """Sliders and menus in front of a figure function, for notebooks.

    Args:
        figure_fn: Pure function of the controls that returns a Figure.
        controls: ``name=(min, max)`` or ``(min, max, step)`` for a slider, a list for a menu, a
            bool for a check box. Sliders start in the middle, menus at the first entry.

    Returns:
        The widget, already displayed by the notebook when it is a cell's value. An error in
        ``figure_fn`` is shown in the output area, where the executor finds it.

    Raises:
        TypeError: ``figure_fn`` does not return a Figure for the starting values.
        ValueError: a control is empty or its range is reversed.
    """
    import ipywidgets as widgets

    handles = {name: _control(name, value) for name, value in controls.items()}
    _require_figure(figure_fn(**{k: w.value for k, w in handles.items()}), "explore")

    def draw(**values: Any) -> None:
        fig = figure_fn(**values)
        _require_figure(fig, "explore")
        show(fig)

    output = widgets.interactive_output(draw, handles)
    return widgets.VBox([*handles.values(), output])


def _control(name: str, value: Control) -> Any:
    import ipywidgets as widgets

    label = name.replace("_", " ")
    style = {"description_width": "initial"}
    if isinstance(value, bool):
        return widgets.Checkbox(value=value, description=label, style=style)
    if isinstance(value, list):
        if not value:
            raise ValueError(f"control {name!r} is an empty list: give at least one choice")
        return widgets.Dropdown(options=value, value=value[0], description=label, style=style)
    if not (isinstance(value, tuple) and len(value) in (2, 3)):
        raise ValueError(
            f"control {name!r} must be (min, max[, step]), a list or a bool: {value!r}"
        )
    low, high = value[0], value[1]
    if not low < high:
        raise ValueError(f"control {name!r} has min {low} >= max {high}")
    whole = all(isinstance(v, int) for v in value)
    step = value[2] if len(value) == 3 else (1 if whole else (high - low) / 50)
    middle = low + math.floor((high - low) / 2 / step) * step
    kind = widgets.IntSlider if whole else widgets.FloatSlider
    return kind(
        value=middle,
        min=low,
        max=high,
        step=step,
        description=label,
        style=style,
        continuous_update=False,
    )
