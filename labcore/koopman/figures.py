"""Every figure of the topic: plain arrays and tables in, plotly Figures out, no torch."""

from labcore.koopman.figures_graph import score_strip, where_and_when
from labcore.koopman.figures_modes import eigenvalue_plane, flip_lottery, own_plane, own_series
from labcore.koopman.figures_scores import deletion_curves, learning_curves, score_dots

__all__ = [
    "deletion_curves",
    "eigenvalue_plane",
    "flip_lottery",
    "learning_curves",
    "own_plane",
    "own_series",
    "score_dots",
    "score_strip",
    "where_and_when",
]
