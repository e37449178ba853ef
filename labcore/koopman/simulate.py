"""Infections that spread over contacts, in discrete time, and labels that only look like one.

The unit of time is a bin of the temporal network. A contact in bin s with an infected person
transmits with probability p; who is infected in bin s is so from bin s + 1 on.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int, Num

NEVER = -1


@dataclass(frozen=True)
class Spread:
    """One simulated infection.

    Attributes:
        infected_at: First bin in which a person is infected; -1 for never, 0 for the seed.
        source: Who infected them; -1 for the seed and for those never infected.
    """

    infected_at: Int[np.ndarray, " n"]
    source: Int[np.ndarray, " n"]


def simulate_si(
    A: Num[np.ndarray, "t n n"],
    p: float,
    rng: np.random.Generator,
    seed_node: int | None = None,
) -> Int[np.ndarray, " n"]:
    """Susceptible -> infected: the first infected bin of each person, -1 for never.

    k contacts with infected people in one bin infect with probability 1 - (1 - p)^k.

    Raises:
        ValueError: ``p`` outside [0, 1], ``A`` not square, or no such seed.

    >>> path = np.zeros((4, 3, 3)); path[:, [0, 1, 1, 2], [1, 0, 2, 1]] = 1
    >>> simulate_si(path, 1.0, np.random.default_rng(0), seed_node=0)
    array([0, 1, 2])
    """
    return trace_si(A, p, rng, seed_node).infected_at


def trace_si(
    A: Num[np.ndarray, "t n n"],
    p: float,
    rng: np.random.Generator,
    seed_node: int | None = None,
) -> Spread:
    """As :func:`simulate_si`, and who infected whom (one of the transmitting contacts)."""
    steps, n = A.shape[:2]
    _check(A, p, seed_node)
    seed = int(rng.integers(n)) if seed_node is None else seed_node
    # one draw a person and bin, made before the run: more contacts can only infect earlier
    draws, picks = rng.random((steps, n)), rng.random((steps, n))
    infected_at, source = np.full(n, NEVER), np.full(n, NEVER)
    infected_at[seed] = 0
    infected = infected_at == 0
    for s in range(steps - 1):
        sources = A[s] * infected[:, None]  # contacts u -> v from infected u
        caught = (draws[s] < 1 - (1 - p) ** sources.sum(axis=0)) & ~infected
        for v in np.flatnonzero(caught):
            cumulative = sources[:, v].cumsum()
            source[v] = int(np.searchsorted(cumulative, picks[s, v] * cumulative[-1], "right"))
        infected_at[caught] = s + 1
        infected = infected | caught
    return Spread(infected_at, source)


def simulate_sir(
    A: Num[np.ndarray, "t n n"],
    p: float,
    recovery: float,
    rng: np.random.Generator,
    seed_node: int | None = None,
) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, " n"]]:
    """Susceptible -> infected -> recovered: first infected and first recovered bin of each person.

    An infected person recovers at the end of each bin with probability ``recovery``, after it had
    the chance to transmit; with ``recovery=1`` everyone transmits in exactly one bin.

    Raises:
        ValueError: a probability outside [0, 1], ``A`` not square, or no such seed.
    """
    steps, n = A.shape[:2]
    _check(A, p, seed_node)
    if not 0 <= recovery <= 1:
        raise ValueError(f"recovery={recovery} must be a probability a bin, in [0, 1]")
    seed = int(rng.integers(n)) if seed_node is None else seed_node
    infected_at, recovered_at = np.full(n, NEVER), np.full(n, NEVER)
    infected_at[seed] = 0
    for s in range(steps - 1):
        active = (infected_at != NEVER) & (recovered_at == NEVER)
        exposed = (A[s] * active[:, None]).sum(axis=0)
        caught = (rng.random(n) < 1 - (1 - p) ** exposed) & (infected_at == NEVER)
        recovered_at[active & (rng.random(n) < recovery)] = s + 1
        infected_at[caught] = s + 1
    return infected_at, recovered_at


def _check(A: np.ndarray, p: float, seed_node: int | None) -> None:
    if A.shape[1] != A.shape[2]:
        raise ValueError(f"A must be (steps, nodes, nodes), got {A.shape}")
    if not 0 <= p <= 1:
        raise ValueError(f"p={p} must be a probability a contact, in [0, 1]")
    if seed_node is not None and not 0 <= seed_node < A.shape[1]:
        raise ValueError(f"seed_node={seed_node} must be 0..{A.shape[1] - 1}")


def scramble(
    infected_at: Int[np.ndarray, " n"], rng: np.random.Generator, steps: int | None = None
) -> Int[np.ndarray, " n"]:
    """Labels of class 0: as many infected, but random people at random times.

    One person is infected from bin 0, as in a real run, so that the start gives nothing away.

    Args:
        infected_at: A real run.
        rng: Source of the draws.
        steps: Times are drawn from 1..steps-1; default: up to the last time of the run.
    """
    n = len(infected_at)
    count = int((infected_at != NEVER).sum())
    last = int(infected_at.max()) if steps is None else steps - 1
    chosen = rng.permutation(n)[:count]
    scrambled = np.full(n, NEVER)
    scrambled[chosen] = rng.integers(1, max(last, 1) + 1, size=count)
    if count:
        scrambled[chosen[0]] = 0
    return scrambled


def flags(infected_at: Int[np.ndarray, "*b n"], steps: int) -> Int[np.ndarray, "*b t n"]:
    """``x[t, v] = 1`` from the bin on in which v is infected.

    >>> flags(np.array([0, 2, -1]), 3)
    array([[1, 0, 0],
           [1, 0, 0],
           [1, 1, 0]])
    """
    at = infected_at[..., None, :]
    return ((at != NEVER) & (at <= np.arange(steps)[:, None])).astype(int)
