"""Figures of the factorial experiment: error rates, shares of variance, gaps, curves, cost."""

from typing import Any

import numpy as np
import plotly.graph_objects as go

from labcore import viz
from labcore.runs import Table
from labcore.speech.labels import adapter_style, label

FULL_ERROR = 0.9  # a cell above this is marked as not trained


def _mean(rows: Table, column: str) -> tuple[float, float, float]:
    values = [float(r[column]) for r in rows]
    return float(np.mean(values)), min(values), max(values)


def grid_map(scores: Table, *, task: str, split: str, column: str = "wer") -> go.Figure:
    """Score of every cell, mean over repeats: rows encoder and language model, columns adapters.

    Args:
        scores: The result's table ``scores``.
        task: ``asr``, ``st`` or ``nearest``.
        split: ``test`` or ``real``.
        column: ``wer``, ``chrf`` or ``exact``.

    Raises:
        ValueError: nothing was measured for this task and split.
    """
    rows = [r for r in scores if (r["task"], r["split"], r["variant"]) == (task, split, "")]
    if not rows:
        raise ValueError(f"no scores for {task!r} on {split!r}: run the experiment's full size")
    adapters = list(dict.fromkeys(r["adapter"] for r in rows))
    sides = list(dict.fromkeys((r["encoder"], r["lm"]) for r in rows))
    z, text = np.zeros((len(sides), len(adapters))), []
    for i, (encoder, lm) in enumerate(sides):
        line = []
        for j, adapter in enumerate(adapters):
            cell = (encoder, lm, adapter)
            here = [r for r in rows if (r["encoder"], r["lm"], r["adapter"]) == cell]
            mean, low, high = _mean(here, column)
            z[i, j] = mean
            failed = column == "wer" and mean > FULL_ERROR
            line.append(f"<b>{mean:.2f}</b><br>{low:.2f} to {high:.2f}"
                        + ("<br>not trained" if failed else ""))  # fmt: skip
        text.append(line)
    names = [f"{label(e)}<br>{label(lm)}" for e, lm in sides]
    good_is_low = column == "wer"
    fig = go.Figure(
        go.Heatmap(
            z=z, x=[label(a).split(":")[0] for a in adapters], y=names, text=text,
            texttemplate="%{text}", colorscale=viz.SEQUENTIAL, reversescale=good_is_low,
            zmin=0, zmax=1, colorbar={"title": {"text": column.upper()}},
            hovertemplate="%{y}, %{x}: %{z:.3f}<extra></extra>", textfont={"size": 13},
        )
    )  # fmt: skip
    fig.update_yaxes(autorange="reversed")
    fig.update_xaxes(title_text="adapter", side="bottom")
    best = np.unravel_index(np.argmin(z) if good_is_low else np.argmax(z), z.shape)
    worst = np.unravel_index(np.argmax(z) if good_is_low else np.argmin(z), z.shape)
    said = [f"{names[i].replace('<br>', ' + ')} + {adapters[j]} {z[i, j]:.2f}"
            for i, j in (best, worst)]  # fmt: skip
    repeats = len({r["repeat"] for r in rows})
    return viz.finish(
        fig,
        title=f"{label(task).capitalize()}, {label(split)}",
        alt=f"Mean {column} over {repeats} trainings, {rows[0]['words']} words: best {said[0]}, "
        f"worst {said[1]}.",
        caption="Compare within a column (which encoder?), within a row (which adapter?), and "
        "between rows of one encoder (which language model?).",
        source="grid_map",
        params={"task": task, "split": split, "column": column},
        height=140 + 84 * len(sides),
    )


def share_bars(shares: Table, *, task: str, split: str, adapters: str = "all five",
               scale: str = "rate") -> go.Figure:  # fmt: skip
    """Share of the variance that each factor and interaction explains, with 95 % intervals.

    Raises:
        ValueError: nothing was measured for this choice.
    """
    wanted = {"task": task, "split": split, "adapters": adapters, "scale": scale}
    rows = [r for r in shares if all(r[k] == v for k, v in wanted.items())]
    if not rows:
        raise ValueError(f"no shares for {wanted}: run the experiment's full size")
    names = [r["term"].replace(" x ", " × ") for r in rows]
    share = np.array([r["share"] for r in rows])
    low, high = (np.array([r[k] for r in rows]) for k in ("low", "high"))
    main = ["x" not in f" {r['term']} ".split() and "residual" not in r["term"] for r in rows]
    fig = go.Figure(
        go.Bar(
            orientation="h", x=share, y=names,
            marker={
                "color": [viz.PALETTE[0] if m else "#9AA5B1" for m in main],
                "pattern": {"shape": ["" if m else "/" for m in main], "fillmode": "overlay",
                            "fgcolor": "white"},
            },
            text=[f"{s:.0%}" for s in share], textposition="none",
            customdata=np.stack([low, high], axis=1),
            hovertemplate="%{y}: %{x:.1%}, %{customdata[0]:.1%} to %{customdata[1]:.1%}"
            "<extra></extra>",
        )
    )  # fmt: skip
    fig.add_scatter(
        x=(low + high) / 2, y=names, mode="markers", marker={"opacity": 0}, hoverinfo="skip",
        error_x={"type": "data", "array": (high - low) / 2, "color": viz.INK, "thickness": 1.5},
    )  # fmt: skip
    for name, s, h in zip(names, share, high, strict=True):
        fig.add_annotation(x=max(s, h), y=name, text=f" {s:.0%}", showarrow=False, xanchor="left")
    fig.update_yaxes(autorange="reversed")
    fig.update_xaxes(title_text="share of the variance of the score, η²", tickformat=".0%",
                     range=[0, min(1.08, float(high.max()) + 0.12)])  # fmt: skip
    fig.update_layout(showlegend=False)
    said = ", ".join(f"{n} {s:.0%}" for n, s in zip(names, share, strict=True))
    return viz.finish(
        fig,
        title=f"What explains the errors? {label(task)}, {label(split)}",
        alt=f"Shares, {adapters}, {'error rate' if scale == 'rate' else 'logit of it'}: {said}.",
        caption="Solid bars are single factors, hatched ones interactions and what is left over; "
        "whiskers hold 95 % of bootstrap draws of clips and trainings.",
        source="share_bars",
        params=wanted,
        height=150 + 42 * len(rows),
    )


def gap_bars(gaps: Table, *, task: str, split: str, adapters: str = "all five") -> go.Figure:
    """The study's contrast: the best error rate of each factor's best and worst level.

    Raises:
        ValueError: nothing was measured for this choice.
    """
    wanted = {"task": task, "split": split, "adapters": adapters}
    rows = [r for r in gaps if all(r[k] == v for k, v in wanted.items())]
    if not rows:
        raise ValueError(f"no gaps for {wanted}: run the experiment's full size")
    fig = go.Figure()
    for row in rows:
        fig.add_scatter(
            x=[row["best"], row["worst"]], y=[row["factor"]] * 2, mode="lines+markers+text",
            line={"color": "#9AA5B1", "width": 3},
            marker={"size": 13, "symbol": ["circle", "x"], "color": viz.PALETTE[:2]},
            text=[label(row["best_level"]).split(":")[0], label(row["worst_level"]).split(":")[0]],
            textposition=["top center", "bottom center"],
            hovertemplate="%{y}: best error rate %{x:.3f}<extra></extra>",
        )  # fmt: skip
    fig.update_layout(showlegend=False)
    low, high = min(r["best"] for r in rows), max(r["worst"] for r in rows)
    pad = 0.25 * max(high - low, 0.02)
    fig.update_xaxes(title_text="error rate of the best cell with this level",
                     range=[max(low - pad, 0), high + pad])  # fmt: skip
    fig.update_yaxes(range=[len(rows) - 0.4, -0.6])
    said = "; ".join(f"{r['factor']} {r['gap']:.3f} ({r['best_level']} before {r['worst_level']})"
                     for r in rows)  # fmt: skip
    return viz.finish(
        fig,
        title=f"Best against best: {label(task)}, {label(split)}",
        alt=f"Gap between the best cell of the best and of the worst level: {said}.",
        caption="A factor may explain much variance and yet cost little if chosen well: compare "
        "these gaps with the shares.",
        source="gap_bars",
        params=wanted,
        height=330,
    )


def training_curves(curves: Table, *, encoder: str, lm: str, task: str, column: str = "ce",
                    variants: bool = False) -> go.Figure:  # fmt: skip
    """Loss of the language model (or how much it listens) against steps, one line an adapter.

    Args:
        curves: The result's table ``curves``.
        encoder: Which encoder.
        lm: Which language model.
        task: ``asr`` or ``st``.
        column: ``ce`` (nats a token) or ``listens`` (loss with wrong minus with right audio).
        variants: Ablations of the cell conformer + conv instead of the five adapters.

    Raises:
        ValueError: nothing was measured for this choice.
    """
    name = column if column == "ce" else f"listens_{task}"
    rows = [r for r in curves if (r["encoder"], r["lm"], r["repeat"]) == (encoder, lm, 0)]
    rows = [r for r in rows if name in r and (column != "ce" or r["task"] == task)]
    if variants:
        rows = [r for r in rows if r["adapter"] == "conv"]
    else:
        rows = [r for r in rows if not r["variant"]]
    if not rows:
        raise ValueError(f"no curves of {encoder} with {lm}: run the experiment's full size")
    fig = go.Figure()
    ends = {}
    by = "variant" if variants else "adapter"
    for i, key in enumerate(dict.fromkeys(r[by] for r in rows)):
        points = [r for r in rows if r[by] == key]
        text, colour, dash, symbol = adapter_style(key)
        if variants:
            text, colour = key or "as in the grid", viz.PALETTE[i]
            dash, symbol = viz.DASHES[i], viz.SYMBOLS[i]
        y = [r[name] for r in points]
        ends[text] = float(np.mean(y[-3:]))
        fig.add_scatter(
            x=[r["step"] for r in points], y=y, name=text, mode="lines+markers",
            line={"color": colour, "dash": dash}, marker={"symbol": symbol, "size": 6},
        )  # fmt: skip
    if column == "ce":
        fig.add_hline(y=np.log(10), line={"dash": "dot", "color": viz.INK},
                      annotation_text="ln 10: guessing a digit")  # fmt: skip
    fig.update_xaxes(title_text="step of 8 clips")
    wide = "loss, nats a token" if column == "ce" else "loss with wrong audio − with right, nats"
    fig.update_yaxes(title_text=wide)
    fig.update_layout(legend={"orientation": "h", "y": -0.25, "yanchor": "top"})
    said = ", ".join(f"{n} {v:.2f}" for n, v in ends.items())
    return viz.finish(
        fig,
        title=f"{label(task).capitalize()}: {label(encoder)} + {label(lm)}",
        alt=f"{wide.capitalize()}, mean of the last three points: {said}.",
        caption="The loss stays near guessing until the language model begins to use the sound.",
        source="training_curves",
        params={"encoder": encoder, "lm": lm, "task": task, "column": column},
        height=480,
    )


def cost_bars(cells: Table, curves: Table, *, lm: str) -> go.Figure:
    """Positions a second of speech, and CPU seconds a training step, of each adapter.

    Raises:
        ValueError: nothing was measured with this language model.
    """
    rows = [r for r in cells if r["lm"] == lm and not r["variant"] and r["repeat"] == 0]
    if not rows:
        raise ValueError(f"no cells with {lm}: run the experiment's full size")
    steps: dict[tuple[str, str], int] = {}
    for r in curves:
        if r["lm"] == lm and not r["variant"] and r["repeat"] == 0:
            key = (r["encoder"], r["adapter"])
            steps[key] = max(steps.get(key, 0), int(r["step"]))
    fig = go.Figure()
    said = []
    for r in rows:
        _, colour, _, symbol = adapter_style(r["adapter"])
        count = steps.get((r["encoder"], r["adapter"]), 0)
        seconds = r["train_seconds"] / count if count else 0.0
        x = r["positions_a_second_test"]
        fig.add_scatter(
            x=[x], y=[seconds], mode="markers", name=label(r["adapter"]),
            legendgroup=r["adapter"], showlegend=r["encoder"] == rows[0]["encoder"],
            marker={
                "size": 13, "color": colour, "symbol": symbol + (
                    "-open" if r["encoder"] == "whisper" else ""), "line": {"width": 2},
            },
            hovertemplate=f"{label(r['encoder'])}, {label(r['adapter'])}: "
            "%{x:.1f} positions/s, %{y:.2f} s a step<extra></extra>",
        )  # fmt: skip
        said.append(f"{r['encoder']} {r['adapter']} {x:.0f}/s {seconds:.2f} s")
    fig.update_xaxes(title_text="language model positions a second of speech", type="log",
                     tickvals=[2, 5, 10, 20, 50])  # fmt: skip
    fig.update_yaxes(title_text="CPU seconds a step of 8 clips", rangemode="tozero")
    fig.update_layout(legend={"orientation": "h", "y": -0.25, "yanchor": "top"})
    return viz.finish(
        fig,
        title=f"What a position costs, {label(lm)}",
        alt=f"Positions a second and seconds a step: {'; '.join(said)}.",
        caption="Filled marks: Conformer, open ones: Whisper. A step costs what the language model "
        "has to read: the adapter itself hardly counts.",
        source="cost_bars",
        params={"lm": lm},
        height=480,
    )


def table_rows(gaps: Table, *, task: str, split: str) -> list[dict[str, Any]]:
    """The gap table for a page: one row a factor."""
    return [
        {
            "factor": r["factor"], "adapters": r["adapters"],
            "best level": label(r["best_level"]), "its best": round(r["best"], 3),
            "worst level": label(r["worst_level"]), "its best cell": round(r["worst"], 3),
            "gap": round(r["gap"], 3),
        }
        for r in gaps
        if (r["task"], r["split"]) == (task, split)
    ]  # fmt: skip
