"""Figures of retrieval: where the pass key is still found, and how small its keys are."""

from collections.abc import Mapping

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float
from plotly.subplots import make_subplots

from labcore import viz
from labcore.kvcache.labels import chosen, hatched, label, style
from labcore.tally import Rows, distinct, over, pick

_DEFAULT = ("low_norm", "random+guards", "sink_window")


def retrieval_grid_figure(
    rows: Rows,
    *,
    policies: tuple[str, ...] = _DEFAULT,
    column: str = "exact",
    task: str = "pass key",
) -> go.Figure:
    """Accuracy at each depth and ratio, one grid a policy.

    Args:
        rows: Trials of one task (rows of ``passkey`` of one filler, or of ``needle``).
        policies: Which grids to draw, side by side.
        column: ``"exact"`` or ``"accuracy"`` (share of the answer's tokens).
        task: For the title.

    Raises:
        ValueError: no rows, or a policy that was not measured.
    """
    if not rows:
        raise ValueError("no trials: pick the rows of a filler that was measured")
    names = chosen(rows, policies)
    ratios = sorted(distinct(pick(rows, policy=names[0]), "keep_ratio"), reverse=True)
    depths = sorted(distinct(rows, "depth"))
    fig = make_subplots(
        1, len(names), shared_yaxes=True, horizontal_spacing=0.03,
        subplot_titles=[label(n) for n in names],
    )  # fmt: skip
    said = []
    for number, name in enumerate(names, start=1):
        z = [
            [over(rows, column, policy=name, keep_ratio=r, depth=d).mean for r in ratios]
            for d in depths
        ]
        means = [f"{m:.2f} at {r:g}" for m, r in zip(np.mean(z, axis=0), ratios, strict=True)]
        said.append(f"{label(name)} {', '.join(means)}")
        fig.add_heatmap(
            z=z, x=[f"{r:g}" for r in ratios], y=[f"{d:.0%}" for d in depths], zmin=0, zmax=1,
            text=[[f"{v:.2g}" for v in line] for line in z], texttemplate="%{text}",
            coloraxis="coloraxis", xgap=2, ygap=2, row=1, col=number,
            hovertemplate="depth %{y}, kept %{x}<br>found %{z:.2f}<extra></extra>",
        )  # fmt: skip
    fig.update_xaxes(type="category", showgrid=False, title_text="fraction kept")
    fig.update_yaxes(type="category", showgrid=False, autorange="reversed")
    fig.update_yaxes(title_text="depth in the context", row=1, col=1)
    fig.update_layout(
        coloraxis={"colorscale": viz.SEQUENTIAL, "cmin": 0, "cmax": 1,
                   "colorbar": {"title": "share<br>found"}},
        margin={"t": 116},
    )  # fmt: skip
    full = over(rows, column, policy="full")
    of_full = f"full cache {full.mean:.2f} of {full.n} trials"
    fig.update_annotations(font_size=13)
    fig.update_layout(title={"subtitle": {"text": of_full, "font": {"size": 14}}})
    return viz.finish(
        fig,
        title=f"Is the {task} still found?",
        alt=f"Mean over {len(depths)} depths, {of_full}: {'; '.join(said)}.",
        caption="Yellow cells are found, blue ones lost: compare the same ratio across the grids.",
        source="retrieval_grid_figure",
        params={"policies": names, "column": column},
        height=260 + 26 * len(depths),
    )


def retrieval_curves(
    rows: Rows,
    *,
    policies: tuple[str, ...] | None = None,
    column: str = "exact",
    task: str = "pass key",
) -> go.Figure:
    """Accuracy against the ratio kept, one line a policy, with standard errors over trials.

    Args:
        rows: Trials of one task.
        policies: Which lines to draw; all by default.
        column: ``"exact"`` or ``"accuracy"``.
        task: For the title.

    Raises:
        ValueError: no rows, or a policy that was not measured.
    """
    if not rows:
        raise ValueError("no trials: pick the rows of a filler that was measured")
    fig, said = go.Figure(), []
    for name in chosen(rows, policies):
        ratios = sorted(distinct(pick(rows, policy=name), "keep_ratio"), reverse=True)
        found = [over(rows, column, policy=name, keep_ratio=r) for r in ratios]
        colour, dash, symbol = style(name)
        fig.add_scatter(
            x=[f"{r:g}" for r in ratios], y=[f.mean for f in found], name=label(name),
            mode="lines+markers", line={"color": colour, "dash": dash, "width": 2.2},
            marker={"symbol": symbol, "size": 9},
            error_y={"type": "data", "array": [f.error for f in found], "width": 3,
                     "thickness": 1.2},
        )  # fmt: skip
        said.append(f"{label(name)} {', '.join(f'{f.mean:.2f}' for f in found)}")
    full = over(rows, column, policy="full")
    fig.add_hline(
        y=full.mean, line={"dash": "dot", "color": viz.INK}, annotation_text="full cache",
        annotation_position="bottom right",
    )  # fmt: skip
    fig.update_xaxes(type="category", title_text="fraction kept in pruned layers")
    title = "share of trials answered" if column == "exact" else "share of the answer's tokens"
    fig.update_yaxes(title_text=title, range=[-0.04, 1.08])
    return viz.finish(
        fig,
        title=f"Retrieval: {task}",
        alt=f"Full cache {full.mean:.2f} of {full.n} trials; at falling ratios "
        f"{ratios[0]:g} to {ratios[-1]:g}: {'; '.join(said)}.",
        caption="Bars are standard errors over trials; the dotted line is the full cache.",
        source="retrieval_curves",
        params={"column": column},
        height=460,
    )


def passkey_norms(histograms: Mapping[str, Float[np.ndarray, " bins"]]) -> go.Figure:
    """Norm percentiles of the pass key's digits, one histogram a filler.

    Args:
        histograms: Share of the digits' keys in equal bins of the norm's percentile, by filler.

    Raises:
        ValueError: no histogram, or histograms of different lengths.
    """
    sizes = {len(h) for h in histograms.values()}
    if len(sizes) != 1:
        raise ValueError(f"histograms must be given and share their bins, got sizes {sizes}")
    bins = sizes.pop()
    middle = (np.arange(bins) + 0.5) / bins
    fig, said = go.Figure(), []
    names = {"repeat": "repeated sentences", "prose": "prose"}
    for number, (filler, shares) in enumerate(histograms.items()):
        mean = float(shares @ middle)
        name = names.get(filler, filler)
        said.append(f"{mean:.2f} in {name}")
        colour = viz.PALETTE[(0, 3)[number % 2]]
        fig.add_bar(
            x=middle, y=shares, name=f"{name}: mean {mean:.2f}", width=0.9 / bins,
            marker={"color": colour, "opacity": 0.65,
                    "pattern": hatched(("", "/")[number % 2])},
            hovertemplate="percentile %{x:.2f}<br>share %{y:.3f}<extra>" + name + "</extra>",
        )  # fmt: skip
        fig.add_vline(x=mean, line={"color": colour, "dash": viz.DASHES[number % 2], "width": 2})
    fig.add_hline(
        y=1 / bins, line={"dash": "dot", "color": viz.INK}, annotation_text="any token",
        annotation_position="top right", annotation_bgcolor="rgba(255,255,255,0.8)",
    )  # fmt: skip
    fig.update_layout(
        barmode="overlay",
        legend={"orientation": "h", "x": 0, "xanchor": "left", "y": -0.2, "yanchor": "top"},
    )
    fig.update_xaxes(title_text="norm percentile of the digits' keys within their head",
                     range=[0, 1])  # fmt: skip
    fig.update_yaxes(title_text="share of digits, heads and layers")
    return viz.finish(
        fig,
        title="How small are the keys of the pass key?",
        alt=f"Mean norm percentile of the pass key's digits: {'; '.join(said)}; any token 0.5.",
        caption="Mass on the left means that the rule tends to keep the digits in that filler.",
        source="passkey_norms",
        height=420,
    )
