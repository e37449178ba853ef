"""Scores over many graphs: explainers beside trivial baselines, deletion, training."""

import numpy as np
import plotly.graph_objects as go

from labcore import viz
from labcore.koopman.labels import label, place, style
from labcore.koopman.names import NAMES, TARGETS, mean_of, networks, values
from labcore.runs import Result, Table

CHANCE = {"time_auc": 0.5, "node_auc": 0.5, "spreader_auc": 0.5, "edge_auc": 0.5,
          "hard_edge_auc": 0.5, "time_effect": 0.0}  # fmt: skip


def score_dots(result: Result, *, target: str = "node_auc", network: str = "") -> go.Figure:
    """Mean of one score with its standard error, one row an explainer, best on top.

    Args:
        result: A result of the experiment.
        target: Which score, of :data:`labcore.koopman.names.TARGETS`.
        network: Which network; the first by default.

    Raises:
        ValueError: an unknown score or network.
    """
    where = network or networks(result)[0]
    found = {name: mean_of(values(result, where, target, name)) for name in NAMES}
    rows = sorted(((name, m) for name, m in found.items() if m.n), key=lambda item: item[1].mean)
    fig, said = go.Figure(), []
    for name, m in rows:
        colour, _, symbol = style(name)
        fig.add_scatter(
            x=[m.mean], y=[label(name)], mode="markers", name=label(name), showlegend=False,
            marker={"color": colour, "symbol": symbol, "size": 11},
            error_x={"type": "data", "array": [m.error], "width": 4, "thickness": 1.4},
            hovertemplate=f"{label(name)}: %{{x:.3f}} ± {m.error:.3f}, {m.n} graphs"
            "<extra></extra>",
        )  # fmt: skip
        said.append(f"{label(name)} {m.mean:.2f}")
    if target in CHANCE:
        fig.add_vline(x=CHANCE[target], line={"dash": "dot", "color": viz.INK})
    fig.update_xaxes(title_text=f"{TARGETS[target]} (mean, bars: standard error over graphs)")
    fig.update_yaxes(type="category", title_text="explainer", ticklabelstandoff=4)
    count = max(m.n for _, m in rows)
    return viz.finish(
        fig,
        title=f"{TARGETS[target]}: {place(where)}",
        alt=f"{TARGETS[target]}, {count} graphs of the {place(where)}, best first: "
        f"{', '.join(reversed(said))}.",
        caption="Black symbols are trivial answers that never saw the network; what lies below "
        "them explains nothing that the data do not say.",
        source="score_dots",
        params={"target": target, "network": where},
        height=150 + 24 * len(rows),
    )


def deletion_curves(
    rows: Table, *, network: str, names: tuple[str, ...] | None = None, seed: int | None = None
) -> go.Figure:
    """Mean drop of the logit against the number of steps whose contacts were cut.

    Args:
        rows: The table ``deletion`` of a result.
        network: Which network.
        names: Which explainers; the usual ones by default.
        seed: Which seed; the first by default.

    Raises:
        ValueError: nothing was measured there.
    """
    wanted = names or ("dmd", "pca", "saliency", "integrated_gradients", "edge_gradient",
                       "count_change", "contact_count", "random")  # fmt: skip
    here = [r for r in rows if r["network"] == network]
    if not here:
        raise ValueError(f"no deletion test of {network!r} in this result")
    first = here[0]["seed"] if seed is None else seed
    fig, said = go.Figure(), []
    for name in wanted:
        own = [r for r in here if r["explainer"] == name and r["seed"] == first]
        if not own:
            continue
        colour, dash, symbol = style(name)
        errors = [r["sd"] / np.sqrt(r["graphs"]) for r in own]
        fig.add_scatter(
            x=[r["cut"] for r in own], y=[r["mean"] for r in own], name=label(name),
            mode="lines+markers", line={"color": colour, "dash": dash, "width": 2.2},
            marker={"symbol": symbol, "size": 8},
            error_y={"type": "data", "array": errors, "width": 3, "thickness": 1},
        )  # fmt: skip
        middle = own[len(own) // 2]
        said.append(f"{label(name)} {middle['mean']:.1f} at {middle['cut']} steps")
    fig.update_xaxes(title_text="steps whose contacts are cut, most relevant first")
    fig.update_yaxes(title_text="drop of the logit")
    return viz.finish(
        fig,
        title=f"Cut what is called relevant: {place(network)}, seed {first}",
        alt=f"Mean drop of the logit over {here[0]['graphs']} graphs: {'; '.join(said)}.",
        caption="The higher, the more the network depended on those steps. Bars are standard "
        "errors over graphs.",
        source="deletion_curves",
        params={"network": network, "seed": first},
        height=460,
    )


def learning_curves(result: Result) -> go.Figure:
    """Validation accuracy after each epoch, one line a network and seed."""
    rows = result.tables["history"]
    fig, said = go.Figure(), []
    for number, network in enumerate(networks(result)):
        trained = [r for r in result.tables["training"] if r["network"] == network]
        for row in trained:
            own = [r for r in rows if r["network"] == network and r["seed"] == row["seed"]]
            fig.add_scatter(
                x=[r["epoch"] for r in own], y=[r["accuracy"] for r in own],
                name=place(network), legendgroup=network, showlegend=row is trained[0],
                mode="lines+markers",
                line={"color": viz.PALETTE[number], "dash": viz.DASHES[number], "width": 1.8},
                marker={"symbol": viz.SYMBOLS[number], "size": 6},
                hovertemplate=f"{place(network)}, seed {row['seed']}, epoch %{{x}}: %{{y:.2f}}"
                "<extra></extra>",
            )  # fmt: skip
        last = [r["accuracy"] for r in trained]
        curve = [r["curve_accuracy"] for r in trained]
        said.append(
            f"{place(network)} {min(last):.2f} to {max(last):.2f} (count curve alone "
            f"{min(curve):.2f} to {max(curve):.2f})"
        )
    fig.update_xaxes(title_text="epoch")
    fig.update_yaxes(title_text="validation accuracy", range=[0.3, 1.04])
    return viz.finish(
        fig,
        title="The networks that are explained",
        alt=f"Accuracy after the last epoch: {'; '.join(said)}.",
        caption="Every network tells real infections from scrambled ones; the curve of infected "
        "people alone says much less, so contacts matter.",
        source="learning_curves",
        height=400,
    )
