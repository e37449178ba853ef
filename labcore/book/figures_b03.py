"""Centre-piece of chapter 3: one outlier, three losses, three ideas of noise."""

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float
from plotly.subplots import make_subplots

from labcore import viz
from labcore.blocks.losses import absolute, huber, minimise_location, squared

UNIT = 10.0  # mm: the scale of the noise, one unit of error


def outlier_figure(
    flippers: Float[np.ndarray, " n"], outlier: float = 300.0, delta: float = 1.0
) -> go.Figure:
    """Best constants under three losses with one value moved, and the noise that each expects.

    Args:
        flippers: Flipper lengths (n,), millimetres.
        outlier: The value that is added, millimetres.
        delta: Where the Huber loss becomes a line, in units of 10 mm.

    Raises:
        ValueError: ``delta`` is not positive.
    """
    values = np.append(flippers, outlier)
    losses = {
        "squared": squared,
        "absolute": absolute,
        f"Huber, δ = {UNIT * delta:g} mm": lambda e: huber(e, delta=delta),
    }
    fig = make_subplots(rows=1, cols=2, column_widths=[0.58, 0.42], horizontal_spacing=0.16)
    heights = 0.12 + 0.1 * (np.arange(len(flippers)) % 3)
    fig.add_scatter(
        x=flippers, y=heights, mode="markers", name="penguins", row=1, col=1,
        marker={"color": "#9AA5B1", "size": 10, "line": {"color": "white", "width": 1}},
    )  # fmt: skip
    fig.add_scatter(
        x=[outlier], y=[0.12], mode="markers", name="the outlier", row=1, col=1,
        marker={"color": viz.INK, "symbol": "x", "size": 13},
    )  # fmt: skip
    errors = np.linspace(-6, 6, 241)
    fits = []
    for place, (name, loss) in enumerate(losses.items()):
        fit = UNIT * minimise_location(loss, values / UNIT, grid=401)
        fits.append(fit)
        style = {"color": viz.PALETTE[(0, 3, 2)[place]], "dash": viz.DASHES[place], "width": 2.5}
        fig.add_scatter(
            x=[fit, fit], y=[0, 1.0 - 0.2 * place], mode="lines", line=style, row=1, col=1,
            name=f"{name}: {fit:.1f} mm",
        )  # fmt: skip
        density = np.exp(-loss(errors))
        density /= density.sum() * (errors[1] - errors[0])
        fig.add_scatter(
            x=errors * UNIT, y=density / UNIT, mode="lines", line=style, showlegend=False,
            name=name, row=1, col=2,
        )  # fmt: skip
    fig.update_xaxes(title_text="flipper length (mm)", range=[140, 410], row=1, col=1)
    fig.update_yaxes(visible=False, range=[0, 1.1], row=1, col=1)
    fig.update_xaxes(title_text="error (mm)", row=1, col=2)
    fig.update_yaxes(title_text="density of the noise (1/mm)", type="log", range=[-9, -1],
                     exponentformat="power", row=1, col=2)  # fmt: skip
    fig.update_layout(legend={"orientation": "h", "x": 0, "y": -0.22}, margin={"b": 104})
    names = ", ".join(f"{n.split(',')[0]} {fit:.1f}" for n, fit in zip(losses, fits, strict=True))
    return viz.finish(
        fig,
        title=f"An outlier at {outlier:.0f} mm: the best constant of each loss",
        alt=f"With {len(flippers)} penguins and one value of {outlier:.0f} mm the best constants "
        f"are, in mm: {names}. Without it: mean {flippers.mean():.1f}, median "
        f"{np.median(flippers):.1f}.",
        caption="Left: the squared loss follows the outlier, the absolute one hardly moves, "
        "Huber's stops following at δ. Right, on a log scale: under normal noise far errors are "
        "nearly impossible, so they must be explained; straight tails shrug.",
        source="outlier_figure",
        params={"outlier": outlier, "delta": delta},
        height=470,
    )
