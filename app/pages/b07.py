"""B07: convolutional layers. A kernel editor over a photograph."""

import streamlit as st

from app.ui import Controls, Preset, Range, figure
from app.ui.chapter import chapter
from app.ui.parameters import Table
from labcore.blocks.conv import conv2d, receptive_field, toeplitz
from labcore.book import figures_b07
from labcore.runs import Result

ASSETS = ()
NAMES = ("a", "b", "c", "d", "e", "f", "g", "h", "i")
START = figures_b07.KERNELS["vertical edges"]
PARAMETERS: Table = {
    name: Range(float(value), -8.0, 8.0, 0.5, f"entry {name} of the kernel, row by row")
    for name, value in zip(NAMES, START, strict=True)
} | {
    "row": Range(60, 0, 119, about="row of the pixel"),
    "col": Range(70, 0, 146, about="column of the pixel"),
    "layers": Range(1, 1, 12, about="3x3 layers in the stack"),
}
control = Controls(PARAMETERS)
PRESETS = tuple(
    Preset(
        name.capitalize(),
        "The nine numbers are in the sidebar: change one of them.",
        dict(zip(NAMES, map(float, kernel), strict=True)),
    )
    for name, kernel in figures_b07.KERNELS.items()
)


def editor() -> tuple[float, ...]:
    """Three rows of three boxes."""
    values = []
    for names in (NAMES[:3], NAMES[3:6], NAMES[6:]):
        for name, column in zip(names, st.columns(3), strict=True):
            with column:
                values.append(control.number(name, name))
    return tuple(values)


@chapter(
    "B07",
    control,
    claim="A convolution is a matrix, a very sparse one whose rows are all the same numbers.",
    look="Edges light up where neighbours differ; a kernel whose entries sum to zero is blind to "
    "flat sky. Add layers: the square grows by two pixels a layer, slowly. Turn one entry: the "
    "whole picture changes, because all places share the nine numbers.",
    code=(conv2d, toeplitz, receptive_field),
    presets=PRESETS,
    then=("B08", "B09", "P05"),
)
def body(result: Result) -> None:
    """The centre-piece."""
    with st.sidebar:
        kernel = editor()
        row, column = control.slider("row", "Row"), control.slider("col", "Column")
        layers = control.slider("layers", "Layers")
    fig = figures_b07.kernel_figure(
        result.arrays["b07/photo"], kernel, row=row, column=column, layers=layers
    )
    figure(fig, "kernel")


if __name__ == "__main__":
    body()
