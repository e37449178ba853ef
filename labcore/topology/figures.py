"""Every figure of the topic: plain arrays and tables in, plotly Figures out, no torch."""

from labcore.topology.figures_bench import ablation, cost, domain_gain, leaderboard, learning_curve
from labcore.topology.figures_complex import (
    complex_drawing,
    flow_parts,
    hidden_attention,
    matrix_signs,
    spectra,
    token_strip,
)

__all__ = [
    "ablation",
    "complex_drawing",
    "cost",
    "domain_gain",
    "flow_parts",
    "hidden_attention",
    "leaderboard",
    "learning_curve",
    "matrix_signs",
    "spectra",
    "token_strip",
]
