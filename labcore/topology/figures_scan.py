"""Figures of the scan: hidden attention, what is forgotten, the trees of parallel scans."""

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go

from labcore import viz


def token_strip(tokens: np.ndarray, ranks: Sequence[int], *, node: int) -> go.Figure:
    """What a node reads: one column a token, in reading order, itself last.

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
        height=420,
    )


def decay_map(decay: np.ndarray, names: Sequence[str], *, scale: float = 1.0) -> go.Figure:
    """What each step leaves of the state, ``exp(delta A)``.

    Args:
        decay: (t, states), between 0 and 1.
        names: Of the tokens.
        scale: Factor on the step sizes, for the title.
    """
    fig = go.Figure(
        go.Heatmap(
            z=decay.T, x=list(names), colorscale=viz.SEQUENTIAL, zmin=0, zmax=1,
            colorbar={"title": "kept"}, hovertemplate="%{x}, state %{y}: %{z:.3f}<extra></extra>",
        )
    )  # fmt: skip
    fig.update_xaxes(title_text="token read")
    fig.update_yaxes(title_text="state of the scan (number, slow to fast)")
    kept = ", ".join(f"{n} {d:.2f}" for n, d in zip(names, decay.mean(1), strict=True))
    return viz.finish(
        fig,
        title=f"Share of the state that is kept, step size × {scale:g}",
        alt=f"Mean share kept at each token: {kept}.",
        caption="A token with a large step empties the state (dark) before it writes.",
        source="decay_map",
        params={"scale": scale},
        height=420,
    )


def tree_edges(length: int, algorithm: str) -> list[tuple[int, int, int]]:
    """What is combined with what: (round, position, earlier position), rounds from 1 on.

    >>> tree_edges(4, "hillis-steele")
    [(1, 1, 0), (1, 2, 1), (1, 3, 2), (2, 2, 0), (2, 3, 1)]

    Raises:
        ValueError: an unknown algorithm, or Blelloch's tree on other than a power of two.
    """
    if algorithm == "sequential":
        return [(i, i, i - 1) for i in range(1, length)]
    if algorithm == "hillis-steele":
        rounds, reach, found = 1, 1, []
        while reach < length:
            found += [(rounds, i, i - reach) for i in range(reach, length)]
            reach, rounds = 2 * reach, rounds + 1
        return found
    if algorithm != "blelloch":
        known = "sequential, hillis-steele or blelloch"
        raise ValueError(f"algorithm must be {known}, got {algorithm!r}")
    if length & (length - 1):
        raise ValueError(f"the tree needs a power of two here, got {length}")
    up, reach, rounds = [], 1, 1
    while reach < length:
        up += [(rounds, i, i - reach) for i in range(2 * reach - 1, length, 2 * reach)]
        reach, rounds = 2 * reach, rounds + 1
    down, reach = [], length // 2
    while reach:  # each node hands its own start to the left, and start + left sum to the right
        down += [(rounds, i, i - reach) for i in range(2 * reach - 1, length, 2 * reach)]
        reach, rounds = reach // 2, rounds + 1
    return up + down


def scan_tree(length: int, *, algorithm: str, rounds: int | None = None) -> go.Figure:
    """Who combines with whom in a scan, round by round.

    Args:
        length: Tokens; a power of two for Blelloch's tree.
        algorithm: ``sequential``, ``hillis-steele`` or ``blelloch``.
        rounds: Draw the first ones only; None for all.
    """
    edges = tree_edges(length, algorithm)
    total = max(r for r, _, _ in edges)
    shown = total if rounds is None else min(rounds, total)
    fig = go.Figure()
    for row in range(shown + 1):
        mine = [(i, j) for r, i, j in edges if r == row]
        if row:
            x = [v for i, j in mine for v in (j, i, None)]
            y = [v for _ in mine for v in (row - 1, row, None)]
            fig.add_scatter(
                x=x, y=y, mode="lines", line={"color": viz.PALETTE[3], "width": 2},
                showlegend=False, hoverinfo="skip",
            )  # fmt: skip
        busy = {i for i, _ in mine}
        fig.add_scatter(
            x=list(range(length)), y=[row] * length, mode="markers", showlegend=False,
            marker={
                "size": [13 if i in busy else 7 for i in range(length)],
                "symbol": ["square" if i in busy else "circle" for i in range(length)],
                "color": [viz.PALETTE[0] if i in busy else "#9AA5B1" for i in range(length)],
            },
            hovertemplate=f"round {row}, position %{{x}}<extra></extra>",
        )  # fmt: skip
    fig.update_xaxes(title_text="position in the sequence", dtick=1)
    fig.update_yaxes(title_text="round", autorange="reversed", dtick=1)
    work = sum(r <= shown for r, _, _ in edges)
    return viz.finish(
        fig,
        title=f"{algorithm}, {length} tokens",
        alt=f"{work} combinations in {shown} of {total} rounds; {len(edges)} in all.",
        caption="A square is a combination, its line the earlier part that it takes in; all "
        "squares of a round can be computed at once.",
        source="scan_tree",
        params={"length": length, "algorithm": algorithm},
        height=180 + 44 * (shown + 1),
    )


def branch_bars(norms: Mapping[str, Mapping[str, float]]) -> go.Figure:
    """Gradient that each direction gets, for each mode of a bidirectional layer."""
    fig = go.Figure()
    for i, branch in enumerate(("forward", "backward")):
        values = [norms[mode][branch] for mode in norms]
        fig.add_bar(
            x=list(norms), y=values, name=f"{branch} block",
            marker={"color": viz.PALETTE[i], "pattern": {"shape": ("", "/")[i]}},
            text=[f"{v:.3f}" for v in values], textposition="outside", cliponaxis=False,
        )  # fmt: skip
    fig.update_xaxes(title_text="how the two directions are joined")
    fig.update_yaxes(title_text="size of the gradient (no unit)")
    said = "; ".join(f"{m}: {v['forward']:.3f} and {v['backward']:.3f}" for m, v in norms.items())
    return viz.finish(
        fig,
        title="Which direction learns?",
        alt=f"Gradient of forward and backward block. {said}.",
        caption="As published, the backward block is computed and gets no gradient at all.",
        source="branch_bars",
        height=420,
    )
