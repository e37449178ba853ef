"""Figures of mixtures: the switchboard, the film of loads, what experts like."""

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float, UInt8
from plotly.subplots import make_subplots

from labcore import viz
from labcore.conditional.data import CLASSES
from labcore.conditional.switchboard import switch

GREY = "#9AA5B1"


def switchboard(
    logits: Float[np.ndarray, "t e"],
    picture: UInt8[np.ndarray, "y x"],
    *,
    k: int = 2,
    noise: float = 0.0,
    capacity: float = 0.0,
    seed: int = 0,
    title: str = "",
) -> go.Figure:
    """Tokens of one picture on the left, experts on the right, a line for every choice.

    Args:
        logits: Router logits, class token first, then the patches in reading order.
        picture: The picture.
        k: Experts a token. noise: Standard deviation of noise on the logits.
        capacity: Capacity factor, 0 for no limit. seed: Of the noise.
        title: Which router.

    Raises:
        ValueError: what :func:`labcore.conditional.switchboard.switch` refuses.
    """
    board = switch(logits, k, noise=noise, capacity=capacity, seed=seed)
    tokens, experts = logits.shape
    fig = make_subplots(1, 2, column_widths=[0.3, 0.7], horizontal_spacing=0.04)
    _picture(fig, picture)
    left = np.linspace(1, 0, tokens)
    right = np.linspace(0.96, 0.04, experts)
    for expert in range(experts):
        _lines(fig, board, expert, left, right)
    dropped_token = board.dropped.all(1)
    names = ["class", *(f"{i + 1}" for i in range(tokens - 1))]
    fig.add_scatter(
        x=np.zeros(tokens), y=left, mode="markers+text", text=names, textposition="middle left",
        marker={"size": 9, "color": np.where(dropped_token, GREY, viz.INK).tolist(),
                "symbol": np.where(dropped_token, "x", "circle").tolist()},
        hovertemplate="token %{text}<extra></extra>", showlegend=False, row=1, col=2,
    )  # fmt: skip
    fig.add_scatter(
        x=np.ones(experts), y=right, mode="markers+text",
        text=[f" {e + 1}: {n}" for e, n in enumerate(board.load)],
        textposition="middle right",
        marker={"size": 10 + 2.2 * board.load, "color": [_colour(e) for e in range(experts)],
                "line": {"color": viz.INK, "width": 1}},
        hovertemplate="expert %{text} tokens<extra></extra>", showlegend=False, row=1, col=2,
    )  # fmt: skip
    fig.update_xaxes(visible=False, range=[-0.28, 1.75], row=1, col=2)
    fig.update_yaxes(visible=False, range=[-0.06, 1.1], row=1, col=2)
    for x, text, anchor in ((0, "tokens", "center"), (1, "experts: load", "center")):
        fig.add_annotation(
            x=x, y=1.05, text=f"<b>{text}</b>", showarrow=False, xanchor=anchor, row=1, col=2
        )
    drops = int(board.dropped.sum())
    busy = int(board.load.argmax())
    total = int(board.load.sum())
    return viz.finish(
        fig,
        title=f"Who goes where{': ' + title if title else ''}",
        alt=f"{tokens} tokens, {k} of {experts} experts each; {total} choices carried out and "
        f"{drops} dropped. Expert {busy + 1} takes the most, {int(board.load[busy])}; "
        f"{int((board.load == 0).sum())} experts take nothing.",
        caption="Thick lines carry much weight; dotted grey lines are choices that found their "
        "expert full.",
        source="switchboard",
        params={"k": k, "noise": noise, "capacity": capacity, "seed": seed},
        height=560,
    )


def _picture(fig: go.Figure, picture: np.ndarray) -> None:
    fig.add_heatmap(
        z=picture, colorscale="Greys", reversescale=False, showscale=False, row=1, col=1,
        hovertemplate="%{z}<extra></extra>",
    )  # fmt: skip
    size = picture.shape[0] // 4
    for i in range(1, 4):
        line = {"color": viz.PALETTE[1], "width": 1}
        fig.add_hline(y=i * size - 0.5, line=line, row=1, col=1)
        fig.add_vline(x=i * size - 0.5, line=line, row=1, col=1)
    for i in range(16):
        fig.add_annotation(
            x=(i % 4) * size + 0.6, y=(i // 4) * size + 0.6, text=str(i + 1), showarrow=False,
            font={"size": 12, "color": viz.INK}, bgcolor="rgba(255,255,255,0.7)", row=1, col=1,
        )  # fmt: skip
    square = {"visible": False, "constrain": "domain"}
    fig.update_yaxes(autorange="reversed", scaleanchor="x", **square, row=1, col=1)
    fig.update_xaxes(**square, row=1, col=1)


def _lines(fig: go.Figure, board: object, expert: int, left: np.ndarray, right: np.ndarray) -> None:
    """Lines to one expert, in three widths; choices without a place are grey and dotted."""
    chosen = board.expert == expert  # type: ignore[attr-defined]
    weight, dropped = board.weight, board.dropped  # type: ignore[attr-defined]
    for low, high, width in ((0, 0.25, 0.8), (0.25, 0.6, 2.2), (0.6, 1.01, 4.0)):
        for gone in (False, True):
            at = chosen & (dropped == gone) & (weight >= low) & (weight < high)
            rows = np.flatnonzero(at.any(1))
            if not len(rows):
                continue
            x, y = [], []
            for t in rows:
                x += [0, 1, None]
                y += [left[t], right[expert], None]
            fig.add_scatter(
                x=x, y=y, mode="lines", showlegend=False, hoverinfo="skip", opacity=0.75,
                line={"width": width, "color": GREY if gone else _colour(expert),
                      "dash": "dot" if gone else "solid"}, row=1, col=2,
            )  # fmt: skip


def _colour(expert: int) -> str:
    return viz.PALETTE[expert % len(viz.PALETTE)]


def load_film(share: Float[np.ndarray, "s l e"], *, layer: int, every: int, arm: str) -> go.Figure:
    """Share of the choices that each expert gets, from the first training step to the last.

    Args:
        share: Shares, frames × sparse layers × experts.
        layer: Which sparse layer, from 0. every: Steps between two frames. arm: For the title.

    Raises:
        ValueError: a layer that is not there.
    """
    if not 0 <= layer < share.shape[1]:
        raise ValueError(f"layer must lie in 0..{share.shape[1] - 1}, got {layer}")
    z = share[:, layer].astype(np.float64).T
    experts = len(z)
    fig = go.Figure(
        go.Heatmap(
            z=z, x=np.arange(z.shape[1]) * every, y=np.arange(1, experts + 1),
            colorscale=viz.SEQUENTIAL, zmin=0, zmax=max(0.5, float(z.max())),
            colorbar={"title": "share"},
            hovertemplate="step %{x}, expert %{y}: %{z:.2f}<extra></extra>",
        )
    )  # fmt: skip
    fig.update_xaxes(title_text="training step")
    fig.update_yaxes(title_text="expert", dtick=1)
    last = z[:, -10:].mean(1)
    return viz.finish(
        fig,
        title=f"Load of the experts, {arm}, block {2 * layer + 2}",
        alt=f"Over the last ten frames the busiest of {experts} experts gets {last.max():.0%} of "
        f"the choices and the idlest {last.min():.0%}; even would be {1 / experts:.0%}.",
        caption="Dark rows are experts that get nothing: without work they cannot learn to be "
        "chosen.",
        source="load_film",
        params={"layer": layer, "arm": arm},
        height=380,
    )


def likes_map(counts: Float[np.ndarray, "e c"], *, arm: str, layer: int, tokens: str) -> go.Figure:
    """Which classes' tokens each expert gets, experts sorted by their favourite class.

    Args:
        counts: Tokens of each class that ran on each expert.
        arm: Which network. layer: Block. tokens: "patches" or "class token".

    Raises:
        ValueError: no token at all.
    """
    if not counts.sum():
        raise ValueError("no token ran on any expert: nothing to draw")
    given = counts / np.maximum(counts.sum(0, keepdims=True), 1)  # P(expert | class)
    order = np.argsort(given.argmax(1), kind="stable")
    names = [f"expert {e + 1}" for e in order]
    fig = go.Figure(
        go.Heatmap(
            z=given[order], x=list(CLASSES), y=names, colorscale=viz.SEQUENTIAL, zmin=0,
            colorbar={"title": "share of<br>the class"},
            hovertemplate="%{y}, %{x}: %{z:.2f}<extra></extra>",
        )
    )  # fmt: skip
    fig.update_xaxes(title_text="class", type="category", tickangle=-50)
    fig.update_yaxes(autorange="reversed")
    expert, favourite = np.unravel_index(int(given.argmax()), given.shape)
    return viz.finish(
        fig,
        title=f"What experts like: {arm}, block {layer}, {tokens}",
        alt=f"{len(given)} experts and {given.shape[1]} classes. The strongest tie: "
        f"expert {expert + 1} gets {given.max():.0%} of the tokens of class "
        f"{CLASSES[favourite]}.",
        caption="A column that lights up in one row only is a class that one expert has to itself.",
        source="likes_map",
        params={"arm": arm, "layer": layer, "tokens": tokens},
        height=440,
    )


def favourite_patches(best: UInt8[np.ndarray, "e n y x"], *, arm: str, layer: int) -> go.Figure:
    """The patches that each expert's router scores highest, one row an expert.

    Args:
        best: Patches, best first. arm: Which network. layer: Block.
    """
    experts, n, side, _ = best.shape
    gap = 1
    sheet = np.full((experts * (side + gap), n * (side + gap)), np.nan)
    for e in range(experts):
        for i in range(n):
            y, x = e * (side + gap), i * (side + gap)
            sheet[y : y + side, x : x + side] = best[e, i]
    fig = go.Figure(
        go.Heatmap(z=sheet, colorscale="Greys", zmin=0, zmax=255, showscale=False, hoverinfo="skip")
    )
    middles = np.arange(experts) * (side + gap) + side / 2
    fig.update_yaxes(
        autorange="reversed", scaleanchor="x", tickvals=middles, title_text="expert",
        ticktext=[str(e + 1) for e in range(experts)], showgrid=False,
    )  # fmt: skip
    fig.update_xaxes(title_text="patches, highest probability first", showticklabels=False,
                     showgrid=False, constrain="domain")  # fmt: skip
    fig.update_layout(plot_bgcolor="#CBD5E1")  # the gaps: also blank patches have an edge
    dark = best.reshape(experts, -1).mean(1)
    return viz.finish(
        fig,
        title=f"Favourite patches: {arm}, block {layer}",
        alt=f"{n} patches for each of {experts} experts. Expert {int(dark.argmax()) + 1} likes the "
        f"inkiest patches (mean {dark.max():.0f} of 255), expert {int(dark.argmin()) + 1} the "
        f"emptiest ({dark.min():.0f}).",
        caption="Rows of look-alikes are experts for a kind of stroke, of cloth or of nothing.",
        source="favourite_patches",
        params={"arm": arm, "layer": layer},
        height=520,
    )
