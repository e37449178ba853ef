"""B13: recurrent models. What an eigenvalue remembers, and layers that choose."""

import streamlit as st

from app.ui import Choice, Controls, Preset, Range, figure
from app.ui.chapter import chapter
from app.ui.parameters import Table
from labcore.blocks.ssm import linear_attention, lru, scan, selective_scan
from labcore.book import figures_b13
from labcore.book.b13 import SENTENCE
from labcore.runs import Result

ASSETS = ()
PARAMETERS: Table = {
    "r": Range(0.9, 0.0, 1.05, 0.01, "size of the eigenvalue"),
    "theta": Range(0.5, 0.0, 3.14, 0.02, "angle of the eigenvalue, radians"),
    "layer": Choice(0, (0, 1), "block of the selective network"),
    "feature": Range(0, 0, 63, about="feature, by how wide it opens between words"),
}
control = Controls(PARAMETERS)


@chapter(
    "B13",
    control,
    claim="In a recurrence |λ| sets the memory and arg λ the rhythm; a selective layer lets every "
    "token choose how much to forget.",
    look="Push |λ| from 0.9 to 0.99: the memory grows tenfold. Turn the angle: the response swings "
    "and the peak of the gain moves with it. Then read the sentence: feature 0 opens between "
    "words, the last features close there.",
    code=(scan, selective_scan, lru, linear_attention),
    presets=(
        Preset("Long memory", "Hundreds of steps.", {"r": 0.99, "theta": 0.0}),
        Preset("A metronome", "Swings, and hears only its own rhythm.", {"r": 0.98, "theta": 1.0}),
        Preset("Unstable", "Just outside the circle.", {"r": 1.03, "theta": 0.3}),
    ),
    then=("P02", "P04", "P06"),
)
def body(result: Result) -> None:
    """The centre-piece."""
    with st.sidebar:
        r, theta = control.slider("r", "|λ|"), control.slider("theta", "arg λ")
        layer = control.select("layer", "Block")
        feature = control.slider("feature", "Feature")
    figure(figures_b13.eigenvalue_figure(radius=r, angle=theta), "eigenvalue")
    steps = result.arrays["b13/steps"]
    figure(figures_b13.step_figure(steps, SENTENCE, layer=layer, feature=feature), "steps")
    figure(figures_b13.copying_figure(result.tables["b13/copying"]), "copying")


if __name__ == "__main__":
    body()
