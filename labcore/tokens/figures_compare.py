"""Figures of the comparison: accuracy against rate and noise, asked against spent, scores."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float, UInt8

from labcore import viz
from labcore.tokens.labels import label, style
from labcore.tokens.link import LinkBudget
from labcore.tokens.tally import Rows, distinct, over_seeds, pick

TOKENS = 49


def _chosen(rows: Rows, methods: Sequence[str] | None) -> list[str]:
    there = distinct(rows, "method")
    unknown = [name for name in methods or () if name not in there]
    if unknown:
        raise ValueError(f"{unknown} were not measured here: choose from {there}")
    return list(methods or there)


def accuracy_curves(
    rows: Rows, *, methods: Sequence[str] | None = None, base: float | None = None
) -> go.Figure:
    """Accuracy against the rate that was really spent, one line a method, bars over seeds.

    Args:
        rows: The result's table ``curves``.
        methods: Which lines to draw; all by default.
        base: Accuracy of the network before selection and channel, as a dotted line: a device
            that could run all of it would send the answer, log2(classes) bits.

    Raises:
        ValueError: a method that was not measured.
    """
    fig, said = go.Figure(), []
    names = _chosen(rows, methods)
    for name in names:
        cells = [over_seeds(rows, name, b) for b in distinct(pick(rows, method=name), "budget")]
        colour, dash, symbol = style(name)
        fig.add_scatter(
            x=[c["spent"] for c in cells],
            y=[c["accuracy"] for c in cells],
            error_y={"type": "data", "array": [c["sd"] for c in cells], "thickness": 1.2,
                     "width": 3},
            name=label(name),
            mode="lines+markers",
            line={"color": colour, "dash": dash, "width": 2.2},
            marker={"symbol": symbol, "size": 9, "color": colour},
        )  # fmt: skip
        near = min(cells, key=lambda c: abs(c["spent"] - 0.2))
        said.append(f"{label(name)} {near['accuracy']:.3f} at {near['spent']:.2f}")
    if base is not None:
        fig.add_hline(
            y=base, line={"color": viz.INK, "dash": "dot", "width": 1.5},
            annotation_text="all of the network on the device", annotation_position="top left",
        )  # fmt: skip
    fig.update_xaxes(title_text="share of tokens really sent", range=[0, 1.05])
    fig.update_yaxes(title_text="test accuracy")
    fig.update_layout(legend={"orientation": "h", "y": -0.22, "yanchor": "top", "x": 0})
    first = over_seeds(rows, names[0], pick(rows, method=names[0])[0]["budget"])
    tail = "" if base is None else f" The network before selection and channel: {base:.3f}."
    return viz.finish(
        fig,
        title="Accuracy against the rate really spent",
        alt=f"{first['seeds']} seeds, {first['images']} test canvases: {'; '.join(said)}.{tail}",
        caption="Bars are the standard deviation over fine-tunings. Dotted: a device that can run "
        "the whole network and sends its answer; the others stand for devices that cannot.",
        source="accuracy_curves",
        params={"methods": names},
        height=560,
    )


def noise_curves(rows: Rows, *, budgets: Sequence[float] = (0.1, 0.2, 0.5)) -> go.Figure:
    """Accuracy of the gate against SNR at some budgets: AWGN solid, Rayleigh dashed.

    Args:
        rows: The result's table ``noise``.
        budgets: Rates asked for.

    Raises:
        ValueError: a budget that was not measured.
    """
    gate = [row for kind in ("awgn", "rayleigh") for row in _first_seed(rows, kind)]
    unknown = [b for b in budgets if b not in distinct(gate, "budget")]
    if unknown:
        raise ValueError(f"budgets {unknown} were not measured: {distinct(gate, 'budget')}")
    fig = go.Figure()
    for number, budget in enumerate(budgets):
        for kind, dash in (("awgn", "solid"), ("rayleigh", "dash")):
            here = sorted(pick(gate, budget=budget, channel=kind), key=lambda r: r["snr_db"])
            fig.add_scatter(
                x=[r["snr_db"] for r in here],
                y=[r["accuracy"] for r in here],
                name=f"asked {budget:g}, {'AWGN' if kind == 'awgn' else 'Rayleigh'}",
                mode="lines+markers",
                line={"color": viz.PALETTE[number], "dash": dash},
                marker={"symbol": viz.SYMBOLS[number], "size": 9},
            )
    fig.update_xaxes(title_text="signal-to-noise ratio (dB)")
    fig.update_yaxes(title_text="test accuracy")
    fig.update_layout(legend={"orientation": "h", "y": -0.22, "yanchor": "top", "x": 0})
    ends = distinct(gate, "snr_db")
    low, high = (pick(gate, budget=budgets[0], channel="awgn", snr_db=s)[0]["accuracy"]
                 for s in (min(ends), max(ends)))  # fmt: skip
    return viz.finish(
        fig,
        title="Accuracy of the gate against noise",
        alt=f"One seed, {gate[0]['images']} test canvases; asked for {budgets[0]:g}, AWGN: "
        f"{low:.3f} at the loudest noise, {high:.3f} at the quietest.",
        caption="Dashed: one fade an image, which the receiver knows (MMSE).",
        source="noise_curves",
        params={"budgets": list(budgets)},
        height=480,
    )


def noise_map(rows: Rows, *, link: LinkBudget | None = None) -> go.Figure:
    """Accuracy of the gate over budget and SNR, with lines of equal latency.

    Args:
        rows: The result's table ``noise``.
        link: Hardware numbers of the latency.
    """
    link = link or LinkBudget()
    gate = _first_seed(rows, "awgn")
    budgets, snrs = sorted(distinct(gate, "budget")), sorted(distinct(gate, "snr_db"))
    z = [[pick(gate, budget=b, snr_db=s)[0]["accuracy"] for b in budgets] for s in snrs]
    spent = [pick(gate, budget=b)[0]["rate"] for b in budgets]
    fig = go.Figure(
        go.Heatmap(
            z=z, x=np.arange(len(budgets)), y=[f"{s:g}" for s in snrs],
            colorscale=viz.SEQUENTIAL, text=[[f"{v:.2f}" for v in row] for row in z],
            texttemplate="%{text}", colorbar={"title": "accuracy"},
        )
    )  # fmt: skip
    times = [link.latency(rate * TOKENS).milliseconds for rate in spent]
    for ms, place in _latency_lines(times):
        for row in range(len(snrs) + 1):  # between the rows, so that no number is struck through
            fig.add_shape(
                type="line", x0=place, x1=place, y0=row - 0.72, y1=row - 0.28, yref="y",
                line={"color": "white", "width": 2},
            )  # fmt: skip
        fig.add_annotation(
            x=place, y=1.0, yref="paper", yanchor="bottom", text=f"{ms:g} ms", showarrow=False
        )
    ticks = {"tickvals": np.arange(len(budgets)), "ticktext": [f"{b:g}" for b in budgets]}
    fig.update_xaxes(title_text="rate asked for; above: equal latency", **ticks)
    fig.update_yaxes(
        title_text="signal-to-noise ratio (dB)", type="category", range=[-0.5, len(snrs) - 0.5]
    )
    fig.update_layout(margin={"t": 90})
    best = max(gate, key=lambda r: r["accuracy"])
    return viz.finish(
        fig,
        title="Accuracy over rate and noise, with latency",
        alt=f"Best {best['accuracy']:.3f} at {best['budget']:g} and {best['snr_db']:g} dB; latency "
        f"from {times[0]:.1f} ms (asked {budgets[0]:g}) to {times[-1]:.1f} ms "
        f"(asked {budgets[-1]:g}).",
        caption="White marks: equal latency at the rate really spent. A deadline says how far to "
        "the right one may go, and the noise how much that buys.",
        source="noise_map",
        height=460,
    )


def _first_seed(rows: Rows, channel: str) -> list[Any]:
    """The gate's rows of the seed that was measured everywhere."""
    return pick(rows, method="gate", channel=channel, seed=rows[0]["seed"])


def _latency_lines(times: Sequence[float], most: int = 5) -> list[tuple[float, float]]:
    """Round latencies between the columns' own, each with its place on their axis."""
    rising = np.maximum.accumulate(np.asarray(times) + 1e-9 * np.arange(len(times)))
    span = rising[-1] - rising[0]
    step = next((s for s in (0.2, 0.5, 1, 2, 5, 10, 20, 50) if span / s <= most), 100)
    values = np.arange(np.ceil(rising[0] / step), np.floor(rising[-1] / step) + 1) * step
    return [(float(v), float(np.interp(v, rising, np.arange(len(rising))))) for v in values]


def asked_spent(spent: Float[np.ndarray, "m n"], budgets: Sequence[float]) -> go.Figure:
    """How the rate of single images spreads around the rate asked for.

    Args:
        spent: Rate of each image at each budget.
        budgets: The rates asked for.

    Raises:
        ValueError: another number of budgets than rows.
    """
    if len(spent) != len(budgets):
        raise ValueError(f"{len(spent)} rows of rates for {len(budgets)} budgets")
    fig = go.Figure()
    for budget, rates in zip(budgets, spent.astype(float), strict=True):
        fig.add_violin(
            x=[f"{budget:g}"] * len(rates), y=rates, name=f"{budget:g}", showlegend=False,
            line_color=viz.PALETTE[0], points=False, meanline_visible=True, spanmode="hard",
        )  # fmt: skip
    fig.add_scatter(
        x=[f"{b:g}" for b in budgets], y=list(budgets), mode="markers", name="asked",
        marker={"symbol": "line-ew-open", "size": 26, "color": viz.PALETTE[3],
                "line": {"width": 3}},
    )  # fmt: skip
    fig.update_xaxes(title_text="rate asked for", type="category")
    fig.update_yaxes(title_text="rate spent on an image", range=[0, 1.05])
    means = spent.astype(float).mean(1)
    return viz.finish(
        fig,
        title="Asked and spent, image by image",
        alt="Mean rate spent: "
        + ", ".join(f"{m:.2f} for {b:g}" for b, m in zip(budgets, means, strict=True))
        + f"; {spent.shape[1]} images.",
        caption="The threshold leaves room to spend less on some images; top-k would not.",
        source="asked_spent",
        params={"budgets": list(budgets)},
        height=440,
    )


def score_histogram(
    scores: Float[np.ndarray, "n t"],
    threshold: Float[np.ndarray, " n"],
    kinds: UInt8[np.ndarray, "n t"],
    *,
    budget: float,
) -> go.Figure:
    """Scores of digit, clutter and blank tokens, with the mean threshold as a line.

    Args:
        scores: h of each token.
        threshold: theta of each image.
        kinds: 0 blank, 1 clutter, 2 digit.
        budget: The rate asked for.
    """
    scores = scores.astype(float)
    fig, edges = go.Figure(), np.linspace(0, 1, 41)
    shares = {}
    for kind, name in ((2, "digit"), (1, "clutter"), (0, "blank")):
        here = scores[kinds == kind]
        count, _ = np.histogram(here, edges)
        shares[name] = float((scores > threshold[:, None])[kinds == kind].mean())
        fig.add_scatter(
            x=(edges[1:] + edges[:-1]) / 2, y=count / max(len(here), 1), name=name, mode="lines",
            line={"shape": "hvh", "color": viz.PALETTE[(0, 3, 7)[2 - kind]],
                  "dash": viz.DASHES[2 - kind], "width": 2.4},
        )  # fmt: skip
    middle = float(threshold.mean())
    fig.add_vline(x=middle, line={"color": viz.INK, "dash": "dot"})
    fig.add_annotation(x=middle, y=1, yref="paper", yanchor="bottom", text="mean threshold",
                       showarrow=False)  # fmt: skip
    fig.update_xaxes(title_text="score h of a token", range=[0, 1])
    fig.update_yaxes(title_text="share of the tokens of that kind")
    fig.update_layout(margin={"t": 90})
    return viz.finish(
        fig,
        title=f"Scores and threshold when asked for {budget:g}",
        alt="Kept: "
        + ", ".join(f"{s:.0%} of {n} tokens" for n, s in shares.items())
        + f"; mean threshold {middle:.2f}.",
        caption="What lies right of its image's threshold is sent.",
        source="score_histogram",
        params={"budget": budget},
        height=420,
    )


def precision_bars(rows: Rows, *, budget: float = 0.2, chance: float | None = None) -> go.Figure:
    """Precision and recall of the kept tokens against the digit's ink, one pair of bars a method.

    Args:
        rows: The result's table ``curves``.
        budget: The rate asked for.
        chance: Share of all tokens that hold ink of the digit, as a dotted line.

    Raises:
        ValueError: nothing measured at that budget.
    """
    names = [m for m in distinct(rows, "method") if pick(rows, method=m, budget=budget)]
    cells = {name: over_seeds(rows, name, budget) for name in names}
    cells = {n: c for n, c in cells.items() if np.isfinite(c["precision"])}
    if not cells:
        raise ValueError(f"no precision was measured at budget {budget}")
    order = sorted(cells, key=lambda n: cells[n]["precision"])
    fig = go.Figure()
    for what, colour, hatch in (("recall", 5, "/"), ("precision", 0, "")):
        fig.add_bar(
            orientation="h", y=[label(n) for n in order], x=[cells[n][what] for n in order],
            name=what, marker_color=viz.PALETTE[colour],
            marker_pattern={"shape": hatch, "fillmode": "overlay", "fgcolor": "white"},
            text=[f"{cells[n][what]:.2f}" for n in order], textposition="outside", cliponaxis=False,
        )  # fmt: skip
    fig.update_xaxes(title_text="share", range=[0, 1.1])
    fig.update_layout(
        barmode="group",
        legend={"orientation": "h", "traceorder": "reversed", "y": -0.18, "yanchor": "top"},
    )
    if chance is not None:
        fig.add_vline(x=chance, line={"color": viz.INK, "dash": "dot", "width": 1.5})
    best = order[-1]
    said = "" if chance is None else f"; {chance:.2f} by chance"
    return viz.finish(
        fig,
        title=f"Do kept tokens hold the digit? Asked for {budget:g}",
        alt=f"Best precision {cells[best]['precision']:.2f} ({label(best)}); "
        + ", ".join(f"{label(n)} {cells[n]['precision']:.2f}" for n in reversed(order[:-1]))
        + said,
        caption="Precision: kept tokens that hold ink of the digit. Recall: such tokens that are "
        "kept. Dotted: the precision of tokens drawn by lot.",
        source="precision_bars",
        params={"budget": budget},
        height=160 + 50 * len(order),
    )
