"""Koopman explanations of temporal graph networks, and an audit of them.

"Interpreting Temporal Graph Neural Networks with Koopman Theory", Michele Guerra, Simone
Scardapane, Filippo Maria Bianchi, 2024, arXiv 2410.13469.

Read :mod:`.contacts` (real contact networks), :mod:`.simulate` (infections on them), :mod:`.truth`
(what an explanation should find), :mod:`.stgnn` (the network that is explained), :mod:`.dmd` and
:mod:`.operator` (modes of a linear map), :mod:`.sindy` (edges), :mod:`.explain` (every explanation
in one shape, beside trivial ones) and :mod:`.metrics`. :mod:`.article` runs the same on the
article's own files. A name loads when it is first used.
"""

from labcore.lazy import public_names

_HOMES = {
    "article": "article_dataset audit",
    "cells": "DiffusionGRUCell GraphGRUCell GraphLSTMCell",
    "contacts": "Contacts load_contacts make_contacts merge_repeats read_contacts sample_piece",
    "data": "Dataset Recipe Sample dissemination_dataset make_sample synthetic_contacts",
    "deletion": "deletion_curve",
    "dmd": "DMDResult",
    "explain": "Explanation always contact_count count_change degree explain_dmd explain_pca "
    "explain_sindy input_flag random",
    "gradients": "edge_gradient integrated_gradients saliency",
    "metrics": "always_f1 auc dilate f1 mann_whitney sign_flip_range sign_flips time_f1",
    "operator": "KoopmanFit fit_operator",
    "relevance": "detect node_relevance time_relevance",
    "series": "largest_rank own_modes read_series",
    "simulate": "Spread flags scramble simulate_si simulate_sir trace_si",
    "sindy": "edge_sindy graph_library polynomial_library stlsq",
    "steps": "DenseSteps SparseSteps",
    "stgnn": "DynGCRNN load_reference_weights",
    "settings": "Training",
    "training": "History fit predict states_of",
    "truth": "Truth edge_list explained_share transmission_truth",
    "tu_format": "TemporalGraph pad_graphs read_temporal_tu",
}
__getattr__, __dir__, __all__ = public_names(__name__, _HOMES)  # noqa: PLE0605
