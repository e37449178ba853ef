"""Figures of training and its cost: curves, the meter of listening, ablations, positions."""

import numpy as np
import plotly.graph_objects as go

from labcore import viz
from labcore.runs import Table
from labcore.speech.labels import adapter_style, label


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
    wide = "loss, nats a token" if column == "ce" else "loss with wrong audio − with right, nats"
    fig.update_yaxes(title_text=wide)
    fig.update_layout(legend={"orientation": "h", "y": -0.25, "yanchor": "top"})
    said = ", ".join(f"{n} {v:.2f}" for n, v in ends.items())
    return viz.finish(
        fig,
        title=f"{label(task).capitalize()}: {label(encoder)} + {label(lm)}",
        alt=f"{wide.capitalize()}, mean of the last three points: {said}.",
        caption="Below the dotted line the answers hold more than guessed digits."
        if column == "ce"
        else "At zero the answer is guessed from the prompt; the higher, the more the sound says.",
        source="training_curves",
        params={"encoder": encoder, "lm": lm, "task": task, "column": column},
        height=480,
    )


def cost_of_positions(cells: Table, *, lm: str) -> go.Figure:
    """Positions a second of speech, and CPU seconds of a training step and of the adapter in it.

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
        f"{share:.0%} of a step on average.",
        caption="Filled marks: Conformer, open ones: Whisper, dashes: the adapter alone. The rest "
        "of a step is the language model's, and grows with the positions that it reads.",
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
    names, before, after = [], [], []
    for row in variants:
        cell = (row["encoder"], row["adapter"], row["lm"], "")
        (plain,) = [r for r in here if (r["encoder"], r["adapter"], r["lm"], r["variant"]) == cell]
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
        caption="One training each, so read large differences only.",
        source="variant_bars",
        params={"task": task, "split": split},
        height=180 + 78 * len(names),
    )
