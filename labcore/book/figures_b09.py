"""Centre-piece of chapter 9: gradients through the layers, and what becomes of the training."""

from collections.abc import Mapping

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from labcore import viz
from labcore.book.b09 import DEPTHS, KINDS
from labcore.runs import Table


def depth_figure(arrays: Mapping[str, np.ndarray], rows: Table, *, depth: int = 20) -> go.Figure:
    """Three kinds of network of one depth: gradients by layer, training loss by epoch.

    Args:
        arrays: The result's arrays ``b09/gradients/...`` and ``b09/losses/...``.
        rows: The result's table ``b09/runs``.
        depth: One of the depths that were trained.

    Raises:
        ValueError: That depth was not trained.
    """
    if depth not in DEPTHS:
        raise ValueError(f"depth must be one of {DEPTHS}, got {depth}")
    fig = make_subplots(
        rows=1, cols=2, horizontal_spacing=0.13,
        subplot_titles=("gradient before the first update", "training"),
    )  # fmt: skip
    said = []
    for number, kind in enumerate(KINDS):
        norms = arrays[f"b09/gradients/{kind}/{depth}"]
        losses = arrays[f"b09/losses/{kind}/{depth}"]
        right = [r["accuracy"] for r in rows if r["kind"] == kind and r["depth"] == depth]
        style = {
            "line": {"color": viz.PALETTE[number], "dash": viz.DASHES[number], "width": 2.2},
            "marker": {"symbol": viz.SYMBOLS[number], "size": 8},
            "mode": "lines+markers",
            "name": f"{kind} ({np.mean(right):.1%} right)",
            "legendgroup": kind,
        }
        layers = np.arange(1, depth + 1)
        fig.add_scatter(x=layers, y=norms, row=1, col=1, **style)
        fig.add_scatter(x=np.arange(1, len(losses) + 1), y=losses, row=1, col=2, showlegend=False,
                        **style)  # fmt: skip
        said.append(f"{kind} {np.mean(right):.1%} (first over last gradient "
                    f"{norms[0] / norms[-1]:.1e})")  # fmt: skip
    seeds = len({r["seed"] for r in rows})
    fig.add_hline(y=np.log(10), line={"color": viz.INK, "dash": "dot"}, row=1, col=2,
                  annotation_text="ln 10: knows nothing")  # fmt: skip
    fig.update_xaxes(title_text="layer", row=1, col=1)
    fig.update_yaxes(title_text="norm of the gradient (log scale)", type="log",
                     exponentformat="power", row=1, col=1)  # fmt: skip
    fig.update_xaxes(title_text="epoch", dtick=1, row=1, col=2)
    fig.update_yaxes(title_text="mean loss (nats)", rangemode="tozero", row=1, col=2)
    fig.update_layout(legend={"orientation": "h", "x": 0, "y": -0.2}, margin={"t": 88, "b": 96})
    return viz.finish(
        fig,
        title=f"{depth} layers of 64 units on the digits",
        alt=f"Networks of {depth} layers, test accuracy on 597 digits, mean of {seeds} seeds: "
        f"{'; '.join(said)}.",
        caption="In a deep plain network the gradient dies on its way to the first layers and the "
        "loss stays where it began. A skip path carries it through.",
        source="depth_figure",
        params={"depth": depth},
        height=460,
    )
