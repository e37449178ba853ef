"""BA: probability. One bell for two humps."""

import streamlit as st

from app.ui import Controls, Preset, Range, figure
from app.ui.chapter import chapter
from app.ui.parameters import Table
from labcore.blocks.prob import kl_gaussian, mc_mean, mle_gaussian
from labcore.book import figures_ba
from labcore.runs import Result

ASSETS = ()
PARAMETERS: Table = {
    "mean": Range(0.0, -6.0, 6.0, 0.1, "mean of the bell"),
    "sd": Range(2.0, 0.3, 5.0, 0.1, "standard deviation of the bell"),
    "apart": Range(7.0, 0.0, 8.0, 0.5, "distance of the humps"),
}
control = Controls(PARAMETERS)


@chapter(
    "BA",
    control,
    claim="KL(p‖q) and KL(q‖p) are different questions: one asks q to cover everything, the other "
    "asks it to be nowhere in vain.",
    look="Put the bell in the middle and make it wide: the first number falls. Then narrow it and "
    "move it onto one hump: the second number falls, the first one soars. Now bring the humps "
    "together: below six, even the second number is smaller for a bell that covers both.",
    code=(kl_gaussian, mc_mean, mle_gaussian),
    presets=(
        Preset("Cover", "The best forward fit.", {"mean": 0.0, "sd": 3.6}),
        Preset("Hide", "The best reverse fit, on one hump.", {"mean": 3.5, "sd": 1.0}),
        Preset("No quarrel", "Both fits agree.", {"apart": 3.0, "sd": 1.8}),
    ),
    then=("B03",),
)
def body(result: Result) -> None:
    """The centre-piece."""
    with st.sidebar:
        mean, deviation = (
            control.slider("mean", "Mean of q"),
            control.slider("sd", "Deviation of q"),
        )
        apart = control.slider("apart", "Distance of the humps")
    figure(figures_ba.two_fits_figure(mean, deviation, apart), "fits")


if __name__ == "__main__":
    body()
