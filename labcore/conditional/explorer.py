"""What pages and notebooks take out of a result: arrays by what they mean, not by their names."""

from collections.abc import Mapping

import numpy as np

from labcore.conditional.river import River, budget_river, river

Arrays = Mapping[str, np.ndarray]
LEVELS = {  # of selection, merging, halting
    "light": (0.7, 0.1, 0.0),
    "medium": (0.5, 0.2, 1.0),
    "strong": (0.3, 0.3, 2.0),
}


def likes(arrays: Arrays, arm: str, block: int, tokens: str) -> np.ndarray:
    """Counts (experts, classes) of the first seed: which classes' tokens ran on which expert.

    Raises:
        ValueError: not in this result.
    """
    start = f"likes/{arm}/{block}/{tokens}/"
    found = [name for name in sorted(arrays) if name.startswith(start)]
    if not found:
        raise ValueError(f"the result holds no {start!r}: run the full experiment")
    return arrays[found[0]]


def river_of(arrays: Arrays, training: str, rule: str, threshold: float, calibrated: bool) -> River:
    """Who leaves where, for the kept network of the first seed.

    Args:
        arrays: The result's arrays. training: "joint" or "separate".
        rule: A rule's name, or "budget": thresholds fitted on validation pictures.
        threshold: Of the rule, or the budget (at least the first block's share).
        calibrated: Whether each head's logits are divided by its temperature first.
    """
    heat = arrays[f"exits/{training}/temperatures"] if calibrated else None
    logits, labels = arrays[f"exits/{training}/test"], arrays["exits/test_labels"]
    if rule != "budget":
        return river(logits, labels, threshold, kind=rule, temperatures=heat)
    val, val_labels = arrays[f"exits/{training}/val"], arrays["exits/val_labels"]
    return budget_river(val, val_labels, logits, labels, threshold, temperatures=heat)


def canvas_panels(arrays: Arrays, number: int, level: str) -> dict[str, np.ndarray]:
    """What every method makes of a kept canvas, at "light", "medium" or "strong" reduction.

    Raises:
        ValueError: unknown level.
    """
    if level not in LEVELS:
        raise ValueError(f"level must be one of {', '.join(LEVELS)}, got {level!r}")
    keep, pairs, shift = LEVELS[level]
    panels = {
        name: arrays[f"canvas/{name}/{keep}"][number]
        for name in ("random", "class attention", "learned")
    }
    panels["merging"] = arrays[f"canvas/merging/{pairs}"][number]
    panels["halting: depth"] = arrays[f"canvas/halting/{shift}"][number]
    return panels
