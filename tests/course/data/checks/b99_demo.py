"""Checks of the demo notebook B99."""

import numpy as np

from labcore.course.checking import Wrong, register


def softmax(scores):
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True)


def overflowing(scores):
    with np.errstate(all="ignore"):
        weights = np.exp(scores)
        return weights / weights.sum(axis=-1, keepdims=True)


def over_all(scores):
    weights = np.exp(scores - scores.max())
    return weights / weights.sum()


def unnormalised(scores):
    return np.exp(scores - scores.max(axis=-1, keepdims=True))


def draw(rng):
    return (3.0 * rng.standard_normal((3, 4)),)


def sums_to_one(answer, rng):
    total = np.asarray(answer(rng.standard_normal((2, 5)))).sum(axis=-1)
    return None if np.allclose(total, 1.0) else f"rows sum to {total}, not to 1"


register(
    "B99.1",
    reference=softmax,
    cases=((np.array([1.0, 2.0, 3.0]),), draw, (np.array([[1000.0, 0.0], [0.0, 0.0]]),)),
    properties=(sums_to_one,),
    wrong=(
        Wrong("overflow", overflowing, "large scores overflow: subtract the maximum first"),
        Wrong("all axes", over_all, "each row is a distribution of its own: axis=-1, keepdims"),
        Wrong("unnormalised", unnormalised, "divide by the sum"),
    ),
    points=2,
)

register(
    "B99.2",
    reference=lambda: 0.75,
    wrong=(
        Wrong("smaller", 0.25, "that is the other option"),
        Wrong("odds", 3.0, "these are the odds: divide by their sum with 1"),
    ),
    hints=("Exponentials first.", "The weights are 1 and 3."),
)
