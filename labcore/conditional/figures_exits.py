"""Figures of early exits: the river of samples, rules against the oracle, easy and hard."""

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
from jaxtyping import UInt8

from labcore import viz
from labcore.conditional.measure import Rows, distinct, over_seeds, pick
from labcore.conditional.river import River


def exit_river(flow: River, *, setting: str) -> go.Figure:
    """Samples from head to head: how many leave at each, right or wrong.

    Args:
        flow: Who leaves where. setting: The rule, for the title.
    """
    heads, total = len(flow.leaving), int(flow.leaving.sum())
    labels = ["block 1", *(f"{i + 1}" for i in range(1, heads)), "right", "wrong"]
    left = total - np.cumsum(flow.leaving)
    source: list[int] = []
    target: list[int] = []
    value: list[int] = []
    colour: list[str] = []
    for i in range(heads):
        if i < heads - 1 and left[i]:
            source, target = [*source, i], [*target, i + 1]
            value, colour = [*value, int(left[i])], [*colour, "rgba(86,180,233,0.45)"]
        hit = int(flow.right[i])
        for kind, count, paint in (
            (heads, hit, "rgba(0,158,115,0.5)"),
            (heads + 1, int(flow.leaving[i]) - hit, "rgba(213,94,0,0.5)"),
        ):
            if count:
                source, target = [*source, i], [*target, kind]
                value, colour = [*value, count], [*colour, paint]
    fig = go.Figure(
        go.Sankey(
            arrangement="snap",
            node={"label": labels, "pad": 14, "thickness": 16,
                  "color": [viz.PALETTE[0]] * heads + [viz.PALETTE[2], viz.PALETTE[3]]},
            link={"source": source, "target": target, "value": value, "color": colour},
        )
    )  # fmt: skip
    share = ", ".join(f"{n / total:.0%}" for n in flow.leaving)
    printed = (
        f"accuracy {flow.accuracy:.1%} (all blocks {flow.whole:.1%}) at {flow.ratio:.0%} of the "
        "FLOPs"
    )
    fig.update_layout(title={"subtitle": {"text": printed, "font": {"size": 14}}}, margin={"t": 90})
    return viz.finish(
        fig,
        title=f"Exit river, {setting}",
        alt=f"{total} test pictures; {printed}. Shares that leave at heads 1 to {heads}: {share}.",
        caption="Orange leaves early and wrong: whether waiting would have helped is the oracle's "
        "question.",
        source="exit_river",
        params={"setting": setting},
        height=440,
    )


def exit_curves(rows: Rows, oracle: Rows, heads: Rows, *, training: str) -> go.Figure:
    """Accuracy against FLOPs for every rule, single heads and the oracle, mean over seeds.

    Args:
        rows: The result's table ``rules``. oracle: Its table ``oracle``. heads: Its ``heads``.
        training: "joint" or "separate".

    Raises:
        ValueError: not measured.
    """
    here = [row for row in pick(rows, training=training) if not row["calibrated"]]
    if not here:
        raise ValueError(f"training {training!r} was not measured: {distinct(rows, 'training')}")
    fig = go.Figure()
    for number, kind in enumerate(distinct(here, "rule")):
        mine = pick(here, rule=kind)
        points = sorted(
            (over_seeds(mine, "ratio", threshold=t).mean,
             over_seeds(mine, "accuracy", threshold=t).mean)
            for t in distinct(mine, "threshold")
        )  # fmt: skip
        x, y = zip(*points, strict=True)
        fig.add_scatter(
            x=x, y=y, name=kind, mode="lines+markers",
            line={"color": viz.PALETTE[number], "dash": viz.DASHES[number]},
            marker={"symbol": viz.SYMBOLS[number], "size": 7},
        )  # fmt: skip
    single, best = pick(heads, training=training), pick(oracle, training=training)
    count = len(distinct(single, "head"))
    fixed = [over_seeds(single, "accuracy", head=i + 1) for i in range(count)]
    fig.add_scatter(
        x=[(i + 1) / count for i in range(count)], y=[f.mean for f in fixed], mode="markers",
        name="one head for all", error_y={"array": [f.error for f in fixed]},
        marker={"symbol": "x", "size": 11, "color": viz.INK},
    )  # fmt: skip
    top = [over_seeds(best, "accuracy", heads=i + 1).mean for i in range(count)]
    spent = [over_seeds(best, "ratio", heads=i + 1).mean for i in range(count)]
    fig.add_scatter(
        x=spent, y=top, name="oracle", mode="lines+markers",
        line={"color": viz.PALETTE[4], "dash": "dot"}, marker={"symbol": "star", "size": 11},
    )  # fmt: skip
    fig.update_xaxes(title_text="FLOPs spent, of all blocks", tickformat=".0%")
    fig.update_yaxes(title_text="test accuracy", tickformat=".0%")
    return viz.finish(
        fig,
        title=f"What rules lose, {training} heads",
        alt=f"Mean over {fixed[0].n} seeds: head 1 {fixed[0].mean:.1%}, head {count} "
        f"{fixed[-1].mean:.1%}, oracle {top[-1]:.1%} at {spent[-1]:.0%} of the FLOPs.",
        caption="The gap between the rules and the oracle is what better confidence could win.",
        source="exit_curves",
        params={"training": training},
        height=480,
    )


def head_accuracy(heads: Rows) -> go.Figure:
    """Accuracy and calibration error of every head, joint and separate training.

    Args:
        heads: The result's table ``heads``.
    """
    fig, said = go.Figure(), []
    for number, training in enumerate(distinct(heads, "training")):
        mine = pick(heads, training=training)
        at = distinct(mine, "head")
        right = [over_seeds(mine, "accuracy", head=i) for i in at]
        fig.add_scatter(
            x=at, y=[r.mean for r in right], name=f"{training}: accuracy", mode="lines+markers",
            error_y={"array": [r.error for r in right]},
            line={"color": viz.PALETTE[number]}, marker={"symbol": viz.SYMBOLS[number], "size": 9},
        )  # fmt: skip
        for column, name, dash in (("ece", "ECE", "dash"), ("ece_calibrated", "ECE, calibrated",
                                                            "dot")):  # fmt: skip
            fig.add_scatter(
                x=at, y=[over_seeds(mine, column, head=i).mean for i in at], yaxis="y2",
                name=f"{training}: {name}", mode="lines+markers",
                line={"color": viz.PALETTE[number], "dash": dash},
                marker={"symbol": viz.SYMBOLS[number + 2], "size": 6},
            )  # fmt: skip
        ends = f"{right[0].mean:.1%} at head 1, {right[-1].mean:.1%} at the last"
        said.append(f"{training} {ends}")
    fig.update_xaxes(title_text="head after block", dtick=1)
    fig.update_layout(
        yaxis={"title": "test accuracy", "tickformat": ".0%"},
        yaxis2={"title": "expected calibration error", "overlaying": "y", "side": "right",
                "showgrid": False, "rangemode": "tozero", "tickmode": "auto"},
        legend={"orientation": "h", "y": -0.2},
    )  # fmt: skip
    return viz.finish(
        fig,
        title="Heads one by one: accuracy and calibration",
        alt=f"Mean over {right[0].n} seeds: {'; '.join(said)}.",
        caption="Where the accuracy is flat, depth buys nothing; where it rises, separate heads "
        "pay for a trunk that was not trained for them.",
        source="head_accuracy",
        height=480,
    )


def anytime_curve(rows: Rows) -> go.Figure:
    """Accuracy when time runs out: the deepest head that was reached answers.

    Args:
        rows: The result's table ``anytime``.
    """
    fig, said = go.Figure(), []
    for number, training in enumerate(distinct(rows, "training")):
        mine = pick(rows, training=training)
        heads = distinct(mine, "head")
        time = [over_seeds(mine, "ms", head=h) for h in heads]
        right = [over_seeds(mine, "accuracy", head=h) for h in heads]
        fig.add_scatter(
            x=[t.mean for t in time], y=[r.mean for r in right], name=f"{training} heads",
            mode="lines+markers+text", text=[str(h) for h in heads],
            textposition=("top left", "bottom right")[number % 2],
            line={"color": viz.PALETTE[number], "dash": viz.DASHES[number], "shape": "hv"},
            error_y={"array": [r.error for r in right]},
            marker={"symbol": viz.SYMBOLS[number], "size": 9},
        )  # fmt: skip
        said.append(
            f"{training} {right[0].mean:.1%} after {time[0].mean:.1f} ms, {right[-1].mean:.1%} "
            f"after {time[-1].mean:.1f} ms"
        )
    fig.update_xaxes(title_text="CPU time for a batch of 64 (ms)", rangemode="tozero")
    fig.update_yaxes(title_text="test accuracy", tickformat=".0%")
    return viz.finish(
        fig,
        title="Anytime: the answer when time runs out",
        alt=f"Mean over {right[0].n} seeds: {'; '.join(said)}.",
        caption="Numbers are heads; a step goes up when the next head has answered.",
        source="anytime_curve",
        height=420,
    )


def real_exits(heads: Rows, budgets: Rows, oracle: Rows) -> go.Figure:
    """Linear heads after every block of a pre-trained ViT-S: single heads, budgets, oracle.

    Args:
        heads: The result's table ``feature_heads``. budgets: Its table ``feature_budgets``.
        oracle: Its table ``feature_oracle``.
    """
    fig, count = go.Figure(), len(distinct(heads, "head"))
    single = [over_seeds(heads, "accuracy", head=i + 1) for i in range(count)]
    met = [
        (over_seeds(budgets, "ratio", budget=b), over_seeds(budgets, "accuracy", budget=b))
        for b in distinct(budgets, "budget")
    ]
    best = over_seeds(oracle, "ratio"), over_seeds(oracle, "accuracy")
    shares = [(i + 1) / count for i in range(count)]
    for number, (name, x, found) in enumerate((
        ("one head for all", shares, single),
        ("confidence, fitted to a budget", [r.mean for r, _ in met], [a for _, a in met]),
        ("oracle", [best[0].mean], [best[1]]),
    )):  # fmt: skip
        fig.add_scatter(
            x=x, y=[f.mean for f in found], name=name, error_y={"array": [f.error for f in found]},
            mode="lines+markers" if len(x) > 1 else "markers",
            line={"color": viz.PALETTE[number], "dash": viz.DASHES[number]},
            marker={"symbol": viz.SYMBOLS[number], "size": 10},
        )  # fmt: skip
    fig.update_xaxes(title_text="FLOPs spent, of all blocks", tickformat=".0%", range=[0, 1.03])
    fig.update_yaxes(title_text="test accuracy", tickformat=".0%")
    first, last, n = single[0], single[-1], single[0].n
    near = min(met, key=lambda pair: abs(pair[0].mean - 0.5))
    return viz.finish(
        fig,
        title="Exits of a real, pre-trained ViT-S",
        alt=f"Fashion-MNIST, mean over {n} seeds: head 1 {first.mean:.1%}, head {count} "
        f"{last.mean:.1%}; fitted to a budget {near[1].mean:.1%} at {near[0].mean:.0%} of the "
        f"FLOPs; oracle {best[1].mean:.1%} at {best[0].mean:.0%}.",
        caption="The trunk was never trained for exits: early heads are poor, so leaving early "
        "costs accuracy.",
        source="real_exits",
        height=440,
    )


def exit_gallery(
    easiest: UInt8[np.ndarray, "n y x"],
    hardest: UInt8[np.ndarray, "m _y _x"],
    classes: Sequence[str] = (),
) -> go.Figure:
    """Pictures of which the first head is surest (above), and the last head least sure (below).

    Args:
        easiest, hardest: Pictures. classes: True classes, easiest first, for the alt text.
    """
    n = min(len(easiest), len(hardest))
    rows = [np.concatenate(list(group[:n]), axis=1) for group in (easiest, hardest)]
    sheet = np.concatenate(rows, axis=0)
    side = easiest.shape[1]
    fig = go.Figure(go.Heatmap(z=sheet, colorscale="Greys", showscale=False, hoverinfo="skip"))
    fig.add_hline(y=side - 0.5, line={"color": viz.PALETTE[1], "width": 3})
    fig.update_yaxes(
        autorange="reversed", scaleanchor="x", tickvals=[side / 2, 1.5 * side], showgrid=False,
        ticktext=["easiest", "hardest"],
    )  # fmt: skip
    fig.update_xaxes(visible=False)
    named = f" Classes of the easiest: {', '.join(classes[:n])}." if classes else ""
    return viz.finish(
        fig,
        title="Easiest and hardest pictures",
        alt=f"{n} pictures of which the first head is surest, above {n} of which even the last is "
        f"unsure.{named}",
        caption="The first row could leave after one block; of the second even the last head is "
        "unsure.",
        source="exit_gallery",
        height=280,
    )
