"""Names of explainers, scores and networks, and what pictures and claims read off a result."""

import math

import numpy as np
from jaxtyping import Float32

from labcore.runs import Result
from labcore.tally import Spread, spread

# explainer -> what it is made from
MADE_FROM = {
    "dmd": "states",
    "dmd_global": "states",
    "dmd_left": "states",
    "dmd_modulus": "states",
    "dmd_mode1": "states",
    "dmd_norm": "states",
    "dmd_max_step": "states",
    "pca": "states",
    "sindy2": "states",
    "sindy3": "states",
    "sindy2_signed": "states",
    "sindy3_signed": "states",
    "saliency": "gradients",
    "integrated_gradients": "gradients",
    "edge_gradient": "gradients",
    "always": "nothing",
    "random": "nothing",
    "degree": "input",
    "input_flag": "input",
    "count_change": "input",
    "contact_count": "input",
}
NAMES = tuple(MADE_FROM)
SAME_TIMES = ("dmd_global", "dmd_norm", "dmd_max_step")  # as "dmd": they differ in nodes only
NOTHING = Spread(math.nan, math.nan, math.nan, math.nan, math.nan, 0)
# score -> what it says
TARGETS = {
    "time_auc": "AUC of true steps",
    "time_f1_point": "F1 of true steps",
    "time_f1_window": "F1 of true windows",
    "time_p": "p of the rank test",
    "time_effect": "rank-biserial effect",
    "node_auc": "AUC of true nodes",
    "spreader_auc": "AUC of spreaders among the infected",
    "edge_auc": "AUC of pairs with both ends true",
    "hard_edge_auc": "AUC of true transmissions among these pairs",
}


def mean_of(values: np.ndarray) -> Spread:
    """Mean and spread of what is not NaN; all of it NaN, of no trials, when nothing is left."""
    here = np.asarray(values, dtype=np.float64)
    here = here[~np.isnan(here)]
    return spread(here.tolist()) if len(here) else NOTHING


def positive(found: Spread) -> bool:
    """Whether a mean lies above zero by more than two standard errors."""
    return found.mean - 2 * found.error > 0


def networks(result: Result) -> list[str]:
    """Networks of a result, in their order."""
    return list(dict.fromkeys(row["network"] for row in result.tables["training"]))


def values(
    result: Result, network: str, target: str, explainer: str
) -> Float32[np.ndarray, " graphs"]:
    """One score a graph, of all seeds; NaN where the explainer says nothing.

    Raises:
        ValueError: a network, score or explainer that was not measured.
    """
    seeds = [row["seed"] for row in result.tables["training"] if row["network"] == network]
    if not seeds or target not in TARGETS or explainer not in NAMES:
        raise ValueError(f"{network!r}, {target!r}, {explainer!r}: not all of them were measured")
    i = NAMES.index(explainer)
    return np.concatenate([result.arrays[f"{network}@{seed}/{target}"][i] for seed in seeds])


def difference(result: Result, network: str, target: str, ours: str, other: str) -> Spread:
    """Mean difference of two explainers on the same graphs."""
    pair = [values(result, network, target, name) for name in (ours, other)]
    return mean_of(pair[0] - pair[1])
