"""B09: scaling up. Skip paths keep the gradient alive."""

import streamlit as st

from app.ui import Choice, Controls, Preset, figure
from app.ui.chapter import chapter
from app.ui.parameters import Table
from labcore.blocks.norm import ResidualStack, batch_norm, dropout, layer_norm
from labcore.book import figures_b09
from labcore.runs import Result

ASSETS = ()
PARAMETERS: Table = {"depth": Choice(20, (2, 5, 10, 20, 30), "layers of the network")}
control = Controls(PARAMETERS)


@chapter(
    "B09",
    control,
    claim="Skip paths keep the identity, and with it the gradient, alive.",
    look="At 2 layers all three networks train. Go deeper: the plain one loses its gradient by "
    "a constant factor a layer until its first layers get nothing, and its loss never leaves "
    "ln 10. The one with skips trains at every depth; normalisation makes it fast as well.",
    code=(ResidualStack, layer_norm, batch_norm, dropout),
    presets=(
        Preset("Shallow", "All three get most digits right.", {"depth": 2}),
        Preset("Ten layers", "The plain network gets less than half right.", {"depth": 10}),
        Preset("Deep", "The plain network learns nothing.", {"depth": 20}),
    ),
    then=("B10", "P01", "P10"),
)
def body(result: Result) -> None:
    """The centre-piece."""
    with st.sidebar:
        depth = control.steps("depth", "Layers")
    runs = result.tables["b09/runs"]
    figure(figures_b09.depth_figure(result.arrays, runs, depth=depth), "gradients")


if __name__ == "__main__":
    body()
