"""Centre-piece of chapter 12: opinions spreading in a club, and networks that smooth too often."""

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float, Shaped
from plotly.subplots import make_subplots

from labcore import viz
from labcore.book.b12 import LEADERS, spread_opinions
from labcore.runs import Table

SHOWN = 60  # steps of diffusion on the right-hand side
CLUBS = ("the instructor's club", "the officer's club")


def diffusion_figure(
    adjacency: Shaped[np.ndarray, "n n"],
    places: Float[np.ndarray, "n 2"],
    clubs: Shaped[np.ndarray, " n"],
    *,
    step: int = 4,
    share: float = 0.5,
) -> go.Figure:
    """Two opinions after some steps of diffusion: the club on the left, energy on the right.

    Args:
        adjacency: Friendships (n, n).
        places: Where each member is drawn.
        clubs: The club (0 or 1) that each member joined.
        step: Steps of diffusion, 0 to 60.
        share: Step size as a share of the stability limit 2 / λ_max.

    Raises:
        ValueError: ``step`` or ``share`` out of range.
    """
    if not 0 <= step <= SHOWN:
        raise ValueError(f"step must be 0..{SHOWN}, got {step}")
    if not 0 < share <= 1.5:
        raise ValueError(f"share must be in (0, 1.5], got {share}")
    a = adjacency.astype(np.float64)
    states, energies = spread_opinions(a, share=share, steps=SHOWN)
    right = _right(states, clubs)
    fig = make_subplots(
        rows=1, cols=2, column_widths=[0.56, 0.44], horizontal_spacing=0.12,
        specs=[[{}, {"secondary_y": True}]],
    )  # fmt: skip
    _network(fig, a, places, states[step], clubs, reach=0.2)
    steps = np.arange(SHOWN + 1)
    fig.add_scatter(
        x=steps, y=energies, name="energy xᵀLx", line={"color": viz.PALETTE[0], "width": 2.5},
        hovertemplate="after %{x} steps: %{y:.3g}<extra></extra>", row=1, col=2,
    )  # fmt: skip
    fig.add_scatter(
        x=steps, y=right, name="right by sign", row=1, col=2, secondary_y=True,
        line={"color": viz.PALETTE[3], "width": 2.5, "dash": "dot"},
        hovertemplate="after %{x} steps: %{y:.0%} right<extra></extra>",
    )  # fmt: skip
    _now(fig, step, energies[step], right[step])
    fig.update_xaxes(title_text="steps of diffusion", row=1, col=2)
    fig.update_yaxes(title_text="energy (log scale)", type="log", exponentformat="power", dtick=1,
                     row=1, col=2, secondary_y=False)  # fmt: skip
    return _finish(
        fig,
        title=f"After {step} steps at {share:.0%} of the limit: {right[step]:.0%} on their side",
        alt=f"Karate club, 34 members: after {step} steps of diffusion with a step of "
        f"{share:.2f} of the stability limit the energy is {energies[step]:.3g} (at first "
        f"{energies[0]:.3g}) and {right[step]:.0%} of the members have their club's sign.",
        caption="Blue and orange opinions start at the two ringed leaders. A few steps colour the "
        "club rightly; many steps fade every colour to grey; above the limit they explode.",
        source="diffusion_figure",
        params={"step": step, "share": share},
    )


def depth_figure(
    adjacency: Shaped[np.ndarray, "n n"],
    places: Float[np.ndarray, "n 2"],
    clubs: Shaped[np.ndarray, " n"],
    depths: Shaped[np.ndarray, " k"],
    chances: Float[np.ndarray, "k n"],
    rows: Table,
    *,
    depth: int = 2,
) -> go.Figure:
    """What graph networks of a depth say of each member, and how often they are right.

    Args:
        adjacency: Friendships (n, n).
        places: Where each member is drawn.
        clubs: The club (0 or 1) that each member joined.
        depths: Depths that were trained.
        chances: Mean probability of the officer's club, (depth, member).
        rows: The result's table ``gcn``.
        depth: Which depth to draw.

    Raises:
        ValueError: ``depth`` was not trained.
    """
    if depth not in depths:
        raise ValueError(f"depth must be one of {depths.tolist()}, got {depth}")
    fig = make_subplots(
        rows=1, cols=2, column_widths=[0.56, 0.44], horizontal_spacing=0.12,
        specs=[[{}, {"secondary_y": True}]],
    )  # fmt: skip
    p = chances[list(depths).index(depth)]
    _network(fig, adjacency.astype(np.float64), places, 2 * p - 1, clubs, reach=1.0)
    by_depth = [[row for row in rows if row["depth"] == d] for d in depths]
    energy = [float(np.mean([row["difference"] for row in some])) for some in by_depth]
    right = [float(np.mean([row["accuracy"] for row in some])) for some in by_depth]
    worst = [min(row["accuracy"] for row in some) for some in by_depth]
    best = [max(row["accuracy"] for row in some) for some in by_depth]
    fig.add_scatter(
        x=depths, y=energy, name="difference between members", mode="lines+markers", row=1, col=2,
        line={"color": viz.PALETTE[0], "width": 2.5},
    )  # fmt: skip
    fig.add_scatter(
        x=depths, y=right, name="accuracy (bars: all seeds)", mode="lines+markers", row=1, col=2,
        secondary_y=True, line={"color": viz.PALETTE[3], "width": 2.5, "dash": "dot"},
        marker={"symbol": "square", "size": 8},
        error_y={"type": "data", "symmetric": False, "array": np.subtract(best, right),
                 "arrayminus": np.subtract(right, worst), "thickness": 1.2},
    )  # fmt: skip
    at = list(depths).index(depth)
    _now(fig, depth, energy[at], right[at])
    fig.update_xaxes(title_text="graph convolutions in the network", row=1, col=2)
    fig.update_yaxes(title_text="variance / size of the logits", row=1, col=2, secondary_y=False,
                     rangemode="tozero")  # fmt: skip
    seeds, top = len(by_depth[at]), int(np.argmax(right))
    return _finish(
        fig,
        title=f"{depth} graph convolutions, two labels: {right[at]:.1%} right",
        alt=f"Graph networks of {depth} layers that saw the labels of the two leaders only: "
        f"{right[at]:.1%} of 34 members right, mean of {seeds} seeds ({worst[at]:.1%} to "
        f"{best[at]:.1%}); with {depths[-1]} layers {right[-1]:.1%}.",
        caption=f"Networks of {depths[top]} layers name {len(p) * right[top]:.1f} of {len(p)} "
        f"members rightly on average, those of {depths[-1]} layers {len(p) * right[-1]:.1f}: so "
        "many averages leave little to tell apart.",
        source="depth_figure",
        params={"depth": depth},
    )


def _network(
    fig: go.Figure,
    a: np.ndarray,
    places: np.ndarray,
    values: np.ndarray,
    clubs: np.ndarray,
    *,
    reach: float,
) -> None:
    """Friendships as lines, members as symbols of their club, coloured by value."""
    i, j = np.triu(a).nonzero()
    gap = np.full(len(i), np.nan)
    line = np.stack([places[i], places[j], np.stack([gap, gap], 1)], 1).reshape(-1, 2)
    fig.add_scatter(
        x=line[:, 0], y=line[:, 1], mode="lines", line={"color": "#C9D1DA", "width": 1},
        hoverinfo="skip", showlegend=False, row=1, col=1,
    )  # fmt: skip
    for club, name in enumerate(CLUBS):
        mine = np.flatnonzero(clubs == club)
        fig.add_scatter(
            x=places[mine, 0], y=places[mine, 1], mode="markers", name=name, row=1, col=1,
            text=[f"member {n}" for n in mine],
            customdata=values[mine],
            hovertemplate="%{text}: %{customdata:.3g}<extra>" + name + "</extra>",
            marker={
                "symbol": viz.SYMBOLS[club], "size": 18, "color": values[mine], "cmin": -reach,
                "cmax": reach, "colorscale": [list(stop) for stop in viz.DIVERGING],
                "line": {"color": viz.INK,
                         "width": [3.5 if n in LEADERS else 1 for n in mine]},
            },
        )  # fmt: skip
    fig.update_xaxes(visible=False, row=1, col=1)
    fig.update_yaxes(visible=False, row=1, col=1)


def _now(fig: go.Figure, x: float, energy: float, right: float) -> None:
    """Where the slider stands, on both curves."""
    for y, second, colour in ((energy, False, viz.PALETTE[0]), (right, True, viz.PALETTE[3])):
        fig.add_scatter(
            x=[x], y=[y], mode="markers", showlegend=False, hoverinfo="skip", row=1, col=2,
            secondary_y=second,
            marker={"size": 13, "color": colour, "line": {"color": "white", "width": 2}},
        )  # fmt: skip


def _right(states: np.ndarray, clubs: np.ndarray) -> np.ndarray:
    """Share of members whose sign is that of their club; no sign is not right."""
    return (np.sign(states) == 2 * clubs.astype(int) - 1).mean(axis=1)


def _finish(fig: go.Figure, **texts: object) -> go.Figure:
    fig.update_yaxes(title_text="share of members right", range=[0, 1.04], tickformat=".0%",
                     tickvals=[0, 0.25, 0.5, 0.75, 1], tickmode="array",
                     showgrid=False, row=1, col=2, secondary_y=True)  # fmt: skip
    fig.update_layout(legend={"orientation": "h", "x": 0, "y": -0.2, "yanchor": "top"},
                      margin={"t": 64, "b": 96})  # fmt: skip
    return viz.finish(fig, height=500, **texts)  # type: ignore[arg-type]
