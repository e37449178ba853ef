"""Every figure of the topic: plain arrays and tables in, plotly Figures out, no torch."""

from labcore.speech.figures_clip import (
    assignment_maps,
    cif_staircase,
    clip_view,
    nearest_tokens,
    run_strip,
)
from labcore.speech.figures_grid import gap_bars, grid_map, share_bars
from labcore.speech.figures_training import (
    cost_of_positions,
    error_curves,
    training_curves,
    variant_bars,
)

__all__ = [
    "assignment_maps",
    "cif_staircase",
    "clip_view",
    "cost_of_positions",
    "error_curves",
    "gap_bars",
    "grid_map",
    "nearest_tokens",
    "run_strip",
    "share_bars",
    "training_curves",
    "variant_bars",
]
