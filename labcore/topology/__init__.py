"""Lifting graphs to higher domains, simplicial Mamba, and a benchmark pipeline.

"Topological Deep Learning with State-Space Models: A Mamba Approach for Simplicial Complexes",
Montagna, Scardapane, Telyatnikov, IJCNN 2025, arXiv 2409.12033; and "TopoBench: A Framework for
Benchmarking Topological Deep Learning", Telyatnikov et al., JDMLR 2025, arXiv 2406.06642.

Read :mod:`.graphs`, :mod:`.cliques`, :mod:`.complexes` and :mod:`.chains` (cells and matrices),
:mod:`.liftings` (from one domain to another), :mod:`.sequences` and :mod:`.mamba_model` (a node
reads its cells), :mod:`.layers`, :mod:`.models` and :mod:`.pipeline` (the benchmark). A name loads
when it is first used.
"""

from labcore.lazy import public_names

_HOMES = {
    "cells": "CellComplex cycle_basis cycle_lifting",
    "chains": "ChainComplex",
    "cliques": "TooManySimplices predicted_sizes",
    "complexes": "SimplicialComplex clique_complex",
    "families": "CombinatorialComplex Hypergraph",
    "features": "lift_features",
    "graphs": "Graph as_graph read_edge_list",
    "hodge": "hodge_decompose holed_square",
    "liftings": "LIFTINGS TopoData lift register_lifting",
    "mamba_model": "SimplicialMamba",
    "models": "MODELS Network Tensors",
    "pipeline": "Choice evaluate lifted override run_choice tensors train",
    "sequences": "NodeSequencer RankOperators neighbor_batches rank_operators",
    "surfaces": "disjoint_union surface surfaces",
}
__getattr__, __dir__, __all__ = public_names(__name__, _HOMES)  # noqa: PLE0605
