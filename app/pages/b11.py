"""B11: transformers in practice. What a cache removes, and what it costs."""

import streamlit as st

from app.ui import Choice, Controls, Preset, Range, figure
from app.ui.chapter import chapter
from app.ui.parameters import Table
from labcore.blocks.attention import causal_mask, online_softmax_attention
from labcore.blocks.kv_cache import KVCache
from labcore.book import figures_b11
from labcore.book.b11 import generate
from labcore.runs import Result

ASSETS = ()
PARAMETERS: Table = {
    "t": Range(2048, 16, 32768, 16, "tokens of the text"),
    "layers": Range(30, 1, 80, about="layers"),
    "heads": Range(9, 1, 64, about="query heads"),
    "kv": Range(3, 1, 64, about="key heads, at most as many as query heads"),
    "dim": Choice(64, (32, 64, 96, 128), "numbers of a key"),
    "dtype": Choice("float32", ("float32", "bfloat16", "int8"), "precision of the cache"),
}
control = Controls(PARAMETERS)


@chapter(
    "B11",
    control,
    claim="The cache removes recomputation: all attention work falls from T³ to T², not further, "
    "and the bytes grow linearly with the key heads.",
    look="Both lines of work stay straight on logarithmic axes, with slopes 3 and 2. Halve the key "
    "heads: the bytes halve, the work does not move. A step with a cache still reads every key, "
    "so a long text gets slower with every token.",
    code=(KVCache, generate, causal_mask, online_softmax_attention),
    presets=(
        Preset("SmolLM2-135M", "Three key heads for nine query heads.", {}),
        Preset("Llama-2-7B", "A key head for every query head, half precision.",
               {"t": 4096, "layers": 32, "heads": 32, "kv": 32, "dim": 128, "dtype": "bfloat16"}),
        Preset("One key head", "Multi-query attention.", {"kv": 1}),
    ),
    then=("P06", "P09", "P05", "P03"),
)  # fmt: skip
def body(result: Result) -> None:
    """The centre-piece."""
    with st.sidebar:
        settings = {
            "tokens": control.slider("t", "Tokens"),
            "layers": control.slider("layers", "Layers"),
            "heads": control.slider("heads", "Query heads"),
            "kv_heads": control.slider("kv", "Key heads"),
            "head_dim": control.select("dim", "Head size"),
            "dtype": control.select("dtype", "Precision"),
        }
    figure(figures_b11.cost_figure(result.tables["b11/clock"], **settings), "cost")


if __name__ == "__main__":
    body()
