import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st

from labcore.kvcache import (
    alr,
    alr_reference,
    attention_losses,
    drop_order,
    key_norms,
    loss_curves,
    pearson,
    relative_alr,
    select,
    spearman,
)
from labcore.kvcache.attention_loss import _check


def draw(seed, *shape):
    generator = torch.Generator().manual_seed(seed)
    attn = torch.randn(shape, generator=generator).softmax(dim=-1)
    return attn, torch.rand(shape, generator=generator) + 0.5


def test_correlations_agree_with_scipy():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(5, 40)).round(1), rng.normal(size=(5, 40)).round(1)  # with ties
    for row in range(5):
        assert spearman(x, y)[row] == pytest.approx(scipy.stats.spearmanr(x[row], y[row])[0])
        assert pearson(x, y)[row] == pytest.approx(scipy.stats.pearsonr(x[row], y[row])[0])


@given(n=st.integers(1, 60), seed=st.integers(0, 999))
def test_closed_form_is_the_area_between_the_curves(n, seed):
    attn, norms = draw(seed, 3, n)
    norms = (4 * norms).round() / 4  # with ties
    torch.testing.assert_close(alr(attn, norms), alr_reference(attn, norms), rtol=1e-5, atol=1e-5)


@given(n=st.integers(2, 40), seed=st.integers(0, 999))
def test_loss_is_never_negative_and_zero_only_for_the_order_of_attention(n, seed):
    attn, norms = draw(seed, n)
    sorted_by_norm = attn[drop_order(norms)]
    perfect = bool((sorted_by_norm.diff() >= 0).all())
    assert (alr(attn, norms).item() < 1e-9) == perfect
    assert alr(attn, -attn).item() == 0.0


@given(n=st.integers(1, 40), seed=st.integers(0, 999))
def test_curves_rise_to_all_attention(n, seed):
    attn, norms = draw(seed, 2, n)
    for curve in loss_curves(attn, norms):
        assert (curve.diff(dim=-1) >= 0).all()
        torch.testing.assert_close(curve[..., -1], attn.sum(-1))
    best, by_norm = loss_curves(attn, norms)
    assert (by_norm - best >= -1e-6).all()


def test_a_random_order_scores_one_on_average():
    attn = torch.tensor(np.random.default_rng(1).dirichlet(np.ones(50)), dtype=torch.float64)
    norms = torch.rand(2000, 50, generator=torch.Generator().manual_seed(2))
    assert relative_alr(attn.expand(2000, 50), norms).mean().item() == pytest.approx(1, abs=0.05)


def test_by_hand():
    attn, norms = torch.tensor([0.5, 0.3, 0.2]), torch.tensor([1.0, 3.0, 2.0])
    best, by_norm = loss_curves(attn, norms)
    np.testing.assert_allclose(best, [0.2, 0.5, 1.0], rtol=1e-6)
    np.testing.assert_allclose(by_norm, [0.3, 0.5, 1.0], rtol=1e-6)
    assert alr(attn, norms).item() == pytest.approx(0.1)
    assert relative_alr(attn, norms).item() == pytest.approx(1 / 3)


def test_drop_order_is_the_order_of_keeping_reversed():
    keys = torch.randn(1, 1, 20, 4, generator=torch.Generator().manual_seed(6)).round()  # ties
    norms = key_norms(keys)
    order = drop_order(norms)[0, 0]
    for k in range(1, 20):
        assert set(select(-norms, k)[0, 0].tolist()) == set(order[20 - k :].tolist())


def test_pooling_is_a_ratio_of_sums():
    attn, norms = draw(7, 4, 3, 20)
    loss, at_random = attention_losses(attn, norms)
    pooled = relative_alr(attn, norms, weights=torch.ones(3))
    torch.testing.assert_close(pooled.double(), loss.sum(-1) / at_random.sum(-1))
    one = relative_alr(attn, norms, weights=torch.tensor([0.0, 1.0, 0.0]))
    torch.testing.assert_close(one, relative_alr(attn[:, 1], norms[:, 1]))


def test_norms_broadcast_over_queries():
    attn, norms = draw(8, 4, 3, 20)
    shared = norms[:, :1]
    torch.testing.assert_close(alr(attn, shared), alr(attn, shared.expand_as(attn)))


def test_uniform_attention_has_no_wrong_order():
    assert relative_alr(torch.full((8,), 0.125), torch.arange(8.0)).isnan()


def test_inputs_stay_as_they_were():
    attn, norms = draw(9, 10)
    before = attn.clone(), norms.clone()
    alr(attn, norms), relative_alr(attn, norms), loss_curves(attn, norms)
    assert torch.equal(attn, before[0])
    assert torch.equal(norms, before[1])


def test_bad_input():
    with pytest.raises(ValueError, match=r"\(3,\) and norms \(1,\) must share the last axis"):
        _check(torch.rand(3), torch.rand(1))
    with pytest.raises(ValueError, match="no cached keys"):
        alr(torch.rand(2, 0), torch.rand(2, 0))
