"""Every figure of the topic: plain arrays and tables in, plotly Figures out, no torch."""

from labcore.topology.figures_bench import (
    ablation,
    cost,
    domain_gain,
    leaderboard,
    learning_curve,
    race,
    table_map,
)
from labcore.topology.figures_complex import (
    complex_drawing,
    flow_parts,
    lifting_gallery,
    matrix_signs,
    ring_bars,
    spectra,
)
from labcore.topology.figures_scan import (
    branch_bars,
    decay_map,
    hidden_attention,
    scan_tree,
    token_strip,
)

__all__ = [
    "ablation",
    "branch_bars",
    "complex_drawing",
    "cost",
    "decay_map",
    "domain_gain",
    "flow_parts",
    "hidden_attention",
    "leaderboard",
    "learning_curve",
    "lifting_gallery",
    "matrix_signs",
    "race",
    "ring_bars",
    "scan_tree",
    "spectra",
    "table_map",
    "token_strip",
]
