"""The decomposition: known answers, sums, gaps, intervals, holes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from labcore.speech.variance import (
    bootstrap_shares,
    clipped_logit,
    gap_of_best,
    pooled_rate,
    variance_shares,
)

NAMES = ("encoder", "adapter", "language model")
TABLE = np.array(
    [
        [[30, 28, 45, 41, 27], [29, 27, 47, 40, 28]],
        [[22, 20, 26, 30, 21], [21, 21, 27, 31, 19]],
    ]
).astype(float)  # encoder, language model, adapter


def shares_of(table: np.ndarray, names: tuple[str, ...], residual: str = "three_way") -> dict:
    return {s.term: s for s in variance_shares(table, names, residual)}


def test_an_additive_table_has_no_interaction() -> None:
    s, a, m = np.meshgrid([0, 1], range(5), [0, 1], indexing="ij")
    found = shares_of(10.0 * s + a + m, NAMES)
    assert found["encoder"].share == pytest.approx(25 / 27.25)
    assert found["adapter"].share == pytest.approx(2 / 27.25)
    assert found["language model"].share == pytest.approx(0.25 / 27.25)
    rest = [s.sum_squares for name, s in found.items() if "x" in name.split()]
    assert max(rest) < 1e-9


def test_sums_of_squares_of_the_published_style_table() -> None:
    found = shares_of(TABLE, ("encoder", "language model", "adapter"))
    wanted = {
        "encoder": 540.8, "language model": 0, "adapter": 638.5, "encoder x language model": 0,
        "encoder x adapter": 108.7, "language model x adapter": 3.5,
        "encoder x language model x adapter (= residual)": 4.5,
    }  # fmt: skip
    for term, value in wanted.items():
        assert found[term].sum_squares == pytest.approx(value, abs=1e-9)
    assert sum(s.sum_squares for s in found.values()) == pytest.approx(1296)


def test_share_and_gap_of_best_disagree_on_that_table() -> None:
    names = ("encoder", "language model", "adapter")
    levels = {"encoder": "AB", "language model": "ML", "adapter": "bcitw"}
    gaps = {r["factor"]: r for r in gap_of_best(TABLE, names, levels)}
    assert gaps["encoder"]["gap"] == 8
    assert gaps["encoder"]["best_level"] == "B"
    assert gaps["adapter"]["gap_to_second"] == 1
    found = shares_of(TABLE, names)
    assert found["adapter"].share > found["encoder"].share


@given(st.integers(0, 10_000))
def test_shares_sum_to_one_with_and_without_repeats(seed: int) -> None:
    table = np.random.default_rng(seed).random((2, 3, 2, 3))
    for residual, values in (("repeats", table), ("three_way", table[..., 0])):
        found = variance_shares(values, NAMES, residual)
        assert sum(s.share for s in found) == pytest.approx(1)
        assert min(s.share for s in found) >= 0


def test_the_spread_of_repeats_is_the_residual() -> None:
    table = np.zeros((2, 2, 2, 2))
    table[..., 0], table[..., 1] = 1.0, -1.0
    found = shares_of(table, NAMES, "repeats")
    assert found["residual"].share == pytest.approx(1)


def test_a_hole_is_named() -> None:
    table = TABLE.copy()
    table[1, 0, 3] = np.nan
    with pytest.raises(ValueError, match="no score for encoder 1, language model 0, adapter 3"):
        variance_shares(table, ("encoder", "language model", "adapter"))


@pytest.mark.parametrize(
    ("table", "residual", "message"),
    [
        (TABLE[0], "three_way", "2 axes: 3 factors want 3"),
        (TABLE[..., None], "repeats", "one repeat has no spread"),
        (TABLE, "none", '"three_way" or "repeats", got \'none\''),
    ],
)
def test_tables_that_do_not_fit(table: np.ndarray, residual: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        variance_shares(table, NAMES, residual)


def test_intervals_hold_the_share_of_a_clear_factor() -> None:
    rng = np.random.default_rng(0)
    errors = rng.binomial(3, 0.2, size=(2, 2, 2, 3, 40)).astype(float)
    errors[1] = rng.binomial(3, 0.8, size=errors[1].shape)
    rows = bootstrap_shares(errors, np.full(40, 3.0), NAMES, resamples=100)
    first = next(r for r in rows if r["term"] == "encoder")
    assert first["low"] <= first["share"] <= first["high"]
    assert first["low"] > 0.9
    again = bootstrap_shares(errors, np.full(40, 3.0), NAMES, resamples=100)
    assert rows == again


def test_rates_pool_over_words_and_logits_are_clipped() -> None:
    assert pooled_rate(np.array([1, 0]), np.array([2, 3])) == pytest.approx(0.2)
    values = clipped_logit(np.array([0.0, 0.01, 0.5, 1.5, 9.0]))
    assert values[0] == values[1]
    assert values[3] == values[4]
    assert np.all(np.diff(values[1:4]) > 0)
    assert np.isfinite(values).all()
