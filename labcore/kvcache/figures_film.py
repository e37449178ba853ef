"""The film of a rolling cache: which pairs are held after each token, and when each one leaves."""

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Int

from labcore import viz
from labcore.kvcache.labels import label, shown

_STATES = ((0.0, "#FFFFFF"), (0.34, "#FFFFFF"), (0.34, "#DCE3EA"), (0.67, "#DCE3EA"),
           (0.67, viz.PALETTE[0]), (1.0, viz.PALETTE[0]))  # fmt: skip


def rolling_film(
    dropped_at: Int[np.ndarray, " n"],
    tokens: Sequence[str],
    *,
    budget: int,
    policy: str,
    layer: int,
    head: int,
    frames: int = 60,
) -> go.Figure:
    """Which pairs one head holds after each token; a slider runs the film.

    Args:
        dropped_at: For each pair how many tokens had been seen when it was dropped, -1 if it stays.
        tokens: Text of each token.
        budget: Most pairs held.
        policy: Name of the policy, for the title.
        layer: Layer, for the title.
        head: Key head, for the title.
        frames: Most frames of the film, at most 60.

    Raises:
        ValueError: sizes that do not match, or a bad number of frames.
    """
    n = len(dropped_at)
    if len(tokens) != n:
        raise ValueError(f"{len(tokens)} tokens do not fit a history of {n} pairs")
    if not 2 <= frames <= 60:
        raise ValueError(f"frames must be 2..60, got {frames}")
    steps = np.arange(1, n + 1)
    seen = np.arange(n)[None, :] < steps[:, None]
    held = seen & ((dropped_at < 0) | (dropped_at > steps[:, None]))
    state = (seen.astype(np.uint8) + held).astype(np.uint8)  # 0 to come, 1 dropped, 2 held
    fig = go.Figure(
        go.Heatmap(
            z=state, x=np.arange(n), y=steps, zmin=0, zmax=2, showscale=False,
            colorscale=[list(stop) for stop in _STATES],
            hovertemplate="position %{x}, after %{y} tokens<extra></extra>",
        )
    )  # fmt: skip
    fig.add_bar(x=[None], y=[None], name="held", marker_color=viz.PALETTE[0])
    fig.add_bar(x=[None], y=[None], name="dropped", marker_color="#DCE3EA")
    fig.add_scatter(**_curtain(n, n), fill="toself", fillcolor="white", line={"width": 0},
                    mode="lines", showlegend=False, hoverinfo="skip")  # fmt: skip
    stops = np.unique(np.linspace(1, n, frames).round().astype(int))
    fig.frames = [
        go.Frame(name=str(t), traces=[3], data=[go.Scatter(**_curtain(int(t), n))]) for t in stops
    ]
    _controls(fig, stops.tolist())
    every = max(1, n // 32)
    fig.update_xaxes(
        title_text="original position", range=[-0.5, n - 0.5], showgrid=False, tickangle=-90,
        tickvals=np.arange(0, n, every), tickfont={"size": 11},
        ticktext=[f"{i} {shown(tokens[i])}" for i in range(0, n, every)],
    )  # fmt: skip
    fig.update_yaxes(title_text="tokens seen", range=[n + 0.5, 0.5], showgrid=False)
    fig.update_layout(
        legend={"orientation": "h", "x": 1, "xanchor": "right", "y": 1.0, "yanchor": "bottom"},
        margin={"t": 110, "b": 190},
    )
    alive = np.flatnonzero(held[-1])
    gone = dropped_at[dropped_at >= 0] - np.flatnonzero(dropped_at >= 0)
    life = f"dropped ones lived {np.median(gone):.0f} tokens (median)" if gone.size else "none left"
    recent = int((alive >= n - budget).sum())
    return viz.finish(
        fig,
        title=f"A rolling cache of {budget} pairs: {label(policy)}, layer {layer}, key head {head}",
        alt=f"After {n} tokens {alive.size} pairs are held, {recent} of them among the newest "
        f"{budget}; {life}.",
        caption="A vertical bar is a pair that stays; a diagonal rim is a window that moves along.",
        source="rolling_film",
        params={"budget": budget, "policy": policy, "layer": layer, "head": head},
        height=700,
    )


def _curtain(step: int, n: int) -> dict[str, list[float]]:
    """A white sheet over all that comes after ``step``."""
    top = step + 0.5
    return {"x": [-0.5, n - 0.5, n - 0.5, -0.5], "y": [top, top, n + 0.5, n + 0.5]}


def _controls(fig: go.Figure, stops: list[int]) -> None:
    now = {"mode": "immediate", "frame": {"duration": 0, "redraw": False}}
    play = {"frame": {"duration": 90, "redraw": False}, "fromcurrent": True, "mode": "immediate"}
    fig.update_layout(
        updatemenus=[
            {
                "type": "buttons",
                "direction": "left",
                "x": 0,
                "y": 1.01,
                "xanchor": "left",
                "yanchor": "bottom",
                "showactive": False,
                "buttons": [
                    {"label": "▶ play", "method": "animate", "args": [None, play]},
                    {"label": "❚❚ pause", "method": "animate", "args": [[None], now]},
                ],
            }
        ],
        sliders=[
            {
                "active": len(stops) - 1,
                "x": 0,
                "len": 1,
                "y": -0.26,
                "yanchor": "top",
                "currentvalue": {"prefix": "tokens seen: "},
                "steps": [
                    {"label": str(t), "method": "animate", "args": [[str(t)], now]} for t in stops
                ],
            }
        ],
    )
