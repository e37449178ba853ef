"""Figures of how tasks collide: overlaps of singular vectors, layers, spectra, and the plane."""

import math
from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from labcore import viz
from labcore.runs import Table
from labcore.tally import distinct, pick


def interference_map(
    left: np.ndarray,
    right: np.ndarray,
    sizes: Sequence[int],
    tasks: Sequence[str],
    *,
    whitened: bool,
    parameter: str,
    value: float,
) -> go.Figure:
    """|U^T U| and |V^T V| of all kept singular vectors, task after task.

    Args:
        left: (Tk, Tk). right: Likewise.
        sizes: Vectors kept of each task.
        tasks: Their names.
        whitened: Whether the vectors were made orthogonal.
        parameter: Which matrix.
        value: Interference over the sum of the singular values.
    """
    fig = make_subplots(1, 2, subplot_titles=("left |UᵀU|", "right |VᵀV|"), horizontal_spacing=0.08)
    edges = np.cumsum([0, *sizes])
    middles = ((edges[:-1] + edges[1:]) / 2 - 0.5).tolist()
    for column, gram in enumerate((left, right), 1):
        fig.add_heatmap(
            z=np.abs(gram).round(4),
            zmin=0,
            zmax=1,
            colorscale=viz.SEQUENTIAL,
            showscale=column == 2,
            colorbar={"title": "cosine"},
            row=1,
            col=column,
            name="left" if column == 1 else "right",
        )
        for edge in edges[1:-1]:
            line = {"color": "white", "width": 1.2}
            fig.add_vline(x=edge - 0.5, line=line, row=1, col=column)
            fig.add_hline(y=edge - 0.5, line=line, row=1, col=column)
        fig.update_xaxes(title="task", tickvals=middles, ticktext=list(tasks),
                         tickangle=-50, row=1, col=column)  # fmt: skip
        names = list(tasks) if column == 1 else [""] * len(tasks)
        fig.update_yaxes(tickvals=middles, ticktext=names, autorange="reversed", row=1, col=column)
    fig.update_yaxes(title="singular vectors by task", row=1, col=1)
    off = max(_off_diagonal(left, edges), _off_diagonal(right, edges))
    fig.update_layout(margin={"t": 84})
    return viz.finish(
        fig,
        title=f"{parameter.removesuffix('.weight')}: {'whitened' if whitened else 'as they are'}",
        alt=f"{len(tasks)} tasks with {sizes[0]} vectors each; mean overlap between tasks at most "
        f"{off:.3f}; interference over the sum of singular values {value:.2f}.",
        caption="Diagonal blocks are single tasks, always orthogonal. Light off-diagonal blocks "
        "are directions that two tasks both want; whitening turns them dark.",
        source="interference_map",
        params={"parameter": parameter, "whitened": whitened, "sizes": list(sizes)},
        height=520,
    )


def _off_diagonal(gram: np.ndarray, edges: np.ndarray) -> float:
    outside = np.ones(gram.shape, dtype=bool)
    for low, high in zip(edges, edges[1:], strict=False):
        outside[low:high, low:high] = False
    return float(np.abs(gram[outside]).mean()) if outside.any() else 0.0


def pair_map(pairs: np.ndarray, tasks: Sequence[str], *, layers: str = "all layers") -> go.Figure:
    """Interference of each pair of tasks alone, over the sum of their singular values.

    Args:
        pairs: (T, T).
        tasks: Names.
        layers: What was averaged.
    """
    shown = np.where(np.eye(len(tasks), dtype=bool), np.nan, pairs)
    fig = go.Figure(
        go.Heatmap(
            z=shown,
            x=list(tasks),
            y=list(tasks),
            colorscale=viz.SEQUENTIAL,
            colorbar={"title": "STI / ΣS"},
        )
    )
    fig.update_xaxes(title="task", tickangle=-50)
    fig.update_yaxes(title="task", autorange="reversed")
    if len(tasks) < 2:
        top, value = "no pair", 0.0
    else:
        i, j = np.unravel_index(int(np.nanargmax(shown)), shown.shape)
        top, value = f"{tasks[int(i)]} and {tasks[int(j)]}", float(shown[i, j])
    return viz.finish(
        fig,
        title=f"Which tasks collide ({layers})",
        alt=f"Largest interference of a pair: {top}, {value:.2f} times the sum of their singular "
        f"values; {len(tasks)} tasks.",
        caption="Related tasks want the same directions: look for the light cells.",
        source="pair_map",
        params={"layers": layers},
        height=560,
    )


def depth_bars(rows: Table, *, tasks: int) -> go.Figure:
    """Interference over the sum of singular values by depth and part of the block.

    Args:
        rows: The result's table ``interference``, or the rows of a report with the same columns.
        tasks: How many tasks are merged.
    """
    here = [r for r in rows if r.get("tasks", tasks) == tasks and r["depth"] >= 0]
    fig = go.Figure()
    depths = sorted(distinct(here, "depth"))
    for number, part in enumerate(distinct(here, "part")):
        values = [
            float(np.mean([r["sti_normalized"] for r in pick(here, part=part, depth=d)]))
            for d in depths
        ]
        fig.add_scatter(
            x=depths,
            y=values,
            name=part,
            mode="lines+markers",
            line={"color": viz.PALETTE[number % 8], "dash": viz.DASHES[number % 6], "width": 2.2},
            marker={"symbol": viz.SYMBOLS[number % 8], "size": 10 if len(depths) < 12 else 6},
        )
    means = [float(np.mean([r["sti_normalized"] for r in pick(here, depth=d)])) for d in depths]
    few = depths if len(depths) < 12 else None
    fig.update_xaxes(title="block (0 is nearest the input)", tickvals=few)
    fig.update_yaxes(title="interference / sum of singular values", rangemode="tozero")
    fig.update_layout(legend={"orientation": "h", "y": -0.22, "yanchor": "top", "x": 0})
    shown = sorted({round(i * (len(depths) - 1) / 3) for i in range(4)})
    said = ", ".join(f"{means[i]:.1f} in block {depths[i]}" for i in shown)
    return viz.finish(
        fig,
        title=f"Interference by depth, {tasks} tasks",
        alt=f"Mean over the matrices of a block: {said}.",
        caption="The paper finds less interference in deeper layers of CLIP; compare.",
        source="depth_bars",
        params={"tasks": tasks},
        height=440,
    )


def spectra(
    cumulative: np.ndarray, rows: Table, tasks: Sequence[str], *, part: str, kept: float
) -> go.Figure:
    """Cumulative energy of every task's update, one line a task, for one kind of matrix.

    Args:
        cumulative: (tasks, matrices, r), the result's ``spectra/<seed>``.
        rows: The result's table ``matrices``.
        tasks: Names.
        part: Which kind, as "attn.qkv"; its depths are averaged.
        kept: Share of the components to mark.

    Raises:
        ValueError: no matrix of that kind.
    """
    chosen = [i for i, row in enumerate(rows) if row["part"] == part]
    if not chosen:
        raise ValueError(f"no matrix {part!r}: there are {distinct(rows, 'part')}")
    curves = cumulative[:, chosen].mean(1)
    share = np.arange(1, curves.shape[1] + 1) / curves.shape[1]
    at = max(0, int(np.ceil(kept * curves.shape[1])) - 1)
    fig = go.Figure()
    for number, task in enumerate(tasks):
        fig.add_scatter(
            x=100 * share,
            y=100 * curves[number],
            name=task,
            mode="lines",
            line={
                "color": viz.PALETTE[number % 8],
                "dash": viz.DASHES[number // 8 % len(viz.DASHES)],
            },
        )
    fig.add_vline(x=100 * kept, line={"color": viz.INK, "dash": "dot"})
    fig.update_xaxes(title="components kept (% of r)", range=[0, 100])
    fig.update_yaxes(title="energy kept (% of the squared norm)", range=[0, 101])
    found = 100 * curves[: len(tasks), at]
    return viz.finish(
        fig,
        title=f"How low-rank is a task? {part}",
        alt=f"With {kept:.0%} of the components {found.min():.0f} to {found.max():.0f} % of the "
        f"energy is kept, over {len(tasks)} tasks.",
        caption="A curve that rises at once is a task that lives in few directions; the dotted "
        "line is what is kept.",
        source="spectra",
        params={"part": part, "kept": kept},
        height=460,
    )


def plane(angle: float) -> go.Figure:
    """Two tasks of rank one in the plane, and what whitening does to their directions.

    Args:
        angle: Between the two left vectors, degrees.
    """
    half = math.radians(angle) / 2
    before = np.array([[math.cos(half), math.cos(half)], [-math.sin(half), math.sin(half)]])
    p, d, qh = np.linalg.svd(before)
    after = p @ np.diag((d > 1e-7).astype(float)) @ qh
    circle = np.linspace(0, 2 * np.pi, 181)
    points = np.stack((np.cos(circle), np.sin(circle)))
    strengths = np.diag((1.0, 0.7))
    fig = go.Figure()
    for vectors, name, dash, width in (
        (before, "as they are", "dash", 2.0),
        (after, "whitened", "solid", 3.2),
    ):
        for task in range(2):
            fig.add_scatter(
                x=[0, vectors[0, task]],
                y=[0, vectors[1, task]],
                mode="lines+markers",
                name=f"task {task + 1}, {name}",
                line={"color": viz.PALETTE[task], "dash": dash, "width": width},
                marker={"symbol": viz.SYMBOLS[task], "size": [0, 11]},
            )
        image = vectors @ strengths @ vectors.T @ points
        fig.add_scatter(
            x=image[0],
            y=image[1],
            mode="lines",
            name=f"circle through U S Uᵀ, {name}",
            line={"color": viz.PALETTE[7 if name == "whitened" else 3], "dash": dash, "width": 1.6},
        )
    fig.update_xaxes(title="first coordinate", range=[-1.9, 1.9], scaleanchor="y")
    fig.update_yaxes(title="second coordinate", range=[-1.25, 1.25])
    fig.update_layout(legend={"orientation": "h", "y": -0.2, "yanchor": "top", "x": 0})
    turned = 0.0 if angle < 1e-6 else (90 - angle) / 2
    largest = np.linalg.svd(before @ strengths @ before.T)[1][0]
    return viz.finish(
        fig,
        title=f"Two tasks {angle:.0f}° apart",
        alt=f"Whitening turns each direction by {turned:.1f} degrees; the merged matrix of "
        f"strengths 1 and 0.7 has largest singular value {largest:.2f} before and 1.00 after.",
        caption="Both vectors move by the same angle until they are square; the ellipse's long "
        "axis, which counts what both tasks want twice, shrinks to the stronger task.",
        source="plane",
        params={"angle": angle},
        height=520,
    )


def gallery(
    images: np.ndarray,
    truth: Sequence[int],
    merged: Sequence[int],
    base: Sequence[int],
    *,
    task: str,
) -> go.Figure:
    """Test pictures with what base and merged model say.

    Args:
        images: (n, 28, 28), 0 = paper, 1 = ink.
        truth: Labels. merged: Predictions of the merged model. base: Of the base.
        task: Which task.
    """
    columns = 8
    rows = math.ceil(len(images) / columns)
    names = [
        f"{t}: base {b}{_mark(b == t)}, merged {m}{_mark(m == t)}"
        for t, m, b in zip(truth, merged, base, strict=True)
    ]
    fig = make_subplots(rows, columns, horizontal_spacing=0.012, vertical_spacing=0.06)
    for number, image in enumerate(images):
        row, column = divmod(number, columns)
        fig.add_heatmap(
            z=image[::-1].round(2),
            zmin=0,
            zmax=1,
            colorscale=[(0, "white"), (1, viz.INK)],
            showscale=False,
            name=names[number],
            hovertext=None,
            hovertemplate=names[number] + "<extra></extra>",
            row=row + 1,
            col=column + 1,
        )
        right = (_mark(base[number] == truth[number]), _mark(merged[number] == truth[number]))
        fig.update_xaxes(title={"text": f"{right[0]} → {right[1]}", "standoff": 2},
                         showticklabels=False, ticks="", row=row + 1, col=column + 1)  # fmt: skip
        fig.update_yaxes(showticklabels=False, ticks="", row=row + 1, col=column + 1)
    hits = sum(m == t for t, m in zip(truth, merged, strict=True))
    first = sum(b == t for t, b in zip(truth, base, strict=True))
    return viz.finish(
        fig,
        title=f"Test pictures of {task}: base → merged",
        alt=f"Of {len(images)} pictures of {task} the base has {first} right and the merged model "
        f"{hits}.",
        caption="✓ right, ✗ wrong; under each picture first the base, then the merged model. Point "
        "at one to read the classes.",
        source="gallery",
        params={"task": task},
        height=150 * rows + 70,
    )


def _mark(right: bool) -> str:
    return "✓" if right else "✗"
