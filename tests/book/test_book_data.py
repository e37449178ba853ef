"""The loaders: what is in them, that nobody can change them, and that wrong names are refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from labcore.assets import AssetCorrupt, AssetError, fetch
from labcore.book import data


def here(*names: str) -> None:
    """Skip when an asset was not fetched; never fetches."""
    for name in names:
        try:
            fetch(name, offline=True)
        except AssetError as error:
            pytest.skip(f"{error}; run `lab fetch {name}`")


def test_the_novel() -> None:
    text = data.alice()
    assert (len(text), len(set(text))) == (148_481, 73)


def test_a_changed_novel_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "alice.txt").write_text("Down the rabbit-hole.", encoding="ascii")
    monkeypatch.setattr(data, "__file__", str(tmp_path / "data.py"))
    with pytest.raises(AssetCorrupt, match="restore"):
        data.alice.__wrapped__()


def test_the_karate_club() -> None:
    adjacency, club = data.karate()
    assert adjacency.sum() == 2 * 78
    assert np.trace(np.linalg.matrix_power(adjacency.astype(int), 3)) == 6 * 45
    assert np.bincount(club).tolist() == [17, 17]
    assert (adjacency == adjacency.T).all()


@pytest.mark.assets
def test_penguins_and_their_course_split() -> None:
    here("penguins")
    birds = data.penguins()
    assert birds.x.shape == (342, 4)
    assert np.bincount(birds.y).tolist() == [151, 68, 123]
    parts = data.course_split(birds)
    assert [len(p.y) for p in parts] == [205, 68, 69]
    assert np.bincount(parts[2].y).tolist() == [31, 13, 25]
    np.testing.assert_allclose(parts[0].x.mean(0), 0, atol=1e-12)
    with pytest.raises(ValueError, match="read-only"):
        birds.x[0, 0] = 0.0


@pytest.mark.assets
def test_digits_and_photographs() -> None:
    here("digits-photos")
    digits = data.digits()
    assert digits.x.shape == (1797, 64)
    assert (digits.x.min(), digits.x.max()) == (0, 16)
    assert digits.y[:10].tolist() == list(range(10))
    assert data.photo("china").shape == data.photo("flower").shape == (427, 640, 3)
    assert data.source("photo").endswith("CC-BY-2.0 (photographs)")


def test_splits_share_no_row_and_keep_the_mix() -> None:
    parts = data.split_rows(50, (30, 15, 5), seed=1)
    assert sorted(np.concatenate(parts)) == list(range(50))
    y = np.repeat([0, 1, 2], [60, 30, 10])
    first, second = data.stratified_split(y, 0.4, seed=0)
    assert sorted(np.concatenate([first, second])) == list(range(100))
    assert np.bincount(y[second]).tolist() == [24, 12, 4]


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda: data.source("cats"), "there are penguins"),
        (lambda: data.photo("cat"), "china"),
        (lambda: data.split_rows(10, (8, 8), 0), "fit in 10"),
        (lambda: data.stratified_split(np.zeros(4, int), 1.0, 0), "share"),
    ],
)
def test_wrong_names_and_sizes_are_refused(act: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        act()
