"""Centre-piece of chapter 6: the backward pass of a small graph, one visit at a time."""

import plotly.graph_objects as go

from labcore import viz
from labcore.blocks.autodiff import Step, Tensor, backward, consumers_first, trace
from labcore.book.b06 import small_graph, wrong_trace


def places(output: Tensor) -> dict[Tensor, tuple[float, float]]:
    """Where to draw each node: left to right by its distance from the inputs, bent apart."""
    depth: dict[Tensor, int] = {}
    order = consumers_first(output)
    for node in reversed(order):
        below = [depth[parent] for parent in node.parents if parent in depth]
        depth[node] = 1 + max(below) if below else 0
    bend = {0: 0.0, 1: 0.0, 2: 0.7, 3: 0.35}
    return {node: (float(depth[node]), bend.get(depth[node], 0.0)) for node in order}


def backward_figure(step: int = 3, order: str = "consumers first", at: float = 1.5) -> go.Figure:
    """The graph of L = u sin u + u, u = x², after some visits of the backward pass.

    Args:
        step: Visits done so far, 0 to 5.
        order: "consumers first", or "first discovered", which is wrong.
        at: x.

    Raises:
        ValueError: another order, or a step outside 0..5.
    """
    if order not in ("consumers first", "first discovered"):
        raise ValueError(f'order is "consumers first" or "first discovered", got {order!r}')
    output = small_graph(at)
    steps = trace(output) if order == "consumers first" else wrong_trace(output)
    if not 0 <= step <= len(steps):
        raise ValueError(f"step must be in 0..{len(steps)}, got {step}")
    spots, done = places(output), steps[:step]
    adjoints: dict[Tensor, float] = {output: 1.0}
    for visit in done:
        for parent, sent in visit.sent:
            adjoints[parent] = adjoints.get(parent, 0.0) + float(sent)
    fig = go.Figure()
    _edges(fig, spots, done)
    fired = [visit.node for visit in done]
    for node, (x, y) in spots.items():
        kind = 2 if fired and node is fired[-1] else (1 if node in fired else 0)
        fig.add_scatter(
            x=[x], y=[y], mode="markers", showlegend=False, hoverinfo="skip",
            marker={"size": 46, "color": ("white", "#D5E6F3", viz.PALETTE[1])[kind],
                    "symbol": ("circle", "circle", "square")[kind],
                    "line": {"color": viz.INK, "width": 1.5}},
        )  # fmt: skip
        got = f"adjoint {adjoints[node]:.4f}" if node in adjoints else "adjoint ?"
        fig.add_annotation(x=x, y=y, yshift=42, text=f"<b>{node.name}</b>", showarrow=False)
        fig.add_annotation(x=x, y=y, text=f"{float(node.value):.3f}", showarrow=False,
                           font={"size": 12})  # fmt: skip
        fig.add_annotation(x=x, y=y, yshift=-42, text=got, showarrow=False,
                           font={"color": viz.PALETTE[0]})  # fmt: skip
    fig.update_xaxes(visible=False, range=[-0.5, 4.5])
    fig.update_yaxes(visible=False, range=[-0.75, 1.25])
    leaf = next(node for node in spots if not node.parents)
    right = float(backward(output)[leaf])
    now = adjoints.get(leaf)
    said = "not yet known" if now is None else f"{now:.6f}"
    last = f"{fired[-1].name} fires" if fired else "the seed is set"
    return viz.finish(
        fig,
        title=f"Visit {step} of {len(steps)}, {order}: {last}",
        alt=f"After {step} visits, {order}, dL/dx is {said}; the right value is {right:.6f}. "
        f"Fired so far: {', '.join(str(n.name) for n in fired) or 'none'}.",
        caption="The square fires: it multiplies its adjoint into its parents (thick arrows). In "
        "the wrong order u fires before s has paid in, and x never hears of the rest.",
        source="backward_figure",
        params={"step": step, "order": order, "at": at},
        height=430,
    )


def _edges(fig: go.Figure, spots: dict[Tensor, tuple[float, float]], done: list[Step]) -> None:
    """Arrows from parent to child, those of the last visit thick and turned round."""
    active = {parent for parent, _ in done[-1].sent} if done else set()
    for node, (x, y) in spots.items():
        for parent in dict.fromkeys(node.parents):
            if parent not in spots:
                continue
            a, b = spots[parent]
            lit = bool(done) and node is done[-1].node and parent in active
            tail, head = ((x, y), (a, b)) if lit else ((a, b), (x, y))
            fig.add_annotation(
                ax=tail[0], ay=tail[1], x=head[0], y=head[1], axref="x", ayref="y",
                showarrow=True, arrowhead=2, arrowsize=1, standoff=26, startstandoff=26, text="",
                arrowwidth=4 if lit else 1.3, arrowcolor=viz.PALETTE[3] if lit else "#9AA5B1",
            )  # fmt: skip
