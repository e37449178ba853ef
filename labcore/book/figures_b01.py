"""Centre-piece of chapter 1: test error against training pictures, and where the line ends."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from labcore import viz
from labcore.book.b01 import LONGER, SIZES, STEPS


def scaling_figure(
    rows: Sequence[Mapping[str, Any]], n: int = 10_000, *, tested: int = 2000, longer: bool = False
) -> go.Figure:
    """Errors on log-log axes, and a line fitted to the sizes below ``n`` only, drawn on to ``n``.

    Args:
        rows: The chapter's table ``errors``.
        n: The size whose error the line has to predict.
        tested: Test pictures: the first 2000, or all 10 000.
        longer: Whether to show the runs with three times the steps.

    Raises:
        ValueError: a size with fewer than two smaller ones, or one that was not measured.
    """
    if n not in SIZES[2:]:
        raise ValueError(f"n must be one of {SIZES[2:]}, got {n}")
    mine = [r for r in rows if r["tested"] == tested]

    def of(size: int, steps: int) -> np.ndarray:
        return np.array([r["error"] for r in mine if r["n"] == size and r["steps"] == steps])

    if not mine or not len(of(n, STEPS)):
        raise ValueError(f"no error of {n} pictures on {tested} test pictures in the table")
    there = [size for size in SIZES if len(of(size, STEPS))]
    sizes, means = np.array(there), np.array([of(size, STEPS).mean() for size in there])
    below = sizes < n
    slope, offset = np.polyfit(np.log(sizes[below]), np.log(means[below]), 1)
    reach = np.array([sizes[0], n])
    line = np.exp(offset) * reach**slope
    measured = means[list(sizes).index(n)]
    fig = go.Figure()
    for draw in sorted({r["seed"] for r in mine}):
        own = [r for r in mine if r["seed"] == draw and r["steps"] == STEPS]
        fig.add_scatter(
            x=[r["n"] for r in own], y=[r["error"] for r in own], mode="markers",
            name="each seed", showlegend=draw == mine[0]["seed"],
            marker={"color": "#9AA5B1", "size": 6},
        )  # fmt: skip
    fig.add_scatter(
        x=sizes, y=means, mode="lines+markers", name=f"mean, {STEPS} steps",
        line={"color": viz.PALETTE[0]}, marker={"size": 9},
    )  # fmt: skip
    fig.add_scatter(x=reach, y=line, mode="lines", name="line through the smaller sizes",
                    line={"color": viz.PALETTE[3], "dash": "dash"})  # fmt: skip
    fig.add_scatter(
        x=[n], y=[measured], mode="markers", name="measured here",
        marker={"color": viz.PALETTE[3], "symbol": "star", "size": 16},
    )  # fmt: skip
    if longer:
        more = [size for size in SIZES if len(of(size, LONGER))]
        fig.add_scatter(
            x=more, y=[of(size, LONGER).mean() for size in more], mode="lines+markers",
            name=f"mean, {LONGER} steps",
            line={"color": viz.PALETTE[2], "dash": "dot"}, marker={"symbol": "diamond", "size": 10},
        )  # fmt: skip
    ticks = [0.04, 0.06, 0.1, 0.15, 0.2, 0.3, 0.4]
    fig.update_xaxes(title_text="training pictures", type="log", tickvals=list(SIZES),
                     ticktext=[str(size) for size in SIZES])  # fmt: skip
    fig.update_yaxes(title_text="share of test pictures wrong", type="log", tickvals=ticks)
    fig.update_layout(legend={"orientation": "h", "x": 0, "y": -0.2}, margin={"b": 112})
    return viz.finish(
        fig,
        title=f"{n:,} pictures: the line says {line[1]:.3f}, measured {measured:.3f}",
        alt=f"Test error of a small network, {STEPS} steps, on {tested} test pictures: from "
        f"{means[0]:.3f} with {sizes[0]} training pictures to {means[-1]:.3f} with {sizes[-1]}. A "
        f"line through the sizes below {n} has exponent {slope:.2f} and predicts {line[1]:.3f}; "
        f"measured {measured:.3f}.",
        caption="On log-log axes the error falls on a line, then bends: at the right end pictures "
        "are no longer what is missing. Always the most frequent digit: 0.89.",
        source="scaling_figure",
        params={"n": n, "tested": tested, "longer": longer},
        height=480,
    )
