"""B03: datasets and losses. One outlier under three losses."""

import streamlit as st

from app.ui import Controls, Preset, Range, figure
from app.ui.chapter import chapter
from app.ui.parameters import Table
from labcore.blocks.losses import gaussian_nll, huber, lookup_table
from labcore.book import figures_b03
from labcore.runs import Result

ASSETS = ()
PARAMETERS: Table = {
    "out": Range(300.0, 150.0, 400.0, 5.0, "the value that is added, millimetres"),
    "delta": Range(1.0, 0.1, 6.0, 0.1, "where Huber's loss becomes a line, units of 10 mm"),
}
control = Controls(PARAMETERS)


@chapter(
    "B03",
    control,
    claim="A loss is a noise model: to choose one is to say how surprising a far error is.",
    look="Drag the outlier to the right: the blue line follows it for ever, half a millimetre a "
    "centimetre; the orange one stands still once the outlier has passed the middle. Then make δ "
    "small and large: Huber's loss turns from the one into the other.",
    code=(huber, gaussian_nll, lookup_table),
    presets=(
        Preset("A typing error", "One value of 400 mm moves the mean only.", {"out": 400.0}),
        Preset("Huber as median", "A tiny δ: nearly the absolute loss.", {"delta": 0.1}),
        Preset(
            "Huber as mean", "A large δ: nearly the squared loss.", {"delta": 6.0, "out": 260.0}
        ),
    ),
    then=("B04", "BA"),
)
def body(result: Result) -> None:
    """The centre-piece."""
    with st.sidebar:
        outlier = control.slider("out", "Outlier (mm)")
        delta = control.slider("delta", "Huber's δ (10 mm)")
    figure(figures_b03.outlier_figure(result.arrays["b03/flippers"], outlier, delta), "outlier")


if __name__ == "__main__":
    body()
