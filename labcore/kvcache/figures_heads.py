"""Figures of one head and of all heads: does the norm of a key predict its attention?"""

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float
from plotly.subplots import make_subplots

from labcore import viz
from labcore.kvcache.labels import FLOOR, hatched, same_length, shown

LOW = 0.25  # the share of keys that is marked as small


def attention_triangle(
    attention: Float[np.ndarray, "n _"],
    norms: Float[np.ndarray, " _"],
    tokens: Sequence[str],
    *,
    layer: int,
    head: int,
) -> go.Figure:
    """One head: who looks at whom, and under each key its norm, on a shared axis.

    Args:
        attention: Row t is the attention of query t; entries right of the diagonal are ignored.
        norms: Norm of each key, of the key head that this query head reads.
        tokens: Text of each token.
        layer: Layer, for the title.
        head: Query head, for the title.

    Raises:
        ValueError: sizes that do not match.
    """
    n = len(norms)
    same_length("attention", attention.shape, (n, n))
    same_length("tokens", (len(tokens),), (n,))
    at = np.arange(n)
    seen = np.where(np.tri(n, dtype=bool), attention.astype(np.float64), np.nan)
    small = norms <= np.quantile(norms, LOW)
    received = np.nansum(np.where(np.eye(n, dtype=bool), 0, seen), axis=0)
    share = float(received[small].sum() / received.sum()) if received.sum() else 0.0
    fig = make_subplots(2, 1, shared_xaxes=True, row_heights=[0.74, 0.26], vertical_spacing=0.03)
    fig.add_heatmap(
        z=np.log10(np.clip(seen, FLOOR, 1)),
        x=at,
        y=at,
        zmin=-3,
        zmax=0,
        colorscale=viz.SEQUENTIAL,
        customdata=[[(f"{q} {tokens[q]!r}", f"{k} {tokens[k]!r}", seen[q, k]) for k in range(n)]
                    for q in range(n)],
        hovertemplate="query %{customdata[0]}<br>key %{customdata[1]}<br>"
        "attention %{customdata[2]:.3f}<extra></extra>",
        hoverongaps=False,
        colorbar={"title": "attention", "tickvals": [-3, -2, -1, 0], "len": 0.72, "y": 0.64,
                  "ticktext": ["≤ 0.001", "0.01", "0.1", "1"]},
        row=1, col=1,
    )  # fmt: skip
    for mask, name, colour, hatch in (
        (small, "smallest quarter", viz.PALETTE[1], "/"),
        (~small, "others", viz.PALETTE[0], ""),
    ):
        fig.add_bar(
            x=at[mask], y=norms[mask], name=name,
            marker={"color": colour, "pattern": hatched(hatch)},
            hovertemplate="key %{x}<br>norm %{y:.2f}<extra></extra>", row=2, col=1,
        )  # fmt: skip
    step = max(1, round(n / 64))
    fig.update_xaxes(
        tickvals=at[::step], ticktext=[shown(tokens[i]) for i in at[::step]], tickangle=-90,
        tickfont={"size": 10}, range=[-0.5, n - 0.5],
    )  # fmt: skip
    fig.update_xaxes(title_text="key token", row=2, col=1)
    fig.update_yaxes(title_text="query position", autorange="reversed", row=1, col=1)
    fig.update_yaxes(title_text="key norm", row=2, col=1)
    fig.update_layout(
        bargap=0.15, legend={"orientation": "h", "x": 1, "xanchor": "right", "y": 1.0,
                             "yanchor": "bottom"},
    )  # fmt: skip
    lowest = int(np.argmin(norms))
    return viz.finish(
        fig,
        title=f"Attention and key norms, layer {layer}, head {head}",
        alt=f"Layer {layer}, head {head}, {n} tokens: the quarter of keys with the smallest norms "
        f"receives {share:.0%} of the attention (own keys excluded); the smallest norm, "
        f"{norms[lowest]:.1f} against a mean of {norms.mean():.1f}, belongs to token {lowest} "
        f"({tokens[lowest]!r}).",
        caption="Bright columns are keys that many queries look at: see whether they stand above "
        "short bars.",
        source="attention_triangle",
        params={"layer": layer, "head": head},
        height=680,
    )


def loss_curves_figure(
    best: Float[np.ndarray, " n"], by_norm: Float[np.ndarray, " _"], *, layer: int, head: int
) -> go.Figure:
    """Attention lost against pairs dropped, in the best order and by norm; ALR is the area between.

    Args:
        best: Curve of the best order, as :func:`labcore.kvcache.loss_curves` gives it.
        by_norm: Curve of the order of the norms.
        layer: Layer, for the title.
        head: Query head, for the title.

    Raises:
        ValueError: curves of different lengths.
    """
    n = len(best)
    same_length("by_norm", by_norm.shape, (n,))
    dropped = np.arange(1, n + 1)
    at_random = dropped / n * best[-1]
    area = float((by_norm - best).sum())
    worst = float((at_random - best).sum())
    relative = area / worst if worst > 0 else float("nan")
    fig = go.Figure()
    for curve, name, number, fill in (
        (best, "best order (least attended first)", 0, None),
        (by_norm, "largest norm first", 3, "tonexty"),
        (at_random, "random order, expected", 7, None),
    ):
        fig.add_scatter(
            x=dropped, y=curve, name=name, mode="lines", fill=fill,
            fillcolor="rgba(213,94,0,0.18)",
            line={"color": viz.PALETTE[number], "width": 2.5,
                  "dash": viz.DASHES[0 if number < 7 else 2]},
        )  # fmt: skip
    fig.add_annotation(
        x=0.02, xref="paper", xanchor="left", y=0.66, yref="paper", showarrow=False,
        align="left",
        text=f"area between = ALR = <b>{area:.3g}</b><br>relative to random: <b>{relative:.2f}</b>",
        bgcolor="white", bordercolor=viz.GRID, borderpad=6,
    )  # fmt: skip
    fig.update_xaxes(title_text="pairs dropped", range=[0, n])
    fig.update_yaxes(title_text="attention lost (share of one)", rangemode="tozero")
    fig.update_layout(legend={"x": 0.02, "y": 0.98})
    return viz.finish(
        fig,
        title=f"What dropping loses, layer {layer}, head {head}",
        alt=f"Layer {layer}, head {head}: dropping {n} pairs by norm loses an area of {area:.3g} "
        f"more than the best order, {relative:.2f} of what a random order loses.",
        caption="The closer the norm's curve lies to the best one, the better the norm predicts "
        "attention.",
        source="loss_curves_figure",
        params={"layer": layer, "head": head},
    )


_MEASURES = {
    "relative_alr": ("relative attention loss", 1.0),
    "spearman": ("Spearman correlation of −norm and attention", 0.0),
    "pearson": ("Pearson correlation of −norm and attention", 0.0),
}


def head_map_figure(
    values: Float[np.ndarray, "l h"],
    *,
    metric: str = "relative_alr",
    order: str = "norm",
    without_first: bool = False,
    text: str = "",
) -> go.Figure:
    """A measure for every layer and head, centred where the norm tells nothing.

    Args:
        values: The map.
        metric: ``"relative_alr"``, ``"spearman"`` or ``"pearson"``: decides the centre.
        order: ``"norm"`` or ``"recency"``, for the title.
        without_first: Whether position 0 was left out, for the title.
        text: Name of the text.

    Raises:
        ValueError: unknown metric, or not a map.
    """
    if metric not in _MEASURES:
        raise ValueError(f"metric must be one of {', '.join(_MEASURES)}, got {metric!r}")
    if not values.size:
        raise ValueError(f"the map has shape {values.shape}: it needs layers and heads")
    name, centre = _MEASURES[metric]
    loss = metric == "relative_alr"
    worse = values >= centre if loss else values <= centre
    reach = 1.0
    fig = go.Figure(
        go.Heatmap(
            z=values,
            colorscale=[list(stop) for stop in viz.DIVERGING],
            reversescale=not loss,
            zmin=centre - reach,
            zmax=centre + reach,
            text=np.where(worse, "×", ""),
            texttemplate="%{text}",
            textfont={"size": 11},
            hovertemplate="layer %{y}, head %{x}<br>%{z:.2f}<extra></extra>",
            colorbar={"title": {"text": name, "side": "right"}},
            xgap=1,
            ygap=1,
        )
    )
    fig.update_xaxes(title_text="query head", dtick=1, showgrid=False)
    fig.update_yaxes(title_text="layer", showgrid=False, dtick=max(1, values.shape[0] // 10))
    said = "recency" if order == "recency" else "key norm"
    where = ", ".join(filter(None, (text, "position 0 left out" * without_first))) or "one text"
    return viz.finish(
        fig,
        title=f"Does {said} predict attention? {where}",
        alt=f"{name.capitalize()} by {said}, {where}, {values.shape[0]} layers by "
        f"{values.shape[1]} heads: "
        f"mean {values.mean():.2f}, {(~worse).mean():.0%} of heads better than random, best layer "
        f"{int(values.mean(1).argmin() if loss else values.mean(1).argmax())}.",
        caption="Blue heads are better than dropping at random, orange ones with a cross are not.",
        source="head_map_figure",
        params={"metric": metric, "order": order, "without_first": without_first},
        height=620,
    )
