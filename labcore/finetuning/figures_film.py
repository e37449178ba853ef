"""Budgets over a run: which layers may spend, which were trained, how many tokens reached them."""

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Bool, Float, Int
from plotly.subplots import make_subplots

from labcore import viz
from labcore.finetuning.labels import MODELS, label


def budget_film(
    budgets: Float[np.ndarray, "s l"],
    trained: Bool[np.ndarray, "s l"],
    tokens: Int[np.ndarray, "s l"],
    *,
    step: int,
    strategy: str = "alast_calibrated",
    model: str = "vit-s",
) -> go.Figure:
    """Heat map of budgets over steps, dots where a layer was trained, tokens at one step.

    Args:
        budgets: Budget of each layer after each step.
        trained: Whether the layer was trained in the step.
        tokens: Tokens that entered each layer.
        step: The step, from 1, whose tokens are drawn and where the line stands.
        strategy, model: For the title.

    Raises:
        ValueError: a step that was not run, or arrays of different shapes.
    """
    steps, depth = budgets.shape
    if trained.shape != budgets.shape or tokens.shape != budgets.shape:
        raise ValueError(f"trained and tokens must have the shape of budgets, {budgets.shape}")
    if not 1 <= step <= steps:
        raise ValueError(f"step must be 1..{steps}, got {step}")
    fig = make_subplots(
        rows=1, cols=2, column_widths=[0.72, 0.28], shared_yaxes=True, horizontal_spacing=0.03
    )
    rows, low = np.arange(1, depth + 1), min(0.7, np.floor(20 * float(budgets.min())) / 20)
    fig.add_heatmap(
        z=budgets.T, x=np.arange(1, steps + 1), y=rows, zmin=low, zmax=1.0,
        colorscale=viz.SEQUENTIAL, row=1, col=1, name="budget",
        colorbar={"title": "budget", "orientation": "h", "y": -0.34, "x": 0.36, "len": 0.6,
                  "thickness": 12},
        hovertemplate="step %{x}, layer %{y}: budget %{z:.3f}<extra></extra>",
    )  # fmt: skip
    every = max(1, steps // 60)
    at, which = np.nonzero(trained[::every])
    fig.add_scatter(
        x=at * every + 1, y=which + 1, mode="markers", row=1, col=1, showlegend=False,
        name="trained",
        marker={"size": 4, "color": "white", "line": {"color": viz.INK, "width": 0.8}},
        hovertemplate="layer %{y} was trained in step %{x}<extra></extra>",
    )  # fmt: skip
    fig.add_vline(x=step, line={"color": viz.PALETTE[3], "width": 3}, row=1, col=1)
    now, here = tokens[step - 1], trained[step - 1]
    fig.add_bar(
        orientation="h", y=rows, x=now, row=1, col=2, showlegend=False, name="tokens",
        text=[f"{n} {'● ' if on else ''}" for n, on in zip(now, here, strict=True)],
        textposition="outside", cliponaxis=False,
        marker={"color": [viz.PALETTE[0] if on else "#9AA5B1" for on in here],
                "pattern": {"shape": ["" if on else "/" for on in here], "fgcolor": "white",
                            "fillmode": "overlay"}},
        hovertemplate="layer %{y}: %{x} tokens<extra></extra>",
    )  # fmt: skip
    fig.update_yaxes(title_text="layer", dtick=1, range=[0.4, depth + 0.6], row=1, col=1)
    fig.update_xaxes(title_text="step", range=[0.5, steps + 0.5], showgrid=False, row=1, col=1)
    fig.update_xaxes(
        title_text=f"tokens entering, step {step}",
        range=[0, 1.35 * int(tokens.max())],
        row=1,
        col=2,
    )
    last = budgets[-1]
    shy, bold = int(last.argmin()), int(last.argmax())
    return viz.finish(
        fig,
        title=f"{label(strategy)}: budgets of {MODELS.get(model, model)}",
        alt=f"{depth} layers over {steps} steps. After the last step budgets run from "
        f"{last[shy]:.3f} (layer {shy + 1}) to {last[bold]:.3f} (layer {bold + 1}); in step {step} "
        f"layers {', '.join(str(i + 1) for i in np.flatnonzero(here)) or 'none'} were trained and "
        f"the last layer saw {now[-1]} of {now[0]} tokens.",
        caption="Colour is the budget, a dot a layer that was trained (at most 60 steps are "
        "dotted); right, the tokens that entered each layer in the step at the line, solid and "
        "dotted if it was trained.",
        source="budget_film",
        params={"step": step, "strategy": strategy, "model": model},
        height=520,
    )


def delta_profile_figure(
    absolute: Float[np.ndarray, " l"], relative: Float[np.ndarray, " l"], *, picture: str
) -> go.Figure:
    """How far each layer moves the class token: as it is, and over the token's own length.

    Args:
        absolute: ``||c_l - c_{l-1}||^2``.
        relative: The same over ``||c_{l-1}||^2``.
        picture: For the title.
    """
    rows = np.arange(1, len(absolute) + 1)
    fig = make_subplots(rows=1, cols=2, subplot_titles=("absolute", "relative"),
                        horizontal_spacing=0.12)  # fmt: skip
    best = {}
    for column, (name, values, colour, hatch) in enumerate(
        (("absolute", absolute, 0, ""), ("relative", relative, 1, "/")), start=1
    ):
        best[name] = [int(i) + 1 for i in np.argsort(-values)[:3]]
        fig.add_bar(
            x=rows, y=values, row=1, col=column, name=name, showlegend=False,
            marker={"color": viz.PALETTE[colour],
                    "pattern": {"shape": hatch, "fgcolor": "white", "fillmode": "overlay"}},
            hovertemplate="layer %{x}: %{y:.3g}<extra></extra>",
        )  # fmt: skip
        fig.update_xaxes(title_text="layer", dtick=1, row=1, col=column)
        fig.update_yaxes(type="log", dtick=1, exponentformat="power", row=1, col=column)
    fig.update_yaxes(title_text="squared distance", row=1, col=1)
    fig.update_yaxes(title_text="over squared length", row=1, col=2)
    fig.update_layout(margin={"t": 90})
    return viz.finish(
        fig,
        title=f"How far each layer moves the class token: {picture}",
        alt=f"Largest absolute deltas in layers {best['absolute']} (up to {absolute.max():.3g}, "
        f"smallest {absolute.min():.2g}); largest relative ones in layers {best['relative']} "
        f"({relative.min():.2g} to {relative.max():.3g}).",
        caption="Both axes are logarithmic. Two definitions of the same delta rank the layers "
        "differently.",
        source="delta_profile_figure",
        params={"picture": picture},
        height=380,
    )
