"""Every figure of the topic: plain arrays and tables in, plotly Figures out."""

from labcore.conditional.figures_cost import cost_accuracy, flops_and_time
from labcore.conditional.figures_estimators import bias_and_spread, gradient_histogram
from labcore.conditional.figures_exits import (
    anytime_curve,
    exit_curves,
    exit_gallery,
    exit_river,
    head_accuracy,
    real_exits,
)
from labcore.conditional.figures_moe import favourite_patches, likes_map, load_film, switchboard
from labcore.conditional.figures_tokens import canvas_tokens, feature_kept, merge_map

__all__ = [
    "anytime_curve",
    "bias_and_spread",
    "canvas_tokens",
    "cost_accuracy",
    "exit_curves",
    "exit_gallery",
    "exit_river",
    "favourite_patches",
    "feature_kept",
    "flops_and_time",
    "gradient_histogram",
    "head_accuracy",
    "likes_map",
    "load_film",
    "merge_map",
    "real_exits",
    "switchboard",
]
