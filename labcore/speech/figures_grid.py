"""Figures of the factorial experiment: error rates, shares of variance, gaps of the best."""

import numpy as np
import plotly.graph_objects as go

from labcore import viz
from labcore.runs import Table
from labcore.speech.labels import heading, label
from labcore.speech.names import ALL, NOT_TRAINED

GREY = "#C9CED6"


def _mean(rows: Table, column: str) -> tuple[float, float, float]:
    values = [float(r[column]) for r in rows]
    return float(np.mean(values)), min(values), max(values)


def grid_map(scores: Table, *, task: str, split: str, column: str = "wer") -> go.Figure:
    """Score of every cell, mean over repeats: rows encoder and language model, columns adapters.

    A cell whose error rate is above 0.9 is marked as not trained, and grey.

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
    z, failed = np.zeros((2, len(sides), len(adapters)))
    text = np.empty(z.shape, dtype=object)
    for i, (encoder, lm) in enumerate(sides):
        for j, adapter in enumerate(adapters):
            cell = (encoder, lm, adapter)
            here = [r for r in rows if (r["encoder"], r["lm"], r["adapter"]) == cell]
            z[i, j], low, high = _mean(here, column)
            failed[i, j] = _mean(here, "wer")[0] > NOT_TRAINED
            spread = f"<br>{low:.2f} to {high:.2f}" if len(here) > 1 else ""
            mark = "<br>not trained" if failed[i, j] else ""
            text[i, j] = f"<b>{z[i, j]:.2f}</b>{spread}{mark}"
    names = [f"{label(e)}<br>{label(lm)}" for e, lm in sides]
    good_is_low = column == "wer"
    look = {
        "x": [label(a).split(":")[0] for a in adapters], "y": names,
        "texttemplate": "%{text}", "textfont": {"size": 13}, "zmin": 0, "zmax": 1,
    }  # fmt: skip
    fig = go.Figure(
        go.Heatmap(
            z=np.where(failed, np.nan, z), text=np.where(failed, "", text),
            colorscale=viz.SEQUENTIAL, reversescale=good_is_low,
            colorbar={"title": {"text": column.upper()}},
            hovertemplate="%{y}, %{x}: %{z:.3f}<extra></extra>", **look,
        )
    )  # fmt: skip
    if failed.any():
        fig.add_heatmap(
            z=np.where(failed, 0, np.nan), text=np.where(failed, text, ""),
            colorscale=[[0, GREY], [1, GREY]], showscale=False,
            hovertemplate="%{y}, %{x}: not trained<extra></extra>", **look,
        )  # fmt: skip
    fig.update_yaxes(autorange="reversed")
    fig.update_xaxes(title_text="adapter", side="bottom")
    best = np.unravel_index(np.argmin(z) if good_is_low else np.argmax(z), z.shape)
    worst = np.unravel_index(np.argmax(z) if good_is_low else np.argmin(z), z.shape)
    said = [f"{names[i].replace('<br>', ' + ')} + {adapters[j]} {z[i, j]:.2f}"
            for i, j in (best, worst)]  # fmt: skip
    trainings = [sum((r["encoder"], r["lm"]) == side for r in rows) // len(adapters)
                 for side in sides]  # fmt: skip
    repeats = " to ".join(str(n) for n in sorted({min(trainings), max(trainings)}))
    return viz.finish(
        fig,
        title=f"{heading(task)}, {label(split)}",
        alt=f"{column.upper()}, {repeats} training(s) a cell, {rows[0]['words']} words: best "
        f"{said[0]}, worst {said[1]}; {int(failed.sum())} of {z.size} cells not trained.",
        caption="Compare within a column (which encoder?), within a row (which adapter?), and "
        "between rows of one encoder (which language model?)."
        + (f" Grey: error rate above {NOT_TRAINED}." if failed.any() else ""),
        source="grid_map",
        params={"task": task, "split": split, "column": column},
        height=140 + 84 * len(sides),
    )


def share_bars(shares: Table, *, task: str, split: str, adapters: str = "all five",
               scale: str = "rate", design: str = ALL) -> go.Figure:  # fmt: skip
    """Share of the variance that each factor and interaction explains, with 95 % intervals.

    Greyed if the design has cells that are not trained.

    Args:
        shares: The result's table ``shares``.
        task: ``asr``, ``st`` or ``nearest``.
        split: ``test`` or ``real``.
        adapters: ``all five`` or ``without cif, ctc``.
        scale: ``rate`` or ``logit``, what is decomposed.
        design: ``all`` factors, or a language model that was trained with several times.

    Raises:
        ValueError: nothing was measured for this choice.
    """
    wanted = {"design": design, "task": task, "split": split, "adapters": adapters, "scale": scale}
    rows = [r for r in shares if all(r[k] == v for k, v in wanted.items())]
    if not rows:
        raise ValueError(f"no shares for {wanted}: run the experiment's full size")
    names = [r["term"].replace(" x ", " × ") for r in rows]
    share = np.array([r["share"] for r in rows])
    low, high = (np.array([r[k] for r in rows]) for k in ("low", "high"))
    main = ["x" not in f" {r['term']} ".split() and "residual" not in r["term"] for r in rows]
    untrained, count = rows[0]["untrained"], rows[0]["cells"]
    fig = go.Figure(
        go.Bar(
            orientation="h", x=share, y=names, opacity=0.35 if untrained else 1,
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
    what = "error rate" if scale == "rate" else "logit of the error rate"
    models = "both language models" if design == ALL else label(design)
    pale = f" Pale: {untrained} of {count} cells are not trained." if untrained else ""
    return viz.finish(
        fig,
        title="What explains the errors?",
        alt=f"{heading(task)}, {label(split)}, {adapters}, {models}; shares of {what}: "
        f"{said}.{pale}",
        caption="Solid bars are single factors, hatched ones interactions and what is left over; "
        "whiskers hold 95 % of bootstrap draws of the clips, and of the trainings where repeated."
        + pale,
        source="share_bars",
        params=wanted,
        height=150 + 42 * len(rows),
    )


def gap_bars(gaps: Table, *, task: str, split: str, adapters: str = "all five",
             design: str = ALL) -> go.Figure:  # fmt: skip
    """The study's contrast: the best error rate of each factor's best and worst level.

    Raises:
        ValueError: nothing was measured for this choice.
    """
    wanted = {"design": design, "task": task, "split": split, "adapters": adapters}
    rows = [r for r in gaps if all(r[k] == v for k, v in wanted.items())]
    if not rows:
        raise ValueError(f"no gaps for {wanted}: run the experiment's full size")
    low, high = min(r["best"] for r in rows), max(r["worst"] for r in rows)
    pad = 0.25 * max(high - low, 0.02)
    start, end = max(low - pad, 0), high + pad
    fig = go.Figure()
    for row in rows:
        # A name centred at the left edge would be cut.
        sides = ["right" if x - start < (end - start) / 8 else "center"
                 for x in (row["best"], row["worst"])]  # fmt: skip
        fig.add_scatter(
            x=[row["best"], row["worst"]], y=[row["factor"]] * 2, mode="lines+markers+text",
            line={"color": "#9AA5B1", "width": 3},
            marker={"size": 13, "symbol": ["circle", "x"], "color": viz.PALETTE[:2]},
            text=[label(row["best_level"]).split(":")[0], label(row["worst_level"]).split(":")[0]],
            textposition=[f"top {sides[0]}", f"bottom {sides[1]}"],
            hovertemplate="%{y}: best error rate %{x:.3f}<extra></extra>",
        )  # fmt: skip
    fig.update_layout(showlegend=False)
    fig.update_xaxes(title_text="error rate of the best cell with this level", range=[start, end])
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
