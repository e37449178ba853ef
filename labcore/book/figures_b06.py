"""Centre-piece of chapter 6: the backward pass of a small graph, one visit at a time."""

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import count
from typing import Any

import plotly.graph_objects as go

from labcore import viz
from labcore.blocks.autodiff import Step, Tensor, backward, consumers_first, trace
from labcore.book.b06 import small_graph, wrong_trace

MOST = 40  # nodes that can still be told apart
ROW = 0.35  # height of a node above an edge that passes below it
Places = Mapping[Tensor, tuple[float, float]]


def draw(output: Tensor) -> go.Figure:
    """The graph behind ``output``: what made each node, its value or shape, and who uses it.

    Constants are left out, as in the backward pass.

    Args:
        output: Any node with at most 40 nodes behind it.

    Raises:
        ValueError: a larger graph, or an output that depends on no input.
    """
    spots = places(output)
    fig, texts = _canvas(spots), _edges(spots, [])
    for node, spot in spots.items():
        texts += _node(fig, spot, node, below="")
    fig.update_layout(annotations=texts)
    inputs = sum(not node.parents for node in spots)
    sources = "1 input" if inputs == 1 else f"{inputs} inputs"
    uses = Counter(parent for node in spots for parent in set(node.parents))
    busy, most = max(uses.items(), key=lambda pair: pair[1], default=(output, 0))
    return viz.finish(
        fig,
        title=f"{len(spots)} nodes, {sources} among them",
        alt=f"A graph of {len(spots)} nodes from {sources} to {_name(output)}; "
        f"{_name(busy)} is used most, by {most} others.",
        caption="Values flow to the right, adjoints back to the left.",
        source="draw",
        height=340,
    )


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
    fig, texts = _canvas(spots), _edges(spots, done)
    fired = [visit.node for visit in done]
    for node, spot in spots.items():
        state = 2 if fired and node is fired[-1] else (1 if node in fired else 0)
        got = f"adjoint {adjoints[node]:.4f}" if node in adjoints else "adjoint ?"
        texts += _node(fig, spot, node, below=got, state=state)
    fig.update_layout(annotations=texts)
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
        "the wrong order u fires before s has paid in, and x never hears of the rest. "
        f"dL/dx is {said}; rightly {right:.6f}.",
        source="backward_figure",
        params={"step": step, "order": order, "at": at},
        height=380,
    )


def places(output: Tensor) -> dict[Tensor, tuple[float, float]]:
    """Where to draw each node: its distance from the inputs to the right, above passing edges.

    Raises:
        ValueError: more than 40 nodes, or none that is not constant.
    """
    if output.constant:
        raise ValueError("the output depends on no input: nothing to draw")
    order = consumers_first(output)[::-1]
    if len(order) > MOST:
        raise ValueError(f"the graph has {len(order)} nodes: at most {MOST} can be drawn")
    depth: dict[Tensor, int] = {}
    for node in order:
        depth[node] = 1 + max((depth[p] for p in node.parents if p in depth), default=-1)
    passing: Counter[int] = Counter()
    for node in order:
        for parent in {p for p in node.parents if p in depth}:
            passing.update(range(depth[parent] + 1, depth[node]))
    height, spots = passing.copy(), {}
    for node in order:
        spots[node] = (float(depth[node]), ROW * height[depth[node]])
        height[depth[node]] += 2
    for node in order:  # sloping edges pass elsewhere than was reckoned: the lowest free place
        free = (y for y in (ROW * row for row in count()) if _free(node, y, spots))
        spots[node] = (spots[node][0], next(free))
    return spots


def _free(node: Tensor, y: float, spots: Places) -> bool:
    """Whether a node at height y would keep away from its column's others and from all edges."""
    x = spots[node][0]
    if any(other is not node and a == x and abs(b - y) < 1.9 * ROW
           for other, (a, b) in spots.items()):  # fmt: skip
        return False
    for child, (right, above) in spots.items():
        for left, below in (spots[p] for p in child.parents if p in spots):
            met = left < x < right
            if met and abs(below + (above - below) * (x - left) / (right - left) - y) < 0.9 * ROW:
                return False
    return True


def _canvas(spots: Places) -> go.Figure:
    right, top = (max(spot[axis] for spot in spots.values()) for axis in (0, 1))
    fig, aside = go.Figure(), max(0.4, 0.05 * right)
    fig.update_xaxes(visible=False, range=[-aside, right + aside])
    fig.update_yaxes(visible=False, range=[-0.5, top + 0.55])
    fig.update_layout(margin={"l": 16, "r": 16, "b": 8})
    return fig


def _name(node: Tensor) -> str:
    return node.name or node.op or "input"


def _node(
    fig: go.Figure, spot: tuple[float, float], node: Tensor, *, below: str, state: int = 0
) -> list[dict[str, Any]]:
    """Draws a node; gives its name above, its value inside, a text below (or above the name)."""
    x, y = spot
    fig.add_scatter(
        x=[x], y=[y], mode="markers", showlegend=False, hoverinfo="skip",
        marker={"size": 46, "color": ("white", "#D5E6F3", viz.PALETTE[1])[state],
                "symbol": ("circle", "circle", "square")[state],
                "line": {"color": viz.INK, "width": 1.5}},
    )  # fmt: skip
    value = f"{float(node.value):.3f}" if not node.shape else "×".join(map(str, node.shape))
    high = y > 1.5 * ROW  # arrows leave such a node downwards
    here = {"x": x, "y": y, "showarrow": False}
    return [
        here | {"yshift": 36, "text": f"<b>{_name(node)}</b>"},
        here | {"text": value, "font": {"size": 12}},
        here | {"yshift": 56 if high else -38, "text": below, "font": {"color": viz.PALETTE[0]}},
    ]


def _edges(spots: Places, done: Sequence[Step]) -> list[dict[str, Any]]:
    """Arrows from parent to child, those of the last visit thick and turned round.

    They and the texts are set together: plotly checks all annotations again at each new one.
    """
    arrows = []
    last = done[-1] if done else None
    for node, (x, y) in spots.items():
        for parent in dict.fromkeys(node.parents):
            if parent not in spots:
                continue
            a, b = spots[parent]
            lit = last is not None and node is last.node
            tail, head = ((x, y), (a, b)) if lit else ((a, b), (x, y))
            arrows.append({
                "ax": tail[0], "ay": tail[1], "x": head[0], "y": head[1], "axref": "x",
                "ayref": "y", "showarrow": True, "arrowhead": 2, "arrowsize": 1, "standoff": 26,
                "startstandoff": 26, "text": "", "arrowwidth": 4 if lit else 1.3,
                "arrowcolor": viz.PALETTE[3] if lit else "#9AA5B1",
            })  # fmt: skip
    return arrows
