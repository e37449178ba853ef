"""Infected and scrambled pieces of contact networks: the two classes to be told apart.

Class 1 is a simulated infection on the contacts of a piece; class 0 has as many infected people at
random, at random times. Graph i of a seed has a generator of its own, so that one graph can be
made again without the others.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
from jaxtyping import Bool, Float32, Int, UInt8

from labcore.koopman.contacts import (
    NETWORKS,
    Contacts,
    load_contacts,
    make_contacts,
    merge_repeats,
    sample_piece,
)
from labcore.koopman.simulate import flags, scramble, trace_si

SYNTHETIC = "synthetic"
NAMES = (*NETWORKS, SYNTHETIC)
TRIES = 200


@dataclass(frozen=True)
class Recipe:
    """How a graph is made.

    Attributes:
        nodes: People of a piece.
        steps: Bins.
        contacts: Contacts of a piece.
        p: Chance that a contact transmits.
        least: Smallest share of people that an infection must reach.
    """

    nodes: int = 50
    steps: int = 50
    contacts: int = 300
    p: float = 0.5
    least: float = 0.2


@dataclass(frozen=True)
class Sample:
    """One graph: contacts, labels as the network sees them, and who infected whom (class 1)."""

    A: UInt8[np.ndarray, "t n n"]
    infected_at: Int[np.ndarray, " n"]
    source: Int[np.ndarray, " n"]
    label: int

    @property
    def x(self) -> Float32[np.ndarray, "t n"]:
        """1 from the bin on in which a person is infected."""
        return flags(self.infected_at, len(self.A)).astype(np.float32)


@dataclass(frozen=True)
class Dataset:
    """Graphs of one size, and the one split that everything uses.

    Attributes:
        A: Contacts.
        x: Infected flags.
        y: Classes.
        infected_at: First infected bin of each person, -1 for never.
        train: Indices that fit the network and the global operator.
        valid: Indices that are explained and scored.
        mask: Which nodes are real, where graphs of several sizes were padded to one.
    """

    A: UInt8[np.ndarray, "g t n n"]
    x: Float32[np.ndarray, "g t n"]
    y: Int[np.ndarray, " g"]
    infected_at: Int[np.ndarray, "g n"]
    train: Int[np.ndarray, " a"]
    valid: Int[np.ndarray, " v"]
    mask: Bool[np.ndarray, "g n"] | None = None


def dissemination_dataset(
    network: str,
    graphs: int = 300,
    *,
    recipe: Recipe | None = None,
    seed: int = 0,
    share: float = 0.8,
) -> Dataset:
    """Graphs of alternating class from one network; the same seed gives the same bytes.

    Args:
        network: ``"highschool2012"``, ``"primaryschool"``, ``"hospital"`` or ``"synthetic"``.
        graphs: How many, half of each class.
        recipe: How each is made.
        seed: Decides everything.
        share: Part of each class that trains.

    Raises:
        ValueError: no such network, fewer than 10 graphs, or sizes that the network cannot give.
        AssetError: the network is not on this machine.
    """
    if graphs < 10 or not 0 < share < 1:
        raise ValueError(f"graphs={graphs} must be 10 or more, share={share} in (0, 1)")
    samples = [make_sample(network, i, recipe=recipe, seed=seed) for i in range(graphs)]
    y = np.array([s.label for s in samples])
    train, valid = split(y, seed=seed, share=share)
    return Dataset(
        np.stack([s.A for s in samples]),
        np.stack([s.x for s in samples]),
        y,
        np.stack([s.infected_at for s in samples]),
        train,
        valid,
    )


def split(
    y: Int[np.ndarray, " g"], *, seed: int = 0, share: float = 0.8
) -> tuple[Int[np.ndarray, " a"], Int[np.ndarray, " v"]]:
    """Sorted indices of a training and a validation part with equal shares of each class."""
    order = np.random.default_rng([seed, 2**31]).permutation(len(y))
    classes = [order[y[order] == label] for label in (0, 1)]
    cuts = [round(share * len(c)) for c in classes]
    train = np.concatenate([c[:k] for c, k in zip(classes, cuts, strict=True)])
    valid = np.concatenate([c[k:] for c, k in zip(classes, cuts, strict=True)])
    return np.sort(train), np.sort(valid)


def make_sample(network: str, index: int, *, recipe: Recipe | None = None, seed: int = 0) -> Sample:
    """Graph ``index`` of :func:`dissemination_dataset`; odd ones are class 1.

    Raises:
        ValueError: no such network, or no infection reaches ``recipe.least`` of the people.
    """
    made = recipe or Recipe()
    contacts, rng = merged_contacts(network), np.random.default_rng([seed, index])
    for _ in range(TRIES):
        A = sample_piece(contacts, rng, nodes=made.nodes, steps=made.steps, count=made.contacts)
        run = trace_si(A, made.p, rng)
        if (run.infected_at >= 0).mean() >= made.least:
            break
    else:
        raise ValueError(f"no infection reached {made.least:.0%} of {network}: raise p={made.p}")
    if index % 2:
        return Sample(A, run.infected_at, run.source, 1)
    fake = scramble(run.infected_at, rng)
    return Sample(A, fake, np.full(made.nodes, -1), 0)


@cache
def merged_contacts(network: str) -> Contacts:
    """A network with runs of one pair merged into single contacts.

    Raises:
        ValueError: no such network.
        AssetError: it is not on this machine.
    """
    if network not in NAMES:
        raise ValueError(f"no network {network!r}: choose one of {', '.join(NAMES)}")
    if network == SYNTHETIC:
        return synthetic_contacts(np.random.default_rng(0))
    return merge_repeats(load_contacts(network))


def synthetic_contacts(
    rng: np.random.Generator, *, people: int = 150, groups: int = 5, meetings: int = 12_000
) -> Contacts:
    """An activity-driven network (Perra et al., Scientific Reports 2012): no data needed.

    People meet in proportion to an activity drawn from a power law, four times in five somebody of
    their own group. It has heavy-tailed degrees and groups, but neither days nor friendships.

    Raises:
        ValueError: fewer than two people a group, or no meetings.
    """
    if people < 2 * groups or meetings < 1:
        raise ValueError(f"people={people}, groups={groups}, meetings={meetings}: too few")
    activity = 0.1 * (1 - rng.random(people) * (1 - 0.1**1.5)) ** (-1 / 1.5)
    group = np.arange(people) % groups
    first = rng.choice(people, size=meetings, p=activity / activity.sum())
    inside = rng.random(meetings) < 0.8
    pairs = np.empty((meetings, 2), dtype=np.int64)
    for row, (u, own) in enumerate(zip(first, inside, strict=True)):
        weight = activity * (group == group[u] if own else group != group[u])
        weight[u] = 0
        pairs[row] = u, rng.choice(people, p=weight / weight.sum())
    names = tuple(f"group {g}" for g in group)
    return make_contacts(20 * np.arange(meetings), pairs, names, np.arange(people))
