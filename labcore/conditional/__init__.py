"""Conditional computation: experts, token selection and early exits as one idea with one cost unit.

"Conditional computation in neural networks: principles and research trends", Scardapane, Baiocchi,
Devoto, Marsocci, Minervini, Pomponi, Intelligenza Artificiale 2024, arXiv 2403.07965. The paper is
a tutorial: it has no result table; what is tested here is the behaviour of each family.

Read :mod:`.estimators` (learning a discrete choice), :mod:`.routers`, :mod:`.balance`,
:mod:`.dispatch` and :mod:`.moe` (experts), :mod:`.selection`, :mod:`.halting` and :mod:`.matching`
(tokens), :mod:`.exits` (depth) and :mod:`.cost` (the unit). A name loads when it is first used.
"""

from importlib import import_module
from typing import Any

_HOMES = {
    "balance": "expected_load importance_loss load_balancing_loss load_loss router_z_loss "
    "squared_variation",
    "cost": "Cost attention_flops block_flops mlp_flops moe_flops",
    "dispatch": "choose dispatch",
    "estimators": "best_baseline binary_concrete exact_gradient gradient_samples gumbel_softmax "
    "gumbel_top_k score_function_loss score_variance straight_through temperature",
    "experts": "Experts grouped_linear",
    "budgets": "cost_accuracy_curve fit_thresholds oracle_curve oracle_layers",
    "exits": "EarlyExitNet ExitRule exit_layers sureness",
    "halting": "adaptive_computation depth_prior_loss halting_scores halting_weights ponder_loss",
    "matching": "Merge bipartite_soft_matching proportional_attention",
    "moe": "MoELayer SoftMoE",
    "routers": "ExpertChoiceRouter NoisyTopKRouter Routing TopKRouter over_capacity",
    "selection": "KeepPredictor MixtureOfDepths keep_ratio_loss masked_attention select_tokens",
}
_HOME = {name: home for home, names in _HOMES.items() for name in names.split()}
__all__ = sorted(_HOME)  # noqa: PLE0605


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return __all__
