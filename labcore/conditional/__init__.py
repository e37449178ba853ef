"""Conditional computation: experts, token selection and early exits as one idea with one cost unit.

"Conditional computation in neural networks: principles and research trends", Scardapane, Baiocchi,
Devoto, Marsocci, Minervini, Pomponi, Intelligenza Artificiale 2024, arXiv 2403.07965. The paper is
a tutorial: it has no result table; what is tested here is the behaviour of each family.

Read :mod:`.estimators` (learning a discrete choice), :mod:`.routers`, :mod:`.balance`,
:mod:`.dispatch` and :mod:`.moe` (experts), :mod:`.selection`, :mod:`.halting` and :mod:`.matching`
(tokens), :mod:`.exits` (depth) and :mod:`.cost` (the unit). A name loads when it is first used.
"""

from labcore.lazy import public_names

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
__getattr__, __dir__, __all__ = public_names(__name__, _HOMES)  # noqa: PLE0605
