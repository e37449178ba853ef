"""Simulator and truth: graph distances, a reference simulator, and that truth explains itself."""

import networkx as nx
import numpy as np
import pytest

from labcore.koopman.contacts import bin_contacts, make_contacts, merge_repeats, sample_piece
from labcore.koopman.simulate import scramble, simulate_si, simulate_sir, trace_si
from labcore.koopman.truth import edge_list, explained_share, transmission_truth


def constant(graph: nx.Graph, steps: int) -> np.ndarray:
    return np.repeat(nx.to_numpy_array(graph)[None], steps, axis=0).astype(np.uint8)


def temporal(seed: int, n: int = 20, steps: int = 20, contacts: int = 200) -> np.ndarray:
    rng = np.random.default_rng(seed)
    pairs = np.array([rng.choice(n, 2, replace=False) for _ in range(contacts)])
    return bin_contacts(pairs, n, steps)


def test_certain_transmission_gives_graph_distances() -> None:
    graph = nx.barbell_graph(5, 6)
    found = simulate_si(constant(graph, 30), 1.0, np.random.default_rng(0), seed_node=0)
    distance = nx.single_source_shortest_path_length(graph, 0)
    assert found.tolist() == [distance[v] for v in graph]
    nobody = simulate_si(constant(graph, 30), 0.0, np.random.default_rng(0), seed_node=3)
    assert (nobody >= 0).sum() == 1


def test_more_contacts_infect_no_later() -> None:
    A = temporal(0)
    more = A + temporal(1)
    for seed in range(10):
        few, many = (
            simulate_si(B, 0.4, np.random.default_rng(seed), seed_node=0) for B in (A, more)
        )
        reached = few >= 0
        assert (many[reached] >= 0).all()
        assert (many[reached] <= few[reached]).all()


def test_final_sizes_agree_with_eon() -> None:
    eon = pytest.importorskip("EoN", reason="the reference simulator EoN is not installed")
    import random

    from scipy.stats import ks_2samp

    graph = nx.random_regular_graph(4, 200, seed=0)
    random.seed(0)
    theirs = [eon.basic_discrete_SIR(graph, 0.4, initial_infecteds=[0])[3][-1] for _ in range(300)]
    A, rng = constant(graph, 60), np.random.default_rng(0)
    ours = [(simulate_sir(A, 0.4, 1.0, rng, seed_node=0)[0] >= 0).sum() for _ in range(300)]
    assert ks_2samp(ours, theirs).pvalue > 0.01


@pytest.mark.parametrize("seed", range(5))
def test_truth_explains_every_infection_and_the_paper_rule_holds_more(seed: int) -> None:
    A, rng = temporal(seed), np.random.default_rng(seed)
    run = trace_si(A, 0.7, rng)
    assert explained_share(A, run.infected_at) == 1.0
    causal = transmission_truth(A, run.infected_at)
    paper = transmission_truth(A, run.infected_at, "paper", gap=1)
    assert ((paper.times > 0) >= (causal.times > 0)).all()
    edges = edge_list(A)
    true = {tuple(e) for e in edges[causal.edges].tolist()}
    for v in np.flatnonzero(run.source >= 0):
        assert tuple(sorted((int(run.source[v]), int(v)))) in true
        assert causal.spreaders[run.source[v]]


def test_scrambled_labels_keep_the_number_but_not_the_cause() -> None:
    rng = np.random.default_rng(0)
    A = temporal(0, n=40, contacts=120)
    run = simulate_si(A, 0.9, rng, seed_node=int(A.sum((0, 1)).argmax()))
    fakes = [scramble(run, rng, steps=20) for _ in range(20)]
    assert all((fake >= 0).sum() == (run >= 0).sum() for fake in fakes)
    assert np.nanmean([explained_share(A, fake) for fake in fakes]) < 0.5


def test_the_file_convention_is_one_bin_later() -> None:
    A = np.zeros((6, 2, 2), np.uint8)
    A[1] = [[0, 1], [1, 0]]
    for gap in (1, 2):
        truth = transmission_truth(A, np.array([0, 1 + gap]), "paper", gap=gap)
        assert np.flatnonzero(truth.times).tolist() == [1]
        causal = transmission_truth(A, np.array([0, 1 + gap]), gap=gap)
        assert np.flatnonzero(causal.times).tolist() == [1]


def test_contacts_are_sorted_merged_and_cut_into_equal_bins() -> None:
    rng = np.random.default_rng(0)
    pairs = np.array([rng.choice(30, 2, replace=False) for _ in range(2000)])
    raw = make_contacts(rng.integers(0, 9000, 2000), pairs, ("a",) * 30, np.arange(30))
    assert (np.diff(raw.time) >= 0).all()
    piece = sample_piece(raw, rng, nodes=20, steps=10, count=100)
    assert (piece.sum((1, 2)) == 20).all()
    assert (piece == piece.transpose(0, 2, 1)).all()
    talk = make_contacts(
        np.array([0, 20, 40, 100]), np.array([[0, 1]] * 4), ("a", "b"), np.arange(2)
    )
    assert merge_repeats(talk).time.tolist() == [0, 100]


@pytest.mark.parametrize(
    ("time", "pairs", "said"), [([-1], [[0, 1]], "negative"), ([1], [[1, 1]], "themself")]
)
def test_bad_contacts_are_refused(time: list, pairs: list, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make_contacts(np.array(time), np.array(pairs), ("a", "b"), np.arange(2))
