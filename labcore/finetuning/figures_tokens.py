"""The token filmstrip: which patches of a picture survive which layer."""

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Bool, UInt8
from plotly.subplots import make_subplots

from labcore import viz

LAYERS = (3, 6, 9, 11, 12)
_FADE = 0.12  # what is left of a dropped patch's contrast


def filmstrip_figure(
    pixels: UInt8[np.ndarray, "y x 3"],
    kept: Bool[np.ndarray, "l p"],
    *,
    budget: float,
    layers: Sequence[int] = LAYERS,
    picture: str = "picture",
) -> go.Figure:
    """The picture after some layers, dropped patches faded.

    Args:
        pixels: The square picture, its side a multiple of the patches in a row.
        kept: Patches alive after each layer.
        budget: Share that every layer keeps, for the title.
        layers: Which layers to draw, from 1.
        picture: For the title.

    Raises:
        ValueError: patches that form no square, or a layer that is not there.
    """
    depth, patches = kept.shape
    side = round(patches**0.5)
    if side * side != patches:
        raise ValueError(f"{patches} patches form no square grid")
    if not layers or not all(1 <= layer <= depth for layer in layers):
        raise ValueError(f"layers must be within 1..{depth}, got {tuple(layers)}")
    counts = [int(kept[layer - 1].sum()) for layer in layers]
    titles = [
        "picture",
        *(f"layer {i}<br>{n} patches" for i, n in zip(layers, counts, strict=True)),
    ]
    fig = make_subplots(rows=1, cols=len(titles), subplot_titles=titles, horizontal_spacing=0.012)
    height, width = pixels.shape[:2]
    rows, columns = np.arange(height) * side // height, np.arange(width) * side // width
    fig.add_trace(go.Image(z=pixels, hoverinfo="skip"), row=1, col=1)
    for number, layer in enumerate(layers, start=2):
        alive = kept[layer - 1].reshape(side, side)[rows[:, None], columns[None, :], None]
        faded = 255 - _FADE * (255 - pixels.astype(np.float64))
        shown = np.where(alive, pixels, faded).astype(np.uint8)
        fig.add_trace(go.Image(z=shown, hoverinfo="skip"), row=1, col=number)
    fig.update_xaxes(visible=False)
    fig.update_yaxes(visible=False)
    fig.update_layout(margin={"l": 8, "r": 8, "t": 100, "b": 8})
    fig.update_annotations(font_size=13)
    said = ", ".join(f"{n} after layer {i}" for i, n in zip(layers, counts, strict=True))
    return viz.finish(
        fig,
        title=f"Patches that survive, budget {budget:g} in every layer: {picture}",
        alt=f"Of {patches} patches {said}. Shares multiply from layer to layer.",
        caption="Faded patches were dropped for good: the class token attended to them least. Does "
        "the object stay, does the background go?",
        source="filmstrip_figure",
        params={"budget": budget, "layers": list(layers), "picture": picture},
        height=300,
    )
