"""Eigenvalues, the sign-flip lottery, and the modes of a series of one's own."""

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from labcore import viz
from labcore.koopman.labels import place
from labcore.koopman.series import OwnModes
from labcore.koopman.spectrum import Lottery, Spectrum

_WEIGHTS = {"signed_sum": ("signed sum, as published", 3, 1), "frobenius": ("Frobenius norm", 0, 0)}


def eigenvalue_plane(spectrum: Spectrum, *, network: str, alpha: float, k: int) -> go.Figure:
    """Eigenvalues in the complex plane; area of a point is the energy of its mode.

    Args:
        spectrum: From :func:`labcore.koopman.spectrum.spectrum`.
        network: For the title.
        alpha: Ridge penalty it was fitted with.
        k: Axes of the embedding.
    """
    fig = _plane(
        spectrum.eigs, spectrum.energy,
        [f"energy {e:.1%}<br>half-life {_time(h)}<br>period {_time(p)}" for e, h, p in
         zip(spectrum.energy, spectrum.half_life, spectrum.period, strict=True)],
    )  # fmt: skip
    lead, size = spectrum.eigs[0], np.abs(spectrum.eigs)
    return viz.finish(
        fig,
        title=f"Eigenvalues of the operator: {place(network)}",
        alt=f"{k} eigenvalues, penalty {alpha:g}: the largest is {lead.real:.3f}"
        f"{lead.imag:+.3f}i with modulus {size[0]:.3f} and half-life "
        f"{_time(spectrum.half_life[0])}; the smallest modulus is {size[-1]:.3f}. The operator "
        f"removes {spectrum.skill:.0%} of persistence's one-step error.",
        caption="Near the circle modes last; raise the penalty and all eigenvalues shrink towards "
        "zero. Pairs above and below the axis turn.",
        source="eigenvalue_plane",
        params={"network": network, "alpha": alpha, "k": k},
        height=480,
    )


def _time(steps: float) -> str:
    return "without end" if np.isinf(steps) else f"{steps:.1f} steps"


def _plane(eigs: np.ndarray, share: np.ndarray, said: list[str]) -> go.Figure:
    """The unit disc, and beside it the part of it where the eigenvalues are."""
    angle = np.linspace(0, 2 * np.pi, 361)
    fig = make_subplots(1, 2, subplot_titles=("Unit circle", "Close by"), horizontal_spacing=0.16)
    for column in (1, 2):
        fig.add_scatter(
            x=np.cos(angle), y=np.sin(angle), mode="lines", name="unit circle", hoverinfo="skip",
            line={"color": viz.INK, "width": 1, "dash": "dot"}, showlegend=column == 1,
            row=1, col=column,
        )  # fmt: skip
        fig.add_scatter(
            x=eigs.real, y=eigs.imag, mode="markers", name="eigenvalue", text=said,
            marker={"size": 8 + (24 if column == 1 else 40) * np.sqrt(share), "opacity": 0.75,
                    "color": viz.PALETTE[0], "line": {"width": 1, "color": "white"}},
            hovertemplate="λ = %{x:.3f} %{y:+.3f} i<br>%{text}<extra></extra>",
            showlegend=column == 1, row=1, col=column,
        )  # fmt: skip
    most = 1.15 * max(1.0, float(np.abs(eigs).max(initial=0.0)))
    middle, half = _box(eigs)
    fig.update_xaxes(title_text="real part", constrain="domain")
    fig.update_xaxes(range=[-most, most], row=1, col=1)
    fig.update_yaxes(range=[-most, most], scaleanchor="x", constrain="domain", row=1, col=1)
    fig.update_xaxes(range=[middle.real - half, middle.real + half], row=1, col=2)
    fig.update_yaxes(
        range=[middle.imag - half, middle.imag + half], scaleanchor="x2", constrain="domain",
        row=1, col=2,
    )  # fmt: skip
    fig.update_yaxes(title_text="imaginary part", row=1, col=1)
    fig.update_layout(
        legend={"orientation": "h", "y": -0.2, "yanchor": "top", "x": 0}, margin={"t": 90}
    )
    return fig


def _box(eigs: np.ndarray) -> tuple[complex, float]:
    """Middle and half width of a square around the eigenvalues."""
    low = complex(eigs.real.min(), eigs.imag.min())
    high = complex(eigs.real.max(), eigs.imag.max())
    size = high - low
    return (low + high) / 2, 0.65 * max(size.real, size.imag, 0.1)


def flip_lottery(lottery: Lottery, *, degree: int) -> go.Figure:
    """Ranks of the ten leading edges, and the AUC, at each flip of signs that mean nothing.

    Args:
        lottery: From :func:`labcore.koopman.spectrum.lottery`.
        degree: Degree of the library, for the title.
    """
    fig = make_subplots(
        1, 2, column_widths=[0.6, 0.4], horizontal_spacing=0.2,
        subplot_titles=("Ranks of the first ten", "AUC of the edges"),
    )  # fmt: skip
    said = []
    for name, ranks in lottery.ranks.items():
        text, colour, dash = _WEIGHTS[name]
        style = {"color": viz.PALETTE[colour], "dash": viz.DASHES[dash], "width": 1.6}
        flips, ten = ranks.shape
        gap = np.full((1, ten), np.nan)
        x = np.concatenate([np.repeat(np.arange(flips)[:, None], ten, 1), gap])
        fig.add_scatter(
            x=x.T.ravel(), y=np.concatenate([ranks, gap]).T.ravel(), mode="lines+markers",
            name=text, legendgroup=name, line=style,
            marker={"size": 5, "symbol": viz.SYMBOLS[colour]}, row=1, col=1,
            hovertemplate="flip %{x}: rank %{y}<extra>" + text + "</extra>",
        )  # fmt: skip
        aucs = lottery.aucs[name]
        fig.add_scatter(
            x=np.arange(flips), y=aucs, mode="lines+markers", name=text, legendgroup=name,
            showlegend=False, line={**style, "width": 2.4}, row=1, col=2,
            marker={"size": 8, "symbol": viz.SYMBOLS[colour]},
        )  # fmt: skip
        said.append(
            f"{text}: AUC {aucs.min():.2f} to {aucs.max():.2f}, the ten leading edges fall as far "
            f"as rank {int(ranks.max())}"
        )
    fig.update_xaxes(title_text="flip (0: none)")
    fig.update_yaxes(title_text="rank, 1 is best", autorange="reversed", row=1, col=1)
    fig.update_yaxes(title_text="AUC, both ends true", range=[-0.02, 1.04], row=1, col=2)
    fig.update_layout(
        legend={"orientation": "h", "y": -0.18, "yanchor": "top", "x": 0}, margin={"t": 90}
    )
    return viz.finish(
        fig,
        title=f"The sign-flip lottery, degree {degree}",
        alt=f"{'; '.join(said)}.",
        caption="Each flip turns axes of the PCA around, which changes nothing in the states. A "
        "weight that jumps measures the coin, not the edge.",
        source="flip_lottery",
        params={"degree": degree},
        height=480,
    )


def own_plane(modes: OwnModes) -> go.Figure:
    """Eigenvalues of a series of one's own; area is the weight of a mode in the first snapshot."""
    fig = _plane(
        modes.eigs, modes.weight,
        [f"weight {w:.1%}<br>{f:+.4f} cycles a step<br>half-life {_time(h)}" for w, f, h in
         zip(modes.weight, modes.frequency, modes.half_life, strict=True)],
    )  # fmt: skip
    lead = int(modes.weight.argmax())
    return viz.finish(
        fig,
        title=f"{modes.rank} dynamic modes of the series",
        alt=f"{modes.rank} eigenvalues (found by {modes.method}); the heaviest mode has modulus "
        f"{abs(modes.eigs[lead]):.3f} and {abs(modes.frequency[lead]):.4f} cycles a step. The "
        f"modes rebuild the series with a relative error of {modes.error:.1%}.",
        caption="Inside the circle modes die out, outside they grow; pairs are oscillations.",
        source="own_plane",
        height=480,
    )


def own_series(modes: OwnModes) -> go.Figure:
    """The largest channel beside its reconstruction, and who takes part in the modes."""
    fig = make_subplots(
        1, 2, column_widths=[0.55, 0.45], horizontal_spacing=0.14,
        subplot_titles=("Largest channel", "Who takes part"),
    )  # fmt: skip
    steps = np.arange(len(modes.first))
    for values, name, colour, dash in (
        (modes.first, "series", 7, "solid"),
        (modes.rebuilt, "rebuilt from the modes", 0, "dash"),
    ):
        fig.add_scatter(
            x=steps, y=values, mode="lines", name=name,
            line={"color": viz.PALETTE[colour], "dash": dash, "width": 2}, row=1, col=1,
        )  # fmt: skip
    top = np.argsort(-modes.share.max(axis=1), kind="stable")[:30]
    fig.add_heatmap(
        z=modes.share[top], x=[str(i) for i in range(modes.rank)], y=[str(i) for i in top],
        colorscale=viz.SEQUENTIAL, colorbar={"title": "share"}, row=1, col=2,
        hovertemplate="mode %{x}, channel %{y}: %{z:.2f}<extra></extra>",
    )  # fmt: skip
    fig.update_xaxes(title_text="step", row=1, col=1)
    fig.update_yaxes(title_text="value", row=1, col=1)
    fig.update_xaxes(title_text="mode", type="category", row=1, col=2)
    fig.update_yaxes(title_text="channel or node", type="category", row=1, col=2)
    fig.update_layout(
        legend={"orientation": "h", "y": -0.2, "yanchor": "top", "x": 0}, margin={"t": 90}
    )
    return viz.finish(
        fig,
        title="The series and its modes",
        alt=f"The largest of the channels over {len(modes.first)} steps and its reconstruction "
        f"from {modes.rank} modes (relative error of the whole series {modes.error:.1%}); beside "
        f"it the share of {len(top)} channels or nodes in each mode.",
        caption="Where the two lines part, the series is not linear or needs more modes.",
        source="own_series",
        height=440,
    )
