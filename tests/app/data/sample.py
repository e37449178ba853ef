"""A page with every kind of control, for tests of the helpers."""

import streamlit as st

from app.ui import (
    Choice,
    Controls,
    Flag,
    Preset,
    Range,
    Several,
    Text,
    cached,
    figure,
    long_job,
    page,
)
from app.ui.parameters import Table
from tests.app.data import sample_figures as figures

ASSETS = ("smollm2-135m",)
PARAMETERS: Table = {
    "k": Range(4, 1, 16, about="turns"),
    "rho": Range(0.5, 0.0, 0.95, 0.05, "height in metres"),
    "n": Range(3, 1, 9, about="a number in a box"),
    "kind": Choice("sine", ("sine", "cosine"), "which wave"),
    "layer": Choice(2, (0, 1, 2, 3, 4, 5), "one of many"),
    "grid": Choice(0.5, (0.25, 0.5, 0.75), "precomputed"),
    "marks": Flag(False, "draw the points"),
    "parts": Several(("sinks",), ("sinks", "recent", "special"), "guards"),
    "text": Text("The cat", 40, "words"),
}
control = Controls(PARAMETERS)


@cached
def doubled(k: int) -> int:
    return 2 * k


@page(
    "kvcache",
    control,
    claim="Waves turn.",
    presets=(
        Preset("High wave", "Look at the height.", {"rho": 0.95, "parts": ("recent",)}),
        Preset("Many turns", "Count them.", {"k": 16, "kind": "cosine"}),
    ),
    look="The crest.",
    code=(figures.wave,),
)
def body() -> None:
    with st.sidebar:
        k = control.slider("k", "Turns")
        rho = control.slider("rho", "Height")
        n = control.number("n", "Number")
        kind = control.select("kind", "Wave")
        layer = control.select("layer", "Layer")
        grid = control.steps("grid", "Grid")
        marks = control.toggle("marks", "Points")
        parts = control.many("parts", "Guards")
        text = control.text("text", "Text")
    st.metric("twice k", doubled(k))
    st.text(f"values {(k, rho, n, kind, layer, grid, marks, parts, text)}")
    figure(figures.wave(k, rho, kind, marks, parts), "wave", seed=0)
    result = long_job("slow", figures.slow, 40, 0.05, label="Forty steps", seconds=2)
    if result is not None:
        st.text(f"slow gave {result}")


if __name__ == "__main__":
    body()
