"""B06: automatic differentiation. The backward pass, one visit at a time."""

import streamlit as st

from app.ui import Choice, Controls, Preset, Range, figure
from app.ui.chapter import chapter
from app.ui.parameters import Table
from labcore.blocks.autodiff import Tensor, backward, checkpoint, consumers_first
from labcore.book import figures_b06
from labcore.runs import Result

ASSETS = ()
ORDERS = ("consumers first", "first discovered")
PARAMETERS: Table = {
    "step": Range(3, 0, 5, about="visits of the backward pass so far"),
    "order": Choice("consumers first", ORDERS, "in which order nodes fire"),
    "x": Range(1.5, -2.0, 2.0, 0.1, "the input"),
}
control = Controls(PARAMETERS)


@chapter(
    "B06",
    control,
    claim="A node may fire only after all its consumers: then one visit each is enough.",
    look="Step through: L pays p and u, p pays u and s, s pays u, and only then u fires. In the "
    "order of first discovery u fires after p: what s pays in later never reaches x.",
    code=(backward, consumers_first, checkpoint, Tensor),
    presets=(
        Preset("All visits", "dL/dx = 1.094048.", {"step": 5}),
        Preset("The wrong order", "u fired too early.", {"step": 5, "order": "first discovered"}),
        Preset("Another input", "The same visits, other numbers.", {"step": 5, "x": -1.0}),
    ),
    then=("B09", "P01", "P05"),
)
def body(result: Result) -> None:
    """The centre-piece."""
    with st.sidebar:
        step, order = control.slider("step", "Visits"), control.select("order", "Order")
        at = control.slider("x", "x")
    figure(figures_b06.backward_figure(step, order, at), "backward")


if __name__ == "__main__":
    body()
