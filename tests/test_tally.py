"""Means with their spread, and public names that load when used."""

import math
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labcore.lazy import public_names
from labcore.tally import distinct, over, pick, spread

ROWS = [{"seed": s, "method": m, "x": s + 10.0 * (m == "b")} for s in range(3) for m in "ab"]


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=20))
def test_it_agrees_with_the_standard_library(values: list[float]) -> None:
    found = spread(values)
    assert found.mean == pytest.approx(statistics.fmean(values), abs=1e-6)
    assert found.sd == pytest.approx(statistics.stdev(values), abs=1e-6, rel=1e-6)
    assert found.error == pytest.approx(found.sd / math.sqrt(len(values)))
    assert (found.low, found.high, found.n) == (min(values), max(values), len(values))


def test_one_trial_has_no_spread_and_none_is_refused() -> None:
    assert math.isnan(spread([2.0]).sd)
    assert math.isnan(spread([2.0]).error)
    with pytest.raises(ValueError, match="no trials to average"):
        over(ROWS, "x", method="c")


def test_rows_are_picked_and_averaged() -> None:
    assert len(pick(ROWS, method="a")) == 3
    assert distinct(ROWS, "method") == ["a", "b"]
    assert over(ROWS, "x", method="b").mean == 11.0


def test_names_load_when_used() -> None:
    find, listed, names = public_names("json", {"decoder": "JSONDecoder", "encoder": "JSONEncoder"})
    assert listed() == names == ["JSONDecoder", "JSONEncoder"]
    assert find("JSONDecoder").__name__ == "JSONDecoder"
    with pytest.raises(AttributeError, match="has no attribute 'other'"):
        find("other")
    with pytest.raises(ValueError, match="dumps in two modules"):
        public_names("json", {"decoder": "dumps", "encoder": "dumps"})
