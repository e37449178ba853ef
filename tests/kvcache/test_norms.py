import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from labcore.kvcache import key_norms, n_keep, overall_kept, select


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_norms_are_float32_whatever_the_cache(dtype):
    keys = (8 * torch.randn(2, 3, 50, 64, generator=torch.Generator().manual_seed(0))).to(dtype)
    norms = key_norms(keys)
    assert norms.dtype == torch.float32
    torch.testing.assert_close(norms.double(), keys.double().norm(dim=-1), rtol=1e-6, atol=0)


def test_bfloat16_norms_would_tie():
    keys = 8 * torch.randn(1, 1, 256, 64, generator=torch.Generator().manual_seed(0)).bfloat16()
    assert key_norms(keys).unique().numel() > 250
    assert keys.norm(dim=-1).unique().numel() < 100


@given(n=st.integers(1, 5000), percent=st.integers(1, 100))
def test_n_keep_is_the_ceiling_without_rounding_noise(n, percent):
    exact = max(1, -(-percent * n // 100))  # ceiling in whole numbers
    assert n_keep(n, percent / 100) == min(n, exact)


def test_n_keep_known_answers():
    assert n_keep(1000, 0.1) == 100  # int(1000 · (1 − 0.9)) would give 99
    assert n_keep(5, 1.0) == 5
    assert n_keep(0, 0.5) == 0


def test_overall_kept():
    assert overall_kept(32, 0.5, (0, 1)) == pytest.approx(0.53125)
    assert overall_kept(30, 0.25) == pytest.approx(0.25)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_kept_set_is_a_stable_argsort_of_float32_norms(dtype):
    keys = torch.randn(2, 3, 40, 8, generator=torch.Generator().manual_seed(3)).to(dtype)
    kept = select(-key_norms(keys), 13)
    order = keys.float().norm(dim=-1).sort(dim=-1, stable=True).indices[..., :13]
    assert torch.equal(kept, order.sort(dim=-1).values)


def test_ties_keep_the_lowest_positions():
    assert select(torch.zeros(1, 2, 9), 4).tolist() == [[[0, 1, 2, 3]] * 2]


def test_scaling_a_head_changes_nothing():
    keys = torch.randn(1, 4, 60, 16, generator=torch.Generator().manual_seed(4))
    scaled = keys * torch.tensor([0.25, 1.0, 3.0, 1000.0])[None, :, None, None]
    assert torch.equal(select(-key_norms(keys), 20), select(-key_norms(scaled), 20))


def test_low_and_high_norm_partition():
    scores = torch.randn(2, 2, 30, generator=torch.Generator().manual_seed(5))
    both = torch.cat([select(scores, 15), select(-scores, 15)], dim=-1).sort(dim=-1).values
    assert torch.equal(both, torch.arange(30).expand(2, 2, 30))


@given(
    n=st.integers(1, 40),
    share=st.floats(0, 1),
    sinks=st.integers(0, 8),
    recent=st.integers(0, 8),
    seed=st.integers(0, 99),
)
def test_selection_is_ascending_unique_and_guarded(n, share, sinks, recent, seed):
    k = max(1, round(share * n))
    scores = torch.randn(2, 2, n, generator=torch.Generator().manual_seed(seed))
    if sinks + recent > k:
        with pytest.raises(ValueError, match=f"sinks={sinks} .* exceed the {k} pairs kept"):
            select(scores, k, sinks=sinks, recent=recent)
        return
    kept = select(scores, k, sinks=sinks, recent=recent)
    assert kept.shape == (2, 2, k)
    assert (kept.diff(dim=-1) > 0).all()
    guarded = {*range(min(sinks, n)), *range(n - recent, n)}
    for row in kept.flatten(0, 1).tolist():
        assert guarded <= set(row)


def test_sinks_are_original_positions_and_recent_counts_stored_pairs():
    positions = torch.tensor([[[0, 5, 6, 9, 11]]])
    scores = torch.tensor([[[1.0, 2.0, 3.0, 4.0, 0.0]]])
    assert select(scores, 4, positions=positions, sinks=3, recent=1).tolist() == [[[0, 2, 3, 4]]]
    assert select(scores, 3, positions=positions, sinks=3).tolist() == [[[0, 2, 3]]]


def test_guards_may_differ_by_row():
    scores = torch.arange(6.0).expand(2, 1, 6).clone()
    recent = torch.tensor([0, 2]).view(2, 1, 1)
    kept = select(-scores, 3, sinks=torch.zeros(2, 1, 1, dtype=torch.int64), recent=recent)
    assert kept.tolist() == [[[0, 1, 2]], [[0, 4, 5]]]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: n_keep(10, 0.0), r"keep_ratio must be in \(0, 1\], got 0.0"),
        (lambda: n_keep(10, 1.5), r"keep_ratio must be in \(0, 1\], got 1.5"),
        (lambda: n_keep(10, math.nan), r"keep_ratio must be in \(0, 1\], got nan"),
        (lambda: overall_kept(4, 0.5, (4,)), r"skip_layers \[4\] are outside 0..3"),
        (lambda: select(torch.zeros(1, 1, 3), 4), "k=4 pairs cannot be kept out of 3"),
        (lambda: select(torch.zeros(1, 1, 3), 0), "k=0 pairs cannot be kept out of 3"),
        (
            lambda: select(torch.zeros(1, 1, 60), 52, sinks=4, recent=64),
            r"sinks=4 \+ recent=64 exceed the 52 pairs kept",
        ),
        (lambda: select(torch.zeros(1, 1, 3), 2, sinks=-1), "must not be negative"),
        (lambda: select(torch.full((1, 1, 3), math.nan), 2), "scores hold NaN"),
        (
            lambda: select(torch.zeros(1, 1, 2), 1, positions=torch.tensor([[[3, 1]]])),
            "positions must ascend",
        ),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
