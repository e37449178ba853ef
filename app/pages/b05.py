"""B05: fully-connected models. A playground of decision boundaries."""

import streamlit as st

from app.ui import Choice, Controls, Preset, Range, figure
from app.ui.chapter import chapter
from app.ui.parameters import Table
from labcore.book import b05, figures_b05
from labcore.runs import Result

ASSETS = ()
PARAMETERS: Table = {
    "data": Choice("xor", b05.DATA, "points in the plane"),
    "width": Choice(4, b05.WIDTHS, "units of each hidden layer"),
    "depth": Choice(1, b05.DEPTHS, "hidden layers; 0 is a linear model"),
    "act": Choice("relu", b05.ACTIVATIONS, "activation between layers"),
    "batch": Choice(0, b05.BATCHES, "rows a step; 0 takes all of them"),
    "seed": Range(0, 0, 2, about="which of three trained networks"),
}
control = Controls(PARAMETERS)


@chapter(
    "B05",
    control,
    claim="Nonlinearity, not depth alone, buys expressiveness: layers without activation are one "
    "layer.",
    look="Make the identity network as deep and wide as it goes: the border stays straight. One "
    "layer of four ReLUs folds the plane. Then change the seed: of three such networks one never "
    "finds the fold, and of those with two units none does, although two are enough.",
    code=(b05.train_answers, b05.solve_by_hand),
    presets=(
        Preset(
            "Deep and straight",
            "Three layers of 16 units, and XOR stays unsolved.",
            {"act": "identity", "depth": 3, "width": 16},
        ),
        Preset("One fold", "Four ReLUs are enough.", {"act": "relu", "width": 4, "seed": 2}),
        Preset("Round corners", "tanh bends smoothly.", {"act": "tanh", "width": 16}),
        Preset("Digits", "Five classes in two dimensions.", {"data": "digits", "width": 16}),
    ),
    then=("B06", "B07", "P10"),
)
def body(result: Result) -> None:
    """The centre-piece."""
    with st.sidebar:
        name, activation = control.select("data", "Points"), control.select("act", "Activation")
        width, depth = control.select("width", "Width"), control.select("depth", "Hidden layers")
        batch, seed = control.select("batch", "Batch"), control.slider("seed", "Seed")
    arrays = result.arrays
    fig = figures_b05.playground_figure(
        arrays["b05/answers"],
        arrays["b05/accuracy"],
        arrays[f"b05/{name}_x"],
        arrays[f"b05/{name}_y"],
        name=name,
        width=width,
        depth=depth,
        activation=activation,
        batch=batch,
        seed=seed,
    )
    figure(fig, "playground")


if __name__ == "__main__":
    body()
