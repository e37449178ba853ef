"""When and where: relevance of steps and nodes from a projected signal.

The steps at which the projected graph state changes fast are called relevant; so are the nodes
whose projected last state is far from the others'.
"""

from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Inexact

from labcore.koopman.operator import KoopmanFit

Kind = Literal["deviation", "norm", "max_step"]


def time_relevance(
    signal: Inexact[np.ndarray, " t"], window: int | None = None
) -> Float[np.ndarray, " w"]:
    """|derivative| of a signal: central differences, one-sided at the ends.

    Args:
        signal: One number a step; complex ones count with their modulus of change.
        window: Length of a moving average taken first; the result then has t - window + 1 steps.

    Raises:
        ValueError: fewer than 3 steps are left, or NaN in the signal.

    >>> time_relevance(np.array([0.0, 0.0, 1.0, 1.0])).tolist()
    [0.0, 0.5, 0.5, 0.0]
    """
    if not np.isfinite(signal).all():
        raise ValueError(f"the signal holds NaN at step {int(np.argmax(~np.isfinite(signal)))}")
    width = 1 if window is None else window
    if width < 1 or len(signal) - width + 1 < 3:
        raise ValueError(f"{len(signal)} steps and window {window}: at least 3 steps must be left")
    smooth = np.convolve(signal, np.full(width, 1 / width), "valid")
    return np.abs(np.gradient(smooth))


def detect(
    w: Float[np.ndarray, " t"], threshold: float | Literal["mad"] | None = 0.4
) -> Bool[np.ndarray, " t"]:
    """Which steps stand out: above threshold · max, or above mean + sd, or median + 3 MAD.

    Args:
        w: Relevance of each step.
        threshold: Share of the maximum in (0, 1]; None for mean + standard deviation; ``"mad"``
            for the median plus three median absolute deviations, not rescaled.

    Raises:
        ValueError: another threshold.

    >>> detect(np.array([0.1, 1.0, 0.5])).tolist()
    [False, True, True]
    """
    if threshold is None:
        return w > w.mean() + w.std()
    if isinstance(threshold, str):
        if threshold != "mad":
            raise ValueError(f"threshold={threshold!r}: a share of the maximum, None, or 'mad'")
        middle = np.median(w)
        return w > middle + 3 * np.median(np.abs(w - middle))
    if not 0 < threshold <= 1:
        raise ValueError(f"threshold={threshold} must be a share of the maximum, in (0, 1]")
    return w > threshold * w.max() if threshold < 1 else (w >= w.max()) & (w > 0)


def node_relevance(
    states: Float[np.ndarray, "n t f"],
    fit: KoopmanFit,
    kind: Kind = "deviation",
    *,
    mode: int = 0,
    side: Literal["right", "left"] = "right",
    part: Literal["real", "abs"] = "real",
) -> Float[np.ndarray, " n"]:
    """How far each node stands out.

    ``"deviation"`` (the article): |p(n) - mean p| of the last states along a mode; with
    ``part="abs"`` the modulus of this complex deviation, which no phase can change (the deviation
    of the moduli is another and much weaker score). ``"norm"``: length of the last state in all
    embedded axes. ``"max_step"``: the largest step that the node makes along the mode.

    Raises:
        ValueError: an unknown kind, mode, side or part.
    """
    if kind == "norm":
        return np.linalg.norm(fit.embed(states[:, -1]), axis=-1)
    path = fit.coordinate(states, mode, side)
    value = path.real if part == "real" else path
    if kind == "deviation":
        last = value[:, -1]
        return np.abs(last - last.mean())
    if kind == "max_step":
        return np.abs(np.diff(value, axis=1)).max(axis=1)
    raise ValueError(f"kind={kind!r}: deviation, norm or max_step")


def pair_relevance(nodes: Float[np.ndarray, " n"], edges: np.ndarray) -> Float[np.ndarray, " e"]:
    """Relevance of an edge when only nodes have one: the product of its ends."""
    return nodes[edges[:, 0]] * nodes[edges[:, 1]]
