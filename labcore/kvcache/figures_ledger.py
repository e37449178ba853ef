"""Figures of what dropping saves: milliseconds of a step, bytes of a cache."""

import plotly.graph_objects as go

from labcore import viz
from labcore.kvcache.labels import hatched
from labcore.kvcache.ledger import GIB, MODELS, cache_bytes
from labcore.tally import Rows, distinct, pick

_PIECES = ("MLP", "projections", "vocabulary", "attention", "cache", "rest")
_HATCHES = ("", "/", "x", "", ".", "-")


def time_ledger(rows: Rows) -> go.Figure:
    """CPU time of one decode step by what it is spent on, against the length of the cache.

    Args:
        rows: The result's table ``step_times``.

    Raises:
        ValueError: an empty table.
    """
    if not rows:
        raise ValueError("the table is empty: measure at least one cache length")
    lengths = distinct(rows, "cached")
    fig = go.Figure()
    for number, piece in enumerate(_PIECES):
        ms = [pick(rows, cached=n, part=piece)[0]["ms"] for n in lengths]
        fig.add_bar(
            x=[f"{n:,}" for n in lengths],
            y=ms,
            name=piece,
            text=[f"{m:.0f}" if m >= 4 else "" for m in ms],
            textposition="inside",
            insidetextanchor="middle",
            textangle=0,
            marker={
                "color": (*viz.PALETTE[:6],)[number],
                "pattern": {**hatched(_HATCHES[number]), "fgopacity": 0.35},
                "line": {"color": "white", "width": 1},
            },
            hovertemplate="%{x} pairs<br>" + piece + " %{y:.1f} ms<extra></extra>",
        )
    fig.update_layout(barmode="stack", bargap=0.35, legend={"traceorder": "reversed"})
    fig.update_xaxes(title_text="cached pairs a layer", type="category")
    fig.update_yaxes(title_text="CPU time of one step (ms)")

    def of(length: int, piece: str) -> float:
        return float(pick(rows, cached=length, part=piece)[0]["ms"])

    short, long = lengths[0], lengths[-1]
    return viz.finish(
        fig,
        title="Where the time of one decode step goes",
        alt=f"With {short} cached pairs a step takes {of(short, 'whole step'):.0f} ms, of which "
        f"attention {of(short, 'attention'):.1f}; with {long}, {of(long, 'whole step'):.0f} ms, of "
        f"which attention {of(long, 'attention'):.0f} and our cache {of(long, 'cache'):.1f} (the "
        f"library's {of(long, 'cache of the library'):.1f}).",
        caption="Only the parts attention and cache depend on how many pairs are kept.",
        source="time_ledger",
        height=460,
    )


def bytes_ledger(
    tokens: int = 4096, *, keep_ratio: float = 0.5, skipped_layers: int = 2
) -> go.Figure:
    """Bytes of a cache before and after one prune, for models small and large.

    Args:
        tokens: Tokens of the prompt.
        keep_ratio: Fraction that stays in every layer that is not skipped.
        skipped_layers: Layers left whole.

    Raises:
        ValueError: what :func:`labcore.kvcache.ledger.cache_bytes` refuses.
    """
    names = [shape.name for shape in MODELS]
    full = [cache_bytes(shape, tokens) / GIB for shape in MODELS]
    kept = [
        cache_bytes(shape, tokens, keep_ratio=keep_ratio, skipped_layers=skipped_layers) / GIB
        for shape in MODELS
    ]
    fig = go.Figure()
    for name, values, colour, hatch in (
        ("after one prune", kept, viz.PALETTE[0], ""),
        ("full cache", full, viz.PALETTE[1], "/"),
    ):
        fig.add_bar(
            orientation="h", y=names, x=values, name=name, marker_color=colour,
            marker_pattern=hatched(hatch), text=[f" {_gib(v)}" for v in values],
            textposition="outside", cliponaxis=False,
        )  # fmt: skip
    fig.update_layout(
        barmode="group", bargap=0.3,
        legend={"traceorder": "reversed", "x": 0.98, "xanchor": "right", "y": 0.05},
    )  # fmt: skip
    fig.update_xaxes(title_text="cache (GiB)", range=[0, max(full) * 1.18 or 1])
    large = MODELS[-1]
    return viz.finish(
        fig,
        title=f"Bytes of {tokens:,} tokens, {keep_ratio:g} kept, {skipped_layers} layers whole",
        alt=f"{large.name}: {_gib(full[-1])} for {tokens} tokens, {_gib(kept[-1])} after "
        f"keeping {keep_ratio:g} in all but {skipped_layers} layers; {names[0]}: {_gib(full[0])} "
        f"and {_gib(kept[0])}.",
        caption="Bytes are exact: 2 · layers · key heads · head size · bytes a number, for each "
        "token.",
        source="bytes_ledger",
        params={"tokens": tokens, "keep_ratio": keep_ratio, "skipped_layers": skipped_layers},
        height=420,
    )


def _gib(value: float) -> str:
    return f"{value:.4f}".rstrip("0").rstrip(".") + " GiB"
