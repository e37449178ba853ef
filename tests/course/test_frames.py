from pathlib import Path

import numpy as np
import plotly.graph_objects as go
import pytest

from labcore import viz
from labcore.course import frames


def lines(n: int = 1, tall: bool = False, kind: str = "a") -> go.Figure:
    """As many lines as asked for."""
    fig = go.Figure([go.Scatter(x=[0, 1], y=[i, i + 1 + tall]) for i in range(n)])
    return viz.finish(fig, title=f"{n} lines", alt=f"{n} lines of kind {kind}.")


CONTROLS = {"n": (1, 5), "tall": False, "kind": ["a", "b"]}


@pytest.mark.parametrize(
    "control", [(0, 100), (0.0, 1.0), (0.0, 1.0, 0.1), (2, 10, 3), [3, 1, 2], True]
)
def test_settings_keep_both_ends_and_the_limit(control: object) -> None:
    settings = frames.values(control, 24)
    assert 2 <= len(settings) <= 24
    if isinstance(control, tuple):
        low, high, *rest = control
        assert settings[0] == low
        assert settings[-1] == high or high - rest[0] < settings[-1] < high
        assert settings == sorted(settings)
        assert all(type(s) is type(low) for s in settings)


@pytest.mark.parametrize("controls", [CONTROLS, {"x": (0.25, 4.0, 0.25)}, {"x": (0.0, 1.0)}])
def test_starts_where_the_widget_starts(controls: dict[str, object]) -> None:
    def draw(**values: object) -> go.Figure:
        return viz.finish(go.Figure(), title="t", alt=repr(sorted(values.items())))

    box = viz.explore(draw, **controls)
    shown = [widget.value for widget in box.children[: len(controls)]]
    assert list(frames.start_values(controls).values()) == pytest.approx(shown) or shown == list(
        frames.start_values(controls).values()
    )


def test_frames_are_the_figures() -> None:
    fig = frames.animate(lines, CONTROLS)
    assert [f.name for f in fig.frames] == ["1", "2", "3", "4", "5"]
    assert {len(f.data) for f in fig.frames} == {len(fig.data)} == {5}
    for n, frame in enumerate(fig.frames, start=1):
        for trace, wanted in zip(frame.data, lines(n).data, strict=False):
            np.testing.assert_array_equal(trace.y, wanted.y)
        assert frame.layout.meta["alt"] == f"{n} lines of kind a."
    slider = fig.layout.sliders[0]
    assert slider.active == 2
    assert slider.currentvalue.prefix == "n: "
    assert viz.describe(fig) == "3 lines of kind a."


def test_numbers_of_a_menu_are_in_order_on_the_slider() -> None:
    fig = frames.animate(lambda n: lines(n), {"n": [3, 1, 5]})
    assert [frame.name for frame in fig.frames] == ["1", "3", "5"]
    assert fig.layout.sliders[0].active == 1
    assert viz.describe(fig).startswith("3 lines")


def test_the_page_draws_the_slider_so_the_figure_stays_as_it_is() -> None:
    fig = frames.animate(lines, CONTROLS)
    assert fig.layout.sliders[0].name == frames.EXPLORE
    assert (
        f'slider.name === "{frames.EXPLORE}"'
        in Path(frames.__file__).with_name("page.js").read_text()
    )
    for layout in (fig.layout, *(frame.layout for frame in fig.frames)):
        assert layout.height == lines(3).layout.height
        assert layout.margin.b == lines(3).layout.margin.b


def test_at_most_sixty_frames() -> None:
    fig = frames.animate(lambda x: lines(1), {"x": (0.0, 1.0, 0.001)})
    assert len(fig.frames) <= 60
    assert fig.frames[-1].name == "1.0"


def test_sweep_goes_to_every_end() -> None:
    seen = []

    def draw(n: int, tall: bool, kind: str) -> go.Figure:
        seen.append((n, tall, kind))
        return lines(n)

    frames.sweep(draw, CONTROLS)
    assert {s[0] for s in seen} >= {1, 5}
    assert {s[1] for s in seen} == {True, False}
    assert {s[2] for s in seen} == {"a", "b"}


def test_what_is_not_a_finished_figure() -> None:
    with pytest.raises(TypeError, match="got str: return fig"):
        frames.sweep(lambda x: "figure", {"x": (0, 1)})
    with pytest.raises(ValueError, match=r"end its function with viz\.finish"):
        frames.animate(lambda x: go.Figure(), {"x": (0, 1)})
    with pytest.raises(ValueError, match="at least one control"):
        frames.animate(lines, {})
