"""Figures of complexes: the cells of a graph, boundary matrices, spectra, flows."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from labcore import viz

Pairs = Sequence[Sequence[int]]


def complex_drawing(
    places: np.ndarray,
    edges: Pairs,
    cells: Sequence[Sequence[int]],
    *,
    node: int | None = None,
    names: Sequence[str] = (),
    title: str = "The complex",
) -> go.Figure:
    """Nodes, edges and filled 2-cells; those of one node stand out.

    Args:
        places: Where the nodes are, (n, 2).
        edges: Pairs of nodes.
        cells: Nodes of each triangle, polygon or hyperedge, in drawing order.
        node: The node to look at, or None.
        names: What the nodes are called.
        title: Of the figure.
    """
    places = np.asarray(places, dtype=float)
    fig = go.Figure()
    own = [node is not None and node in cell for cell in cells]
    for mine, colour, name in (
        (False, "rgba(86,180,233,0.18)", "2-cells"),
        (True, "rgba(230,159,0,0.45)", f"2-cells of node {node}"),
    ):
        chosen = [cell for cell, is_own in zip(cells, own, strict=True) if is_own == mine]
        if chosen:
            x, y = _outlines(places, chosen)
            fig.add_scatter(x=x, y=y, fill="toself", mode="none", fillcolor=colour, name=name,
                            hoverinfo="skip")  # fmt: skip
    for mine, colour, width in ((False, "#9AA5B1", 1.2), (True, viz.PALETTE[3], 3)):
        chosen = [e for e in edges if (node is not None and node in e) == mine]
        if chosen:
            x, y = _outlines(places, chosen)
            fig.add_scatter(x=x, y=y, mode="lines", line={"color": colour, "width": width},
                            name="edges" if not mine else f"edges of node {node}",
                            hoverinfo="skip")  # fmt: skip
    sizes = [15 if i == node else 8 for i in range(len(places))]
    fig.add_scatter(
        x=places[:, 0],
        y=places[:, 1],
        mode="markers",
        name="nodes",
        text=[names[i] if names else str(i) for i in range(len(places))],
        marker={
            "size": sizes,
            "color": [viz.PALETTE[3] if i == node else viz.PALETTE[0] for i in range(len(places))],
            "symbol": ["star" if i == node else "circle" for i in range(len(places))],
            "line": {"color": "white", "width": 1},
        },
        hovertemplate="node %{text}<extra></extra>",
    )
    fig.update_xaxes(visible=False, title="no unit")
    fig.update_yaxes(visible=False, scaleanchor="x", title="no unit")
    fig.update_layout(legend={"orientation": "h", "y": -0.02, "yanchor": "top"})
    said = "" if node is None else f" Node {node} is in {sum(own)} of the 2-cells."
    return viz.finish(
        fig,
        title=title,
        alt=f"{len(places)} nodes, {len(edges)} edges, {len(cells)} 2-cells.{said}",
        caption="Filled areas are the 2-cells; orange ones hold the chosen node (star).",
        source="complex_drawing",
        params={"node": node},
        height=520,
    )


def _outlines(places: np.ndarray, groups: Sequence[Sequence[int]]) -> tuple[list[Any], list[Any]]:
    x: list[Any] = []
    y: list[Any] = []
    for group in groups:
        ring = [*group, group[0]] if len(group) > 2 else list(group)
        x += [*places[ring, 0].tolist(), None]
        y += [*places[ring, 1].tolist(), None]
    return x, y


def token_strip(tokens: np.ndarray, ranks: Sequence[int], *, node: int) -> go.Figure:
    """What a node reads: one column a token, highest rank first, itself last.

    Args:
        tokens: (t, d), the node's tokens.
        ranks: Ranks of the first t - 1 of them.
        node: Its number.
    """
    names = [f"rank {r}" for r in ranks] + ["itself"]
    most = float(np.abs(tokens).max()) or 1.0
    fig = go.Figure(
        go.Heatmap(
            z=tokens.T,
            x=names,
            y=[f"{i}" for i in range(tokens.shape[1])],
            colorscale=[list(stop) for stop in viz.DIVERGING],
            zmid=0,
            zmin=-most,
            zmax=most,
            colorbar={"title": "value"},
            hovertemplate="%{x}, feature %{y}: %{z:.2f}<extra></extra>",
        )
    )
    fig.update_xaxes(title_text="token (read from left to right)")
    fig.update_yaxes(title_text="feature (number)", nticks=8)
    zero = [n for n, t in zip(names, tokens, strict=True) if not np.abs(t).any()]
    norms = ", ".join(f"{n} {np.linalg.norm(t):.1f}" for n, t in zip(names, tokens, strict=True))
    return viz.finish(
        fig,
        title=f"The sequence of node {node}",
        alt=f"Norms of {len(names)} tokens: {norms}."
        + (f" Zero: {', '.join(zero)}." if zero else ""),
        caption="Each column sums the cells of one rank around the node; a node in no cell of a "
        "rank reads zeros there.",
        source="token_strip",
        params={"node": node},
        height=420,
    )


def hidden_attention(matrix: np.ndarray, names: Sequence[str], *, mode: str) -> go.Figure:
    """How much the output at one token depends on each token read, |M[t, s]|.

    Args:
        matrix: (t, t), mean size over channels.
        names: Of the tokens.
        mode: Direction that was read.
    """
    fig = go.Figure(
        go.Heatmap(
            z=matrix, x=list(names), y=list(names), colorscale=viz.SEQUENTIAL, zmin=0,
            colorbar={"title": "|M|"}, hovertemplate="%{y} from %{x}: %{z:.3g}<extra></extra>",
        )
    )  # fmt: skip
    fig.update_xaxes(title_text="token read (s)")
    fig.update_yaxes(title_text="token written (t)", autorange="reversed")
    filled = int((matrix > 0).sum())
    return viz.finish(
        fig,
        title=f"Hidden attention of the scan, {mode}",
        alt=f"{filled} of {matrix.size} entries are not zero; the largest is {matrix.max():.3g}.",
        caption="Entry (t, s) is C_t times the decays from s to t times what s wrote.",
        source="hidden_attention",
        params={"mode": mode},
    )


def matrix_signs(matrix: np.ndarray, *, name: str, rows: str, columns: str) -> go.Figure:
    """A boundary or Laplacian matrix as signed squares."""
    dense = np.asarray(matrix, dtype=float)
    most = float(np.abs(dense).max()) if dense.size else 1.0
    fig = go.Figure(
        go.Heatmap(
            z=dense, colorscale=[list(stop) for stop in viz.DIVERGING], zmin=-most, zmax=most,
            xgap=0.5, ygap=0.5, colorbar={"title": "entry"},
            hovertemplate="row %{y}, column %{x}: %{z:g}<extra></extra>",
        )
    )  # fmt: skip
    fig.update_xaxes(title_text=columns)
    fig.update_yaxes(title_text=rows, autorange="reversed")
    count = int((dense != 0).sum())
    return viz.finish(
        fig,
        title=name,
        alt=f"{dense.shape[0]} x {dense.shape[1]} entries, {count} not zero, the largest {most:g}.",
        caption="Orange entries are positive, blue ones negative; empty squares are zero.",
        source="matrix_signs",
        params={"name": name},
    )


def spectra(values: dict[int, np.ndarray]) -> go.Figure:
    """Eigenvalues of the Hodge Laplacian of each rank; zeros count holes."""
    fig = go.Figure()
    holes = {k: int((np.abs(v) < 1e-8).sum()) for k, v in values.items()}
    for k, found in values.items():
        fig.add_scatter(
            x=np.arange(1, len(found) + 1),
            y=np.round(found, 10),
            mode="lines+markers",
            name=f"rank {k}: {holes[k]} zeros",
            line={"color": viz.PALETTE[k % 8], "dash": viz.DASHES[k % 6]},
            marker={"symbol": viz.SYMBOLS[k % 8], "size": 7},
        )
    fig.update_xaxes(title_text="number of the eigenvalue, ascending")
    fig.update_yaxes(title_text="eigenvalue (no unit)")
    return viz.finish(
        fig,
        title="Spectra of the Hodge Laplacians",
        alt="Zeros (Betti numbers): " + ", ".join(f"rank {k} {h}" for k, h in holes.items()) + ".",
        caption="The number of zeros at rank k is the number of k-dimensional holes.",
        source="spectra",
    )


def flow_parts(
    places: np.ndarray, edges: np.ndarray, parts: dict[str, np.ndarray], *, part: str
) -> go.Figure:
    """An edge flow or one of its Hodge parts on a triangulated square; colour is size with sign."""
    flow = parts[part]
    most = float(max(np.abs(v).max() for v in parts.values()))
    middle = (places[edges[:, 0]] + places[edges[:, 1]]) / 2
    step = (places[edges[:, 1]] - places[edges[:, 0]]) * np.sign(flow)[:, None]
    angle = np.degrees(np.arctan2(step[:, 0], step[:, 1]))
    x, y = _outlines(places, edges.tolist())
    fig = go.Figure()
    fig.add_scatter(x=x, y=y, mode="lines", line={"color": viz.GRID, "width": 1}, hoverinfo="skip",
                    showlegend=False)  # fmt: skip
    fig.add_scatter(
        x=middle[:, 0],
        y=middle[:, 1],
        mode="markers",
        showlegend=False,
        marker={
            "symbol": "arrow", "angle": angle, "size": 6 + 14 * np.abs(flow) / most,
            "color": np.abs(flow), "colorscale": viz.SEQUENTIAL, "cmin": 0, "cmax": most,
            "colorbar": {"title": "|flow|"},
        },
        hovertemplate="%{marker.color:.3f}<extra></extra>",
    )  # fmt: skip
    fig.update_xaxes(title_text="x (side of the square = 1)")
    fig.update_yaxes(title_text="y", scaleanchor="x")
    share = float((flow**2).sum() / (parts["flow"] ** 2).sum())
    return viz.finish(
        fig,
        title=f"Edge flow: {part}",
        alt=f"{part}: {share:.0%} of the energy of the flow, on {len(edges)} edges.",
        caption="Arrows show direction and size on each edge; the harmonic part runs round the "
        "holes.",
        source="flow_parts",
        params={"part": part},
        height=560,
    )
