"""Centre-piece of appendix A: one bell fitted to two humps, and what each divergence pays."""

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from labcore import viz
from labcore.blocks.prob import gaussian_pdf
from labcore.book.ba import GRID, best_fits, divergences, two_humps

SHOWN = slice(400, 2401, 10)  # −10 to 10


def two_fits_figure(mean: float = 0.0, deviation: float = 2.0, apart: float = 7.0) -> go.Figure:
    """Two humps p, a bell q = N(mean, deviation²), and where each divergence comes from.

    Args:
        mean: Mean of q.
        deviation: Standard deviation of q.
        apart: Distance of the humps.

    Raises:
        ValueError: the deviation is not positive.
    """
    step = float(GRID[1] - GRID[0])
    p, q = two_humps(apart), gaussian_pdf(GRID, mean, deviation)
    forward, reverse = divergences(p, q, step)
    best_forward, best_reverse = best_fits(apart)
    fig = make_subplots(rows=1, cols=2, horizontal_spacing=0.14)
    x = GRID[SHOWN]
    fig.add_scatter(x=x, y=p[SHOWN], name="p, two humps", fill="tozeroy", row=1, col=1,
                    line={"color": viz.INK}, fillcolor="rgba(31,41,51,0.12)")  # fmt: skip
    fig.add_scatter(x=x, y=q[SHOWN], name="q, your bell", row=1, col=1,
                    line={"color": viz.PALETTE[3], "width": 3})  # fmt: skip
    for (m, s), name, place in (
        (best_forward, "best forward", 0),
        (best_reverse, "best reverse", 2),
    ):
        fig.add_scatter(
            x=x, y=gaussian_pdf(x, m, s), name=name, row=1, col=1,
            line={"color": viz.PALETTE[place], "dash": viz.DASHES[1 + place], "width": 1.5},
        )  # fmt: skip
    small = 1e-300
    log_ratio = np.log(np.maximum(p, small)) - np.log(np.maximum(q, small))
    for weight, sign, name, place in ((p, 1, "p log p/q", 0), (q, -1, "q log q/p", 2)):
        fig.add_scatter(
            x=x, y=(sign * weight * log_ratio)[SHOWN], name=name, row=1, col=2,
            line={"color": viz.PALETTE[place], "dash": viz.DASHES[place], "width": 2.5},
        )  # fmt: skip
    fig.update_xaxes(title_text="x")
    fig.update_yaxes(title_text="density", row=1, col=1)
    fig.update_yaxes(title_text="nats per unit of x", row=1, col=2)
    fig.update_layout(legend={"orientation": "h", "x": 0, "y": -0.22}, margin={"b": 104})
    return viz.finish(
        fig,
        title=f"KL(p‖q) = {forward:.3f}, KL(q‖p) = {reverse:.3f} nats",
        alt=f"Humps {apart:g} apart and a bell of mean {mean:g} and deviation {deviation:g}: "
        f"KL(p‖q) is {forward:.3f}, KL(q‖p) {reverse:.3f} nats. The forward divergence is smallest "
        f"for mean {best_forward[0]:.2f}, deviation {best_forward[1]:.2f}; the reverse one for "
        f"{best_reverse[0]:.2f} and {best_reverse[1]:.2f}.",
        caption="Forward KL pays where p is and q is not, so its best bell covers both humps. "
        "Reverse KL pays where q is and p is not: once the humps are six apart, its best bell "
        "hides inside one of them.",
        source="two_fits_figure",
        params={"mean": mean, "deviation": deviation, "apart": apart},
        height=460,
    )
