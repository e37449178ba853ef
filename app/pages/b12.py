"""B12: graph models. A little smoothing helps, a lot erases."""

import streamlit as st

from app.ui import Choice, Controls, Preset, Range, figure
from app.ui.chapter import chapter
from app.ui.parameters import Table
from labcore.blocks.graph import diffuse, gcn_layer, laplacian, normalised
from labcore.book import figures_b12
from labcore.book.data import karate
from labcore.runs import Result

ASSETS = ()
PARAMETERS: Table = {
    "k": Range(4, 0, 60, about="steps of diffusion"),
    "eta": Range(0.5, 0.05, 1.2, 0.05, "step size as a share of the stability limit"),
    "depth": Choice(2, (1, 2, 3, 4, 6, 8, 12, 16), "layers of the trained network"),
}
control = Controls(PARAMETERS)


@chapter(
    "B12",
    control,
    claim="A little smoothing along friendships helps, a lot erases what there was to tell.",
    look="Four steps of diffusion from two leaders put nearly everybody on the right side. Go on: "
    "the signs stay for a while, but the energy falls to nothing. Then push the step above 100 % "
    "of the limit. Below, the same lesson in trained networks: 2 to 8 layers agree, 16 know "
    "nothing, for every seed.",
    code=(laplacian, diffuse, normalised, gcn_layer),
    presets=(
        Preset("A little", "Most members take their leader's colour.", {"k": 6}),
        Preset("A lot", "Every colour has faded; the network below is no better.",
               {"k": 60, "depth": 16}),
        Preset("Too bold", "Above the limit opinions swing and grow.", {"k": 40, "eta": 1.1}),
    ),
    then=("P02", "P04", "P07"),
)  # fmt: skip
def body(result: Result) -> None:
    """The centre-piece."""
    with st.sidebar:
        k, eta = control.slider("k", "Steps"), control.slider("eta", "Step size / limit")
        depth = control.select("depth", "Layers of the network")
    adjacency, clubs = karate()
    places = result.arrays["b12/places"]
    figure(figures_b12.diffusion_figure(adjacency, places, clubs, step=k, share=eta), "diffusion")
    fig = figures_b12.depth_figure(
        adjacency,
        places,
        clubs,
        result.arrays["b12/depths"],
        result.arrays["b12/chances"],
        result.tables["b12/gcn"],
        depth=depth,
    )
    figure(fig, "networks")


if __name__ == "__main__":
    body()
