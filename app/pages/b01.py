"""B01: introduction. A scaling law, and where it ends."""

import streamlit as st

from app.ui import Choice, Controls, Flag, Preset, figure
from app.ui.chapter import chapter
from app.ui.parameters import Table
from labcore.book import b01, figures_b01
from labcore.runs import Result

ASSETS = ()
PARAMETERS: Table = {
    "n": Choice(10000, b01.SIZES[2:], "training pictures whose error the line must predict"),
    "tested": Choice(2000, (2000, 10000), "test pictures: the first ones, or all"),
    "longer": Flag(False, "also three times as many steps"),
}
control = Controls(PARAMETERS)


@chapter(
    "B01",
    control,
    claim="Scaling is a regularity, until another resource runs out.",
    look="Up to 3000 pictures the line that was fitted before predicts the next error well. At 30 "
    "000 the star stands above it: the network sees few of them in 600 steps. Switch on more "
    "steps. The first 2000 test pictures are harder than the others, and the exponent hardly "
    "cares.",
    code=(b01.slope, figures_b01.scaling_figure),
    presets=(
        Preset("On the line", "The prediction holds.", {"n": 3000}),
        Preset("The bend", "The prediction fails.", {"n": 30000}),
        Preset("More steps", "The other resource.", {"n": 30000, "longer": True}),
    ),
    then=("B09", "P01", "P10"),
)
def body(result: Result) -> None:
    """The centre-piece."""
    with st.sidebar:
        n, tested = control.select("n", "Pictures"), control.select("tested", "Test pictures")
        longer = control.toggle("longer", "Three times the steps")
    fig = figures_b01.scaling_figure(result.tables["b01/errors"], n, tested=tested, longer=longer)
    figure(fig, "scaling")


if __name__ == "__main__":
    body()
