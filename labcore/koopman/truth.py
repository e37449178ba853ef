"""What an explanation of a spreading process should find: true times, nodes and edges.

Two rules. ``"causal"`` asks who can have infected whom. ``"paper"`` does what the published code
does: it also counts contacts between people who were infected long ago. They differ in time by a
convention: in the article's files a contact in bin s shows in the flags two bins later (``gap=2``),
in our simulator in the next bin (``gap=1``).
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int, Num

from labcore.koopman.simulate import NEVER, flags

Rule = Literal["causal", "paper"]


@dataclass(frozen=True)
class Truth:
    """What happened.

    Attributes:
        times: Weight of each bin: transmissions in it; zero where nothing happened.
        nodes: Ends of true edges.
        spreaders: People who may have infected someone.
        edges: For each row of :func:`edge_list`, whether it is true.
    """

    times: Float[np.ndarray, " t"]
    nodes: Bool[np.ndarray, " n"]
    spreaders: Bool[np.ndarray, " n"]
    edges: Bool[np.ndarray, " e"]


def edge_list(A: Num[np.ndarray, "t n n"]) -> Int[np.ndarray, "e 2"]:
    """Pairs u < v with at least one contact, in lexicographic order.

    >>> A = np.zeros((1, 3, 3)); A[0, 0, 2] = A[0, 2, 0] = 1
    >>> edge_list(A)
    array([[0, 2]])
    """
    union = np.triu(A.any(axis=0), 1)
    return np.argwhere(union)


def transmission_truth(
    A: Num[np.ndarray, "t n n"],
    infected_at: Int[np.ndarray, " n"],
    rule: Rule = "causal",
    *,
    gap: int = 1,
) -> Truth:
    """True times, nodes, spreaders and edges of one graph.

    ``"causal"``: v, infected at a > 0, has as possible sources all u that met v in bin a - gap and
    are infected at a - 1 at the latest. The bin is a true time, (u, v) a true edge, its ends true
    nodes, u a spreader. With several possible sources all are marked;
    :func:`~labcore.koopman.simulate.trace_si` knows the one that did it.

    ``"paper"`` (the published code): in bin t, all contacts whose both ends are infected at
    t + gap; if at least one of them had exactly one infected end a bin earlier, then t is a true
    time and the ends of ALL of them are true nodes. An edge is true when both its ends are.

    Raises:
        ValueError: ``gap`` below 1, or ``infected_at`` and ``A`` differ in the number of nodes.
    """
    if gap < 1:
        raise ValueError(f"gap={gap}: a contact shows at least one bin later")
    if len(infected_at) != A.shape[1]:
        raise ValueError(f"infected_at has {len(infected_at)} nodes, A has {A.shape[1]}")
    return _RULES[rule](A, infected_at, gap)


def _causal(A: np.ndarray, infected_at: np.ndarray, gap: int) -> Truth:
    steps, n = A.shape[:2]
    times, pairs = np.zeros(steps), np.zeros((n, n), dtype=bool)
    for v in np.flatnonzero(infected_at >= gap):
        a = infected_at[v]
        earlier = (infected_at != NEVER) & (infected_at <= a - 1)
        sources = (A[a - gap][:, v] > 0) & earlier
        pairs[sources, v] = True
        times[a - gap] += sources.any()
    either = pairs | pairs.T
    edges = edge_list(A)
    nodes, spreaders = np.asarray(either.any(axis=0)), np.asarray(pairs.any(axis=1))
    return Truth(times, nodes, spreaders, either[edges[:, 0], edges[:, 1]])


def _paper(A: np.ndarray, infected_at: np.ndarray, gap: int) -> Truth:
    steps, n = A.shape[:2]
    x = flags(infected_at, steps).astype(bool)
    times, nodes, spreaders = np.zeros(steps), np.zeros(n, dtype=bool), np.zeros(n, dtype=bool)
    for t in range(steps - gap):
        after, before = x[t + gap], x[t + gap - 1]
        both = np.triu(A[t]) * (after[:, None] & after[None, :])
        one_end = (both > 0) & (before[:, None] != before[None, :])
        if one_end.any():
            times[t] = both.sum()
            ends = both > 0
            nodes |= ends.any(axis=0) | ends.any(axis=1)
            spreaders |= (one_end.any(axis=0) | one_end.any(axis=1)) & before
    edges = edge_list(A)
    return Truth(times, nodes, spreaders, nodes[edges[:, 0]] & nodes[edges[:, 1]])


_RULES = {"causal": _causal, "paper": _paper}


def explained_share(
    A: Num[np.ndarray, "t n n"],
    infected_at: Int[np.ndarray, " n"],
    *,
    gap: int = 1,
    ties: bool = False,
) -> float:
    """Share of infections after the first bin that a contact with an infected person explains.

    Args:
        A: Contacts.
        infected_at: First infected bin of each person.
        gap: Bins between a contact and its effect.
        ties: Also accept a source that was infected in the same bin (chains inside one bin).

    Returns:
        A share; NaN when nobody was infected after the seeds.
    """
    infected = infected_at != NEVER
    first = infected_at[infected].min() if infected.any() else 0
    late = np.flatnonzero(infected & (infected_at > first))
    if not len(late):
        return float("nan")
    hits = []
    for v in late:
        at = infected_at[v] - gap
        met = A[at][:, v] > 0 if at >= 0 else np.zeros(len(infected), dtype=bool)
        hits.append((met & infected & (infected_at < infected_at[v] + ties)).any())
    return float(np.mean(hits))
