"""Centre-piece of chapter 11: what attention costs to write a text, with a cache and without."""

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from labcore import viz
from labcore.blocks.kv_cache import cache_bytes
from labcore.book.b11 import work_with_cache, work_without_cache
from labcore.runs import Table

WORK = (work_with_cache, work_without_cache)
ITEMSIZE = {"float32": 4, "bfloat16": 2, "int8": 1}


def cost_figure(
    clock: Table,
    *,
    tokens: int = 2048,
    layers: int = 30,
    heads: int = 9,
    kv_heads: int = 3,
    head_dim: int = 64,
    dtype: str = "float32",
) -> go.Figure:
    """Bytes of the cache, attention work of the whole text, and a clock, by length.

    Args:
        clock: The result's table ``b11/clock``, measured on a small decoder.
        tokens: Length of the text to mark.
        layers: Layers of the model.
        heads: Query heads.
        kv_heads: Key heads; at most as many as query heads are counted.
        head_dim: Numbers of a key.
        dtype: Precision of the cache.

    Raises:
        ValueError: A size that is not positive, or an unknown precision.
    """
    sizes = {"tokens": tokens, "layers": layers, "heads": heads, "kv_heads": kv_heads,
             "head_dim": head_dim}  # fmt: skip
    if bad := {name: size for name, size in sizes.items() if size < 1}:
        raise ValueError(f"sizes must be at least 1, got {bad}")
    if dtype not in ITEMSIZE:
        raise ValueError(f"dtype must be one of {', '.join(ITEMSIZE)}, got {dtype!r}")
    kv_heads = min(kv_heads, heads)
    at = np.unique(np.geomspace(16, 32_768, 34).round().astype(np.int64))
    shape = {"layers": layers, "kv_heads": kv_heads, "head_dim": head_dim}
    held = np.array([cache_bytes(int(t), itemsize=ITEMSIZE[dtype], **shape) for t in at])
    per_pair = 4 * layers * heads * head_dim  # a product and a sum, for scores and for values
    cached, whole = (per_pair * count(at.astype(float)) for count in WORK)
    fig = make_subplots(
        rows=1, cols=3, horizontal_spacing=0.11,
        subplot_titles=("cache (MiB)", "attention (10⁹ operations)", "measured (CPU seconds)"),
    )  # fmt: skip
    bytes_now = cache_bytes(tokens, itemsize=ITEMSIZE[dtype], **shape)
    _line(fig, 1, at, held / 2**20, "bytes of the cache", 0)
    _line(fig, 2, at, cached / 1e9, "with a cache", 1)
    _line(fig, 2, at, whole / 1e9, "all computed again", 2)
    work = [float(per_pair * count(tokens)) for count in WORK]
    for column, y in ((1, bytes_now / 2**20), (2, work[0] / 1e9), (2, work[1] / 1e9)):
        fig.add_scatter(
            x=[tokens], y=[y], mode="markers", row=1, col=column, showlegend=False,
            marker={"size": 13, "symbol": "star", "color": viz.INK},
        )  # fmt: skip
    lengths = np.array([row["tokens"] for row in clock])
    for key, style in (("cached", 1), ("whole", 2)):
        seconds = np.array([row[key] for row in clock])
        _line(fig, 3, lengths, seconds, "", style, legend=False)
    for column, every in ((1, 1), (2, 2), (3, 1)):
        fig.update_xaxes(title_text="tokens", type="log", dtick=1, row=1, col=column)
        fig.update_yaxes(type="log", dtick=every, exponentformat="power", row=1, col=column)
    fig.update_xaxes(tickvals=lengths[::2], row=1, col=3)
    fig.update_annotations(font={"size": 14})
    fig.update_layout(legend={"orientation": "h", "x": 0, "y": -0.22}, margin={"t": 88, "b": 92})
    last = clock[-1]
    return viz.finish(
        fig,
        title=f"{tokens:,} tokens: {bytes_now / 2**20:,.1f} MiB of cache; "
        f"{work[1] / work[0]:,.0f} times the attention without it",
        alt=f"A model of {layers} layers, {heads} query heads, {kv_heads} key heads of {head_dim}: "
        f"{bytes_now:,} bytes of cache in {dtype} for {tokens} tokens. Attention work over all "
        f"steps: {work[0]:.2e} operations with a cache, {work[1]:.2e} without. Measured on a small "
        f"decoder, {last['tokens']} tokens: {last['cached']:.2f} s with, {last['whole']:.2f} s "
        "without.",
        caption="Middle: all steps of a text together. The cache removes one power of the length, "
        "not two, since each new token reads all keys. Left: its bytes grow with the key heads, "
        f"not with the query heads. Right: our own decoder, {last['tokens']} tokens at most.",
        source="cost_figure",
        params={**sizes, "kv_heads": kv_heads, "dtype": dtype},
        height=450,
    )


def _line(
    fig: go.Figure,
    column: int,
    x: np.ndarray,
    y: np.ndarray,
    name: str,
    style: int,
    *,
    legend: bool = True,
) -> None:
    fig.add_scatter(
        x=x, y=y, name=name, row=1, col=column, showlegend=legend,
        mode="lines" if legend else "lines+markers",
        line={"color": viz.PALETTE[(0, 2, 3)[style]], "dash": viz.DASHES[style], "width": 2.4},
        marker={"symbol": viz.SYMBOLS[style], "size": 8},
    )  # fmt: skip
