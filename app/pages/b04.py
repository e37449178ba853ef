"""B04: linear models. One temperature for accuracy and calibration."""

import streamlit as st

from app.ui import Controls, Preset, Range, figure
from app.ui.chapter import chapter
from app.ui.parameters import Table
from labcore.blocks.calibration import conformal_threshold, ece
from labcore.blocks.linear import fit_logistic, softmax
from labcore.book import figures_b04
from labcore.runs import Result

ASSETS = ()
PARAMETERS: Table = {
    "t": Range(1.0, 0.1, 5.0, 0.05, "temperature τ of the softmax"),
    "bins": Range(10, 2, 20, about="bins of confidence"),
}
control = Controls(PARAMETERS)


@chapter(
    "B04",
    control,
    claim="Accuracy and calibration are different things: a temperature mends the probabilities "
    "and changes no answer.",
    look="Move τ from 1 downwards. The digits classifier is *too modest*: its bars stand above the "
    "diagonal until τ is near 0.7. No class ever changes its rank, so no answer does.",
    code=(softmax, fit_logistic, ece, conformal_threshold),
    presets=(
        Preset("Boasting", "Confidence near one everywhere, the bars fall below.", {"t": 0.2}),
        Preset("Honest", "Close to the temperature fitted on other rows.", {"t": 0.75}),
        Preset("Timid", "Everything drifts to the middle of the triangle.", {"t": 4.0}),
    ),
    then=("B05", "B08", "P09"),
)
def body(result: Result) -> None:
    """The centre-piece."""
    with st.sidebar:
        t, bins = control.slider("t", "Temperature τ"), control.slider("bins", "Bins")
    arrays = result.arrays
    fig = figures_b04.temperature_figure(
        arrays["b04/penguin_logits"],
        arrays["b04/penguin_species"],
        arrays["b04/digit_logits"],
        arrays["b04/digit_labels"],
        temperature=t,
        bins=bins,
    )
    figure(fig, "temperature")


if __name__ == "__main__":
    body()
