"""The released weights on the article's own data: the published node score comes out again."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from labcore.koopman.metrics import auc
from labcore.koopman.operator import fit_operator, node_deviation
from labcore.koopman.stgnn import DynGCRNN, load_reference_weights
from labcore.koopman.truth import explained_share, transmission_truth
from labcore.koopman.tu_format import TemporalGraph, read_temporal_tu


@pytest.fixture(scope="module")
def folder(root: Path) -> Path:
    places = [root.parent / "shared" / "data", Path(os.environ.get("LABCORE_DATA", root))]
    found = [p / "ct1" for p in places if (p / "ct1").is_dir()]
    if not found:
        pytest.skip("the ct1 reference data are not here: set LABCORE_DATA to their folder")
    return found[0]


def share_with_seeds(graphs: list[TemporalGraph]) -> float:
    """The table counts the seeds too, as infections that nothing explains."""
    explained = infected = 0.0
    for g in graphs:
        at = g.infected_at[g.infected_at >= 0]
        share = explained_share(g.adjacency(), g.infected_at, gap=2)
        explained += float(np.nan_to_num(share)) * int((at > at.min()).sum())
        infected += len(at)
    return explained / infected


def test_the_reader_agrees_with_the_published_table(folder: Path) -> None:
    graphs = read_temporal_tu(folder / "infectious_ct1", "infectious_ct1")
    assert len(graphs) == 200
    assert graphs[0].steps == 50
    shares = [share_with_seeds([g for g in graphs if g.label == wanted]) for wanted in (1, 0)]
    assert shares[0] == pytest.approx(0.83, abs=0.01)
    assert shares[1] == pytest.approx(0.09, abs=0.01)


def test_the_released_weights_rank_nodes_as_published(folder: Path) -> None:
    from safetensors.torch import load_file

    model = load_reference_weights(load_file(folder / "dyngcrnn_infectious_ct1.safetensors"))
    scores = []
    for g in read_temporal_tu(folder / "infectious_ct1", "infectious_ct1"):
        A = g.adjacency()
        truth = transmission_truth(A, g.infected_at, "paper", gap=2)
        if g.label != 1 or not truth.times.any() or truth.nodes.all():
            continue
        x = torch.tensor(g.features(), dtype=torch.float32)[None, ..., None]
        states = model(x, torch.tensor(A, dtype=torch.float32)[None])[1][0]
        local = states.permute(1, 0, 2).double().numpy()
        fit = fit_operator(local, 16)
        scores.append(auc(node_deviation(local[:, -1], fit), truth.nodes))
    assert len(scores) > 50
    assert np.mean(scores) == pytest.approx(0.685, abs=0.005)


def test_states_follow_the_nodes_and_ignore_padding() -> None:
    torch.manual_seed(0)
    model = DynGCRNN(1, 4, 2)
    x, A = torch.rand(2, 5, 6, 1), torch.rand(2, 5, 6, 6).round()
    logits, states = model(x, A)
    order = torch.randperm(6)
    turned = model(x[:, :, order], A[:, :, order][..., order])
    torch.testing.assert_close(turned[0], logits)
    torch.testing.assert_close(turned[1], states[:, :, order])
    wide = torch.zeros(2, 5, 8, 8)
    wide[:, :, :6, :6] = A
    mask = torch.arange(8).expand(2, 8) < 6
    padded = model(torch.cat([x, torch.zeros(2, 5, 2, 1)], 2), wide, mask)
    torch.testing.assert_close(padded[0], logits)


def test_the_operator_equals_ridge_and_left_modes_are_eigenfunctions() -> None:
    linear = pytest.importorskip("sklearn.linear_model", reason="scikit-learn is not installed")
    states = np.random.default_rng(0).normal(size=(5, 9, 4)).cumsum(axis=1)
    fit = fit_operator(states, 3)
    z = fit.embed(states)
    ridge = linear.Ridge(alpha=1.0, fit_intercept=False)
    ridge.fit(z[:, :-1].reshape(-1, 3), z[:, 1:].reshape(-1, 3))
    np.testing.assert_allclose(fit.K, ridge.coef_, atol=1e-10)
    np.testing.assert_allclose(fit.left @ fit.K, fit.eigs[:, None] * fit.left, atol=1e-9)
    with pytest.raises(ValueError, match="k=9"):
        fit_operator(states, 9)


def test_auc_of_a_constant_is_a_half_and_of_one_class_nothing() -> None:
    assert auc(np.ones(4), np.array([True, False, True, False])) == 0.5
    with pytest.warns(UserWarning, match="one class"):
        assert np.isnan(auc(np.ones(2), np.array([True, True])))
