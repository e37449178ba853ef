"""Figures of tokens: what selection keeps of a canvas, what merging makes of a photograph."""

import numpy as np
import plotly.graph_objects as go
from jaxtyping import UInt8
from plotly.subplots import make_subplots

from labcore import viz
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
        fig.update_xaxes(visible=False, row=row, col=col)
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
        photo: What :func:`labcore.conditional.photo.merge_photo` gave.
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
