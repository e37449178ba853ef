"""Scores of an explanation against the truth."""

import warnings

import numpy as np
from jaxtyping import Bool, Num
from scipy.stats import rankdata


def auc(score: Num[np.ndarray, " n"], truth: Bool[np.ndarray, " n"]) -> float:
    """Area under the ROC curve; ties count half; NaN, with a warning, when one class is missing.

    >>> auc(np.array([0.1, 0.4, 0.3]), np.array([False, True, True]))
    1.0
    """
    hits = int(truth.sum())
    if hits in (0, len(truth)):
        warnings.warn("truth holds one class only: the AUC is not defined", stacklevel=2)
        return float("nan")
    ranks = rankdata(score)[truth].sum()
    return float((ranks - hits * (hits + 1) / 2) / (hits * (len(truth) - hits)))
