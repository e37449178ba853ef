"""The map of the lab: chapters as circles, papers as squares, arrows from what to read first.

Places are set by hand, so that the map reads like a walk: the book's chapters go right and down,
the papers lie at the foot. Only the last steps are drawn: an arrow that other arrows imply is left
out (a transitive reduction), because "read B04 before P01" follows from the chapters in between.
"""

from collections.abc import Collection, Iterable, Sequence

import numpy as np
import plotly.graph_objects as go

from labcore import viz
from labcore.works import Work

PLACES = {
    "B01": (0.0, 0.0, "A map of|the land", "Map of the land"),
    "B02": (1.0, 0.0, "Walking|downhill", "Walking downhill"),
    "B03": (2.0, 0.0, "Data and|losses", "Data and losses"),
    "B04": (3.0, 0.0, "Linear|models", "Linear models"),
    "B05": (4.0, 0.0, "Bending|the line", "Fully-connected models"),
    "BB": (5.0, 0.0, "Universal|approx.", "Universal approximation"),
    "BA": (6.1, 0.0, "Probability", "Probability"),
    "B06": (3.4, 1.0, "Automatic|gradients", "Automatic gradients"),
    "B07": (4.6, 1.0, "Convolu-|tions", "Convolutions"),
    "B12": (1.4, 2.0, "Graphs", "Graph models"),
    "B09": (3.9, 2.0, "Scaling up", "Scaling up"),
    "B08": (5.4, 2.0, "Beyond|images", "Beyond images"),
    "B13": (1.4, 3.0, "Recurrent|models", "Recurrent models"),
    "B10": (4.3, 3.0, "Trans-|formers", "Transformers"),
    "B11": (5.5, 3.0, "In practice", "Transformers in practice"),
    "P02": (0.4, 4.15, "Koopman|modes", "Koopman modes"),
    "P04": (2.2, 4.15, "Simplicial|Mamba", "Topological learning"),
    "P01": (3.2, 4.15, "Model|merging", "Model merging"),
    "P06": (4.2, 4.15, "KV cache", "Key norms"),
    "P03": (5.15, 4.15, "Speech|adapters", "Speech and language"),
    "P05": (6.2, 4.15, "Adaptive|fine-tuning", "Adaptive fine-tuning"),
    "P07": (2.2, 5.15, "Topology|benchmark", "Topology benchmark"),
    "P09": (5.8, 5.15, "Semantic|tokens", "Semantic tokens"),
    "P10": (4.5, 5.15, "Conditional|computation", "Conditional computation"),
}
GREY, FAINT = "#66727F", "#C3CCD5"
RADIUS = 0.27  # of a marker with room for its label's first line, in rows


def short_title(id: str) -> str:
    """The name of a work in a few words, for menus and page titles.

        >>> short_title("P06")
        'Key norms'

    Raises:
        ValueError: the id has no place on the map.
    """
    if id not in PLACES:
        raise ValueError(f"no place for {id!r} on the map: there are {', '.join(PLACES)}")
    return PLACES[id][3]


def direct_requirements(works: Iterable[Work]) -> list[tuple[str, str]]:
    """Pairs (read first, then) that no longer path implies: the transitive reduction.

    Raises:
        ValueError: a requirement is unknown, or works require each other in a circle.
    """
    requires = {work.id: work.requires for work in works}
    before: dict[str, set[str]] = {}

    def ancestors(id: str, path: tuple[str, ...]) -> set[str]:
        if id in path:
            raise ValueError(f"requirements go in a circle: {' -> '.join([*path, id])}")
        if id not in requires:
            raise ValueError(f"{path[-1]} requires {id!r}, which is not among the works")
        if id not in before:
            found = [ancestors(first, (*path, id)) | {first} for first in requires[id]]
            before[id] = set().union(*found)
        return before[id]

    pairs = []
    for id, firsts in requires.items():
        ancestors(id, ())
        implied = set().union(*(before[first] for first in firsts))
        pairs += [(first, id) for first in firsts if first not in implied]
    return pairs


def course_map(works: Sequence[Work], built: Collection[str]) -> go.Figure:
    """The lab's works and what to read before each.

    Args:
        works: The works to draw.
        built: Ids of those that are there to open; the others are drawn pale.

    Raises:
        ValueError: a work has no place on the map, or requirements are not sound.
    """
    unknown = [work.id for work in works if work.id not in PLACES]
    if unknown:
        raise ValueError(f"no place on the map for {unknown}: add them to PLACES")
    arrows = direct_requirements(works)
    fig = go.Figure()
    fig.add_trace(_arrows([pair for pair in arrows if pair[1] not in built], FAINT))
    fig.add_trace(_arrows([pair for pair in arrows if pair[1] in built], GREY))
    fig.add_trace(_labels([work for work in works if work.id not in built], GREY))
    fig.add_trace(_labels([work for work in works if work.id in built], viz.INK))
    for section, symbol, colour in (
        ("Book", "circle", viz.PALETTE[0]),
        ("Papers", "square", viz.PALETTE[3]),
    ):
        for ready in (False, True):
            rows = [w for w in works if w.section == section and (w.id in built) == ready]
            fig.add_trace(_marks(rows, section, symbol, colour, ready=ready))
    hidden = {"visible": False, "fixedrange": True}
    fig.update_layout(
        xaxis={**hidden, "range": [-0.6, 6.75]},
        yaxis={**hidden, "range": [5.9, -0.6]},
        margin={"l": 0, "r": 0, "t": 36, "b": 0},
        showlegend=False,
        hovermode="closest",
        dragmode=False,
        shapes=[_band(-0.55, 3.68, "#F3F7FB"), _band(3.72, 5.85, "#FBF5EF")],
        annotations=[
            _heading("The book", 1.0, viz.PALETTE[0]),
            _heading("The papers", 5.15, viz.PALETTE[3]),
        ],
    )
    open_now = sum(work.id in built for work in works)
    papers = sum(work.section == "Papers" for work in works)
    return viz.finish(
        fig,
        title="What to read before what",
        alt=(
            f"Map of {len(works)} works, {papers} papers and {len(works) - papers} chapters, "
            f"{open_now} open now, with {len(arrows)} arrows from what to read first."
        ),
        caption=(
            "Circles are chapters of the book, squares are papers; an arrow says what to read "
            "first. Click one to open it." + " Pale ones are coming." * (open_now < len(works))
        ),
        source="labcore.course.map.course_map",
        params={"built": sorted(built)},
        height=640,
    )


def _arrows(pairs: Sequence[tuple[str, str]], colour: str) -> go.Scatter:
    """All arrows in one trace: straight lines that stop short of both marks."""
    x: list[float | None] = []
    y: list[float | None] = []
    sizes: list[int] = []
    for first, then in pairs:
        start, end = np.array(PLACES[first][:2]), np.array(PLACES[then][:2])
        step = (end - start) / np.linalg.norm(end - start)
        tail, head = start + step * _clear(step, down=True), end - step * _clear(step, down=False)
        x += [float(tail[0]), float(head[0]), None]
        y += [float(tail[1]), float(head[1]), None]
        sizes += [0, 9, 0]
    return go.Scatter(
        x=x,
        y=y,
        mode="lines+markers",
        line={"color": colour, "width": 1.6},
        marker={
            "symbol": "arrow",
            "angleref": "previous",
            "size": sizes,
            "color": colour,
            "line": {"width": 0},
            "opacity": 1,
        },
        hoverinfo="skip",
        name="read first",
    )


def _clear(step: np.ndarray, *, down: bool) -> float:
    """How far an arrow keeps from a mark: farther below it, where its label is."""
    return RADIUS + (0.33 * float(step[1]) if down else 0.0)


def _marks(
    rows: Sequence[Work], section: str, symbol: str, colour: str, *, ready: bool
) -> go.Scatter:
    return go.Scatter(
        x=[PLACES[work.id][0] for work in rows],
        y=[PLACES[work.id][1] for work in rows],
        mode="markers+text",
        text=[work.id for work in rows],
        customdata=[work.id for work in rows],
        hovertext=[f"<b>{work.title}</b><br>{work.question}" for work in rows],
        hoverinfo="text",
        textfont={"size": 13, "color": "white" if ready else GREY},
        marker={
            "symbol": symbol,
            "size": 40,
            "color": colour if ready else "white",
            "opacity": 1,
            "line": {"width": 1.5, "color": colour if ready else FAINT},
        },
        unselected={"marker": {"opacity": 1}, "textfont": {"color": "white" if ready else GREY}},
        name=f"{section}, {'open' if ready else 'coming'}",
    )


def _labels(rows: Sequence[Work], colour: str) -> go.Scatter:
    """Names under the marks: text below points of the marks' size that cannot be seen."""
    return go.Scatter(
        x=[PLACES[work.id][0] for work in rows],
        y=[PLACES[work.id][1] for work in rows],
        mode="markers+text",
        text=[PLACES[work.id][2].replace("|", "<br>") for work in rows],
        textposition="bottom center",
        textfont={"size": 13, "color": colour},
        marker={"size": 40, "opacity": 0},
        hoverinfo="skip",
        name="names",
    )


def _band(top: float, bottom: float, colour: str) -> dict[str, object]:
    return {
        "type": "rect",
        "xref": "paper",
        "x0": 0,
        "x1": 1,
        "y0": top,
        "y1": bottom,
        "fillcolor": colour,
        "line": {"width": 0},
        "layer": "below",
    }


def _heading(text: str, row: float, colour: str) -> dict[str, object]:
    return {
        "x": -0.3,
        "y": row,
        "text": text,
        "showarrow": False,
        "xanchor": "left",
        "font": {"size": 21, "color": colour, "family": "Source Serif, Georgia, serif"},
    }
