"""Centre-piece of chapter 13: an eigenvalue on the disc; the step sizes of a layer that chooses."""

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float
from plotly.subplots import make_subplots

from labcore import viz
from labcore.runs import Table

SHOWN = 60  # steps of the impulse response


def memory(radius: float, *, left: float = 0.01) -> float:
    """Steps after which a state has shrunk to ``left`` of its size; infinite on the circle.

    >>> round(memory(0.9), 1)
    43.7
    """
    if radius <= 0:
        return 0.0
    return float("inf") if radius >= 1 else float(np.log(left) / np.log(radius))


def eigenvalue_figure(*, radius: float = 0.9, angle: float = 0.5) -> go.Figure:
    """One eigenvalue of a recurrence: on the disc, in time, in frequency.

    Args:
        radius: ``|λ|``, 0 to 1.05.
        angle: ``arg λ`` in radians, 0 to π.

    Raises:
        ValueError: Radius or angle out of range.
    """
    if not 0 <= radius <= 1.05:
        raise ValueError(f"radius must be 0..1.05, got {radius}")
    if not 0 <= angle <= np.pi + 1e-9:
        raise ValueError(f"angle must be 0..π, got {angle}")
    lam = radius * np.exp(1j * angle)
    fig = make_subplots(
        rows=1, cols=3, column_widths=[0.28, 0.4, 0.32], horizontal_spacing=0.1,
        subplot_titles=("λ and its powers", "what one input leaves", "gain by frequency"),
    )  # fmt: skip
    _disc(fig, lam)
    steps = np.arange(SHOWN)
    response = (lam**steps).real
    fig.add_scatter(
        x=steps, y=response, mode="lines+markers", name="real part", row=1, col=2,
        line={"color": viz.PALETTE[0], "width": 1.5}, marker={"size": 5},
    )  # fmt: skip
    for sign in (1, -1):
        fig.add_scatter(
            x=steps, y=sign * radius**steps, mode="lines", name="± |λ|ᵗ", row=1, col=2,
            showlegend=sign > 0, line={"color": viz.PALETTE[1], "dash": "dash", "width": 1.5},
        )  # fmt: skip
    rhythm = np.linspace(0, np.pi, 200)
    gap = np.abs(1 - lam * np.exp(-1j * rhythm))
    fig.add_scatter(
        x=rhythm, y=1 / np.maximum(gap, 1e-3), mode="lines", name="gain", row=1, col=3,
        line={"color": viz.PALETTE[2], "width": 2.5, "dash": "dot"},
    )  # fmt: skip
    fig.add_vline(x=angle, line={"color": viz.INK, "width": 1, "dash": "dot"}, row=1, col=3)
    fig.update_xaxes(title_text="steps", row=1, col=2)
    ticks = [0, np.pi / 2, np.pi]
    fig.update_xaxes(title_text="radians a step", tickvals=ticks,
                     ticktext=["0", "π/2", "π"], row=1, col=3)  # fmt: skip
    fig.update_yaxes(type="log", tickvals=[0.5, 1, 2, 5, 10, 20, 50, 100, 1000], row=1, col=3)
    fig.update_annotations(font={"size": 14})
    fig.update_layout(legend={"orientation": "h", "x": 0, "y": -0.24}, margin={"t": 92, "b": 96})
    span = memory(radius)
    held = "for ever" if radius == 1 else f"{span:.1f} steps"
    keeps = f"remembers {held}" if radius <= 1 else "explodes"
    period = "no rhythm" if angle < 1e-6 else f"one turn in {2 * np.pi / angle:.1f} steps"
    return viz.finish(
        fig,
        title=f"λ = {radius:.2f} e<sup>{angle:.2f}i</sup>: {keeps}, {period}",
        alt=f"An eigenvalue of size {radius:.2f} at {angle:.2f} radians {keeps} (until a hundredth "
        f"of an input is left); {period}. Its first real responses are "
        f"{', '.join(f'{value:.3f}' for value in response[:4])}.",
        caption="The distance from the centre sets how long the state remembers, the angle at "
        "which rhythm it swings and which inputs it amplifies. Outside the circle it explodes.",
        source="eigenvalue_figure",
        params={"radius": radius, "angle": angle},
        height=430,
    )


def _disc(fig: go.Figure, lam: complex) -> None:
    turn = np.linspace(0, 2 * np.pi, 120)
    fig.add_scatter(
        x=np.cos(turn), y=np.sin(turn), mode="lines", showlegend=False, hoverinfo="skip",
        line={"color": viz.INK, "width": 1}, row=1, col=1,
    )  # fmt: skip
    powers = lam ** np.arange(SHOWN)
    fig.add_scatter(
        x=powers.real, y=powers.imag, mode="lines+markers", name="λᵗ", row=1, col=1,
        line={"color": viz.PALETTE[5], "width": 1}, marker={"size": 4, "symbol": "square"},
    )  # fmt: skip
    fig.add_scatter(
        x=[lam.real], y=[lam.imag], mode="markers", name="λ", row=1, col=1,
        marker={"size": 15, "color": viz.PALETTE[3], "symbol": "diamond",
                "line": {"color": "white", "width": 2}},
    )  # fmt: skip
    fig.update_xaxes(title_text="real part", range=[-1.15, 1.15], row=1, col=1)
    fig.update_yaxes(title_text="imaginary part", range=[-1.15, 1.15], scaleanchor="x",
                     constrain="domain", row=1, col=1)  # fmt: skip


def step_figure(
    steps: Float[np.ndarray, "l t d"], sentence: str, *, layer: int = 0, feature: int = 0
) -> go.Figure:
    """The step size that a trained selective layer gives each character of a sentence.

    Features are sorted by how much larger their steps are between words than at letters.

    Args:
        steps: Δ of every layer, character and feature.
        sentence: The characters.
        layer: Which block.
        feature: Place in that order; 0 opens widest between words.

    Raises:
        ValueError: No such layer or feature, or a sentence of another length.
    """
    layers, length, width = steps.shape
    if len(sentence) != length:
        raise ValueError(f"the sentence has {len(sentence)} characters, the steps are for {length}")
    if not (0 <= layer < layers and 0 <= feature < width):
        raise ValueError(f"layer must be 0..{layers - 1} and feature 0..{width - 1}, "
                         f"got {layer} and {feature}")  # fmt: skip
    letters = np.array([c.isalpha() for c in sentence])
    here = steps[layer].astype(np.float64)  # (t, d)
    log = np.log(here)
    contrast = log[~letters].mean(0) - log[letters].mean(0)
    column = here[:, np.argsort(-contrast, kind="stable")[feature]]
    fig = go.Figure()
    for is_letter, name, at in ((True, "letter", 0), (False, "between words", 1)):
        mine = np.flatnonzero(letters == is_letter)
        fig.add_bar(
            x=mine, y=column[mine], name=name,
            marker={"color": viz.PALETTE[(0, 3)[at]],
                    "pattern": {"shape": ("", "/")[at], "fillmode": "overlay"}},
            text=None, customdata=[repr(sentence[i]) for i in mine],
            hovertemplate="%{customdata}: Δ = %{y:.3g}<extra></extra>",
        )  # fmt: skip
    shown = ["␣" if c == " " else "↵" if c == "\n" else c for c in sentence]
    fig.update_xaxes(tickvals=np.arange(length), ticktext=shown, tickangle=0,
                     title_text="character", tickfont={"size": 11})  # fmt: skip
    fig.update_yaxes(title_text="step size Δ", rangemode="tozero")
    fig.update_layout(legend={"orientation": "h", "x": 0, "y": -0.22}, bargap=0.1,
                      margin={"b": 96})  # fmt: skip
    means = [float(column[letters == kind].mean()) for kind in (True, False)]
    return viz.finish(
        fig,
        title=f"Block {layer}, feature {feature} of {width}: Δ at letters {means[0]:.2f}, between "
        f"words {means[1]:.2f}",
        alt=f"Step sizes of one feature for {length} characters of the novel: on average "
        f"{means[0]:.2f} at letters and {means[1]:.2f} at blanks and punctuation; the largest is "
        f"{column.max():.2f} at character {int(column.argmax())}.",
        caption="A large Δ writes the character and forgets what was there; a small one keeps the "
        "state. Nobody told the layer where words end.",
        source="step_figure",
        params={"layer": layer, "feature": feature},
        height=400,
    )


def copying_figure(rows: Table) -> go.Figure:
    """Accuracy of the two kinds of layers in selective copying, a dot a seed."""
    fig = go.Figure()
    names = {False: "time-invariant", True: "selective"}
    means, dot = {}, {"color": "white", "size": 9, "line": {"color": viz.INK, "width": 1.5}}
    for kind, name in names.items():
        found = [row["accuracy"] for row in rows if row["selective"] == kind]
        means[name] = float(np.mean(found))
        fig.add_bar(x=[name], y=[means[name]], name=name, showlegend=False,
                    marker={"color": viz.PALETTE[(1, 0)[kind]],
                            "pattern": {"shape": ("/", "")[kind]}})  # fmt: skip
        fig.add_scatter(x=[name] * len(found), y=found, mode="markers", name="one seed",
                        showlegend=kind, marker=dot)  # fmt: skip
    fig.add_hline(y=1 / 6, line={"color": viz.INK, "dash": "dot"}, annotation_text="chance",
                  annotation_position="top")  # fmt: skip
    fig.update_yaxes(title_text="share of symbols repeated rightly", range=[0, 1.05])
    fig.update_xaxes(title_text="layers of the network")
    fig.update_layout(legend={"orientation": "h", "x": 0, "y": -0.24}, margin={"b": 96})
    seeds = len(rows) // 2
    said = ", ".join(f"{name} {value:.1%}" for name, value in means.items())
    return viz.finish(
        fig,
        title="Four symbols among blanks, to be repeated in order",
        alt=f"Selective copying, mean of {seeds} seeds on 1000 new sequences each: {said}; chance "
        "is 16.7%.",
        caption="Fixed step sizes cannot tell a symbol from a blank before they write.",
        source="copying_figure",
        height=380,
    )
