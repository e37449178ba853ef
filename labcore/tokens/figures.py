"""Figures of one picture on its way; those of the comparison are in :mod:`.figures_compare`."""

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Bool, Float, UInt8
from plotly.subplots import make_subplots

from labcore import viz
from labcore.tokens.figures_compare import (
    accuracy_curves,
    asked_spent,
    noise_curves,
    noise_map,
    precision_bars,
    score_histogram,
)
from labcore.tokens.link import Latency
from labcore.tokens.live import Sent

__all__ = [
    "accuracy_curves",
    "asked_spent",
    "latency_bars",
    "noise_curves",
    "noise_map",
    "photo_patches",
    "precision_bars",
    "score_histogram",
    "send_figure",
]
_DIM = 0.25  # brightness of what is not sent


def _shade(
    picture: UInt8[np.ndarray, "y x"], keep: Bool[np.ndarray, " t"], side: int
) -> Float[np.ndarray, "y x"]:
    """Ink 0..1 on a light ground where tokens were sent, on a dark one where not."""
    cells = np.kron(keep.reshape(side, side), np.ones((picture.shape[0] // side,) * 2))
    ink = picture / 255
    return np.where(cells > 0, 0.45 + 0.55 * ink, _DIM * ink)


def _tokens(count: int, of: int | None = None) -> str:
    """``1 token``, ``2 tokens``, ``1 of 49 tokens``."""
    if of is not None:
        return f"{count} of {of} tokens"
    return f"{count} token" if count == 1 else f"{count} tokens"


def send_figure(
    picture: UInt8[np.ndarray, "49 49"],
    sent: Sent,
    *,
    alpha: float,
    snr_db: float | None,
    label: int | None = None,
) -> go.Figure:
    """A canvas with what is sent lit and the rest dimmed, beside the server's answer.

    Args:
        picture: The canvas.
        sent: What :func:`labcore.tokens.live.send` gave.
        alpha: The rate asked for.
        snr_db: Decibels, None for no noise.
        label: The digit, when it is known.
    """
    side = round(len(sent.keep) ** 0.5)
    size = picture.shape[0] / side
    fig = make_subplots(1, 2, column_widths=[0.5, 0.5], horizontal_spacing=0.14)
    fig.add_heatmap(
        z=_shade(picture, sent.keep, side), colorscale="Cividis", zmin=0, zmax=1, showscale=False,
        hoverinfo="skip", row=1, col=1,
    )  # fmt: skip
    lost = sent.keep & ~sent.arrived
    rows, columns = np.divmod(np.flatnonzero(lost), side)
    if lost.any():
        fig.add_scatter(
            x=(columns + 0.5) * size - 0.5, y=(rows + 0.5) * size - 0.5, mode="markers",
            marker={"symbol": "x", "size": 12, "color": viz.PALETTE[3]}, name="lost",
            showlegend=False, row=1, col=1,
        )  # fmt: skip
    best = int(sent.probabilities.argmax())
    fig.add_bar(
        x=[str(n) for n in range(10)],
        y=sent.probabilities,
        marker={"color": [viz.PALETTE[0] if n == best else viz.PALETTE[5] for n in range(10)]},
        text=[f"{p:.2f}" if p >= 0.05 else "" for p in sent.probabilities],
        textposition="outside",
        cliponaxis=False,
        showlegend=False,
        row=1,
        col=2,
    )
    quiet = {"showticklabels": False, "showgrid": False, "ticks": ""}
    fig.update_xaxes(**quiet, title_text="7 x 7 patches; dark ones stay here", row=1, col=1)
    fig.update_yaxes(**quiet, autorange="reversed", scaleanchor="x", row=1, col=1)
    fig.update_xaxes(title_text="digit", type="category", row=1, col=2)
    fig.update_yaxes(title_text="probability", range=[0, 1.1], row=1, col=2)
    fig.update_layout(margin={"t": 70})
    noise = "no noise" if snr_db is None else f"{snr_db:g} dB"
    truth = "" if label is None else f", the digit is a {label}"
    return viz.finish(
        fig,
        title=f"{_tokens(sent.tokens, len(sent.keep))}, {sent.channel_uses} symbols, "
        f"{sent.latency.milliseconds:.1f} ms",
        alt=f"Asked for {alpha:g} of the tokens at {noise}: {sent.tokens} are sent and the server "
        f"says {best} with probability {sent.probabilities[best]:.2f}{truth}.",
        caption="Lit patches are sent; the bars are what the server makes of what arrives.",
        source="send_figure",
        params={"alpha": alpha, "snr_db": snr_db},
        height=420,
    )


def latency_bars(latency: Latency, *, tokens: int) -> go.Figure:
    """Where the milliseconds go: device, air, server, and their sum.

    Args:
        latency: Seconds of each.
        tokens: Tokens sent.
    """
    parts = {"device": latency.device, "air": latency.air, "server": latency.server}
    fig = go.Figure(
        go.Waterfall(
            x=[*parts, "total"],
            y=[*(1e3 * s for s in parts.values()), 0],
            measure=["relative"] * 3 + ["total"],
            text=[f"{1e3 * s:.2f}" for s in (*parts.values(), latency.total)],
            textposition="outside",
            cliponaxis=False,
            increasing={"marker": {"color": viz.PALETTE[1]}},
            totals={"marker": {"color": viz.PALETTE[0]}},
            connector={"line": {"color": viz.GRID}},
        )
    )
    fig.update_xaxes(title_text="part of the way")
    fig.update_yaxes(title_text="milliseconds", range=[0, 1.15e3 * latency.total])
    return viz.finish(
        fig,
        title=f"Where the time of {_tokens(tokens)} goes",
        alt=f"Device {1e3 * latency.device:.2f} ms, air {1e3 * latency.air:.2f} ms, server "
        f"{1e3 * latency.server:.2f} ms, together {latency.milliseconds:.2f} ms.",
        caption="From FLOPs and symbols by formula, for the hardware numbers that were stated.",
        source="latency_bars",
        params={"tokens": tokens},
        height=360,
    )


def photo_patches(
    picture: UInt8[np.ndarray, "224 224 3"],
    attention: Float[np.ndarray, " t"],
    *,
    share: float = 0.25,
    name: str = "photograph",
) -> go.Figure:
    """A photograph whose patches with the least class attention are dimmed.

    Args:
        picture: Square picture.
        attention: A score for each patch, reading order.
        share: Fraction of patches that stay.
        name: What the picture shows.

    Raises:
        ValueError: ``share`` outside (0, 1], or patches that form no square.
    """
    side = round(len(attention) ** 0.5)
    if not 0 < share <= 1:
        raise ValueError(f"share={share} must lie in (0, 1]")
    if side * side != len(attention):
        raise ValueError(f"{len(attention)} patches form no square")
    count = int(np.ceil(share * len(attention)))
    keep = np.zeros(len(attention), bool)
    keep[np.argsort(-attention, kind="stable")[:count]] = True
    cells = np.kron(keep.reshape(side, side), np.ones((picture.shape[0] // side,) * 2))[..., None]
    dimmed = (picture * np.where(cells > 0, 1.0, _DIM)).astype(np.uint8)
    fig = make_subplots(1, 2, horizontal_spacing=0.06, column_titles=["picture", "what is sent"])
    fig.add_image(z=picture, hoverinfo="skip", row=1, col=1)
    fig.add_image(z=dimmed, hoverinfo="skip", row=1, col=2)
    fig.update_xaxes(showticklabels=False, ticks="", title_text="16 x 16 patches of 14 pixels")
    fig.update_yaxes(showticklabels=False, ticks="")
    fig.update_layout(margin={"t": 80})
    held = float(attention[keep].sum() / attention.sum())
    return viz.finish(
        fig,
        title=f"{name}: {count} of {len(attention)} patches by class attention",
        alt=f"{count} of {len(attention)} patches hold {held:.0%} of the attention that the class "
        "token pays to patches in the last four of twelve layers.",
        caption="No training for this: a real ViT-S looks at the object and skips the rest.",
        source="photo_patches",
        params={"share": share, "name": name},
        height=420,
    )
