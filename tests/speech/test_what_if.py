"""Sliders on a committed clip: other thresholds, windows and convolutions."""

import numpy as np
import pytest

from labcore.speech.lengths import conv_band
from labcore.speech.what_if import by_hand, rates, what_if

ALPHA = np.array([0.4, 0.8, 0.3, 0.7, 0.2])
MAPS = {"conv": np.ones((5, 2)), "ctc": np.eye(5), "wlq": np.ones((5, 1))}


def test_what_was_trained_comes_back_with_its_own_settings() -> None:
    found = what_if(MAPS, ALPHA, threshold=1.0, window=0.34, convs=2)
    assert all(found[k] is MAPS[k] for k in MAPS)
    np.testing.assert_allclose(found["cif"].T @ np.arange(1.0, 6), [1.6, 3.3])


def test_a_higher_threshold_gives_fewer_positions_and_none_at_all_the_mean() -> None:
    found = what_if({}, ALPHA, threshold=2.0, window=0.34, convs=2)["cif"]
    assert found.shape == (5, 1)
    assert found.sum() == pytest.approx(2.0)
    found = what_if({}, np.zeros(5), threshold=2.0, window=0.34, convs=2)["cif"]
    np.testing.assert_allclose(found, 0.2)


def test_another_window_is_a_mean_and_other_convolutions_another_band() -> None:
    found = what_if(MAPS, ALPHA, threshold=1.0, window=0.04, convs=1)
    np.testing.assert_allclose(found["wlq"].sum(axis=0), 1)
    np.testing.assert_allclose(found["wlq"].T @ np.arange(1.0, 6), [1.5, 3.5, 5])
    assert found["conv"].sum(axis=0).tolist() == [2, 3, 2]
    assert found["ctc"] is MAPS["ctc"]


def test_the_band_is_where_an_output_has_a_gradient() -> None:
    torch = pytest.importorskip("torch")
    convs = [torch.nn.Conv1d(1, 1, 3, stride=2, padding=1) for _ in range(2)]
    for conv in convs:
        torch.nn.init.constant_(conv.weight, 1.0)
    x = torch.zeros(1, 1, 30, requires_grad=True)
    y = convs[1](convs[0](x))
    rows = [torch.autograd.grad(v, x, retain_graph=True)[0][0, 0] != 0 for v in y[0, 0]]
    np.testing.assert_array_equal(conv_band(30, 2), torch.stack(rows).numpy().T)
    np.testing.assert_array_equal(conv_band(6, 0), np.eye(6))


def test_five_weights_by_hand() -> None:
    np.testing.assert_allclose(by_hand([0.4, 0.8, 0.3, 0.9, 0.2], 1.0), [1.6, 3.3, 13 / 3])
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        by_hand([2.0], 1.0)


def test_rates_are_told_a_second_and_a_word() -> None:
    rows = rates({"base": np.eye(100)}, words=4)
    assert rows[0] == {"what": "base", "number": 100, "a second": "50.0", "a word": "25.0"}
    assert rows[-1]["a second"] == "2.0"


@pytest.mark.parametrize(("window", "convs"), [(0.001, 2), (0.3, -1)])
def test_settings_that_cannot_be_are_refused(window: float, convs: int) -> None:
    with pytest.raises(ValueError, match=r"must hold a frame of 0\.02 s"):
        what_if(MAPS, ALPHA, threshold=1.0, window=window, convs=convs)
