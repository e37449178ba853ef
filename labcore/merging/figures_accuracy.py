"""Figures of what merging keeps: accuracy by method, by alpha, by task; bytes of compression."""

from collections.abc import Mapping, Sequence

import plotly.graph_objects as go

from labcore import viz
from labcore.merging.tally import LABELS, MethodMean
from labcore.runs import Table
from labcore.tally import distinct, pick

_STYLES = {
    "zero_shot": (7, 2, 5),
    "average": (5, 2, 1),
    "task_arithmetic": (1, 1, 1),
    "ties": (4, 3, 2),
    "dare": (6, 2, 3),
    "breadcrumbs": (3, 4, 4),
    "consensus_ta": (2, 3, 6),
    "iso_c": (2, 1, 2),
    "iso_cts": (2, 0, 4),
    "rank_cut": (3, 1, 5),
    "full_rank": (5, 1, 7),
    "tsv_m": (0, 0, 0),
}
CURVES = ("task_arithmetic", "ties", "consensus_ta", "iso_c", "tsv_m")


def style(method: str) -> tuple[str, str, str]:
    """Colour, dash and symbol of a method."""
    colour, dash, symbol = _STYLES.get(method, (7, 5, 7))
    return viz.PALETTE[colour], viz.DASHES[dash], viz.SYMBOLS[symbol]


def label(method: str) -> str:
    """How figures call a method."""
    return LABELS.get(method, method)


def alpha_curves(rows: Table, *, tasks: int, methods: Sequence[str] = CURVES) -> go.Figure:
    """Validation accuracy of base + alpha * merged against alpha, one line a method.

    Args:
        rows: The result's table ``alpha``.
        tasks: How many tasks are merged.
        methods: Which lines.

    Raises:
        ValueError: nothing measured for that number of tasks.
    """
    here = pick(rows, tasks=tasks)
    if not here:
        raise ValueError(f"no curves for {tasks} tasks: there are {distinct(rows, 'tasks')}")
    fig = go.Figure()
    said = []
    for method in (m for m in methods if m in distinct(here, "method")):
        mine = pick(here, method=method)
        alphas = sorted(distinct(mine, "alpha"))
        groups = [[100 * r["val"] for r in pick(mine, alpha=a)] for a in alphas]
        middle = [sum(g) / len(g) for g in groups]
        colour, dash, symbol = style(method)
        fig.add_scatter(
            x=alphas,
            y=middle,
            name=label(method),
            mode="lines+markers",
            line={"color": colour, "dash": dash, "width": 2.2},
            marker={"symbol": symbol, "size": 7, "color": colour},
            error_y={
                "type": "data",
                "symmetric": False,
                "array": [max(g) - m for g, m in zip(groups, middle, strict=True)],
                "arrayminus": [m - min(g) for g, m in zip(groups, middle, strict=True)],
                "thickness": 1,
                "width": 2,
            },
        )
        best = max(range(len(alphas)), key=middle.__getitem__)
        said.append(f"{label(method)} {middle[best]:.1f} % at {alphas[best]:g}")
    fig.add_vline(x=1.0, line={"color": viz.INK, "dash": "dot", "width": 1.5})
    fig.update_xaxes(title="scale alpha of the merged update", range=[0, 3.05])
    fig.update_yaxes(title="normalised accuracy (%)", rangemode="tozero")
    _legend_below(fig)
    seeds = len(distinct(here, "pretraining"))
    return viz.finish(
        fig,
        title=f"Accuracy against the scale, {tasks} tasks (validation pictures)",
        alt=f"Best on validation pictures: {'; '.join(said)}. Mean over {seeds} pre-training "
        "seeds.",
        caption="The dotted line is alpha = 1, where nothing has to be tuned: see who stands there "
        "and who has collapsed. Bars span the pre-training seeds.",
        source="alpha_curves",
        params={"tasks": tasks, "methods": list(methods)},
        height=480,
    )


def method_bars(means: Sequence[MethodMean], *, tasks: int) -> go.Figure:
    """Normalised test accuracy of every method, at alpha = 1 and tuned.

    Args:
        means: :func:`labcore.merging.tally.means` of a result.
        tasks: How many tasks are merged.

    Raises:
        ValueError: nothing measured for that number of tasks.
    """
    here = sorted((m for m in means if m.tasks == tasks), key=lambda m: m.tuned.normalized)
    if not here:
        raise ValueError(
            f"no methods for {tasks} tasks: there are {sorted({m.tasks for m in means})}"
        )
    names = [label(m.method) for m in here]
    fig = go.Figure()
    for title, values, colour, pattern in (
        ("alpha = 1", [100 * m.one.normalized for m in here], viz.PALETTE[5], "/"),
        ("alpha tuned", [100 * m.tuned.normalized for m in here], viz.PALETTE[0], ""),
    ):
        tuned = title != "alpha = 1"
        fig.add_bar(
            y=names,
            x=values,
            name=title,
            orientation="h",
            marker={"color": colour, "pattern": {"shape": pattern, "fillmode": "overlay",
                                                "fgcolor": "white"}},
            error_x={"type": "data", "array": [100 * m.spread for m in here]} if tuned else None,
            text=[f"{v:.1f}" for v in values],
            textposition="inside" if tuned else "outside",  # error bars stand outside
            insidetextanchor="start",
            constraintext="none",
            textangle=0,
            textfont={"size": 12, "color": "white" if tuned else viz.INK},
        )  # fmt: skip
    fig.update_layout(barmode="group", bargap=0.25)
    fig.update_xaxes(title="normalised accuracy (%)",
                     range=[0, 100])  # fmt: skip
    fig.update_yaxes(title="method")
    _legend_below(fig)
    best = here[-1]
    ours = next((m for m in here if m.method == "tsv_m"), best)
    return viz.finish(
        fig,
        title=f"Every merger on {tasks} tasks (test pictures)",
        alt=f"Best tuned: {label(best.method)} {100 * best.tuned.normalized:.1f} %. TSV-Merge "
        f"{100 * ours.tuned.normalized:.1f} % tuned, {100 * ours.one.normalized:.1f} % at 1. "
        f"Mean over {len(best.by_seed)} pre-training seeds.",
        caption="100 % is each task's own fine-tuned model. Tuned on validation pictures from one "
        "grid, the same for all; error bars are half the range over pre-training seeds.",
        source="method_bars",
        params={"tasks": tasks},
        height=760,
    )


def task_bars(
    base: Mapping[str, float], merged: Mapping[str, float], own: Mapping[str, float]
) -> go.Figure:
    """Accuracy of each task: base, merged, own fine-tuned model."""
    tasks = list(merged)
    fig = go.Figure()
    for name, values, colour, pattern in (
        ("base", base, viz.PALETTE[7], "x"),
        ("merged", merged, viz.PALETTE[0], ""),
        ("own fine-tuned", own, viz.PALETTE[1], "/"),
    ):
        fig.add_bar(
            x=tasks,
            y=[100 * values[t] for t in tasks],
            name=name,
            marker={"color": colour, "pattern": {"shape": pattern, "fillmode": "overlay",
                                                "fgcolor": "white"}},
        )  # fmt: skip
    fig.update_xaxes(title="task", tickangle=-40)
    fig.update_yaxes(title="accuracy (%)", range=[0, 100])
    _legend_above(fig)
    mean = 100 * sum(merged[t] / own[t] for t in tasks) / len(tasks)
    lost = min(tasks, key=lambda t: merged[t] / own[t])
    return viz.finish(
        fig,
        title="One merged model on every task",
        alt=f"Mean normalised accuracy {mean:.1f} % over {len(tasks)} tasks; {lost} loses most: "
        f"{100 * merged[lost]:.0f} % of pictures against {100 * own[lost]:.0f} % of its own model.",
        caption="Look for tasks where the merged model is worse than the base: merging can undo "
        "what pre-training knew.",
        source="task_bars",
        params={"tasks": tasks},
        height=460,
    )


def task_radar(rows: Table, *, tasks: int, methods: Sequence[str]) -> go.Figure:
    """Normalised test accuracy of each task as a radar chart, tuned alpha.

    Args:
        rows: The result's table ``accuracy``.
        tasks: How many tasks are merged.
        methods: Which lines.
    """
    here = pick(rows, tasks=tasks)
    names = distinct(here, "task")
    fig = go.Figure()
    said = []
    for method in methods:
        mine = pick(here, method=method, rule="tuned") or pick(here, method=method)
        values = [
            100 * sum(r["normalized"] for r in pick(mine, task=t)) / len(pick(mine, task=t))
            for t in names
        ]
        colour, dash, symbol = style(method)
        fig.add_scatterpolar(
            r=[*values, values[0]],
            theta=[*names, names[0]],
            name=label(method),
            mode="lines+markers",
            line={"color": colour, "dash": dash},
            marker={"symbol": symbol, "size": 7},
        )
        said.append(f"{label(method)} {min(values):.0f} to {max(values):.0f} %")
    fig.update_polars(radialaxis={"range": [0, 100], "ticksuffix": " %"})
    fig.update_layout(margin={"l": 90, "r": 90, "t": 70, "b": 90})
    _legend_below(fig, -0.18)
    return viz.finish(
        fig,
        title=f"Normalised accuracy of each task, {tasks} tasks merged",
        alt=f"Normalised accuracy over tasks: {'; '.join(said)}.",
        caption="A dented line is a task that the others push aside.",
        source="task_radar",
        params={"tasks": tasks, "methods": list(methods)},
        height=560,
    )


def ablation(means: Sequence[MethodMean], *, tasks: int) -> go.Figure:
    """The 2 x 2 of rank cut and whitening: tuned normalised accuracy."""
    found = {m.method: 100 * m.tuned.normalized for m in means if m.tasks == tasks}
    grid = [
        [found["task_arithmetic"], found["rank_cut"]],
        [found["full_rank"], found["tsv_m"]],
    ]
    values = [value for row in grid for value in row]
    middle, reach = (max(values) + min(values)) / 2, max(3.0, (max(values) - min(values)) / 2)
    fig = go.Figure(
        go.Heatmap(
            z=grid,
            zmin=middle - reach,
            zmax=middle + reach,
            x=["all components", "r / T components"],
            y=["as they are", "whitened"],
            colorscale=viz.SEQUENTIAL,
            text=[[f"{v:.1f} %" for v in row] for row in grid],
            texttemplate="%{text}",
            textfont={"size": 20},
            colorbar={"title": "normalised<br>accuracy (%)"},
        )
    )
    fig.update_xaxes(title="components kept of each task")
    fig.update_yaxes(title="singular vectors")
    return viz.finish(
        fig,
        title=f"What does the work? {tasks} tasks, alpha tuned",
        alt=f"Neither {grid[0][0]:.1f} %, rank cut alone {grid[0][1]:.1f} %, whitening alone "
        f"{grid[1][0]:.1f} %, both (TSV-Merge) {grid[1][1]:.1f} %.",
        caption="Task arithmetic is the cell with neither step, TSV-Merge the one with both: does "
        "either step help alone?",
        source="ablation",
        params={"tasks": tasks},
        height=380,
    )


def compression_curve(rows: Table) -> go.Figure:
    """Accuracy kept against the size of TSV-Compress, one line a number of tasks, log x.

    Args:
        rows: :func:`labcore.merging.tally.compression_means`.
    """
    fig = go.Figure()
    said = []
    for number, tasks in enumerate(distinct(rows, "tasks")):
        here = sorted(pick(rows, tasks=tasks), key=lambda r: r["ratio"])
        for column, name, dash in (
            ("normalized", "accuracy", "solid"),
            ("energy", "energy", "dot"),
        ):
            fig.add_scatter(
                x=[100 * r["ratio"] for r in here],
                y=[100 * r[column] for r in here],
                name=f"{name}, {tasks} tasks",
                mode="lines+markers",
                line={"color": viz.PALETTE[number], "dash": dash},
                marker={"symbol": viz.SYMBOLS[number], "size": 8},
                opacity=1.0 if column == "normalized" else 0.7,
            )
        near = min(here, key=lambda r: abs(r["ratio"] - 0.1))
        said.append(
            f"{tasks} tasks {100 * near['normalized']:.1f} % at {100 * near['ratio']:.0f} %"
        )
    fig.add_hline(y=99, line={"color": viz.INK, "dash": "dash", "width": 1})
    ticks = [2, 5, 10, 20, 50, 100, 200]
    fig.update_xaxes(title="size of one compressed task (% of its task vector)", type="log",
                     tickvals=ticks, ticktext=[f"{t}" for t in ticks])  # fmt: skip
    fig.update_yaxes(title="kept (%)", range=[0, 104])
    _legend_below(fig)
    return viz.finish(
        fig,
        title="TSV-Compress: accuracy is there before the energy is",
        alt=f"Accuracy kept near a tenth of the size: {', '.join(said)}; the published figure is "
        "99 %.",
        caption="Solid: normalised accuracy with the task known. Dotted: share of the squared "
        "norm. Dashed: the published 99 %. Right of 100 % factors cost more than the matrix.",
        source="compression_curve",
        height=500,
    )


def storage(rows: Table, *, model_bytes: int) -> go.Figure:
    """Megabytes of T fine-tuned models, of one base with TSV-Compress, and of one merged model.

    Args:
        rows: The result's table ``compression``; its rows at fraction 1 / T are drawn.
        model_bytes: Of one float32 model.
    """
    tasks = sorted(distinct(rows, "tasks"))
    packed = []
    for count in tasks:
        here = [r for r in pick(rows, tasks=count) if abs(r["fraction"] - 1 / count) < 1e-9]
        seeds = len(distinct(here, "pretraining"))
        packed.append((model_bytes + sum(r["bytes"] for r in here) / seeds) / 1e6)
    whole = [count * model_bytes / 1e6 for count in tasks]
    names = [f"{count} tasks" for count in tasks]
    fig = go.Figure()
    for title, values, colour, pattern in (
        ("T fine-tuned models", whole, viz.PALETTE[1], "/"),
        ("base + TSV-Compress at 1/T", packed, viz.PALETTE[0], ""),
        ("one merged model", [model_bytes / 1e6] * len(tasks), viz.PALETTE[2], "x"),
    ):
        fig.add_bar(x=names, y=values, name=title, text=[f"{v:.1f}" for v in values],
                    marker={"color": colour, "pattern": {"shape": pattern, "fgcolor": "white",
                                                        "fillmode": "overlay"}})  # fmt: skip
    fig.update_xaxes(title="tasks in store")
    fig.update_yaxes(title="megabytes (float32)")
    _legend_below(fig)
    return viz.finish(
        fig,
        title="What T tasks weigh",
        alt=f"{names[-1]}: {whole[-1]:.1f} MB as models, {packed[-1]:.1f} MB compressed, "
        f"{model_bytes / 1e6:.1f} MB merged.",
        caption="At rank r / T all tasks together cost about the same whatever T is.",
        source="storage",
        params={"model_bytes": model_bytes},
        height=420,
    )


def _legend_below(fig: go.Figure, y: float = -0.2) -> None:
    fig.update_layout(legend={"orientation": "h", "y": y, "yanchor": "top", "x": 0})


def _legend_above(fig: go.Figure) -> None:
    fig.update_layout(legend={"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 1,
                              "xanchor": "right"})  # fmt: skip
