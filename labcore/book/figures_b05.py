"""Centre-piece of chapter 5: how width, depth and activation fold the plane."""

import math

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float, UInt8

from labcore import viz
from labcore.book.b05 import ACTIVATIONS, BATCHES, DATA, DEPTHS, REACH, SEEDS, WIDTHS

LIGHT = ("#CFE3F1", "#FBE7C2", "#CDEBDF", "#F6D9C4", "#F3DFEA")


def playground_figure(
    answers: UInt8[np.ndarray, "data width depth activation batch seed cells"],
    accuracy: Float[np.ndarray, "data width depth activation batch seed"],
    x: Float[np.ndarray, "n 2"],
    y: UInt8[np.ndarray, " n"],
    *,
    name: str = "xor",
    width: int = 4,
    depth: int = 1,
    activation: str = "relu",
    batch: int = 0,
    seed: int = 0,
) -> go.Figure:
    """The regions of one trained network, with the training points over them.

    Args:
        answers: Class of every grid cell for every setting.
        accuracy: Test accuracy of every setting.
        x: Training points of this data set (n, 2).
        y: Their classes (n,).
        name: "xor" or "digits".
        width: Units of each hidden layer.
        depth: Hidden layers; 0 is a linear model.
        activation: Between them.
        batch: Rows a step; 0 takes all.
        seed: Which of the trained networks.

    Raises:
        ValueError: a setting that was not trained.
    """
    axes = (DATA, WIDTHS, DEPTHS, ACTIVATIONS, BATCHES, tuple(range(SEEDS)))
    chosen = (name, width, depth, activation, batch, seed)
    for value, known in zip(chosen, axes, strict=True):
        if value not in known:
            raise ValueError(f"{value!r} was not trained: choose one of {known}")
    place = tuple(known.index(value) for value, known in zip(chosen, axes, strict=True))  # type: ignore[arg-type]
    side = math.isqrt(answers.shape[-1])
    regions = answers[place].reshape(side, side)
    axis = np.linspace(-REACH, REACH, side)
    classes = int(y.max()) + 1
    scale = [((i + d) / classes, LIGHT[i]) for i in range(classes) for d in (0, 1)]
    fig = go.Figure(
        go.Heatmap(x=axis, y=axis, z=regions, zmin=-0.5, zmax=classes - 0.5, colorscale=scale,
                   showscale=False, hovertemplate="class %{z}<extra></extra>", name="regions")
    )  # fmt: skip
    for kind in range(classes):
        mine = x[y == kind]
        fig.add_scatter(
            x=mine[:, 0], y=mine[:, 1], mode="markers", name=f"class {kind}",
            marker={"color": viz.PALETTE[kind], "symbol": viz.SYMBOLS[kind], "size": 8,
                    "line": {"color": "white", "width": 1}},
        )  # fmt: skip
    label = ("first coordinate", "second coordinate")
    if name == "digits":
        label = ("first principal component", "second principal component")
    fig.update_xaxes(title_text=label[0], range=[-REACH, REACH], showgrid=False)
    fig.update_yaxes(title_text=label[1], range=[-REACH, REACH], showgrid=False)
    fig.update_layout(legend={"orientation": "h", "x": 0, "y": -0.18}, margin={"b": 96})
    here, all_seeds = float(accuracy[place]), accuracy[place[:-1]]
    layers = f"{depth} hidden {'layer' if depth == 1 else 'layers'}"
    size = "no hidden layer" if depth == 0 else f"{layers} of {width} units, {activation}"
    ends = f"{all_seeds.min():.1%} to {all_seeds.max():.1%}"
    return viz.finish(
        fig,
        title=f"{size}: {here:.1%} of new points right",
        alt=f"{name}: {size}, {'all rows' if batch == 0 else f'{batch} rows'} a step, seed {seed}: "
        f"test accuracy {here:.1%}; over {len(all_seeds)} seeds {ends}. The plane shows "
        f"{len(np.unique(regions))} classes.",
        caption=f"Colours are the network's answers, marks the training points. Over "
        f"{len(all_seeds)} seeds: {ends} of new points right.",
        source="playground_figure",
        params={"name": name, "width": width, "depth": depth, "activation": activation,
                "batch": batch, "seed": seed},
        height=520,
    )  # fmt: skip
