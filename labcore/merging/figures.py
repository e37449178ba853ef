"""All figures of this topic, under one name."""

from labcore.merging.figures_accuracy import (
    ablation,
    alpha_curves,
    compression_curve,
    method_bars,
    storage,
    task_bars,
    task_radar,
)
from labcore.merging.figures_interference import (
    depth_bars,
    gallery,
    interference_map,
    pair_map,
    plane,
    spectra,
)
from labcore.merging.figures_language import language_losses

__all__ = [
    "ablation",
    "alpha_curves",
    "compression_curve",
    "depth_bars",
    "gallery",
    "interference_map",
    "language_losses",
    "method_bars",
    "pair_map",
    "plane",
    "spectra",
    "storage",
    "task_bars",
    "task_radar",
]
