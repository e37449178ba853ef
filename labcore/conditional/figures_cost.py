"""Figures of cost: all families on one axis, FLOPs or CPU time, and the one against the other."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from labcore import viz
from labcore.conditional.measure import distinct, over_seeds, pick

Tables = Mapping[str, Sequence[Mapping[str, Any]]]
Line = tuple[str, str, list[tuple[float, float, float]]]  # family, name, (FLOPs, time, accuracy)
YARDSTICK = "dense, equal parameters"
AXES = {"flops": "FLOPs executed", "time": "CPU time, batch 64"}


def cost_accuracy(tables: Tables, axis: str = "flops") -> go.Figure:
    """Accuracy lost against the whole network, over the share of its cost, all families.

    Args:
        tables: The result's tables.
        axis: "flops" or "time".

    Raises:
        ValueError: another axis.
    """
    if axis not in AXES:
        raise ValueError(f"axis must be one of {', '.join(AXES)}, got {axis!r}")
    fig, said = go.Figure(), []
    for number, (family, name, points) in enumerate(_lines(tables)):
        x = [flops if axis == "flops" else time for flops, time, _ in points]
        y = [change for *_, change in points]
        fig.add_scatter(
            x=x, y=y, name=f"{family}: {name}", mode="lines+markers" if len(points) > 1 else
            "markers", line={"color": viz.PALETTE[number % 8], "dash": viz.DASHES[number % 6]},
            marker={"symbol": viz.SYMBOLS[(number + number // 8) % 8], "size": 10,
                    "color": viz.PALETTE[number % 8], "line": {"color": viz.INK, "width": 0.6}},
            hovertemplate="%{x:.0%} of the cost, accuracy %{y:+.1%}",
        )  # fmt: skip
        at = min(range(len(x)), key=lambda i: abs(x[i] - 0.5))
        said.append(f"{name} {y[at]:+.3f} at {x[at]:.0%}")
    fig.add_hline(y=0, line={"color": viz.INK, "dash": "dot"})
    fig.add_vline(x=1 / 3, line={"color": viz.GRID, "width": 2})
    fig.update_xaxes(title_text=f"{AXES[axis]}, of the whole network", tickformat=".0%")
    fig.update_yaxes(title_text="accuracy minus the whole network's", tickformat=".0%")
    fig.update_layout(legend={"orientation": "h", "y": -0.16, "yref": "paper"})
    return viz.finish(
        fig,
        title=f"One axis for experts, tokens and depth: {AXES[axis].split(',')[0]}",
        alt=f"Change of accuracy nearest to half of the {AXES[axis]}: {'; '.join(said)}.",
        caption="Each family against its own whole network; the vertical line is a third of the "
        "cost.",
        source="cost_accuracy",
        params={"axis": axis},
        height=680,
    )


def flops_and_time(tables: Tables) -> go.Figure:
    """Share of the FLOPs beside share of the CPU time, one point a setting.

    Args:
        tables: The result's tables.
    """
    fig, found = go.Figure(), [*_lines(tables), *_exits(tables, refilled=False)]
    said, top = [], 1.0
    for number, family in enumerate(dict.fromkeys(family for family, *_ in found)):
        points = [(flops, time, name) for kind, name, line in found if kind == family
                  for flops, time, _ in line]  # fmt: skip
        fig.add_scatter(
            x=[p[0] for p in points], y=[p[1] for p in points], text=[p[2] for p in points],
            mode="markers", name=family,
            marker={"symbol": viz.SYMBOLS[number], "size": 11, "color": viz.PALETTE[number],
                    "opacity": 0.8, "line": {"color": viz.INK, "width": 0.8}},
            hovertemplate="%{text}<br>FLOPs %{x:.2f}, time %{y:.2f}<extra></extra>",
        )  # fmt: skip
        over = sum(time - flops for flops, time, _ in points) / len(points)
        said.append(f"{family} {over:+.2f} over {len(points)} settings")
        top = max(top, *(p[1] for p in points))
    fig.add_scatter(x=[0, 1], y=[0, 1], mode="lines", name="time = FLOPs",
                    line={"color": viz.INK, "dash": "dot"})  # fmt: skip
    fig.update_xaxes(title_text="FLOPs, of the whole network", range=[0, 1.05])
    fig.update_yaxes(title_text="CPU time, of the whole network", range=[0, 1.06 * top])
    return viz.finish(
        fig,
        title="What the clock says",
        alt=f"Batch 64, one thread. Share of the time minus share of the FLOPs, on average: "
        f"{'; '.join(said)}.",
        caption="Points above the dotted line save fewer seconds than FLOPs; halting runs behind "
        "a mask here, which saves none. Depth: survivors of eight batches come together in full "
        "batches again, or each batch shrinks alone.",
        source="flops_and_time",
        height=460,
    )


def _lines(tables: Tables) -> Iterator[Line]:
    """Every family's settings, mean over seeds, cheapest first."""
    base = over_seeds(tables["token_base"], "accuracy").mean
    for method in distinct(tables["tokens"], "method"):
        points = []
        for amount in distinct(pick(tables["tokens"], method=method), "amount"):
            at = {"method": method, "amount": amount}
            here = pick(tables["tokens"], **at)
            flops, right = (over_seeds(here, column).mean for column in ("ratio", "accuracy"))
            time = over_seeds(tables["token_clock"], "time_ratio", **at).mean
            points.append((flops, time, right - base))
        yield "tokens", method, sorted(points)
    yield from _exits(tables, refilled=True)
    if not pick(tables["mixture"], arm=YARDSTICK):
        return  # a quick run has no yardstick for experts
    wide = over_seeds(tables["mixture"], "accuracy", arm=YARDSTICK).mean
    for row in tables["clock"]:
        here = pick(tables["mixture"], arm=row["arm"])
        if here and "no balance" not in row["arm"]:
            change = over_seeds(here, "accuracy").mean - wide
            yield "experts", row["arm"], [(row["flops_ratio"], row["time_ratio"], change)]


def _exits(tables: Tables, *, refilled: bool) -> Iterator[Line]:
    """Early exits at every budget: batches that survivors refill, or each batch alone."""
    for training in distinct(tables["race"], "training"):
        of = {"training": training}
        last = over_seeds(tables["whole"], "accuracy", calibrated=True, **of).mean
        points = [
            (over_seeds(tables["budgets"], "ratio", budget=b, calibrated=True, **of).mean,
             over_seeds(tables["race"], "time_ratio", budget=b, refilled=refilled, **of).mean,
             over_seeds(tables["budgets"], "accuracy", budget=b, calibrated=True, **of).mean - last)
            for b in distinct(tables["race"], "budget")
        ]  # fmt: skip
        family = "depth" if refilled else "depth, each batch alone"
        yield family, f"{training} exits", sorted(points)
