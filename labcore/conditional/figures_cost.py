"""Figures of cost: all families on one axis, and what a clock says of the same savings."""

import plotly.graph_objects as go

from labcore import viz
from labcore.conditional.measure import Rows, distinct, over_seeds, pick


def cost_accuracy(tokens: Rows, base: Rows, mixture: Rows, budgets: Rows, whole: Rows) -> go.Figure:
    """Accuracy lost against the whole network, over the share of its FLOPs, all families.

    Args:
        tokens, base: The result's tables ``tokens`` and ``token_base``.
        mixture: Its table ``mixture``. budgets, whole: Its tables ``budgets`` and ``whole``.
    """
    fig, lines = go.Figure(), []
    full = over_seeds(base, "accuracy").mean
    for method in distinct(tokens, "method"):
        mine = pick(tokens, method=method)
        points = sorted(
            (over_seeds(mine, "ratio", amount=a).mean,
             over_seeds(mine, "accuracy", amount=a).mean - full)
            for a in distinct(mine, "amount")
        )  # fmt: skip
        lines.append((f"tokens: {method}", points, "lines+markers"))
    joint = pick(budgets, training="joint", calibrated=True)
    last = over_seeds(whole, "accuracy", training="joint", calibrated=True).mean
    river = sorted(
        (over_seeds(joint, "ratio", budget=b).mean,
         over_seeds(joint, "accuracy", budget=b).mean - last)
        for b in distinct(joint, "budget")
    )  # fmt: skip
    lines.append(("depth: early exits", river, "lines+markers"))
    wide = over_seeds(mixture, "accuracy", arm="dense, equal parameters").mean \
        if pick(mixture, arm="dense, equal parameters") else None  # fmt: skip
    if wide is not None:
        for arm in distinct(mixture, "arm"):
            here = pick(mixture, arm=arm)
            if here[0]["kind"] != "dense" and "no balance" not in arm:
                gap = over_seeds(here, "accuracy").mean - wide
                lines.append((f"experts: {arm}", [(here[0]["ratio"], gap)], "markers"))
    for number, (name, points, mode) in enumerate(lines):
        x, y = zip(*points, strict=True)
        colour = viz.PALETTE[number % 8]
        fig.add_scatter(
            x=x, y=y, name=name, mode=mode,
            line={"color": colour, "dash": viz.DASHES[number % 6]},
            marker={"symbol": viz.SYMBOLS[number % 8], "size": 10, "color": colour,
                    "line": {"color": viz.INK, "width": 0.6}},
        )  # fmt: skip
    fig.add_hline(y=0, line={"color": viz.INK, "dash": "dot"})
    fig.add_vline(x=1 / 3, line={"color": viz.GRID, "width": 2})
    fig.update_xaxes(title_text="FLOPs executed, of the whole network", tickformat=".0%")
    fig.update_yaxes(title_text="accuracy minus the whole network's", tickformat=".0%")
    fig.update_layout(legend={"orientation": "h", "y": -0.2})
    near = {name: min(points, key=lambda p: abs(p[0] - 0.5)) for name, points, _ in lines}
    said = "; ".join(f"{name} {y:+.3f} at {x:.0%}" for name, (x, y) in near.items())
    return viz.finish(
        fig,
        title="One axis for experts, tokens and depth",
        alt=f"Change of accuracy nearest to half of the FLOPs: {said}.",
        caption="Each family against its own whole network; the vertical line is a third of the "
        "cost.",
        source="cost_accuracy",
        height=640,
    )


def flops_and_time(clock: Rows) -> go.Figure:
    """Share of the FLOPs beside share of the CPU time, batch 64.

    Args:
        clock: The result's table ``clock``.

    Raises:
        ValueError: an empty table.
    """
    if not clock:
        raise ValueError("the table is empty: nothing was timed")
    fig = go.Figure()
    for number, family in enumerate(distinct(clock, "family")):
        mine = pick(clock, family=family)
        fig.add_scatter(
            x=[row["flops_ratio"] for row in mine], y=[row["time_ratio"] for row in mine],
            text=[row["setting"] for row in mine], mode="markers", name=family,
            marker={"symbol": viz.SYMBOLS[number], "size": 13, "color": viz.PALETTE[number],
                    "line": {"color": viz.INK, "width": 0.8}},
            hovertemplate="%{text}<br>FLOPs %{x:.2f}, time %{y:.2f}<extra></extra>",
        )  # fmt: skip
    top = max(1.0, *(row["time_ratio"] for row in clock))
    fig.add_scatter(x=[0, top], y=[0, top], mode="lines", name="time = FLOPs",
                    line={"color": viz.INK, "dash": "dot"})  # fmt: skip
    fig.update_xaxes(title_text="FLOPs, of the whole network", range=[0.2, 1.02])
    fig.update_yaxes(title_text="CPU time, of the whole network", range=[0, 1.08 * top])
    said = "; ".join(
        f"{row['setting']} {row['flops_ratio']:.2f} of FLOPs, {row['time_ratio']:.2f} of time"
        for row in clock
    )
    return viz.finish(
        fig,
        title="What the clock says",
        alt=f"Batch {clock[0]['batch']}, one thread: {said}.",
        caption="Points above the dotted line save fewer seconds than FLOPs.",
        source="flops_and_time",
        height=460,
    )
