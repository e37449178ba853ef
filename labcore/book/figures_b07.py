"""Centre-piece of chapter 7: a kernel over a photograph, its matrix, and what a stack sees."""

import numpy as np
import plotly.graph_objects as go
import torch
from jaxtyping import UInt8
from plotly.subplots import make_subplots

from labcore import viz
from labcore.blocks.conv import conv2d, receptive_field

KERNELS: dict[str, tuple[float, ...]] = {
    "identity": (0, 0, 0, 0, 1, 0, 0, 0, 0),
    "blur": (1, 2, 1, 2, 4, 2, 1, 2, 1),
    "vertical edges": (-1, 0, 1, -2, 0, 2, -1, 0, 1),
    "horizontal edges": (-1, -2, -1, 0, 0, 0, 1, 2, 1),
    "ridge": (-1, -1, -1, -1, 8, -1, -1, -1, -1),
}


def kernel_figure(
    photo: UInt8[np.ndarray, "y x"],
    kernel: tuple[float, ...] = KERNELS["vertical edges"],
    *,
    row: int = 60,
    column: int = 70,
    layers: int = 1,
) -> go.Figure:
    """A photograph with one output's receptive field, what the kernel makes of it, its matrix row.

    Args:
        photo: Grey values (y, x), 0 to 255.
        kernel: Nine numbers, row by row.
        row: Row of the chosen output.
        column: Its column.
        layers: 3x3 layers in the stack whose receptive field is drawn.

    Raises:
        ValueError: not nine numbers, a pixel outside the photograph, or no layer.
    """
    height, width = photo.shape
    if len(kernel) != 9:
        raise ValueError(f"kernel must have nine numbers, got {len(kernel)}")
    if not (0 <= row < height and 0 <= column < width) or layers < 1:
        raise ValueError(
            f"row < {height}, column < {width}, layers >= 1: {row}, {column}, {layers}"
        )
    w = torch.tensor(kernel, dtype=torch.float32).reshape(1, 1, 3, 3)
    x = torch.from_numpy(photo.astype(np.float32))[None, None]
    response = conv2d(x, w, padding=1)[0, 0].numpy()
    field = receptive_field([(3, 1, 1)] * layers)
    used = sum(value != 0 for value in kernel)
    pixels = height * width
    reach = float(np.abs(response[1:-1, 1:-1]).max()) or 1.0
    fig = make_subplots(
        rows=2, cols=2, horizontal_spacing=0.1, vertical_spacing=0.2, row_heights=[0.76, 0.24],
        specs=[[{}, {}], [{"colspan": 2}, None]],
    )  # fmt: skip
    fig.add_heatmap(z=photo, colorscale="Gray", showscale=False, name="photograph", row=1, col=1,
                    hovertemplate="row %{y}, column %{x}: %{z}<extra></extra>")  # fmt: skip
    fig.add_heatmap(
        z=response.round(1), colorscale=[list(stop) for stop in viz.DIVERGING], zmin=-reach,
        zmax=reach, colorbar={"thickness": 10, "len": 0.66, "y": 0.68}, name="response",
        hovertemplate="row %{y}, column %{x}: %{z:.0f}<extra></extra>", row=1, col=2,
    )  # fmt: skip
    half = field / 2
    for place in (1, 2):
        reached = half if place == 1 else 0.5
        fig.add_shape(
            type="rect", x0=column - reached, x1=column + reached, y0=row - reached,
            y1=row + reached, line={"color": viz.PALETTE[1], "width": 3}, row=1, col=place,
        )  # fmt: skip
        axis = f"{'' if place == 1 else place}"
        fig.update_xaxes(title_text="column", showgrid=False, range=[-0.5, width - 0.5],
                         row=1, col=place)  # fmt: skip
        fig.update_yaxes(autorange="reversed", scaleanchor=f"x{axis}", showgrid=False,
                         constrain="domain", row=1, col=place)  # fmt: skip
    fig.update_yaxes(title_text="row", row=1, col=1)
    _matrix_row(fig, kernel, photo.shape, row, column)
    return viz.finish(
        fig,
        title=f"Sum {response[row, column]:.0f} at ({row}, {column}); a stack of {layers} sees "
        f"{field} x {field}",
        alt=f"A 3x3 kernel {tuple(float(k) for k in kernel)} on a photograph of {height} x {width} "
        f"pixels. At row {row}, column {column} it gives {response[row, column]:.0f}. Its row of "
        f"the matrix has {used} of {pixels} entries that are not zero. {layers} such layers see "
        f"{field} x {field} pixels.",
        caption=f"Above: the square is what a stack sees for one output, and that output. Below: "
        f"as a matrix this layer is {pixels} x {pixels}; its row for the orange pixel has {used} "
        "entries that are not zero, and all other rows have the same ones, further along.",
        source="kernel_figure",
        params={"kernel": list(kernel), "row": row, "column": column, "layers": layers},
        height=560,
    )


def _matrix_row(
    fig: go.Figure, kernel: tuple[float, ...], shape: tuple[int, int], row: int, column: int
) -> None:
    """The matrix's row of one pixel, near its entries that are not zero."""
    height, width = shape
    entries = [
        ((row + i // 3 - 1) * width + column + i % 3 - 1, value)
        for i, value in enumerate(kernel)
        if value and 0 <= row + i // 3 - 1 < height and 0 <= column + i % 3 - 1 < width
    ]
    at = np.array([place for place, _ in entries], dtype=float)
    y = np.array([value for _, value in entries], dtype=float)
    gap = np.full(len(at), np.nan)
    fig.add_scatter(
        x=np.column_stack([at, at, gap]).ravel(), y=np.column_stack([0 * y, y, gap]).ravel(),
        mode="lines", line={"color": viz.PALETTE[0], "width": 2}, hoverinfo="skip",
        showlegend=False, row=2, col=1,
    )  # fmt: skip
    fig.add_scatter(
        x=at, y=y, mode="markers", showlegend=False, row=2, col=1,
        marker={"color": viz.PALETTE[0], "size": 7},
        hovertemplate="column %{x} of the matrix: %{y}<extra></extra>",
    )  # fmt: skip
    middle = row * width + column
    fig.update_xaxes(title_text=f"column of the matrix (of {height * width})", tickformat="d",
                     range=[middle - 1.2 * width, middle + 1.2 * width], row=2, col=1)  # fmt: skip
    fig.update_yaxes(title_text="entry", row=2, col=1)
