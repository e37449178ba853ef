"""Centre-piece of chapter 10: whom each token of a sentence reads, in one head of a real model."""

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float
from plotly.subplots import make_subplots

from labcore import viz


def attention_figure(
    weights: Float[np.ndarray, "l h t t"], tokens: Sequence[str], *, layer: int = 0, head: int = 0
) -> go.Figure:
    """One head's map of tokens; the entropy of its rows; the first token's share in every layer.

    Args:
        weights: Attention of every layer and head.
        tokens: Text of each token.
        layer: Which layer.
        head: Which head.

    Raises:
        ValueError: No such layer or head, or another number of tokens.
    """
    layers, heads, length, _ = weights.shape
    if len(tokens) != length:
        raise ValueError(f"{len(tokens)} tokens do not fit weights of {length}")
    if not (0 <= layer < layers and 0 <= head < heads):
        raise ValueError(f"layer must be 0..{layers - 1} and head 0..{heads - 1}, "
                         f"got {layer} and {head}")  # fmt: skip
    here = weights[layer, head].astype(np.float64)
    names = [f"{i} {t.strip() or '␣'}" for i, t in enumerate(tokens)]
    fig = make_subplots(
        rows=2, cols=2, column_widths=[0.62, 0.38], horizontal_spacing=0.16, vertical_spacing=0.24,
        specs=[[{"rowspan": 2}, {}], [None, {}]],
        subplot_titles=("", "entropy of each query (bits)", "last query on token 0"),
    )  # fmt: skip
    late = np.triu(np.ones_like(here, dtype=bool), 1)
    fig.add_heatmap(
        z=np.where(late, np.nan, here), x=names, y=names, zmin=0, zmax=1, row=1, col=1,
        colorscale=viz.SEQUENTIAL, colorbar={"x": 0.535, "len": 1.0, "thickness": 12},
        hovertemplate="%{y} reads %{x}: %{z:.2f}<extra></extra>",
    )  # fmt: skip
    sink = weights[:, :, -1, 0].astype(np.float64)
    entropy = _side(fig, here, sink, layer, head)
    fig.update_xaxes(title_text="token that is read", tickangle=60, showgrid=False, row=1, col=1)
    fig.update_yaxes(title_text="token that reads", autorange="reversed", showgrid=False, row=1,
                     col=1)  # fmt: skip
    fig.update_annotations(font={"size": 14})
    fig.update_layout(margin={"t": 88, "b": 112})
    return viz.finish(
        fig,
        title=f"Layer {layer}, head {head}: the last token reads the first with "
        f"{sink[layer, head]:.2f}",
        alt=f"Attention of layer {layer}, head {head} over {length} tokens. The entropy of rows "
        f"is {entropy[1:].mean():.2f} bits on average. The last query puts {sink[layer, head]:.2f} "
        f"on the first token; the mean of heads is {sink[0].mean():.2f} in layer 0 and "
        f"{sink.mean(1).max():.2f} in layer {int(sink.mean(1).argmax())}.",
        caption="Bright squares are read most. Right: the dotted line is the most possible, the "
        "star this head, the squares the mean of a layer's heads: deep layers park much of their "
        "weight on the first token.",
        source="attention_figure",
        params={"layer": layer, "head": head},
        height=580,
    )


def _side(
    fig: go.Figure,
    here: Float[np.ndarray, "t t"],
    sink: Float[np.ndarray, "l h"],
    layer: int,
    head: int,
) -> Float[np.ndarray, " t"]:
    """The two small panels; the entropy of every query, in bits."""
    length = len(here)
    entropy = -(here * np.log2(np.maximum(here, 1e-12))).sum(1)
    fig.add_scatter(
        x=np.arange(length), y=entropy, mode="lines+markers", name="entropy", row=1, col=2,
        line={"color": viz.PALETTE[0]}, showlegend=False,
    )  # fmt: skip
    fig.add_scatter(
        x=np.arange(length), y=np.log2(np.arange(1, length + 1)), mode="lines", row=1, col=2,
        line={"color": viz.INK, "dash": "dot", "width": 1}, showlegend=False, hoverinfo="skip",
    )  # fmt: skip
    fig.add_scatter(
        x=np.arange(len(sink)), y=sink.mean(1), mode="lines+markers", row=2, col=2,
        showlegend=False, line={"color": viz.PALETTE[3], "dash": "dash"},
        marker={"symbol": "square"},
    )  # fmt: skip
    fig.add_scatter(
        x=[layer], y=[sink[layer, head]], mode="markers", row=2, col=2, showlegend=False,
        marker={"size": 14, "symbol": "star", "color": viz.INK},
        hovertemplate="this head: %{y:.2f}<extra></extra>",
    )  # fmt: skip
    fig.update_xaxes(title_text="query", row=1, col=2)
    fig.update_yaxes(rangemode="tozero", row=1, col=2)
    fig.update_xaxes(title_text="layer", row=2, col=2)
    fig.update_yaxes(range=[0, 1.05], row=2, col=2)
    return np.asarray(entropy)
