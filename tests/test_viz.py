"""Figures: template, text alternatives, exports, notebook display, controls."""

import csv
import io

import ipywidgets as widgets
import numpy as np
import plotly.graph_objects as go
import pytest

from labcore import viz


def line() -> go.Figure:
    fig = go.Figure(go.Scatter(x=np.arange(3), y=np.array([2.0, 4.0, 8.0]), name="growth"))
    return viz.finish(fig, title="Doubling", alt="Doubles from 2 to 8.", caption="Watch it double.")


def luminance(colour: str) -> float:
    """Relative luminance of #rrggbb (WCAG 2.2)."""
    channels = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def test_finish_gives_text_and_template() -> None:
    fig = line()
    assert viz.describe(fig) == "Doubles from 2 to 8."
    assert viz.caption(fig) == "Watch it double."
    assert fig.layout.template.layout.colorway[0] == viz.PALETTE[0]
    assert fig.layout.template.layout.font.size >= 14


def test_figures_without_text_are_refused() -> None:
    with pytest.raises(ValueError, match="alt is empty"):
        viz.finish(go.Figure(), title="t", alt="  ")
    with pytest.raises(ValueError, match="finish"):
        viz.describe(go.Figure())


def test_offline_page_asks_the_network_for_nothing() -> None:
    page = viz.to_html(line()).decode()
    assert '<script src="http' not in page
    assert 'aria-label="Doubles from 2 to 8."' in page
    assert '"showSendToCloud": false' in page or '"showSendToCloud":false' in page


def test_csv_holds_the_plotted_numbers() -> None:
    rows = list(csv.DictReader(io.StringIO(viz.to_csv(line()).decode())))
    assert [float(r["y"]) for r in rows] == [2.0, 4.0, 8.0]
    assert {r["trace"] for r in rows} == {"growth"}
    heat = go.Figure(go.Heatmap(z=np.array([[1.0, 2.0], [3.0, 4.0]]), x=["a", "b"]))
    rows = list(csv.DictReader(io.StringIO(viz.to_csv(heat).decode())))
    assert [(r["x"], r["y"], float(r["z"])) for r in rows][-1] == ("b", "1", 4.0)


def test_diverging_scale_is_light_in_the_middle_and_dark_at_both_ends() -> None:
    light = [luminance(colour) for _, colour in viz.DIVERGING]
    assert light[2] == max(light)
    assert light[0] < light[1] < light[2] > light[3] > light[4]


def test_show_wants_a_figure() -> None:
    with pytest.raises(TypeError, match="Figure"):
        viz.show(3)  # type: ignore[arg-type]


def sine(frequency: int = 1, kind: str = "sin", shift: bool = False) -> go.Figure:
    y = getattr(np, kind)(frequency * np.linspace(0, 6, 50)) + shift
    return viz.finish(go.Figure(go.Scatter(y=y)), title=kind, alt=f"{frequency} waves")


def test_explore_builds_labelled_controls_and_redraws() -> None:
    box = viz.explore(sine, frequency=(1, 9), kind=["sin", "cos"], shift=False)
    slider, menu, tick, output = box.children
    assert (slider.value, menu.value, tick.value) == (5, "sin", False)
    assert [w.description for w in (slider, menu, tick)] == ["frequency", "kind", "shift"]
    assert not slider.continuous_update
    assert isinstance(output, widgets.Output)
    slider.value = 7
    assert slider.value == 7


def test_explore_refuses_what_cannot_work() -> None:
    with pytest.raises(TypeError, match="return fig itself"):
        viz.explore(lambda k: k, k=(0, 1))  # type: ignore[arg-type, return-value]
    with pytest.raises(ValueError, match="min 3 >= max 1"):
        viz.explore(sine, frequency=(3, 1))
    with pytest.raises(ValueError, match="empty list"):
        viz.explore(sine, kind=[])
