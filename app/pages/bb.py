"""BB: universal approximation by bins."""

import streamlit as st

from app.ui import Choice, Controls, Preset, Range, figure
from app.ui.chapter import chapter
from app.ui.parameters import Table
from labcore.blocks.approx import bin_function, bin_network
from labcore.book import figures_bb
from labcore.runs import Result

ASSETS = ()
PARAMETERS: Table = {
    "m": Range(10, 1, 100, about="number of bins; each takes two units"),
    "slope": Choice(10000, (3, 10, 30, 100, 10000), "steepness of the edges"),
}
control = Controls(PARAMETERS)


@chapter(
    "BB",
    control,
    claim="Enough bumps make any curve: the squared error of m bins falls like 1/m², not "
    "exponentially.",
    look="Add bins: the star slides down the line of slope −2. Then choose soft edges: beyond some "
    "number of bins the error stops falling, because each bump leaks into its neighbours.",
    code=(bin_network, bin_function),
    presets=(
        Preset("Five bins", "A staircase.", {"m": 5}),
        Preset("Fifty bins", "A hundred units, an error of 0.0002.", {"m": 50}),
        Preset("Soft edges", "More bins no longer help.", {"m": 50, "slope": 10}),
    ),
    then=("B05",),
)
def body(result: Result) -> None:
    """The centre-piece."""
    with st.sidebar:
        m, slope = control.slider("m", "Bins m"), control.steps("slope", "Steepness")
    arrays = result.arrays
    fig = figures_bb.bins_figure(arrays["bb/bins"], arrays["bb/errors"], m=m, slope=float(slope))
    figure(fig, "bins")


if __name__ == "__main__":
    body()
