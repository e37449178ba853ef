"""Koopman explanations of temporal graph networks, and an audit of them.

"Interpreting Temporal Graph Neural Networks with Koopman Theory", Michele Guerra, Simone
Scardapane, Filippo Maria Bianchi, 2024, arXiv 2410.13469.

Read :mod:`.contacts` (real contact networks), :mod:`.simulate` (infections on them), :mod:`.truth`
(what an explanation should find), :mod:`.dmd` (modes of a linear map) and :mod:`.sindy` (edges).
"""

from importlib import import_module
from typing import Any

_HOMES = {
    "contacts": "Contacts load_contacts make_contacts merge_repeats read_contacts sample_piece",
    "dmd": "DMDResult dmd",
    "metrics": "auc",
    "operator": "KoopmanFit fit_operator node_deviation",
    "simulate": "Spread flags scramble simulate_si simulate_sir trace_si",
    "sindy": "edge_sindy graph_library stlsq",
    "stgnn": "DynGCRNN GraphLSTMCell load_reference_weights",
    "truth": "Truth edge_list explained_share transmission_truth",
    "tu_format": "TemporalGraph read_temporal_tu",
}
_HOME = {name: home for home, names in _HOMES.items() for name in names.split() if name != home}
__all__ = sorted(_HOME)  # noqa: PLE0605


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return __all__
