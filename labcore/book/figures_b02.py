"""Centre-piece of chapter 2: a walk on the landscape, and the step size against its limit."""

from functools import cache

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from labcore import viz
from labcore.blocks.optim import gradient_descent, numeric_hessian, stability_limit
from labcore.book.b02 import minimum, practice, practice_gradient, value


@cache
def _landscape() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Axis, heights (81, 81), lowest point, Hessian there."""
    axis = np.linspace(0, 10, 81)
    grid = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1)
    lowest = minimum()
    return axis, practice(grid), lowest, numeric_hessian(practice_gradient, lowest)


def descent_figure(
    x1: float = 5.0, x2: float = 5.0, lr: float = 0.1, momentum: float = 0.0, steps: int = 60
) -> go.Figure:
    """The path from (x1, x2) over the contour map, and the gradient norm of each step.

    Args:
        x1: First coordinate of the start.
        x2: Second coordinate of the start.
        lr: Step size.
        momentum: In [0, 1).
        steps: Number of steps.

    Raises:
        ValueError: what :func:`labcore.blocks.optim.gradient_descent` refuses.
    """
    axis, heights, lowest, hessian = _landscape()
    limit = stability_limit(hessian, momentum=momentum)
    walk = gradient_descent(value, np.array([x1, x2]), lr=lr, steps=steps, momentum=momentum,
                            grad=practice_gradient)  # fmt: skip
    fig = make_subplots(rows=1, cols=2, column_widths=[0.55, 0.45], horizontal_spacing=0.16)
    fig.add_contour(
        x=axis, y=axis, z=heights.T, colorscale=viz.SEQUENTIAL, ncontours=18, name="f",
        line={"width": 0.5}, showscale=False,
        row=1, col=1,
    )  # fmt: skip
    fig.add_scatter(
        x=walk.x[:, 0], y=walk.x[:, 1], mode="lines+markers", name="path",
        line={"color": "white", "width": 2}, row=1, col=1,
        marker={"color": viz.PALETTE[3], "size": 6, "line": {"color": "white", "width": 1}},
    )  # fmt: skip
    for point, name, symbol in ((walk.x[0], "start", "square"), (lowest, "lowest", "star")):
        fig.add_scatter(
            x=[point[0]], y=[point[1]], mode="markers", name=name, row=1, col=1,
            marker={"color": "white", "symbol": symbol, "size": 14,
                    "line": {"color": viz.INK, "width": 1.5}},
        )  # fmt: skip
    shown = np.maximum(walk.grad_norm, 1e-16)
    fig.add_scatter(
        y=shown, mode="lines+markers", name="gradient norm", row=1, col=2,
        line={"color": viz.PALETTE[0]}, marker={"size": 5},
    )  # fmt: skip
    fig.update_xaxes(title_text="x₁", range=[0, 10], row=1, col=1)
    fig.update_yaxes(title_text="x₂", range=[0, 10], row=1, col=1)
    fig.update_xaxes(title_text="step", row=1, col=2)
    high = float(np.log10(shown.max()))
    low = min(float(np.log10(shown.min())), high - 2.5)  # at least two powers of ten are named
    fig.update_yaxes(title_text="gradient norm", type="log", dtick=1 if high - low < 6 else 3,
                     exponentformat="power", range=[low - 0.15, high + 0.15],
                     row=1, col=2)  # fmt: skip
    fig.update_layout(showlegend=False)
    judged = "below" if lr < limit else "above"
    end, gap = walk.x[-1], float(np.linalg.norm(walk.x[-1] - lowest))
    return viz.finish(
        fig,
        title=f"Step {lr:.3g} is {judged} the limit {limit:.3f} of the lowest point",
        alt=f"From ({x1:g}, {x2:g}) with step size {lr:.3g} and momentum {momentum:g} the walk is "
        f"at ({end[0]:.3f}, {end[1]:.3f}) after {len(walk.f) - 1} steps, {gap:.2g} away from the "
        f"lowest point (4.411, 6.283); f = {walk.f[-1]:.4f}. The largest stable step there is "
        f"{limit:.3f}. {walk.message}",
        caption="Left: the path from the square; dark is low, the star is the lowest point. Right: "
        "the gradient norm falls on a straight line while the step is below 2(1 + "
        "momentum)/curvature.",
        source="descent_figure",
        params={"x1": x1, "x2": x2, "lr": lr, "momentum": momentum, "steps": steps},
        height=460,
    )
