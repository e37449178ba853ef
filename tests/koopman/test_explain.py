"""Explainers, trivial baselines, scores, deletion: against hand-made cases and identities."""

import numpy as np
import pytest
import torch

from labcore.koopman import explain, gradients
from labcore.koopman.data import Dataset
from labcore.koopman.deletion import deletion_curve
from labcore.koopman.evaluate import TARGETS, Graph, scores
from labcore.koopman.explain import Explanation
from labcore.koopman.metrics import (
    always_f1,
    auc,
    cut,
    dilate,
    f1,
    mann_whitney,
    sign_flip_range,
    time_f1,
)
from labcore.koopman.operator import fit_operator
from labcore.koopman.relevance import detect, node_relevance, time_relevance
from labcore.koopman.stgnn import DynGCRNN
from labcore.koopman.training import states_of
from labcore.koopman.truth import edge_list, transmission_truth


@pytest.fixture(scope="module")
def graph(model: DynGCRNN, dataset: Dataset) -> Graph:
    row = dataset.valid[dataset.y[dataset.valid] == 1][:1]
    states = states_of(model, dataset, row)[0]
    i = int(row[0])
    truth = transmission_truth(dataset.A[i], dataset.infected_at[i])
    return Graph(dataset.A[i], dataset.x[i], states, dataset.infected_at[i], truth)


def test_the_derivative_of_a_step_and_of_its_moving_average() -> None:
    step = np.array([0.0, 0, 0, 1, 1, 1])
    assert time_relevance(step).tolist() == [0, 0, 0.5, 0.5, 0, 0]
    assert len(time_relevance(step, window=3)) == 4
    with pytest.raises(ValueError, match="at least 3 steps"):
        time_relevance(step, window=5)
    with pytest.raises(ValueError, match="NaN at step 2"):
        time_relevance(np.array([0.0, 1, np.nan, 2]))


def test_detection_by_share_by_spread_and_by_median() -> None:
    w = np.array([0.0, 0.1, 0.1, 0.1, 0.5, 1.0])
    assert detect(w, 0.4).tolist() == [False] * 4 + [True, True]
    assert detect(w, 1.0).tolist() == [False] * 5 + [True]
    assert detect(w, None).sum() == 1
    assert detect(w, "mad").sum() == 2
    for bad in (0.0, 1.5):
        with pytest.raises(ValueError, match="threshold"):
            detect(w, bad)


@pytest.mark.parametrize("window", [1, 2, 5, 6])
def test_windows_of_truth_and_signal_have_one_length(window: int) -> None:
    truth = np.arange(20) == 10
    assert len(dilate(truth, window)) == len(cut(truth, window)) == 20 - window + 1
    assert dilate(truth, window).sum() == window


def test_answering_yes_always_has_a_known_f1() -> None:
    truth = np.arange(20) % 4 == 0
    share = dilate(truth, 2).mean()
    assert always_f1(truth, 2) == pytest.approx(2 * share / (1 + share))
    assert time_f1(np.ones(20), truth, 0.4, 2) == pytest.approx(always_f1(truth, 2))
    # the published baseline took an array of ones for a list of indices: it "detects" step 1 only
    index = np.zeros(20, dtype=bool)
    index[np.ones(20, dtype=int)] = True
    assert f1(index, truth) == 0.0
    with pytest.raises(ValueError, match="no positive"):
        time_f1(np.ones(20), np.zeros(20))
    with pytest.raises(ValueError, match="window=30"):
        time_f1(np.ones(20), truth, 0.4, 30)


def test_the_rank_test_agrees_with_its_effect() -> None:
    truth = np.arange(30) % 5 == 0
    found = mann_whitney(truth + 0.01 * np.arange(30.0), truth)
    assert found.p < 1e-3
    assert found.effect == pytest.approx(2 * auc(truth + 0.01 * np.arange(30.0), truth) - 1)
    assert mann_whitney(-truth.astype(float), truth).p > 0.9
    with pytest.raises(ValueError, match="rank test"):
        mann_whitney(np.ones(4), np.ones(4))


def test_phases_move_the_real_part_but_not_the_modulus() -> None:
    turn = np.array([[np.cos(0.5), -np.sin(0.5), 0], [np.sin(0.5), np.cos(0.5), 0], [0, 0, 0.2]])
    rng = np.random.default_rng(0)
    path = [rng.normal(size=(8, 3))]
    for _ in range(11):
        path.append(path[-1] @ turn.T * 0.98)
    states = np.stack(path, axis=1)
    fit = fit_operator(states, 3, 1e-6)
    assert abs(fit.eigs[0].imag) > 0.1
    p = fit.coordinate(states[:, -1])
    assert np.allclose(node_relevance(states, fit, part="abs"), np.abs(p - p.mean()))
    turned = np.exp(0.7j) * p
    assert np.allclose(np.abs(turned - turned.mean()), np.abs(p - p.mean()))
    assert not np.allclose(np.abs((turned - turned.mean()).real), np.abs((p - p.mean()).real))
    for kind in ("deviation", "norm", "max_step"):
        assert node_relevance(states, fit, kind).shape == (8,)


def test_left_coordinates_evolve_by_the_eigenvalue_and_right_ones_do_not() -> None:
    K = np.array([[0.9, 0.5], [0.0, 0.5]])
    z = [np.array([1.0, 1.0])]
    for _ in range(10):
        z.append(K @ z[-1])
    states = np.stack(z)[None]
    fit = fit_operator(states, 2, 1e-12, embedding="identity")
    left, right = fit.coordinate(states[0], 0, "left"), fit.coordinate(states[0], 0, "right")
    assert np.allclose(left[1:], fit.eigs[0] * left[:-1], atol=1e-6)
    assert not np.allclose(right[1:], fit.eigs[0] * right[:-1], atol=1e-2)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"k": 5}, r"k=5 in 1\.\.4"),
        ({"k": 0}, "k=0"),
        ({"steps": 2}, "3 steps"),
        ({"nan": True}, r"nan at \(sequence, step, feature\) \(1, 2, 3\)"),
        ({"alpha": 0.0, "flat": True}, "positive alpha"),
        ({"alpha": -1.0}, "positive alpha"),
        ({"embedding": "identity", "k": 2}, "keeps all 4"),
    ],
)
def test_states_that_no_operator_fits_are_refused(change: dict, said: str) -> None:
    states = np.random.default_rng(0).normal(size=(3, change.pop("steps", 6), 4))
    if change.pop("nan", False):
        states[1, 2, 3] = np.nan
    if change.pop("flat", False):
        states[..., 1:] = 0
    with pytest.raises(ValueError, match=said):
        fit_operator(states, **{"k": 4, **change})


def test_no_such_mode() -> None:
    states = np.random.default_rng(0).normal(size=(3, 6, 4))
    fit = fit_operator(states, 3)
    with pytest.raises(ValueError, match=r"mode=3 must be 0\.\.2"):
        fit.coordinate(states, 3)


def test_constant_states_shrink_and_ridge_nears_dmd() -> None:
    from labcore.koopman.dmd import dmd

    flat = fit_operator(np.ones((3, 5, 2)), 2, embedding="identity")
    assert np.isfinite(flat.K).all()
    assert np.abs(flat.eigs).max() < 1
    rng = np.random.default_rng(0)
    X = rng.normal(size=(3, 12))
    ridge = fit_operator(X.T[None], 3, 1e-12, embedding="identity")
    assert np.allclose(np.sort_complex(ridge.eigs), np.sort_complex(dmd(X, 3).eigs), atol=1e-8)


def test_every_explainer_has_one_shape(graph: Graph, model: DynGCRNN) -> None:
    fit = fit_operator(graph.states.transpose(1, 0, 2).astype(np.float64), 4)
    found = [
        explain.explain_dmd(graph.states, graph.A, fit, k=4),
        explain.explain_dmd(graph.states, graph.A, fit, local=False, part="abs", side="left"),
        explain.explain_pca(graph.states, graph.A, fit),
        explain.explain_sindy(graph.states, graph.A, k=4, degree=3),
        gradients.saliency(model, graph.x, graph.A),
        gradients.edge_gradient(model, graph.x, graph.A),
        explain.random(graph.A, graph.x, np.random.default_rng(0)),
        *(make(graph.A, graph.x) for make in explain.BASELINES.values()),
    ]
    steps, n, pairs = len(graph.A), graph.A.shape[1], len(edge_list(graph.A))
    for each in found:
        assert (each.times.shape, each.nodes.shape, each.edges.shape) == ((steps,), (n,), (pairs,))
        values = scores(each, graph, window=4)
        assert set(values) == set(TARGETS)


def test_what_is_not_said_is_not_scored(graph: Graph) -> None:
    silent = explain.degree(graph.A, graph.x)
    values = scores(silent, graph, window=4)
    assert np.isnan(values["time_auc"])
    assert not np.isnan(values["node_auc"])
    perfect = Explanation(graph.truth.times, graph.truth.nodes * 1.0, graph.truth.edges * 1.0)
    best = scores(perfect, graph, window=4)
    assert best["time_auc"] == best["node_auc"] == best["hard_edge_auc"] == 1.0
    assert scores(explain.always(graph.A, graph.x), graph, window=4)["node_auc"] == 0.5


def test_saliency_is_the_slope_of_the_logit(graph: Graph, model: DynGCRNN) -> None:
    found = gradients.saliency(model, graph.x, graph.A)
    v, t, h = 3, 5, 1e-2
    ends = np.stack([graph.x, graph.x])
    ends[0, t, v] -= h
    ends[1, t, v] += h
    with torch.no_grad():
        A = torch.from_numpy(graph.A).float().expand(2, -1, -1, -1)
        low, high = model(torch.from_numpy(ends)[..., None], A)[0].tolist()
    gradient = gradients._gradient(model, *gradients._tensors(graph.x, graph.A))[0].numpy()
    assert gradient[t, v] == pytest.approx((high - low) / (2 * h), rel=0.05, abs=1e-4)
    assert found.times[t] == pytest.approx(np.abs(gradient[t]).sum(), rel=1e-5)


def test_integrated_gradients_equal_captum_on_one_grid(graph: Graph, model: DynGCRNN) -> None:
    captum = pytest.importorskip("captum.attr", reason="the peer captum is not installed")
    x, A = gradients._tensors(graph.x, graph.A)
    theirs = captum.IntegratedGradients(lambda given, contacts: model(given, contacts)[0])
    parts = theirs.attribute(
        x, additional_forward_args=(A,), n_steps=20, method="riemann_middle", internal_batch_size=1
    )[0, ..., 0]
    ours = gradients.integrated_gradients(model, graph.x, graph.A, steps=20, rounds=1)
    np.testing.assert_allclose(ours.times, parts.sum(dim=1).abs().numpy(), atol=1e-5)
    np.testing.assert_allclose(ours.nodes, parts.sum(dim=0).abs().numpy(), atol=1e-5)


def test_integrated_gradients_sum_to_the_change_or_warn(graph: Graph, model: DynGCRNN) -> None:
    found = gradients.integrated_gradients(model, graph.x, graph.A)
    assert found.meta["gap"] < 0.05
    never = graph.x.max(axis=0) == 0
    assert (found.nodes[never] == 0).all()
    sharp = DynGCRNN(1, 4, 2)
    sharp.load_state_dict({k: 6 * v for k, v in model.state_dict().items()})
    with pytest.warns(UserWarning, match="take more rounds"):
        coarse = gradients.integrated_gradients(sharp, graph.x, graph.A, steps=1, rounds=1)
    fine = gradients.integrated_gradients(sharp, graph.x, graph.A, steps=1, rounds=16)
    assert fine.meta["gap"] < 0.05 < coarse.meta["gap"]
    with pytest.raises(ValueError, match="steps=0"):
        gradients.integrated_gradients(model, graph.x, graph.A, steps=0)


def test_deletion_cuts_what_is_relevant_first(graph: Graph, model: DynGCRNN) -> None:
    steps = len(graph.A)
    first = np.arange(steps, 0.0, -1)
    drops = deletion_curve(model, graph.x, graph.A, first, (0, 3, steps))
    assert drops[0] == pytest.approx(0.0, abs=1e-5)
    A = graph.A.copy()
    A[:3] = 0
    x = torch.from_numpy(graph.x)[None, ..., None]
    with torch.no_grad():
        both = [float(model(x, torch.from_numpy(a)[None].float())[0]) for a in (graph.A, A)]
    assert drops[1] == pytest.approx(both[0] - both[1], abs=1e-4)
    with pytest.raises(ValueError, match="without NaN"):
        deletion_curve(model, graph.x, graph.A, np.full(steps, np.nan), (1,))
    with pytest.raises(ValueError, match="cuts"):
        deletion_curve(model, graph.x, graph.A, first, (steps + 1,))


def test_signs_move_the_published_weight_only(graph: Graph) -> None:
    Z = explain.embed_nodes(graph.states.transpose(1, 0, 2).astype(np.float64), 6)
    edges = edge_list(graph.A)
    both = graph.truth.nodes[edges[:, 0]] & graph.truth.nodes[edges[:, 1]]
    ranges = {}
    for aggregate in ("frobenius", "signed_sum"):
        rng = np.random.default_rng(0)
        low, high = sign_flip_range(Z, edges, both, degree=3, aggregate=aggregate, rng=rng)
        ranges[aggregate] = high - low
    assert ranges["frobenius"] < 1e-6
    assert ranges["signed_sum"] > 0.01


def test_pairs_and_counts_of_a_small_case() -> None:
    A = np.zeros((3, 3, 3), dtype=np.uint8)
    A[0, 0, 1] = A[0, 1, 0] = 2
    A[2, 1, 2] = A[2, 2, 1] = 1
    x = np.array([[1, 0, 0], [1, 1, 0], [1, 1, 0]], dtype=np.float32)
    found = explain.contact_count(A, x)
    assert found.edges.tolist() == [2, 1]
    assert found.times.tolist() == [2, 0, 1]
    assert found.nodes.tolist() == [2, 1, 0]
    assert explain.count_change(A, x).times.tolist() == [1, 0.5, 0]
    assert explain.input_flag(A, x).nodes.tolist() == [1, 1, 0]
    assert explain.degree(A, x).nodes.tolist() == [2, 3, 1]


def test_the_operator_equals_ridge_and_left_modes_are_eigenfunctions() -> None:
    linear = pytest.importorskip("sklearn.linear_model", reason="scikit-learn is not installed")
    states = np.random.default_rng(0).normal(size=(5, 9, 4)).cumsum(axis=1)
    fit = fit_operator(states, 3)
    z = fit.embed(states)
    ridge = linear.Ridge(alpha=1.0, fit_intercept=False)
    ridge.fit(z[:, :-1].reshape(-1, 3), z[:, 1:].reshape(-1, 3))
    np.testing.assert_allclose(fit.K, ridge.coef_, atol=1e-10)
    np.testing.assert_allclose(fit.left @ fit.K, fit.eigs[:, None] * fit.left, atol=1e-9)


def test_auc_of_a_constant_is_a_half_and_of_one_class_nothing() -> None:
    assert auc(np.ones(4), np.array([True, False, True, False])) == 0.5
    with pytest.warns(UserWarning, match="one class"):
        assert np.isnan(auc(np.ones(2), np.array([True, True])))
