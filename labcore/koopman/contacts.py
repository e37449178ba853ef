"""Real contact networks, and pieces of them that are small enough to explain.

Badges worn by people of a school or a hospital recorded who faced whom, every 20 seconds
(SocioPatterns). The files come from a pinned package, read as an archive and never imported.
A piece is what the article's sets are made of too (Oettershagen, Kriege, Morris, Mutzel, SDM 2020,
arXiv 1911.05496): the people around a random person, and a stretch of their contacts.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Int, UInt8

Network = Literal["highschool2012", "primaryschool", "hospital"]
NETWORKS: tuple[Network, ...] = ("highschool2012", "primaryschool", "hospital")
ASSET = "contacts"


@dataclass(frozen=True)
class Contacts:
    """A temporal network as a list of contacts, in the order of time.

    Attributes:
        time: Seconds; a row is one contact seen in the 20 s that end here.
        pairs: The two people of each contact, as indices into ``node_ids``.
        labels: Group of each person (class, or role in the hospital).
        node_ids: The ids of the file.
    """

    time: Int[np.ndarray, " c"]
    pairs: Int[np.ndarray, "c 2"]
    labels: tuple[str, ...]
    node_ids: Int[np.ndarray, " n"]

    @property
    def people(self) -> int:
        """Number of people."""
        return len(self.node_ids)

    @cached_property
    def neighbours(self) -> list[Int[np.ndarray, " d"]]:
        """For each person, everyone met at least once."""
        both = np.concatenate([self.pairs, self.pairs[:, ::-1]])
        unique = np.unique(both, axis=0)
        cuts = np.searchsorted(unique[:, 0], np.arange(self.people + 1))
        return [unique[a:b, 1] for a, b in zip(cuts[:-1], cuts[1:], strict=True)]


def load_contacts(name: str) -> Contacts:
    """One of the real networks: ``"highschool2012"``, ``"primaryschool"`` or ``"hospital"``.

    Raises:
        ValueError: no such network.
        AssetError: the data are not on this machine and cannot be fetched; the message names the
            command (``lab fetch contacts``).
    """
    from labcore import assets

    if name not in NETWORKS:
        raise ValueError(f"no network {name!r}: choose one of {', '.join(NETWORKS)}")
    return read_contacts(assets.fetch(ASSET)[f"{name}.csv"])


def read_contacts(path: str | Path) -> Contacts:
    """A tab-separated file of time, person, person, group, group.

    Unsorted times are sorted; the two people of a row come in either order.

    Raises:
        FileNotFoundError: no such file.
        ValueError: negative times, a person in contact with themself, or another layout.
    """
    with Path(path).open(encoding="utf-8") as file:
        rows = [line.rstrip("\n").split("\t") for line in file if line.strip()]
    if not rows or any(len(row) != 5 for row in rows):
        raise ValueError(f"{path} must hold five tab-separated columns: time, id, id, group, group")
    numbers = np.array([row[:3] for row in rows], dtype=np.int64)
    groups = {int(row[1 + i]): row[3 + i] for row in rows for i in (0, 1)}
    ids, index = np.unique(numbers[:, 1:], return_inverse=True)
    labels = tuple(groups[int(i)] for i in ids)
    return make_contacts(numbers[:, 0], index.reshape(-1, 2), labels, ids)


def make_contacts(
    time: Int[np.ndarray, " c"],
    pairs: Int[np.ndarray, "c 2"],
    labels: tuple[str, ...],
    node_ids: Int[np.ndarray, " n"],
) -> Contacts:
    """Check a list of contacts and put it in the order of time.

    Raises:
        ValueError: a negative time, an index outside the people, or a contact with oneself.
    """
    if (time < 0).any():
        raise ValueError(f"contact times must not be negative, got {int(time.min())}")
    if len(pairs) and not 0 <= pairs.min() <= pairs.max() < len(node_ids):
        raise ValueError(f"pairs hold {int(pairs.max())}: indices must be 0..{len(node_ids) - 1}")
    if (pairs[:, 0] == pairs[:, 1]).any():
        row = int(np.argmax(pairs[:, 0] == pairs[:, 1]))
        raise ValueError(f"contact {row} joins person {int(pairs[row, 0])} with themself")
    order = np.argsort(time, kind="stable")
    return Contacts(time[order], np.sort(pairs[order], axis=1), labels, node_ids)


def merge_repeats(contacts: Contacts, gap: int = 20) -> Contacts:
    """One contact for each run of a pair: rows of one pair at most ``gap`` seconds apart.

    A conversation of five minutes is 15 rows of the file and one meeting; its time is its start.

    Raises:
        ValueError: ``gap`` is negative.
    """
    if gap < 0:
        raise ValueError(f"gap must not be negative, got {gap} seconds")
    pairs, time = contacts.pairs, contacts.time
    order = np.lexsort((time, pairs[:, 1], pairs[:, 0]))
    same = (pairs[order][1:] == pairs[order][:-1]).all(axis=1)
    goes_on = same & (np.diff(time[order]) <= gap)
    starts = order[np.concatenate([[True], ~goes_on])] if len(order) else order
    starts = np.sort(starts)
    return Contacts(time[starts], pairs[starts], contacts.labels, contacts.node_ids)


def sample_piece(
    contacts: Contacts,
    rng: np.random.Generator,
    *,
    nodes: int = 50,
    steps: int = 50,
    count: int = 300,
) -> UInt8[np.ndarray, "t n n"]:
    """A random piece: people around a random person, and successive contacts among them.

    A breadth-first search from a random root collects ``nodes`` people; a random window of
    ``count`` successive contacts among them is cut into ``steps`` bins of equally many contacts.

    Returns:
        ``A[t, u, v]``, the number of contacts of u and v in bin t; symmetric.

    Raises:
        ValueError: sizes that no piece can have, or no piece with that many contacts was found.
    """
    _check_sizes(contacts, nodes, steps, count)
    neighbours = contacts.neighbours
    for _ in range(100):
        members = _search(neighbours, int(rng.integers(contacts.people)), nodes, rng)
        if len(members) < nodes:
            continue
        place = np.full(contacts.people, -1)
        place[members] = np.arange(nodes)
        inside = place[contacts.pairs]
        inside = inside[(inside >= 0).all(axis=1)]
        if len(inside) >= count:
            start = int(rng.integers(len(inside) - count + 1))
            return bin_contacts(inside[start : start + count], nodes, steps)
    raise ValueError(f"no piece of {nodes} people has {count} contacts: lower nodes or count")


def _check_sizes(contacts: Contacts, nodes: int, steps: int, count: int) -> None:
    if not 2 <= nodes <= contacts.people:
        raise ValueError(f"nodes={nodes} must be 2..{contacts.people}, the people of the network")
    if steps < 3:
        raise ValueError(f"steps={steps}: at least 3 are needed to fit one step to the next")
    if count < steps:
        raise ValueError(f"count={count} contacts do not fill {steps} bins: raise count")


def _search(
    neighbours: list[np.ndarray], root: int, size: int, rng: np.random.Generator
) -> list[int]:
    """The first ``size`` people that a breadth-first search with shuffled neighbours meets."""
    found, queue = {root: None}, deque([root])  # a dict keeps the order of discovery
    while queue and len(found) < size:
        for v in rng.permutation(neighbours[queue.popleft()]):
            if int(v) not in found and len(found) < size:
                found[int(v)] = None
                queue.append(int(v))
    return list(found)


def bin_contacts(
    pairs: Int[np.ndarray, "c 2"], nodes: int, steps: int
) -> UInt8[np.ndarray, "t n n"]:
    """Successive contacts in ``steps`` bins of equally many (up to one), as adjacency matrices."""
    bins = np.arange(len(pairs)) * steps // len(pairs)
    adjacency = np.zeros((steps, nodes, nodes), dtype=np.uint8)
    np.add.at(adjacency, (bins, pairs[:, 0], pairs[:, 1]), 1)
    np.add.at(adjacency, (bins, pairs[:, 1], pairs[:, 0]), 1)
    return adjacency


def statistics(contacts: Contacts) -> Mapping[str, int]:
    """People, rows, pairs and distinct times of a network."""
    return {
        "people": contacts.people,
        "rows": len(contacts.time),
        "pairs": len(np.unique(contacts.pairs, axis=0)),
        "times": len(np.unique(contacts.time)),
    }
