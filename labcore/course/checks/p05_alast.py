"""Checks of notebook P05: adaptive layers and tokens in fine-tuning (arXiv 2408.08670)."""

from typing import Any

import numpy as np

from labcore.course.checking import EXACT, Wrong, register

Rng = np.random.Generator
KNOWN = np.array([3.0, 1.0, 2.5, 4.0, 0.5, 0.0, 6.0])


def _draw_deltas(rng: Rng) -> dict[str, Any]:
    deltas = rng.uniform(0, 5, size=int(rng.integers(8, 20)))
    deltas[3] += 6  # one rise that meets the upper clip
    return {"deltas": deltas, "alpha": float(rng.uniform(0.05, 0.1)), "start": 0.9}


# P05.1: the published update


def budgets(
    deltas: np.ndarray, alpha: float, start: float = 1.0, low: float = 1e-6, high: float = 1.0
) -> np.ndarray:
    """Reference of P05.1: the budget after each step; the delta before the first step is 0."""
    budget, previous, found = start, 0.0, []
    for delta in deltas:
        budget = float(np.clip(budget + alpha * (delta - previous), low, high))
        previous = delta
        found.append(budget)
    return np.array(found)


def _unclipped(
    deltas: np.ndarray, alpha: float, start: float = 1.0, low: float = 1e-6, high: float = 1.0
) -> np.ndarray:
    return start + alpha * np.asarray(deltas)


def _no_difference(
    deltas: np.ndarray, alpha: float, start: float = 1.0, low: float = 1e-6, high: float = 1.0
) -> np.ndarray:
    budget, found = start, []
    for delta in deltas:
        budget = float(np.clip(budget + alpha * delta, low, high))
        found.append(budget)
    return np.array(found)


def _clipped_at_the_end(
    deltas: np.ndarray, alpha: float, start: float = 1.0, low: float = 1e-6, high: float = 1.0
) -> np.ndarray:
    return np.clip(_unclipped(deltas, alpha, start), low, high)


def _turned(
    deltas: np.ndarray, alpha: float, start: float = 1.0, low: float = 1e-6, high: float = 1.0
) -> np.ndarray:
    return budgets(deltas, -alpha, start, low, high)


register(
    "P05.1",
    reference=budgets,
    cases=({"deltas": KNOWN, "alpha": 0.1}, _draw_deltas),
    points=2,
    wrong=(
        Wrong(
            "never clipped",
            _unclipped,
            "after every step the budget must be brought back between low and high",
        ),
        Wrong(
            "clipped at the end",
            _clipped_at_the_end,
            "clip in every step: the next step starts from the clipped budget",
        ),
        Wrong(
            "delta instead of its change",
            _no_difference,
            "add alpha times the CHANGE of the delta: this step's minus the step's before",
        ),
        Wrong(
            "signs turned",
            _turned,
            "a layer that moves the class token MORE than before gets more budget",
        ),
    ),
)


# P05.2: the drawdown


def drawdown(deltas: np.ndarray, alpha: float) -> np.ndarray:
    """Reference of P05.2: one minus alpha times the fall from the running maximum."""
    deltas = np.asarray(deltas)
    return 1 - alpha * (np.maximum.accumulate(deltas) - deltas)


register(
    "P05.2",
    reference=drawdown,
    cases=(
        (KNOWN, 0.1),
        lambda rng: (rng.uniform(0, 5, size=12), float(rng.uniform(0.01, 0.1))),
    ),
    points=2,
    wrong=(
        Wrong(
            "maximum of the whole run",
            lambda deltas, alpha: 1 - alpha * (np.max(deltas) - np.asarray(deltas)),
            "a budget cannot know the future: the maximum runs up to the present step only",
        ),
        Wrong(
            "fall from the first delta",
            lambda deltas, alpha: 1 - alpha * (deltas[0] - np.asarray(deltas)),
            "the upper clip moves the reference: it is the largest delta so far, not the first",
        ),
        Wrong(
            "fall from the last delta",
            lambda deltas, alpha: 1 - alpha * np.maximum(0, -np.diff(deltas, prepend=deltas[0])),
            "compare with the running maximum, not with the step before: "
            "np.maximum.accumulate(deltas)",
        ),
    ),
)


# P05.3: two draws without replacement


def inclusion(weights: np.ndarray) -> np.ndarray:
    """Reference of P05.3: chance of each layer to be among two sequential draws."""
    weights = np.asarray(weights, dtype=np.float64)
    total = weights.sum()
    first = weights / total
    second = np.array([
        sum(first[m] * w / (total - weights[m]) for m in range(len(weights)) if m != i)
        for i, w in enumerate(weights)
    ])  # fmt: skip
    return first + second


def _unnormalised(weights: np.ndarray) -> np.ndarray:
    first = np.asarray(weights) / np.sum(weights)
    return first + (1 - first) * first


register(
    "P05.3",
    reference=inclusion,
    cases=(
        (np.array([1.0, 0.5, 0.5]),),
        lambda rng: (rng.uniform(0.2, 1.0, size=int(rng.integers(3, 7))),),
    ),
    points=2,
    wrong=(
        Wrong(
            "twice the share",
            lambda weights: 2 * np.asarray(weights) / np.sum(weights),
            "twice w/W can exceed 1: the second draw is among the layers that are left",
        ),
        Wrong(
            "put back",
            _unnormalised,
            "that is drawing with replacement: the second draw's weights sum to W minus the first",
        ),
        Wrong(
            "second draw only",
            lambda weights: inclusion(weights) - np.asarray(weights) / np.sum(weights),
            "add the chance of coming first to the chance of coming second",
        ),
    ),
)


# P05.4: what changes the loss

LOSS_CHANGES = {
    "fewer trained layers": False,
    "smaller budgets": True,
    "no graph below the lowest trained layer": False,
    "dropped tokens skip their MLP": False,
}

register(
    "P05.4",
    reference=LOSS_CHANGES,
    tolerance=EXACT,
    wrong=(
        Wrong(
            "freezing changes it",
            {**LOSS_CHANGES, "fewer trained layers": True},
            "a frozen layer computes the same output: freezing acts on gradients only",
        ),
        Wrong(
            "nothing changes it",
            dict.fromkeys(LOSS_CHANGES, False),
            "tokens that are gone are no longer read as keys and values by later layers",
        ),
        Wrong(
            "every saving changes it",
            dict.fromkeys(LOSS_CHANGES, True),
            "two of these are exact: ask whether anybody reads what is left out",
        ),
    ),
)


# P05.5: the prefix without a graph


def expected_backward(depth: int, k: int) -> float:
    """Reference of P05.5: mean number of layers at or above the lowest of k uniform ones."""
    return (depth + 1) * k / (k + 1)


register(
    "P05.5",
    reference=expected_backward,
    cases=(
        (12, 9),
        (12, 1),
        (6, 0),
        lambda rng: (int(rng.integers(8, 30)), int(rng.integers(1, 8))),
    ),
    points=2,
    wrong=(
        Wrong(
            "trained layers only",
            lambda depth, k: float(k),
            "a frozen layer above the lowest trained one still passes a gradient through",
        ),
        Wrong(
            "lowest layer left out",
            lambda depth, k: depth - (depth + 1) / (k + 1) if k else 0.0,
            "the lowest drawn layer has a backward pass too: L - m + 1 layers if it is layer m",
        ),
        Wrong(
            "all layers",
            lambda depth, k: float(depth if k else 0),
            "layers below the lowest drawn one have none: use the mean of the minimum",
        ),
    ),
)
