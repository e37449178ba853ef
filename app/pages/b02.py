"""B02: preliminaries. Walking downhill, with a step below or above the limit."""

import streamlit as st

from app.ui import Controls, Preset, Range, figure
from app.ui.chapter import chapter
from app.ui.parameters import Table
from labcore.blocks.optim import gradient_descent, stability_limit
from labcore.book import figures_b02
from labcore.runs import Result

ASSETS = ()
PARAMETERS: Table = {
    "lr": Range(0.1, 0.01, 4.0, 0.01, "step size"),
    "m": Range(0.0, 0.0, 0.95, 0.05, "momentum"),
    "x1": Range(5.0, 0.0, 10.0, 0.1, "first coordinate of the start"),
    "x2": Range(5.0, 0.0, 10.0, 0.1, "second coordinate of the start"),
    "steps": Range(60, 1, 300, about="number of steps"),
}
control = Controls(PARAMETERS)


@chapter(
    "B02",
    control,
    claim="Curvature sets the learning rate: a walk returns to a minimum only with steps below "
    "2(1 + momentum)/curvature.",
    look="Raise the step from 0.1 to 1.7: the line on the right gets steeper, then shallower "
    "again. Just above 1.73 the path does not fly away: it hops for ever between two sides of the "
    "pit.",
    code=(gradient_descent, stability_limit),
    presets=(
        Preset("Just stable", "It hops from side to side, and arrives.", {"lr": 1.7, "steps": 150}),
        Preset("Just unstable", "It hops for ever.", {"lr": 1.8, "steps": 150}),
        Preset("Momentum", "The same step is stable now.", {"lr": 1.8, "m": 0.5, "steps": 150}),
        Preset("Another pit", "Not every start leads to the lowest point.", {"x1": 8.5, "x2": 1.5}),
    ),
    then=("B05", "B06"),
)
def body(result: Result) -> None:
    """The centre-piece."""
    with st.sidebar:
        lr, momentum = control.slider("lr", "Step size"), control.slider("m", "Momentum")
        x1, x2 = control.slider("x1", "Start x₁"), control.slider("x2", "Start x₂")
        steps = control.slider("steps", "Steps")
    figure(figures_b02.descent_figure(x1, x2, lr, momentum, steps), "descent")


if __name__ == "__main__":
    body()
