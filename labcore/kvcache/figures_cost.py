"""Figures of what dropping costs: perplexity after one prune, and of streams."""

import math

import numpy as np
import plotly.graph_objects as go

from labcore import viz
from labcore.kvcache.labels import chosen, hatched, label, style
from labcore.kvcache.tally import paired
from labcore.tally import Rows, distinct, over, pick

_TICKS = [10, 15, 20, 30, 40, 50, 100, 150, 200, 300, 500, 700, 1e3, 2e3, 3e3, 1e4, 2e4, 3e4]


def perplexity_curves(
    rows: Rows, *, length: int, policies: tuple[str, ...] | None = None
) -> go.Figure:
    """Perplexity of what follows against the fraction of pairs kept, one line a policy.

    Bars are the standard error, over windows, of the difference from the full cache: windows differ
    far more from each other than policies do, and every policy reads the same ones.

    Args:
        rows: The result's table ``prune``.
        length: Tokens of the prompt.
        policies: Which lines to draw; all by default.

    Raises:
        ValueError: nothing measured at that length, or a policy that was not measured.
    """
    here = pick(rows, length=length)
    if not here:
        raise ValueError(f"no prompt of {length} tokens: lengths are {distinct(rows, 'length')}")
    names = chosen(here, policies)
    full = over(here, "nll", policy="full")
    whole = pick(here, policy="full")[0]["bytes"]
    fig, ends = go.Figure(), {}
    for name in names:
        points = []
        for ratio in sorted(distinct(pick(here, policy=name), "keep_ratio")):
            nll = over(here, "nll", policy=name, keep_ratio=ratio)
            error = paired(here, name, "full", keep_ratio=ratio).error
            kept = over(here, "overall_kept", policy=name, keep_ratio=ratio).mean
            points.append((kept, math.exp(nll.mean), error, math.exp(nll.low), math.exp(nll.high)))
        kept, middle, error, low, high = np.array(points).T
        ends[name] = {round(float(k), 3): float(m) for k, m in zip(kept, middle, strict=True)}
        colour, dash, symbol = style(name)
        fig.add_scatter(
            x=kept,
            y=middle,
            name=label(name),
            mode="markers" if name.endswith("+skip") else "lines+markers",
            line={"color": colour, "dash": dash, "width": 2.2},
            marker={"symbol": symbol, "size": 9, "color": colour},
            error_y={
                "type": "data",
                "symmetric": False,
                "array": middle * (np.exp(error) - 1),
                "arrayminus": middle * (1 - np.exp(-error)),
                "thickness": 1.2,
                "width": 3,
            },
            customdata=np.stack([low, high], axis=1),
            hovertemplate="kept %{x:.2f}: perplexity %{y:.1f}<br>windows %{customdata[0]:.1f} to "
            "%{customdata[1]:.1f}<extra>" + label(name) + "</extra>",
        )
    _full_line(fig, math.exp(full.mean))
    _axes(fig, whole, [value for found in ends.values() for value in found.values()])
    at = 0.5
    said = [f"{label(n)} {found[at]:.1f}" for n, found in ends.items() if at in found]
    return viz.finish(
        fig,
        title=f"Perplexity after one prune of {length} tokens",
        alt=f"Geometric mean over {full.n} windows; full cache {math.exp(full.mean):.1f} (windows "
        f"{math.exp(full.low):.1f} to {math.exp(full.high):.1f}). At half of the pairs: "
        f"{', '.join(said) or 'not measured'}.",
        caption="Compare lines of the same dash: with equal guards (4 first, 16 newest pairs) only "
        "the score differs.",
        source="perplexity_curves",
        params={"length": length, "policies": names},
        height=560,
    )


def _full_line(fig: go.Figure, perplexity: float) -> None:
    fig.add_hline(y=perplexity, line={"color": viz.INK, "dash": "dot", "width": 1.5})
    fig.add_annotation(
        x=0.01,
        xref="paper",
        xanchor="left",
        y=math.log10(perplexity),  # annotations on log axes are placed by exponent
        yanchor="bottom",
        text=f"full cache {perplexity:.1f}",
        showarrow=False,
    )


def _axes(fig: go.Figure, whole: float, values: list[float]) -> None:
    """Kept fraction below, bytes above, perplexity on a log scale."""
    ticks = [0.1, 0.25, 0.5, 0.75, 1.0]
    x = {"range": [0.05, 1.03], "tickvals": ticks, "tickangle": 0}
    reach = [math.log10(min(values) * 0.85), math.log10(max(values) * 1.2)]
    fig.add_scatter(x=[None], y=[None], xaxis="x2", showlegend=False, hoverinfo="skip")
    fig.update_layout(
        xaxis={**x, "title": "fraction of all pairs kept", "tickformat": ".2f"},
        xaxis2={
            **x,
            "overlaying": "x",
            "side": "top",
            "ticktext": [f"{t * whole / 2**20:.1f} MiB" for t in ticks],
            "showgrid": False,
        },
        yaxis={
            "type": "log",
            "range": reach,
            "title": "perplexity of the next tokens (log scale)",
            "tickvals": _TICKS,
        },
        legend={"orientation": "v", "x": 1.02, "y": 1},
        margin={"t": 90},
    )


def rolling_bars(rows: Rows, *, tokens: int, budget: int, prune_to: int) -> go.Figure:
    """Perplexity of a stream with a bounded cache, one bar a policy, one dot a text.

    Args:
        rows: The result's table ``rolling``.
        tokens: Tokens of the stream.
        budget: Most pairs that a layer holds.
        prune_to: Pairs that stay after a prune.

    Raises:
        ValueError: that setting was not measured.
    """
    here = pick(rows, tokens=tokens, budget=budget, prune_to=prune_to)
    if not here:
        settings = sorted({(r["tokens"], r["budget"], r["prune_to"]) for r in rows})
        raise ValueError(f"settings (tokens, budget, prune_to) measured are {settings}")
    means = {n: over(here, "nll", policy=n) for n in distinct(here, "policy")}
    full = math.exp(means.pop("full").mean)
    order = sorted(means, key=lambda n: -means[n].mean)
    middle = [math.exp(means[n].mean) for n in order]
    names = [f"{label(n)}  <b>{m:,.1f}</b>" for n, m in zip(order, middle, strict=True)]
    row_of = dict(zip(order, names, strict=True))
    fig = go.Figure()
    fig.add_bar(
        orientation="h",
        y=names,
        x=middle,
        name="geometric mean",
        marker={
            "color": [style(n)[0] for n in order],
            "opacity": 0.8,
            "pattern": {**hatched(""), "shape": ["/" if "+" in n else "" for n in order]},
        },
    )
    dots = [r for r in here if r["policy"] in row_of]
    fig.add_scatter(
        x=[r["perplexity"] for r in dots],
        y=[row_of[r["policy"]] for r in dots],
        text=[r["text"] for r in dots],
        mode="markers",
        name="one text",
        marker={"color": "white", "size": 7, "line": {"color": viz.INK, "width": 1.5}},
        hovertemplate="%{text}: %{x:.1f}<extra></extra>",
    )
    fig.add_vline(x=full, line={"dash": "dot", "color": viz.INK})
    fig.add_annotation(
        x=math.log10(full), y=1.0, yref="paper", yanchor="bottom", showarrow=False,
        text=f"full cache {full:.1f}",
    )  # fmt: skip
    reach = [r["perplexity"] for r in here]
    fig.update_xaxes(
        type="log", title_text="perplexity (log scale)", tickvals=_TICKS[::3],
        range=[math.log10(min(reach) * 0.8), math.log10(max(*reach, *middle)) + 0.2],
    )  # fmt: skip
    fig.update_layout(
        legend={"orientation": "h", "x": 1, "xanchor": "right", "y": -0.16, "yanchor": "top"},
        bargap=0.35,
        margin={"t": 80},
    )
    how = f"{budget} pairs" if budget == prune_to else f"{budget} pairs, pruned to {prune_to}"
    said = ", ".join(f"{label(n)} {math.exp(means[n].mean):.1f}" for n in reversed(order))
    return viz.finish(
        fig,
        title=f"A stream of {tokens} tokens in {how}",
        alt=f"Geometric mean over {next(iter(means.values())).n} texts, full cache {full:.1f}: "
        f"{said}.",
        caption="Hatched policies guard the newest pairs; plain ones keep what their score says.",
        source="rolling_bars",
        params={"tokens": tokens, "budget": budget, "prune_to": prune_to},
        height=150 + 46 * len(order),
    )
