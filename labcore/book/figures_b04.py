"""Centre-piece of chapter 4: one temperature, and what it does to probabilities."""

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float, Shaped
from plotly.subplots import make_subplots

from labcore import viz
from labcore.blocks.calibration import Bins, ece, reliability
from labcore.blocks.linear import softmax
from labcore.book.data import SPECIES


def temperature_figure(
    penguin_logits: Float[np.ndarray, "n 3"],
    species: Shaped[np.ndarray, " n"],
    digit_logits: Float[np.ndarray, "m c"],
    labels: Shaped[np.ndarray, " m"],
    *,
    temperature: float = 1.0,
    bins: int = 10,
) -> go.Figure:
    """Penguins on the triangle of three probabilities; reliability of ten digits beside it.

    Args:
        penguin_logits: Logits of held-out penguins (n, 3).
        species: Their species (n,).
        digit_logits: Logits of held-out digits (m, 10).
        labels: Their classes (m,).
        temperature: τ of the softmax.
        bins: Bins of confidence.

    Raises:
        ValueError: what :func:`labcore.blocks.calibration.reliability` refuses.
    """
    fig = make_subplots(
        rows=1,
        cols=2,
        specs=[[{"type": "ternary"}, {"type": "xy"}]],
        column_widths=[0.5, 0.5],
        horizontal_spacing=0.2,
    )
    penguins = softmax(penguin_logits, temperature=temperature)
    for kind, name in enumerate(SPECIES):
        mine = penguins[species == kind]
        fig.add_scatterternary(
            a=mine[:, 0], b=mine[:, 1], c=mine[:, 2], mode="markers", name=name,
            cliponaxis=False,
            marker={"color": viz.PALETTE[kind], "symbol": viz.SYMBOLS[kind], "size": 9,
                    "line": {"color": "white", "width": 1}},
            subplot="ternary",
        )  # fmt: skip
    probs, y = softmax(digit_logits, temperature=temperature), labels.astype(np.int64)
    _bars(fig, reliability(probs, y, bins=bins))
    corner = {"showticklabels": False, "ticks": "", "gridcolor": viz.GRID}
    fig.update_layout(
        ternary={
            "aaxis": {**corner, "title": {"text": SPECIES[0]}},
            "baxis": {**corner, "title": {"text": SPECIES[1]}},
            "caxis": {**corner, "title": {"text": SPECIES[2]}},
        },
        legend={"orientation": "h", "x": 0, "y": -0.2},
        margin={"t": 72, "b": 100},
    )
    wrong = ece(probs, y, bins=bins)
    accuracy = float((probs.argmax(axis=1) == y).mean())
    confidence = float(probs.max(axis=1).mean())
    return viz.finish(
        fig,
        title=f"τ = {temperature:.2f}: digits {accuracy:.1%} right, {confidence:.1%} sure, "
        f"ECE {wrong:.3f}",
        alt=f"At temperature {temperature:.2f} the {len(y)} digits are named with a mean "
        f"confidence of {confidence:.1%}; {accuracy:.1%} are right; the calibration error is "
        f"{wrong:.3f}. On the triangle, {len(species)} penguins by their three probabilities.",
        caption="Left: each penguin is pulled to a corner by a small τ and to the centre by a "
        "large one. Right: bars on the diagonal mean honest digits. The accuracy never changes.",
        source="temperature_figure",
        params={"temperature": temperature, "bins": bins},
        height=480,
    )


def _bars(fig: go.Figure, found: Bins) -> None:
    """Accuracy of each bin, at the middle of its confidences, and the diagonal."""
    count = len(found.count)
    middle = (np.arange(count) + 0.5) / count
    fig.add_bar(
        x=middle, y=found.accuracy, width=0.92 / count, name="share right",
        marker={"color": viz.PALETTE[5], "line": {"color": viz.PALETTE[0], "width": 1}},
        customdata=np.column_stack([found.count, np.nan_to_num(found.confidence)]),
        hovertemplate="confidence %{customdata[1]:.2f}<br>right %{y:.2f}<br>"
        "%{customdata[0]:.0f} digits<extra></extra>",
        row=1, col=2,
    )  # fmt: skip
    fig.add_scatter(
        x=found.confidence, y=found.confidence, mode="markers", name="mean confidence",
        marker={"color": viz.PALETTE[3], "symbol": "line-ew-open", "size": 22,
                "line": {"width": 3, "color": viz.PALETTE[3]}},
        hoverinfo="skip", row=1, col=2,
    )  # fmt: skip
    fig.add_scatter(
        x=[0, 1], y=[0, 1], mode="lines", name="honest", row=1, col=2,
        line={"color": viz.INK, "dash": "dash", "width": 1},
    )  # fmt: skip
    fig.update_xaxes(title_text="confidence", range=[0, 1], row=1, col=2)
    fig.update_yaxes(title_text="share right", range=[0, 1.02], row=1, col=2)
