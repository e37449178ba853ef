"""Figures of complexes: the cells of a graph, boundary matrices, spectra, flows."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from labcore import viz

Pairs = Sequence[Sequence[int]]


def complex_drawing(
    places: np.ndarray,
    edges: Pairs,
    cells: Sequence[Sequence[int]],
    *,
    node: int | None = None,
    names: Sequence[str] = (),
    flow: np.ndarray | None = None,
    title: str = "The complex",
) -> go.Figure:
    """Nodes, edges and filled 2-cells; those of one node stand out.

    Args:
        places: Where the nodes are, (n, 2).
        edges: Pairs of nodes.
        cells: Nodes of each triangle, polygon or hyperedge, in drawing order.
        node: The node to look at, or None.
        names: What the nodes are called.
        flow: A number an edge, drawn as its width, or None.
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
    if flow is not None:
        _add_flow(fig, places, edges, flow)
    sizes = [20 if i == node else 8 for i in range(len(places))]
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
            "line": {"color": "white", "width": 1.5},
        },
        hovertemplate="node %{text}<extra></extra>",
    )
    fig.update_xaxes(visible=False, title="no unit")
    fig.update_yaxes(visible=False, scaleanchor="x", title="no unit")
    fig.update_layout(legend={"orientation": "h", "y": -0.02, "yanchor": "top"})
    said = "" if node is None else f" Node {node} is in {sum(own)} of the 2-cells."
    if flow is not None:
        said += (
            f" The harmonic flow is strongest on edge {tuple(edges[int(np.abs(flow).argmax())])}."
        )
    return viz.finish(
        fig,
        title=title,
        alt=f"{len(places)} nodes, {len(edges)} edges, {len(cells)} 2-cells.{said}",
        caption="Filled areas are the 2-cells; orange ones hold the chosen node (star)."
        + ("" if flow is None else " Thick green edges carry a flow that runs round a hole."),
        source="complex_drawing",
        params={"node": node},
        height=520,
    )


def _add_flow(fig: go.Figure, places: np.ndarray, edges: Pairs, flow: np.ndarray) -> None:
    """Edges by size of a flow, in four widths."""
    share = np.abs(flow) / max(float(np.abs(flow).max()), 1e-12)
    for low, width in ((0.1, 2), (0.25, 4), (0.5, 7), (0.75, 10)):
        high = {0.1: 0.25, 0.25: 0.5, 0.5: 0.75, 0.75: 2.0}[low]
        chosen = [e for e, s in zip(edges, share, strict=True) if low <= s < high]
        if chosen:
            x, y = _outlines(places, chosen)
            fig.add_scatter(x=x, y=y, mode="lines", hoverinfo="skip", opacity=0.8,
                            line={"color": viz.PALETTE[2], "width": width},
                            name=f"flow from {low:.0%} of the largest")  # fmt: skip


def lifting_gallery(views: Sequence[tuple[str, Any]], *, graph: str) -> go.Figure:
    """One graph in several liftings, side by side, the counts of cells above each.

    Args:
        views: (name of the lifting, :class:`~labcore.topology.explorer.View`).
        graph: Name of the graph.
    """
    columns = 3
    names = [f"{name}<br>{' / '.join(map(str, v.sizes))}" for name, v in views]
    fig = make_subplots(-(-len(views) // columns), columns, subplot_titles=names,
                        horizontal_spacing=0.03, vertical_spacing=0.12)  # fmt: skip
    for i, (_, seen) in enumerate(views):
        at = {"row": i // columns + 1, "col": i % columns + 1}
        style: dict[str, Any] = {"showlegend": False, "hoverinfo": "skip"}
        x, y = _outlines(seen.places, seen.cells)
        fig.add_scatter(x=x, y=y, fill="toself", mode="none", fillcolor="rgba(86,180,233,0.22)",
                        **style, **at)  # fmt: skip
        x, y = _outlines(seen.places, seen.edges)
        fig.add_scatter(x=x, y=y, mode="lines", line={"color": "#9AA5B1", "width": 0.8}, **style,
                        **at)  # fmt: skip
        fig.add_scatter(x=seen.places[:, 0], y=seen.places[:, 1], mode="markers",
                        marker={"size": 5, "color": viz.PALETTE[0]}, **style, **at)  # fmt: skip
    bare = {"showticklabels": False, "showgrid": False, "zeroline": False, "ticks": ""}
    fig.update_xaxes(title="", **bare)
    fig.update_yaxes(title="", **bare)
    fig.update_layout(margin={"t": 120})
    said = "; ".join(f"{name} {'/'.join(map(str, v.sizes))}" for name, v in views)
    return viz.finish(
        fig,
        title=f"One graph, {len(views)} liftings: {graph}",
        alt=f"Cells by rank: {said}.",
        caption="Blue areas are cells above the edges; numbers are cells by rank, nodes first.",
        source="lifting_gallery",
        params={"graph": graph},
        height=620,
    )


def _outlines(places: np.ndarray, groups: Sequence[Sequence[int]]) -> tuple[list[Any], list[Any]]:
    x: list[Any] = []
    y: list[Any] = []
    for group in groups:
        ring = [*group, group[0]] if len(group) > 2 else list(group)
        x += [*places[ring, 0].tolist(), None]
        y += [*places[ring, 1].tolist(), None]
    return x, y


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
            "symbol": "arrow", "angle": angle, "size": 9 + 14 * np.abs(flow) / most,
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


def ring_bars(lengths: Mapping[str, Sequence[int]], *, graph: str, relabel: int) -> go.Figure:
    """How many cycles of each length a basis has.

    Args:
        lengths: Name of the basis -> length of each of its cycles.
        graph: Name of the graph.
        relabel: Seed of the renaming of its nodes.
    """
    fig = go.Figure()
    most = max((max(found, default=3) for found in lengths.values()), default=3)
    for i, (name, found) in enumerate(lengths.items()):
        counts = np.bincount(np.asarray(found, dtype=int), minlength=most + 1)[3:]
        fig.add_bar(
            x=list(range(3, most + 1)), y=counts, name=f"{name} basis",
            marker={"color": viz.PALETTE[i], "pattern": {"shape": ("", "/")[i % 2]}},
        )  # fmt: skip
    fig.update_xaxes(title_text="length of the cycle (nodes)", dtick=1)
    fig.update_yaxes(title_text="number of cycles")
    said = "; ".join(f"{n}: {len(v)} cycles, total length {sum(v)}" for n, v in lengths.items())
    return viz.finish(
        fig,
        title=f"Rings of {graph}, naming {relabel}",
        alt=f"{said}.",
        caption="Both bases have equally many cycles; only the minimum basis keeps its lengths "
        "when nodes are renamed.",
        source="ring_bars",
        params={"graph": graph, "relabel": relabel},
    )
