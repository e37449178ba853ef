"""Figures of training and its cost: curves, the meter of listening, ablations, positions."""

import numpy as np
import plotly.graph_objects as go

from labcore import viz
from labcore.runs import Table
from labcore.speech.labels import adapter_style, heading, label

COLUMNS = {  # of a step -> how its axis is called, and what to see
    "ce": (
        "loss, nats a token",
        "Below the dotted line the answers hold more than guessed digits.",
    ),
    "listens": (
        "loss with wrong audio − with right, nats",
        "At zero the answer is guessed from the prompt; the higher, the more the sound says.",
    ),
    "ctc": (
        "weighted CTC loss",
        "Only CTC and CIF have this loss: it teaches their heads the characters that are said.",
    ),
    "quantity": (
        "weighted quantity loss, 0.1 × tokens",
        "Only CIF has this loss: a tenth of how many positions too many or too few it would give.",
    ),
}


def training_curves(curves: Table, *, encoder: str, lm: str, task: str, column: str = "ce",
                    variants: bool = False) -> go.Figure:  # fmt: skip
    """A loss (or how much the model listens) against steps, one line an adapter.

    Args:
        curves: The result's table ``curves``.
        encoder: Which encoder.
        lm: Which language model.
        task: ``asr`` or ``st``.
        column: ``ce`` (nats a token), ``listens`` (loss with wrong minus with right audio),
            ``ctc`` or ``quantity``, the auxiliary losses of CIF and CTC.
        variants: Ablations of the cell conformer + conv instead of the five adapters.

    Raises:
        ValueError: nothing was measured for this choice.
    """
    name = f"listens_{task}" if column == "listens" else column
    rows = [r for r in curves if (r["encoder"], r["lm"], r["repeat"]) == (encoder, lm, 0)]
    rows = [r for r in rows if name in r and (column == "listens" or r["task"] == task)]
    if variants:
        rows = [r for r in rows if r["adapter"] == "conv" and r["variant"] != "commands"]
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
    fig.update_xaxes(title_text="training step")
    wide, see = COLUMNS[column]
    fig.update_yaxes(title_text=wide)
    fig.update_layout(legend={"orientation": "h", "y": -0.25, "yanchor": "top"})
    said = ", ".join(f"{n} {v:.2f}" for n, v in ends.items())
    return viz.finish(
        fig,
        title=f"{heading(task)}: {label(encoder)} + {label(lm)}",
        alt=f"{heading(wide)}, mean of the last three points: {said}.",
        caption=see,
        source="training_curves",
        params={"encoder": encoder, "lm": lm, "task": task, "column": column},
        height=480,
    )


def error_curves(curves: Table, cells: Table, *, encoder: str, lm: str) -> go.Figure:
    """Word error rate on the validation voices against CPU seconds, one line an adapter.

    The seconds hold the warm-up and the training, not the time of asking for answers.

    Args:
        curves: The result's table ``curves``.
        cells: Its table ``cells``, for the seconds of the warm-up.
        encoder: Which encoder.
        lm: Which language model.

    Raises:
        ValueError: no training of this pair was followed.
    """
    rows = [r for r in curves if (r["encoder"], r["lm"]) == (encoder, lm) and "wer_asr" in r]
    if not rows:
        raise ValueError(f"no error rates of {encoder} with {lm}: run the experiment's full size")
    fig = go.Figure()
    said = []
    for key in dict.fromkeys(r["adapter"] for r in rows):
        points = [r for r in rows if r["adapter"] == key]
        at = {k: points[0][k] for k in ("encoder", "adapter", "lm", "repeat", "variant")}
        (cell,) = [c for c in cells if all(c[k] == v for k, v in at.items())]
        seconds = [cell["warm_seconds"] + r["cpu_seconds"] for r in points]
        rates = [r["wer_asr"] for r in points]
        text, colour, dash, symbol = adapter_style(key)
        fig.add_scatter(
            x=seconds, y=rates, name=text, mode="lines+markers",
            line={"color": colour, "dash": dash}, marker={"symbol": symbol, "size": 8},
            customdata=[r["step"] for r in points],
            hovertemplate="step %{customdata}: %{y:.2f} after %{x:.0f} s<extra>" + key + "</extra>",
        )  # fmt: skip
        said.append(f"{key} {rates[0]:.2f} to {rates[-1]:.2f} in {seconds[-1]:.0f} s")
    fig.update_xaxes(title_text="CPU seconds of warm-up and training", rangemode="tozero")
    fig.update_yaxes(title_text="word error rate", rangemode="tozero")
    fig.update_layout(legend={"orientation": "h", "y": -0.25, "yanchor": "top"})
    steps, words = [r["step"] for r in points], f"{rows[0]['wer_words']:.0f} words"
    return viz.finish(
        fig,
        title=f"Errors against time: {label(encoder)} + {label(lm)}",
        alt=f"Word error rate on {words} of the validation voices at steps {steps[0]} to "
        f"{steps[-1]}: {'; '.join(said)}.",
        caption=f"One training a cell, {words} of voices that are not trained on. Each mark is "
        f"{steps[0]} steps after the one before: a cell further left paid less for them.",
        source="error_curves",
        params={"encoder": encoder, "lm": lm},
        height=480,
    )


def cost_of_positions(cells: Table, *, lm: str) -> go.Figure:
    """Positions a second of speech, and CPU seconds of a training step and of the adapter in it.

    The line runs through the means of the cells with the most and the fewest positions: what the
    cells between them would cost if a step cost a constant and so much a position.

    Args:
        cells: The result's table ``cells``.
        lm: Which language model.

    Raises:
        ValueError: nothing was measured with this language model.
    """
    rows = [r for r in cells if r["lm"] == lm and not r["variant"] and r["repeat"] == 0]
    if not rows:
        raise ValueError(f"no cells with {lm}: run the experiment's full size")
    fig = go.Figure()
    said = []
    for r in rows:
        _, colour, _, symbol = adapter_style(r["adapter"])
        x, whole = r["positions_a_second_test"], r["step_seconds"]
        name = f"{label(r['encoder'])}, {label(r['adapter'])}"
        fig.add_scatter(
            x=[x], y=[whole], mode="markers", name=label(r["adapter"]),
            legendgroup=r["adapter"], showlegend=r["encoder"] == rows[0]["encoder"],
            marker={
                "size": 13, "color": colour, "line": {"width": 2},
                "symbol": symbol + ("-open" if r["encoder"] == "whisper" else ""),
            },
            hovertemplate=f"{name}: %{{x:.1f}} positions/s, %{{y:.2f}} s a step<extra></extra>",
        )  # fmt: skip
        said.append(f"{r['encoder']} {r['adapter']} {x:.0f}/s {whole:.2f} s")
    positions = np.array([r["positions_a_second_test"] for r in rows])
    measured = np.array([r["step_seconds"] for r in rows])
    ends = [np.array([r["adapter"] == a for r in rows]) for a in ("wlq", "base")]
    low, high = ((positions[e].mean(), measured[e].mean()) for e in ends)
    slope = (high[1] - low[1]) / (high[0] - low[0])
    at = np.geomspace(positions.min(), positions.max(), 40)
    fig.add_scatter(
        x=at, y=low[1] + slope * (at - low[0]), mode="lines", name="predicted from WLQ and Base",
        line={"color": viz.INK, "dash": "dot"}, hoverinfo="skip",
    )  # fmt: skip
    between = ~(ends[0] | ends[1])
    guess = low[1] + slope * (positions - low[0])
    miss = float(np.abs(guess / measured - 1)[between].max())
    alone = [r["adapter_step_seconds"] for r in rows]
    fig.add_scatter(
        x=[r["positions_a_second_test"] for r in rows], y=alone, mode="markers",
        name="the adapter alone", hovertemplate="%{y:.3f} s<extra>adapter alone</extra>",
        marker={"symbol": "line-ew-open", "size": 14, "color": viz.INK},
    )  # fmt: skip
    share = float(np.mean(alone) / np.mean([r["step_seconds"] for r in rows]))
    fig.update_xaxes(title_text="language model positions a second of speech", type="log",
                     tickvals=[2, 5, 10, 20, 50])  # fmt: skip
    fig.update_yaxes(title_text="CPU seconds a training step", rangemode="tozero")
    fig.update_layout(legend={"orientation": "h", "y": -0.25, "yanchor": "top"})
    return viz.finish(
        fig,
        title=f"What a position costs, {label(lm)}",
        alt=f"Positions a second and seconds a step: {'; '.join(said)}. The adapter alone takes "
        f"{share:.0%} of a step on average. A constant and a price a position, taken from WLQ and "
        f"Base, miss the other cells by at most {miss:.0%}.",
        caption="Filled marks: Conformer, open ones: Whisper, dashes: the adapter alone. The rest "
        "of a step is the language model's: a constant and a price a position, taken from WLQ and "
        f"Base alone, tell the cost of the other cells to {miss:.0%}.",
        source="cost_of_positions",
        params={"lm": lm},
        height=480,
    )


def variant_bars(scores: Table, *, task: str, split: str = "test") -> go.Figure:
    """Error rate of each ablation and control beside the cell of the grid that it changes.

    Args:
        scores: The result's table ``scores``.
        task: ``asr`` or ``st``.
        split: ``test`` or ``real``.

    Raises:
        ValueError: there are no variants in this result.
    """
    here = [r for r in scores if (r["task"], r["split"], r["repeat"]) == (task, split, 0)]
    variants = [r for r in here if r["variant"] and r["corpus"] == "digits"]
    if not variants:
        raise ValueError(f"no ablations for {task!r}: run the experiment's full size")
    fig = go.Figure()
    names, before, after, spread = [], [], [], 0.0
    for row in variants:
        cell = {k: row[k] for k in ("encoder", "adapter", "lm", "task", "split")} | {"variant": ""}
        again = [r for r in scores if all(r[k] == v for k, v in cell.items())]
        (plain,) = [r for r in again if r["repeat"] == 0]
        spread = max(spread, *(abs(r["wer"] - plain["wer"]) for r in again))
        names.append(f"{row['variant']}<br>({label(row['encoder'])}, {row['adapter']})")
        before.append(plain["wer"])
        after.append(row["wer"])
    for name, values, colour, shape in (
        ("as in the grid", before, viz.PALETTE[0], ""),
        ("changed", after, viz.PALETTE[1], "/"),
    ):
        fig.add_bar(
            orientation="h", y=names, x=values, name=name, text=[f"{v:.2f}" for v in values],
            textposition="outside",
            marker={"color": colour, "pattern": {"shape": shape, "fillmode": "overlay",
                                                 "fgcolor": "white"}},
        )  # fmt: skip
    fig.update_xaxes(title_text="word error rate", range=[0, 1.15 * max(*before, *after)])
    fig.update_yaxes(autorange="reversed")
    fig.update_layout(legend={"orientation": "h", "y": -0.2, "yanchor": "top"})
    said = "; ".join(
        f"{n.replace('<br>', ' ')}: {b:.2f} to {a:.2f}"
        for n, b, a in zip(names, before, after, strict=True)
    )
    return viz.finish(
        fig,
        title=f"One thing changed: {label(task)}, {label(split)}",
        alt=f"Word error rate, one training each, {variants[0]['words']} words: {said}.",
        caption="One training each. Other trainings of the grid's own cells are up to "
        f"{spread:.2f} away from those shown: read larger differences only.",
        source="variant_bars",
        params={"task": task, "split": split},
        height=180 + 78 * len(names),
    )
