"""Figures of tokens: their norms and their attention, the text itself, what has a small key."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Bool, Float
from scipy.stats import spearmanr

from labcore import viz
from labcore.kvcache.labels import FLOOR, same_length, shown
from labcore.tally import Rows, distinct, pick


def norm_scatter(
    norms: Float[np.ndarray, " n"],
    attention: Float[np.ndarray, " _"],
    tokens: Sequence[str],
    *,
    layer: int,
    head: int,
    relative_alr: float | None = None,
) -> go.Figure:
    """Key norm against the attention received, one point a token of one head.

    Args:
        norms: Norm of each key.
        attention: Mean attention that each key gets from the last queries.
        tokens: Text of each token.
        layer: Layer, for the title.
        head: Query head, for the title.
        relative_alr: Printed when given.

    Raises:
        ValueError: sizes that do not match.
    """
    n = len(norms)
    same_length("attention", attention.shape, (n,))
    same_length("tokens", (len(tokens),), (n,))
    rho = float(spearmanr(-norms, attention).statistic)
    kinds = np.array([_kind(i, token) for i, token in enumerate(tokens)])
    fig = go.Figure()
    for kind, symbol, size in (
        ("word", viz.SYMBOLS[0], 8),
        ("punctuation", viz.SYMBOLS[2], 10),
        ("first token", "star", 17),
    ):
        at = np.flatnonzero(kinds == kind).tolist()
        fig.add_scatter(
            x=norms[at], y=np.clip(attention[at], FLOOR / 10, None), mode="markers", name=kind,
            text=[f"{i}: {tokens[i]!r}" for i in at],
            hovertemplate="%{text}<br>norm %{x:.2f}<br>attention %{y:.4f}<extra></extra>",
            marker={"color": at, "coloraxis": "coloraxis", "symbol": symbol, "size": size,
                    "line": {"width": 0.6, "color": viz.INK}},
        )  # fmt: skip
    printed = f"Spearman(−norm, attention) = {rho:.2f}"
    if relative_alr is not None:
        printed += f", relative ALR = {relative_alr:.2f}"
    fig.update_xaxes(title_text="key norm")
    fig.update_yaxes(
        title_text="mean attention from the last queries", type="log", dtick=1,
        exponentformat="power",
    )  # fmt: skip
    fig.update_layout(
        coloraxis={"colorscale": viz.SEQUENTIAL, "cmin": 0, "cmax": n - 1,
                   "colorbar": {"title": "position"}},
        legend={"x": 0.02, "y": 0.02},
        title={"subtitle": {"text": printed, "font": {"size": 14}}},
        margin={"t": 84},
    )  # fmt: skip
    top = int(np.argmax(attention))
    measured = f", relative attention loss {relative_alr:.2f}" if relative_alr is not None else ""
    return viz.finish(
        fig,
        title=f"Small keys, large attention? Layer {layer}, head {head}",
        alt=f"{n} tokens of layer {layer}, head {head}: Spearman correlation of minus norm and "
        f"attention {rho:.2f}{measured}; most attention goes to token {top} ({tokens[top]!r}), "
        f"norm {norms[top]:.1f} against a mean of {norms.mean():.1f}.",
        caption="A cloud that falls from upper left to lower right is what the method relies on.",
        source="norm_scatter",
        params={"layer": layer, "head": head},
        height=480,
    )


def token_strip(
    tokens: Sequence[str],
    percentiles: Float[np.ndarray, " n"],
    kept: Bool[np.ndarray, " _"] | None = None,
    *,
    title: str = "The text, by the norm of its keys",
    width: int = 84,
) -> go.Figure:
    """The text itself: colour is the norm's percentile, dropped tokens are hatched and struck out.

    Args:
        tokens: Text of each token.
        percentiles: Rank of each norm, from 0 (smallest) to 1.
        kept: Which pairs stay; all of them by default.
        title: Title.
        width: Characters a line.

    Raises:
        ValueError: sizes that do not match.
    """
    n = len(tokens)
    same_length("percentiles", percentiles.shape, (n,))
    kept = np.ones(n, dtype=bool) if kept is None else kept
    same_length("kept", kept.shape, (n,))
    starts, lines, widths = _layout(tokens, width)
    light = percentiles > 0.6  # cividis is bright from there on
    fig = go.Figure(
        go.Bar(
            orientation="h", base=starts, x=widths, y=lines, width=0.86,
            text=[shown(t) if k else f"<s>{shown(t)}</s>"
                  for t, k in zip(tokens, kept, strict=True)],
            textposition="inside", insidetextanchor="middle", textangle=0,
            insidetextfont={"family": "monospace", "size": 13,
                            "color": [viz.INK if bright or not stays else "white"
                                      for bright, stays in zip(light, kept, strict=True)]},
            marker={"color": percentiles, "colorscale": viz.SEQUENTIAL, "cmin": 0, "cmax": 1,
                    "opacity": np.where(kept, 1.0, 0.35), "line": {"width": 0},
                    "pattern": {"shape": np.where(kept, "", "/"), "fgcolor": "#9AA5B1", "size": 5},
                    "colorbar": {"title": "norm<br>percentile", "thickness": 12}},
            customdata=[[i, p, "kept" if k else "dropped"]
                        for i, (p, k) in enumerate(zip(percentiles, kept, strict=True))],
            hovertemplate="position %{customdata[0]}<br>norm percentile %{customdata[1]:.2f}<br>"
            "%{customdata[2]}<extra></extra>",
        )
    )  # fmt: skip
    fig.update_xaxes(visible=False, range=[0, width + 1])
    fig.update_yaxes(visible=False, autorange="reversed")
    fig.update_layout(bargap=0)
    smallest = [tokens[i].strip() or tokens[i] for i in percentiles.argsort(kind="stable")[:5]]
    return viz.finish(
        fig,
        title=title,
        alt=f"{n} tokens, {int(kept.sum())} kept; the five with the smallest keys are "
        f"{', '.join(map(repr, smallest))}.",
        caption="Dark tokens have small keys and stay; hatched and struck-out ones are dropped.",
        source="token_strip",
        height=120 + 30 * (int(lines.max()) + 1),
    )


def low_norm_tokens(rows: Rows, *, text: str) -> go.Figure:
    """The twelve tokens with the smallest keys in each depth band, smallest on top.

    Args:
        rows: The result's table ``low_norm_tokens``.
        text: Which text.

    Raises:
        ValueError: no rows for that text.
    """
    here = pick(rows, text=text)
    if not here:
        raise ValueError(f"no tokens of text {text!r}: texts are {distinct(rows, 'text')}")
    bands = list(dict.fromkeys((r["first_layer"], r["last_layer"]) for r in here))
    ranks = max(r["rank"] for r in here) + 1
    z, labels = np.full((ranks, len(bands)), np.nan), np.full((ranks, len(bands)), "", dtype=object)
    for r in here:
        cell = r["rank"], bands.index((r["first_layer"], r["last_layer"]))
        z[cell] = r["percentile"]
        labels[cell] = f"{shown(r['token'])[:9]} <i>@{r['position']}</i> {r['norm']:.1f}"
    means = {(r["first_layer"], r["last_layer"]): r["mean_norm"] for r in here}
    names = [f"layer {a}" if a == b else f"layers {a}–{b}" for a, b in bands]
    heads = [f"<b>{name}</b><br>mean {means[band]:.1f}"
             for name, band in zip(names, bands, strict=True)]  # fmt: skip
    fig = go.Figure(
        go.Heatmap(
            z=z, x=heads, y=np.arange(1, ranks + 1), text=labels, texttemplate="%{text}",
            textfont={"size": 12}, colorscale=viz.SEQUENTIAL, zmin=0, zmax=0.5, xgap=3, ygap=2,
            hovertemplate="%{text}<br>mean percentile %{z:.2f}<extra></extra>",
            colorbar={"title": "mean norm<br>percentile", "thickness": 12},
        )
    )  # fmt: skip
    fig.update_xaxes(
        side="top", showgrid=False, ticks="", tickangle=0, tickfont={"size": 12}, automargin=False
    )
    fig.update_yaxes(title_text="rank", autorange="reversed", showgrid=False, dtick=1)
    fig.update_layout(margin={"t": 110})
    first = [
        f"{shown(pick(here, first_layer=a, rank=0)[0]['token'])!r} in {name}"
        for name, (a, _) in zip(names, bands, strict=True)
    ]
    return viz.finish(
        fig,
        title="What has a small key? Token @position, norm",
        alt=f"The {ranks} tokens with the smallest keys of text {text} in {len(bands)} depth "
        f"bands; first are {', '.join(first)}.",
        caption="Read each column from the top: what has a small key changes with depth.",
        source="low_norm_tokens",
        params={"text": text},
        height=560,
    )


def _kind(position: int, token: str) -> str:
    if position == 0:
        return "first token"
    return "word" if any(c.isalnum() for c in token) else "punctuation"


def _layout(tokens: Sequence[str], width: int) -> tuple[Any, Any, Any]:
    """Start, line and width of every token, broken into lines of at most ``width`` characters."""
    starts, lines, widths, x, line = [], [], [], 0.0, 0
    for token in tokens:
        wide = len(token.strip(" ") or " ") + 1.0
        if x + wide > width:
            x, line = 0.0, line + 1
        starts.append(x)
        lines.append(line)
        widths.append(wide - 0.25)
        x += wide
    return np.array(starts), np.array(lines), np.array(widths)
