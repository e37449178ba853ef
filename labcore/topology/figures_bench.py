"""Figures of the benchmark: accuracy by model, paired differences, cost, ablation."""

from collections.abc import Mapping

import numpy as np
import plotly.graph_objects as go

from labcore import viz
from labcore.topology.tally import (
    Rows,
    best_by_domain,
    best_higher,
    distinct,
    domain_of,
    paired,
    pick,
    score,
)

DOMAINS = ("graph", "hypergraph", "simplicial", "cell", "combinatorial")
_ORDER = ("baseline", *DOMAINS)


def leaderboard(rows: Rows, *, data: str) -> go.Figure:
    """Test accuracy of every model on one data set, dots for seeds, bars for standard deviations.

    Raises:
        ValueError: nothing was run on that data set.
    """
    here = [r for r in pick(rows, data=data) if not r["label"].startswith("ablation")]
    if not here:
        raise ValueError(f"nothing was run on {data!r}: there are {distinct(rows, 'data')}")
    found = {name: score(here, data, name) for name in distinct(here, "label")}
    order = sorted(found, key=lambda n: found[n].mean)
    fig = go.Figure()
    for i, domain in enumerate(_ORDER):
        names = [n for n in order if domain_of(here, n) == domain]
        if not names:
            continue
        fig.add_scatter(
            x=[found[n].mean for n in names],
            y=names,
            mode="markers",
            name=domain,
            error_x={"array": [found[n].sd if found[n].n > 1 else 0 for n in names]},
            marker={"size": 12, "symbol": viz.SYMBOLS[i], "color": viz.PALETTE[(i + 7) % 8]},
            hovertemplate="%{y}: %{x:.3f}<extra></extra>",
        )
    fig.update_xaxes(title_text="test accuracy (share right)")
    fig.update_yaxes(categoryorder="array", categoryarray=order, title_text="")
    fig.update_layout(legend={"orientation": "h", "y": -0.16, "yanchor": "top"})
    said = ", ".join(f"{n} {found[n].mean:.3f} ± {found[n].sd:.3f}" for n in reversed(order))
    return viz.finish(
        fig,
        title=f"{data}: which model, in which domain?",
        alt=f"Mean ± sd over {found[order[0]].n} seeds: {said}.",
        caption="Bars are one standard deviation over seeds; read overlaps as ties.",
        source="leaderboard",
        params={"data": data},
        height=170 + 32 * len(order),
    )


def table_map(rows: Rows) -> go.Figure:
    """Mean test accuracy of every model on every data set; empty where it was not run."""
    here = [r for r in rows if not r["label"].startswith("ablation")]
    data = distinct([r for r in here if domain_of(here, r["label"]) in DOMAINS[1:]], "data")
    here = [r for r in here if r["data"] in data]
    labels = sorted(distinct(here, "label"), key=lambda n: _ORDER.index(domain_of(here, n)))
    mean = np.full((len(labels), len(data)), np.nan)
    text = np.full(mean.shape, "", dtype=object)
    for i, label in enumerate(labels):
        for j, name in enumerate(data):
            if pick(here, data=name, label=label):
                found = score(here, name, label)
                mean[i, j] = found.mean
                text[i, j] = f"{100 * found.mean:.0f} ± {100 * found.sd:.0f}"
    best = np.nanmax(mean, axis=0)
    bold = np.where(mean == best, "<b>", "")
    fig = go.Figure(
        go.Heatmap(
            z=mean / best, x=data, y=[f"{n} · {domain_of(here, n)}" for n in labels],
            text=np.char.add(bold.astype(str), text.astype(str)), texttemplate="%{text}",
            colorscale=viz.SEQUENTIAL, zmin=0.2, zmax=1.0, xgap=2, ygap=2,
            colorbar={"title": "of the<br>best"},
            hovertemplate="%{y}, %{x}: %{text}<extra></extra>",
        )
    )  # fmt: skip
    fig.update_xaxes(title_text="data set")
    fig.update_yaxes(title_text="", autorange="reversed")
    said = ", ".join(
        f"{name} {labels[int(np.nanargmax(mean[:, j]))]} {best[j]:.3f}"
        for j, name in enumerate(data)
    )
    return viz.finish(
        fig,
        title="Model × domain × data: test accuracy in %, mean ± sd over seeds",
        alt=f"{len(labels)} models on {len(data)} data sets; best of each: {said}.",
        caption="Colour is the share of the best mean of the column (bold); baselines come first.",
        source="table_map",
        height=190 + 30 * len(labels),
    )


def domain_gain(rows: Rows) -> go.Figure:
    """Best higher-order minus best graph network of each data set, chosen by validation, paired.

    Bars are two standard errors over the same splits.
    """
    names, means, errors = [], [], []
    for data in distinct(rows, "data"):
        here = [r for r in pick(rows, data=data) if not r["label"].startswith("ablation")]
        graph, higher = best_by_domain(here, data).get("graph"), best_higher(here, data)
        if graph is None or higher is None:
            continue
        found = paired(here, data, higher, graph)
        names.append(f"{data}<br>{higher} − {graph}")
        means.append(found.mean)
        errors.append(2 * found.error)
    fig = go.Figure()
    fig.add_scatter(
        x=means, y=names, mode="markers", error_x={"array": errors},
        marker={"size": 12, "color": viz.PALETTE[0], "symbol": "diamond"}, showlegend=False,
    )  # fmt: skip
    fig.add_vline(x=0, line={"dash": "dot", "color": viz.INK})
    fig.update_xaxes(title_text="difference in test accuracy, higher order minus graph")
    fig.update_yaxes(title_text="", autorange="reversed")
    said = "; ".join(
        f"{n.replace('<br>', ': ')} {m:+.3f} ± {e:.3f}"
        for n, m, e in zip(names, means, errors, strict=True)
    )
    return viz.finish(
        fig,
        title="Does the domain matter?",
        alt=f"Difference ± two standard errors: {said}.",
        caption="Right of the dotted line the higher domain is better; a bar across it is a tie.",
        source="domain_gain",
        height=160 + 70 * len(names),
    )


def cost(rows: Rows, *, data: str) -> go.Figure:
    """CPU seconds of one run of every model, its accuracy written beside the mark."""
    here = [r for r in pick(rows, data=data) if not r["label"].startswith("ablation")]
    seconds = {n: score(here, data, n, "seconds").mean for n in distinct(here, "label")}
    order = sorted((n for n in seconds if seconds[n] > 0), key=lambda n: -seconds[n])
    fig = go.Figure()
    for i, domain in enumerate(_ORDER):
        names = [n for n in order if domain_of(here, n) == domain]
        if names:
            fig.add_scatter(
                x=[seconds[n] for n in names], y=names, mode="markers+text", name=domain,
                text=[f"  {score(here, data, n).mean:.3f}" for n in names],
                textposition="middle right",
                marker={"size": 12, "symbol": viz.SYMBOLS[i], "color": viz.PALETTE[(i + 7) % 8]},
                hovertemplate="%{y}: %{x:.2f} s<extra></extra>",
            )  # fmt: skip
    low, high = (np.log10([seconds[n] for n in order]).min(), np.log10(max(seconds.values())))
    span = [low - 0.1, high + 0.35 * (high - low) + 0.1]
    fig.update_xaxes(title_text="CPU seconds of a run (log scale)", type="log", range=span)
    fig.update_yaxes(categoryorder="array", categoryarray=order, title_text="")
    fig.update_layout(legend={"orientation": "h", "y": -0.16, "yanchor": "top"})
    said = ", ".join(f"{n} {seconds[n]:.1f} s" for n in reversed(order))
    return viz.finish(
        fig,
        title=f"{data}: what a run costs",
        alt=f"Seconds a run: {said}.",
        caption="The number beside each mark is the mean test accuracy.",
        source="cost",
        params={"data": data},
        height=170 + 32 * len(order),
    )


def ablation(rows: Rows) -> go.Figure:
    """SimplicialMamba with one thing changed: ranks, sequence model, direction, order.

    Raises:
        ValueError: no ablation in the table.
    """
    here = [r for r in rows if r["label"].startswith("ablation: ")]
    if not here:
        raise ValueError("the table has no ablation: run the experiment")
    data = here[0]["data"]
    labels = distinct(here, "label")
    found = [score(here, data, label) for label in labels]
    names = [label.removeprefix("ablation: ") for label in labels]
    fig = go.Figure()
    fig.add_scatter(
        x=[f.mean for f in found], y=names, mode="markers", name="mean",
        error_x={"array": [f.sd if f.n > 1 else 0 for f in found]}, showlegend=False,
        marker={"size": 11, "color": viz.PALETTE[0]},
    )  # fmt: skip
    fig.update_xaxes(title_text="test accuracy (share right)")
    fig.update_yaxes(title_text="", autorange="reversed")
    said = ", ".join(f"{n} {f.mean:.3f} ± {f.sd:.3f}" for n, f in zip(names, found, strict=True))
    return viz.finish(
        fig,
        title=f"SimplicialMamba, one thing changed ({data})",
        alt=f"Mean ± sd over {found[0].n} seeds: {said}.",
        caption="All but the first two and the fourth row read ranks 1 to 3; bars are one standard "
        "deviation.",
        source="ablation",
        height=170 + 30 * len(names),
    )


def learning_curve(history: list[dict[str, float]], *, label: str) -> go.Figure:
    """Accuracy on the three parts while a model learns."""
    fig = go.Figure()
    for i, part in enumerate(("train", "val", "test")):
        fig.add_scatter(
            x=[row["epoch"] for row in history], y=[row[part] for row in history], name=part,
            mode="lines", line={"color": viz.PALETTE[i], "dash": viz.DASHES[i]},
        )  # fmt: skip
    fig.update_xaxes(title_text="epoch")
    fig.update_yaxes(title_text="accuracy (share right)")
    best = max(history, key=lambda r: (r["val"], -r["val_loss"]))
    return viz.finish(
        fig,
        title=f"Learning: {label}",
        alt=f"Best validation {best['val']:.3f} at epoch {best['epoch']:.0f}, test there "
        f"{best['test']:.3f}.",
        caption="The epoch of best validation accuracy is kept; the test part chooses nothing.",
        source="learning_curve",
        params={"label": label},
    )


def race(histories: Mapping[str, list[dict[str, float]]], *, data: str) -> go.Figure:
    """Validation accuracy of several models while they learn, one seed."""
    fig = go.Figure()
    for i, (name, history) in enumerate(histories.items()):
        fig.add_scatter(
            x=[row["epoch"] for row in history], y=[row["val"] for row in history], name=name,
            mode="lines+markers",
            line={"color": viz.PALETTE[i % 8], "dash": viz.DASHES[i % 6]},
            marker={"symbol": viz.SYMBOLS[i % 8], "size": 7},
        )  # fmt: skip
    fig.update_xaxes(title_text="epoch")
    fig.update_yaxes(title_text="validation accuracy (share right)")
    said = ", ".join(f"{n} {max(r['val'] for r in h):.3f}" for n, h in histories.items())
    return viz.finish(
        fig,
        title=f"Learning curves on {data}",
        alt=f"Best validation accuracy: {said}.",
        caption="One seed: the order of curves that are close may turn with another.",
        source="race",
        params={"data": data},
    )
