"""Figures of tokens: what selection keeps of a canvas, what merging makes of a photograph."""

import numpy as np
import plotly.graph_objects as go
from jaxtyping import UInt8
from plotly.subplots import make_subplots

from labcore import viz
from labcore.conditional.measure import Rows, distinct, over_seeds, pick
from labcore.conditional.photo import MergedPhoto


def canvas_tokens(
    image: UInt8[np.ndarray, "y x"], panels: dict[str, np.ndarray], *, label: int
) -> go.Figure:
    """One canvas, and the number that each method gives every patch.

    Args:
        image: The canvas.
        panels: Name → one number a patch (49,): kept or not, group of a merge, or depth.
        label: The digit.

    Raises:
        ValueError: no panel.
    """
    if not panels:
        raise ValueError("no panel: give at least one method")
    names = ["canvas", *panels]
    columns = 3
    rows = -(-len(names) // columns)
    fig = make_subplots(rows, columns, subplot_titles=names, vertical_spacing=0.12,
                        horizontal_spacing=0.03)  # fmt: skip
    side, n = image.shape[0], round(len(next(iter(panels.values()))) ** 0.5)
    said = []
    for number, name in enumerate(names):
        row, col = number // columns + 1, number % columns + 1
        shown: np.ndarray = image.astype(np.float64)
        if name != "canvas":
            values = panels[name].reshape(n, n)
            big: np.ndarray = np.kron(values.astype(np.float64), np.ones((side // n, side // n)))
            if values.dtype == bool:
                shown = np.where(big > 0, shown, np.nan)
                said.append(f"{name} keeps {int(values.sum())} of {values.size}")
            else:
                shown = big
                said.append(f"{name} uses {len(np.unique(values))} values")
        scale = viz.SEQUENTIAL if name != "canvas" and panels[name].dtype != bool else "Greys"
        fig.add_heatmap(z=shown, colorscale=scale, showscale=False, row=row, col=col,
                        hoverinfo="skip")  # fmt: skip
        fig.update_yaxes(autorange="reversed", scaleanchor=f"x{number + 1 if number else ''}",
                         visible=False, row=row, col=col)  # fmt: skip
        fig.update_xaxes(visible=False, constrain="domain", row=row, col=col)
    fig.update_layout(plot_bgcolor="#CBD5E1", margin={"t": 90})
    return viz.finish(
        fig,
        title=f"What is left of a canvas with a {label}",
        alt=f"A cluttered canvas of the digit {label} with {n * n} patches: {'; '.join(said)}.",
        caption="Grey patches are gone; in coloured panels equal colours are one token, or one "
        "depth.",
        source="canvas_tokens",
        params={"label": label},
        height=300 * rows,
    )


def merge_map(photo: MergedPhoto) -> go.Figure:
    """A photograph, and the same with every group of merged patches in its mean colour.

    Args:
        photo: What :func:`labcore.conditional.photo.paint` gave.
    """
    names = (f"{photo.patches} patches", f"{photo.tokens} tokens")
    fig = make_subplots(1, 2, horizontal_spacing=0.03, subplot_titles=names)
    for col, image in ((1, photo.picture), (2, photo.painted)):
        fig.add_trace(go.Image(z=image, hoverinfo="skip"), row=1, col=col)
        fig.update_xaxes(visible=False, row=1, col=col)
        fig.update_yaxes(visible=False, row=1, col=col)
    largest = int(np.bincount(photo.groups).max())
    fig.update_layout(margin={"t": 90})
    return viz.finish(
        fig,
        title="Merge map",
        alt=f"{photo.patches} patches merged to {photo.tokens} tokens "
        f"({photo.tokens / photo.patches:.0%}); the largest stands for {largest} patches.",
        caption="Sky and walls melt into few tokens, edges keep theirs: alike patches merge first.",
        source="merge_map",
        params={"tokens": photo.tokens},
        height=470,
    )


def feature_kept(rows: Rows) -> go.Figure:
    """How much of a ViT-S's feature of a photograph is left, over the share of the FLOPs.

    Args:
        rows: The result's table ``photographs``.
    """
    fig, said, photos = go.Figure(), [], len(distinct(rows, "photo"))
    for number, method in enumerate(distinct(rows, "method")):
        mine = pick(rows, method=method)
        points = sorted(
            (over_seeds(mine, "ratio", amount=a).mean, over_seeds(mine, "cosine", amount=a).mean)
            for a in distinct(mine, "amount")
        )
        x, y = zip(*points, strict=True)
        fig.add_scatter(
            x=x, y=y, name=method, mode="lines+markers",
            line={"color": viz.PALETTE[number], "dash": viz.DASHES[number]},
            marker={"symbol": viz.SYMBOLS[number], "size": 9},
        )  # fmt: skip
        near = min(points, key=lambda p: abs(p[0] - 0.6))
        said.append(f"{method} {near[1]:.2f} at {near[0]:.0%}")
    fig.update_xaxes(title_text="FLOPs executed, of all blocks", tickformat=".0%")
    fig.update_yaxes(title_text="cosine with the feature of all tokens")
    return viz.finish(
        fig,
        title="A real ViT-S with fewer tokens, not trained again",
        alt=f"Mean over {photos} photographs, nearest to 60 % of the FLOPs: {'; '.join(said)}.",
        caption="1 is the feature of all tokens; what falls late keeps most for its cost.",
        source="feature_kept",
        height=420,
    )
