"""Centre-piece of appendix B: a curve, the bins that copy it, and the error as bins are added."""

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float, Int
from plotly.subplots import make_subplots

from labcore import viz
from labcore.blocks.approx import bin_network
from labcore.book.bb import HI, LO, error, wave


def bins_figure(
    bins: Int[np.ndarray, " k"],
    errors: Float[np.ndarray, " k"],
    *,
    m: int = 10,
    slope: float = 1e4,
) -> go.Figure:
    """sin(x)/x and its copy by m bins; mean squared error against the number of bins.

    Args:
        bins: Numbers of bins that were measured (k,).
        errors: Their errors with steep edges (k,).
        m: Number of bins shown.
        slope: Steepness of their edges.

    Raises:
        ValueError: m < 1 or a slope that is not positive.
    """
    x = np.linspace(LO, HI, 1001)
    network = bin_network(wave, m, lo=LO, hi=HI, slope=slope)
    now = error(m, slope)
    fig = make_subplots(rows=1, cols=2, column_widths=[0.56, 0.44], horizontal_spacing=0.18)
    fig.add_scatter(x=x, y=wave(x), name="sin(x)/x", row=1, col=1,
                    line={"color": viz.INK, "dash": "dash"})  # fmt: skip
    fig.add_scatter(x=x, y=network(x), name="the network", row=1, col=1,
                    line={"color": viz.PALETTE[0], "width": 2.5})  # fmt: skip
    fig.add_scatter(x=bins, y=errors, mode="lines+markers", name="steep edges", row=1, col=2,
                    line={"color": viz.PALETTE[0]})  # fmt: skip
    anchor = errors[0] * (bins[0] / bins) ** 2.0
    fig.add_scatter(x=bins, y=anchor, mode="lines", name="slope −2", row=1, col=2,
                    line={"color": "#9AA5B1", "dash": "dot"})  # fmt: skip
    fig.add_scatter(
        x=[m], y=[now], mode="markers", name="shown", row=1, col=2,
        marker={"color": viz.PALETTE[3], "symbol": "star", "size": 15},
    )  # fmt: skip
    fig.update_xaxes(title_text="x", row=1, col=1)
    fig.update_yaxes(title_text="value", range=[-0.35, 1.1], row=1, col=1)
    fig.update_xaxes(title_text="bins m", type="log", dtick=1, range=[0, 2.4], row=1, col=2)
    fig.update_yaxes(title_text="mean squared error", type="log", dtick=1, exponentformat="power",
                     row=1, col=2)  # fmt: skip
    fig.update_layout(legend={"orientation": "h", "x": 0, "y": -0.22}, margin={"b": 104})
    return viz.finish(
        fig,
        title=f"{m} bins, {2 * m} units: mean squared error {now:.3g}",
        alt=f"sin(x)/x on [0, 10] copied by {m} bins whose edges have slope {slope:g}: mean "
        f"squared error {now:.3g}. With steep edges it falls from {errors[0]:.3g} at {bins[0]} "
        f"bins to {errors[-1]:.2g} at {bins[-1]}.",
        caption="Ten times the bins, a hundredth of the error: the slope is −2, not an "
        "exponential. The last dots leave the line because at both ends of the interval the "
        "outermost step is only half up. Soft edges blur neighbouring bins and stop the fall.",
        source="bins_figure",
        params={"m": m, "slope": slope},
        height=460,
    )
