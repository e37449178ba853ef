"""The centre-piece: where and when did the network look?"""

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from labcore import viz
from labcore.koopman.explorer import View
from labcore.koopman.labels import chosen, label, place, style

CALM, ILL = viz.PALETTE[5], viz.PALETTE[3]
_SILENT = "this explainer says nothing about it"


def where_and_when(view: View) -> go.Figure:
    """Contacts over time, the projected signal under them, and the people with their relevance.

    Top: a dot a contact and person, orange from the infection of that person on. Middle: the
    signal, each step coloured by its relevance, true steps as ticks. Bottom: who stands out.

    Args:
        view: From :func:`labcore.koopman.explorer.view`.
    """
    told = _told(view)
    fig = make_subplots(
        3, 1, row_heights=[0.36, 0.2, 0.44], vertical_spacing=0.115,
        subplot_titles=(
            "Contacts",
            f"{told}: " + _beside(view, "time_f1_window", "F1 of windows", ("always", "random")),
            "People: " + _beside(view, "node_auc", "AUC", ("input_flag", "random")),
        ),
    )  # fmt: skip
    _raster(fig, view)
    _signal(fig, view)
    _people(fig, view)
    fig.update_xaxes(matches="x2", row=1, col=1)
    fig.update_xaxes(title_text="step (equally many contacts each)", row=2, col=1)
    fig.update_yaxes(title_text="person, by time of infection", row=1, col=1)
    fig.update_yaxes(title_text="projection", row=2, col=1)
    for axis in (fig.update_xaxes, fig.update_yaxes):
        axis(visible=False, row=3, col=1)
    fig.update_layout(
        legend={"orientation": "h", "y": -0.02, "yanchor": "top", "x": 0, "xanchor": "left"},
        margin={"t": 84, "b": 40},
    )
    first = view.table[0]
    found, true = int(view.detected.sum()), int(view.true_times.sum())
    return viz.finish(
        fig,
        title=f"Where and when? {place(view.network)}, graph {view.index}",
        alt=f"{len(view.contacts)} contacts of {len(view.infected_at)} people; "
        f"{int((view.infected_at >= 0).sum())} get infected, at {true} steps. "
        f"{told} finds {found} steps: AUC of steps "
        f"{_number(first['time_auc'])}, F1 of windows {_number(first['time_f1_window'])}, AUC of "
        f"people {_number(first['node_auc'])}.",
        caption="Compare dark stretches of the signal with the ticks under it, and dark people "
        "with the ringed ones, who took part in a transmission.",
        source="where_and_when",
        params={"network": view.network, "graph": view.index, **vars(view.setting)},
        height=1040,
    )


def _beside(view: View, kind: str, text: str, trivial: tuple[str, ...]) -> str:
    """A score of the explainer beside those of trivial ones."""
    scores = {row["explainer"]: row[kind] for row in reversed(view.table)}
    others = ", ".join(f"{label(name)} {_number(scores[name])}" for name in trivial)
    return f"{text} {_number(view.table[0][kind])} ({others})"


def _number(value: float) -> str:
    return "not said" if np.isnan(value) else f"{value:.2f}"


def _raster(fig: go.Figure, view: View) -> None:
    late = np.where(view.infected_at < 0, 10**6, view.infected_at)
    rank = late.argsort(kind="stable").argsort()
    t, u, v = view.contacts.T
    steps, people = np.concatenate([t, t]), np.concatenate([u, v])
    ill = (view.infected_at[people] >= 0) & (view.infected_at[people] <= steps)
    for name, mask, colour, symbol in (
        ("contact of a healthy person", ~ill, CALM, "circle"),
        ("contact of an infected person", ill, ILL, "square"),
    ):
        fig.add_scatter(
            x=steps[mask], y=rank[people[mask]], mode="markers", name=name,
            marker={"color": colour, "size": 5, "symbol": symbol},
            hovertemplate="step %{x}, person %{y}<extra></extra>", row=1, col=1,
        )  # fmt: skip


def _signal(fig: go.Figure, view: View) -> None:
    steps = np.arange(len(view.signal))
    silent = np.isnan(view.times).any()
    if silent:
        fig.add_annotation(
            text=_SILENT, showarrow=False, x=0.5, y=0.5, xref="x2 domain", yref="y2 domain"
        )
    else:
        fig.add_scatter(
            x=steps, y=view.signal, mode="lines+markers", name="signal, dark where relevant",
            line={"color": "#9AA5B1", "width": 1},
            marker={"color": view.times, "colorscale": "Cividis", "reversescale": True, "size": 8,
                    "symbol": np.where(view.detected, "diamond", "circle"),
                    "line": {"width": 1, "color": viz.INK}},
            text=[f"{w:.3g}" for w in view.times],
            hovertemplate="step %{x}<br>projection %{y:.3f}<br>relevance %{text}<extra></extra>",
            row=2, col=1,
        )  # fmt: skip
    low = 0.0 if silent else float(view.signal.min())
    high = 1.0 if silent else float(view.signal.max())
    ticks = low - 0.14 * (high - low or 1.0)
    true = np.flatnonzero(view.true_times)
    fig.add_scatter(
        x=true, y=np.full(len(true), ticks), mode="markers", name="true step",
        marker={"symbol": "line-ns", "size": 10, "line": {"width": 2.5, "color": ILL}},
        hovertemplate="true step %{x}<extra></extra>", row=2, col=1,
    )  # fmt: skip


def _people(fig: go.Figure, view: View) -> None:
    width = _thirds(view.weights)
    for third, line in enumerate((0.4, 1.4, 3.2)):
        chosen = view.edges[width == third]
        ends = view.places[chosen]
        gap = np.full((len(chosen), 1), np.nan)
        fig.add_scatter(
            x=np.concatenate([ends[:, :, 0], gap], axis=1).ravel(),
            y=np.concatenate([ends[:, :, 1], gap], axis=1).ravel(),
            mode="lines", name=("pair, light", "pair, middle", "pair, heavy in SINDy")[third],
            line={"color": "#9AA5B1", "width": line}, hoverinfo="skip", row=3, col=1,
            showlegend=third == 2,
        )  # fmt: skip
    silent = np.isnan(view.nodes).any()
    colour = np.zeros(len(view.nodes)) if silent else _ranks(view.nodes)
    for true, name, symbol in ((False, "person", "circle"), (True, "took part", "circle")):
        mask = view.true_nodes == true
        fig.add_scatter(
            x=view.places[mask, 0], y=view.places[mask, 1], mode="markers", name=name,
            marker={"color": colour[mask], "cmin": 0, "cmax": 1, "colorscale": "Cividis",
                    "reversescale": True, "size": 15 if true else 11, "symbol": symbol,
                    "line": {"width": 3 if true else 0.8, "color": ILL if true else viz.INK}},
            text=[f"person {i}, relevance {r:.3g}" for i, r in
                  zip(np.flatnonzero(mask), view.nodes[mask], strict=True)],
            hovertemplate="%{text}<extra></extra>", row=3, col=1,
        )  # fmt: skip
    if silent:
        fig.add_annotation(
            text=_SILENT, showarrow=False, x=0.5, y=1.0, xref="x3 domain", yref="y3 domain"
        )


def _told(view: View) -> str:
    return chosen(view.setting.explainer, view.setting.mode, view.setting.side)


def _thirds(weights: np.ndarray) -> np.ndarray:
    """0 for the lower six tenths of the weights, 2 for the upper tenth, 1 between."""
    return np.searchsorted(np.quantile(weights, [0.6, 0.9]), weights)


def _ranks(values: np.ndarray) -> np.ndarray:
    order = values.argsort(kind="stable").argsort()
    return order / max(len(values) - 1, 1)


def score_strip(view: View) -> go.Figure:
    """Scores of this explainer on this graph beside those of the trivial ones.

    Args:
        view: From :func:`labcore.koopman.explorer.view`.
    """
    kinds = {
        "time_auc": "steps: AUC",
        "time_f1_window": "windows: F1",
        "node_auc": "people: AUC",
        "spreader_auc": "spreaders: AUC",
    }
    fig, said = go.Figure(), []
    for number, row in enumerate(view.table):
        colour, _, symbol = style(row["explainer"])
        given = [row[kind] for kind in kinds]
        name = label(row["explainer"]) if number else _told(view)
        fig.add_scatter(
            x=list(kinds.values()), y=given, mode="markers", name=name,
            marker={"color": colour, "symbol": symbol, "size": 15 if number == 0 else 10,
                    "line": {"width": 1, "color": "white"}},
            hovertemplate=f"%{{x}} %{{y:.2f}}<extra>{name}</extra>",
        )  # fmt: skip
        spoken = ", ".join(
            f"{text} {v:.2f}" for text, v in zip(kinds.values(), given, strict=True) if v == v
        )
        said.append(f"{name} {spoken}")
    fig.update_yaxes(range=[-0.05, 1.08], title_text="score on this graph")
    fig.update_xaxes(type="category", title_text="what is to be found")
    return viz.finish(
        fig,
        title="This graph: the explanation beside trivial answers",
        alt=f"{'; '.join(said)}.",
        caption="Large symbol: the chosen explainer. Black symbols know nothing of the network.",
        source="score_strip",
        height=380,
    )
