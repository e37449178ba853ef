"""Figures of what fine-tuning costs: FLOPs by layer, the trade-off, and the race."""

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from labcore import viz
from labcore.blocks.cost import ViTSpec, kept_tokens, training_flops
from labcore.finetuning.labels import MODELS, label, style
from labcore.finetuning.tally import Rows, distinct, over_runs, pick, spread

_PIECES = (("forward", "forward", 0, ""), ("input gradient", "input_gradient", 1, "/"),
           ("weight gradient", "weight_gradient", 2, "x"))  # fmt: skip


def flops_figure(
    *, trained: int = 9, budget: float = 0.9, tokens: int = 197, width: int = 384, depth: int = 12
) -> go.Figure:
    """FLOPs of one picture and step, layer by layer, and how they compare with full fine-tuning.

    Frozen layers are spread evenly, the last one among them.

    Args:
        trained: K, layers that train.
        budget: Share of patches that every layer passes on.
        tokens: Patches and class token that enter the first layer.
        width: Features of a token.
        depth: Layers.

    Raises:
        ValueError: K outside 0..depth, a budget outside (0, 1], fewer than two tokens.
    """
    if not 0 <= trained <= depth:
        raise ValueError(f"trained must be 0..{depth}, got {trained}")
    if not 0 < budget <= 1 or tokens < 2:
        raise ValueError(f"budget in (0, 1] and two tokens or more, got {budget} and {tokens}")
    spec = ViTSpec(depth, width, tokens)
    frozen = {round((i + 1) * depth / (depth - trained)) - 1 for i in range(depth - trained)}
    chosen = [layer for layer in range(depth) if layer not in frozen]
    full = training_flops(spec, freeze_embedding=False)
    freezing = training_flops(spec, None, chosen)
    entering = kept_tokens([budget] * depth, tokens - 1)
    both = training_flops(spec, entering, chosen)
    spent = training_flops(spec, entering, chosen, tokens_out=[*entering[1:], 1])
    fig, rows = go.Figure(), np.arange(1, depth + 1)
    for name, field, colour, hatch in _PIECES:
        fig.add_bar(
            x=rows, y=[getattr(layer, field) / 1e9 for layer in both.layers], name=name,
            marker={"color": viz.PALETTE[colour],
                    "pattern": {"shape": hatch, "fgcolor": "white", "fillmode": "overlay"}},
            hovertemplate="layer %{x}, " + name + ": %{y:.3f} GFLOPs<extra></extra>",
        )  # fmt: skip
    top = full.total / depth / 1e9
    fig.add_hline(y=top, line={"dash": "dot", "color": viz.INK})
    fig.add_annotation(
        x=1, xref="paper", xanchor="right", y=top, yanchor="bottom", showarrow=False,
        text="a layer in full fine-tuning",
    )  # fmt: skip
    fig.update_layout(
        barmode="stack",
        bargap=0.25,
        margin={"t": 90},
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
    )
    fig.update_xaxes(title_text="layer", dtick=1)
    fig.update_yaxes(title_text="GFLOPs per picture", range=[0, 1.12 * top])
    ratios = [full.total / other.total for other in (freezing, both, spent)]
    return viz.finish(
        fig,
        title=f"Where the FLOPs go: {ratios[1]:.2f}x fewer than full fine-tuning",
        alt=f"{trained} of {depth} layers trained, budget {budget:g}, {tokens} tokens of width "
        f"{width}: {both.total / 1e9:.2f} of {full.total / 1e9:.2f} GFLOPs, {ratios[1]:.2f} times "
        f"fewer. Freezing alone gives {ratios[0]:.2f} times; leaving dropped tokens out of query "
        f"and MLP, which changes no result, {ratios[2]:.2f} times.",
        caption=f"Freezing alone saves a factor of {ratios[0]:.2f}; the tokens do the work.",
        source="flops_figure",
        params={"trained": trained, "budget": budget, "tokens": tokens, "width": width,
                "depth": depth},
        height=430,
    )  # fmt: skip


def trade_off(runs: Rows, clock: Rows, *, model: str = "vit-s") -> go.Figure:
    """Test accuracy against CPU time of a step relative to full fine-tuning; area is saved bytes.

    Args:
        runs: The result's table ``runs``.
        clock: The result's table ``clock``; where it is empty, the runs' own times are used.
        model: Which model.

    Raises:
        ValueError: nothing measured on that model.
    """
    here = pick(runs, model=model)
    if not here:
        raise ValueError(f"model {model!r} was not run: there are {distinct(runs, 'model')}")
    timed = pick(clock, model=model) or here
    whole = _costs(timed, "full")
    fig, said = go.Figure(), []
    for name in distinct(here, "strategy"):
        seconds, saved = _costs(timed, name)
        found = over_runs(here, "accuracy", strategy=name)
        colour, symbol, _ = style(name)
        x = seconds / whole[0]
        said.append(f"{label(name)} {found.mean:.1%} at {x:.2f}")
        size = 6 + 24 * (saved / whole[1]) ** 0.5
        fig.add_scatter(
            x=[x], y=[100 * found.mean], mode="markers", name=label(name),
            error_y={"type": "data", "array": [100 * found.sd], "thickness": 1.3,
                     "visible": found.n > 1},
            marker={"size": size, "symbol": symbol, "color": colour, "opacity": 0.75,
                    "line": {"color": viz.INK, "width": 1}},
            hovertemplate=f"{label(name)}<br>time %{{x:.2f}} of full<br>accuracy %{{y:.1f}} %<br>"
            f"saved {saved / 1e6:.1f} MB<br>{found.n} seeds<extra></extra>",
        )  # fmt: skip
    fig.update_xaxes(title_text="CPU time of a step (full fine-tuning = 1)", rangemode="tozero")
    fig.update_yaxes(title_text="test accuracy (%)")
    fig.update_layout(
        legend={"orientation": "h", "y": -0.2, "yanchor": "top", "x": 0, "itemsizing": "constant"}
    )
    seeds, tested = len(distinct(here, "seed")), here[0]["test"]
    return viz.finish(
        fig,
        title=f"What is saved and what is lost: {MODELS.get(model, model)}",
        alt=f"Accuracy on {tested} test pictures, mean of up to {seeds} seeds, against relative "
        f"time: {'; '.join(said)}.",
        caption="Up and left is better. The area is the memory saved for the backward pass; bars "
        f"are the standard deviation over seeds (no bar: one seed), {tested} test pictures.",
        source="trade_off",
        params={"model": model},
        height=560,
    )


def _costs(rows: Rows, strategy: str) -> tuple[float, float]:
    mine = pick(rows, strategy=strategy)
    return tuple(spread([r[c] for r in mine]).mean for c in ("step_seconds", "saved_bytes"))  # type: ignore[return-value]


def race(table: Rows, *, strategies: Sequence[str], model: str = "small") -> go.Figure:
    """Test accuracy against CPU seconds spent in steps, every runner for the same CPU time.

    Args:
        table: The result's table ``race``.
        strategies: Who runs.
        model: Which model.

    Raises:
        ValueError: a strategy that did not run.
    """
    fig, said = go.Figure(), []
    for name in strategies:
        mine = pick(table, model=model, strategy=name)
        if not mine:
            raise ValueError(f"{name!r} did not run on {model!r}: there are "
                             f"{', '.join(distinct(table, 'strategy'))}")  # fmt: skip
        points = []
        for look in distinct(mine, "look"):
            at = pick(mine, look=look)
            times, scores = (spread([row[c] for row in at]) for c in ("cpu_seconds", "accuracy"))
            points.append((times.mean, 100 * scores.mean, 100 * scores.sd))
        x, y, error = np.array(points).T
        steps = spread([row["step"] for row in pick(mine, look=distinct(mine, "look")[-1])]).mean
        said.append(f"{label(name)} {y[-1]:.1f} % after {steps:.0f} steps")
        colour, symbol, dash = style(name)
        fig.add_scatter(
            x=x, y=y, mode="lines+markers", name=f"{label(name)}: {steps:.0f} steps",
            error_y={"type": "data", "array": np.nan_to_num(error), "thickness": 1},
            line={"color": colour, "dash": dash}, marker={"symbol": symbol, "size": 9},
            hovertemplate="%{x:.2f} CPU s: %{y:.1f} %<extra>" + label(name) + "</extra>",
        )  # fmt: skip
    seeds = len(distinct(table, "seed"))
    runs = "One seed" if seeds == 1 else f"Mean and standard deviation of {seeds} seeds"
    fig.update_xaxes(title_text="CPU time spent in steps (s)", rangemode="tozero")
    fig.update_yaxes(title_text="test accuracy (%)")
    fig.update_layout(legend={"orientation": "h", "y": -0.22, "yanchor": "top", "x": 0})
    return viz.finish(
        fig,
        title=f"A race for the same compute: {MODELS.get(model, model)}",
        alt=f"{float(x[-1]):.1f} CPU seconds each, seeds: {seeds}. {'; '.join(said)}.",
        caption="Everybody stops after the same CPU time; who is cheaper takes more steps "
        f"(legend). {runs}.",
        source="race",
        params={"strategies": list(strategies), "model": model},
        height=460,
    )
