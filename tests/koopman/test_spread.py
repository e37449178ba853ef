"""Simulator and truth: graph distances, a reference simulator, and that truth explains itself."""

from pathlib import Path

import networkx as nx
import numpy as np
import pytest

from labcore import assets
from labcore.koopman.contacts import (
    bin_contacts,
    load_contacts,
    make_contacts,
    merge_repeats,
    read_contacts,
    sample_piece,
    statistics,
)
from labcore.koopman.data import dissemination_dataset
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


def test_contacts_of_a_file_are_read_in_any_order(tmp_path: Path) -> None:
    file = tmp_path / "contacts.csv"
    file.write_text("40\t7\t5\tB\tA\n20\t5\t9\tA\tB\n")
    found = read_contacts(file)
    assert found.time.tolist() == [20, 40]
    assert found.node_ids.tolist() == [5, 7, 9]
    assert found.labels == ("A", "B", "B")
    assert found.pairs.tolist() == [[0, 2], [0, 1]]
    file.write_text("20\t5\t9\n")
    with pytest.raises(ValueError, match="five tab-separated columns"):
        read_contacts(file)
    with pytest.raises(FileNotFoundError):
        read_contacts(tmp_path / "none.csv")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"nodes": 31}, r"must be 2\.\.30"),
        ({"steps": 2}, "at least 3"),
        ({"count": 5, "steps": 6}, "do not fill 6 bins"),
        ({"count": 5000}, "lower nodes or count"),
    ],
)
def test_pieces_that_cannot_be_are_refused(change: dict, said: str) -> None:
    rng = np.random.default_rng(0)
    pairs = np.array([rng.choice(30, 2, replace=False) for _ in range(500)])
    contacts = make_contacts(np.arange(500), pairs, ("a",) * 30, np.arange(30))
    with pytest.raises(ValueError, match=said):
        sample_piece(contacts, rng, **{"nodes": 10, "steps": 5, "count": 30, **change})


@pytest.mark.parametrize(
    ("name", "people", "rows", "pairs", "times"),
    [
        ("highschool2012", 180, 45_047, 2_220, 11_273),
        ("primaryschool", 242, 125_773, 8_317, 3_100),
        ("hospital", 75, 32_424, 1_139, 9_453),
    ],
)
def test_the_real_networks_are_those_of_the_data_papers(
    name: str, people: int, rows: int, pairs: int, times: int
) -> None:
    if assets.status("contacts") != "ready":
        pytest.skip("the contact networks are not here: lab fetch contacts")
    found = statistics(load_contacts(name))
    assert found == {"people": people, "rows": rows, "pairs": pairs, "times": times}
    with pytest.raises(ValueError, match="choose one of"):
        load_contacts("airport")


def test_scrambled_infections_on_real_contacts_have_no_cause() -> None:
    if assets.status("contacts") != "ready":
        pytest.skip("the contact networks are not here: lab fetch contacts")
    data = dissemination_dataset("highschool2012", 60, seed=0)
    for label, low, high in ((1, 1.0, 1.0), (0, 0.0, 0.1)):
        rows = np.flatnonzero(data.y == label)
        share = np.nanmean([explained_share(data.A[i], data.infected_at[i]) for i in rows])
        assert low <= share <= high
