"""B10: transformer models. Everyone looks at everyone."""

import streamlit as st

from app.ui import Controls, Preset, Range, Text, figure, long_job, need_asset
from app.ui.chapter import chapter
from app.ui.parameters import Table
from labcore.blocks.attention import attention, multi_head
from labcore.blocks.positions import rope, sinusoidal
from labcore.book import figures_b10
from labcore.book.b10 import MODEL, SENTENCE
from labcore.runs import Result

ASSETS = ("smollm2-135m",)
PARAMETERS: Table = {
    "layer": Range(0, 0, 29, about="layer of SmolLM2-135M"),
    "head": Range(0, 0, 8, about="query head"),
    "text": Text(SENTENCE, 300, "a sentence of your own"),
}
control = Controls(PARAMETERS)


@chapter(
    "B10",
    control,
    claim="Heads specialise, and deep layers park their attention on the first token.",
    look="In layer 0 the last word spreads its attention. Walk up and watch the left column of "
    "the map light up: the first token becomes a place to look at when there is nothing to read. "
    "In between, find a head that reads the token before, and one that goes back to the cat.",
    code=(attention, multi_head, sinusoidal, rope),
    presets=(
        Preset("The bottom", "Attention is spread.", {"layer": 0, "head": 0}),
        Preset("The token before", "A bright diagonal, one step down.", {"layer": 16, "head": 0}),
        Preset("The sink", "Nearly everything rests on token 0.", {"layer": 23, "head": 0}),
    ),
    then=("B11", "P05", "P06", "P09"),
)
def body(result: Result) -> None:
    """The centre-piece."""
    with st.sidebar:
        layer, head = control.slider("layer", "Layer"), control.slider("head", "Head")
    tokens = [row["token"] for row in result.tables["b10/tokens"]]
    weights = result.arrays["b10/weights"]
    figure(figures_b10.attention_figure(weights, tokens, layer=layer, head=head), "attention")
    with st.expander("Your own sentence, live on the model", icon=":material/edit:"):
        if need_asset(MODEL) is None:
            return
        text = control.text("text", "Sentence")
        own = long_job("read", "labcore.book.b10.read", text, label="Read this sentence",
                       seconds=8, reports=False)  # fmt: skip
        if own is not None:
            fig = figures_b10.attention_figure(own[1], own[0], layer=layer, head=head)
            figure(fig, "own")


if __name__ == "__main__":
    body()
