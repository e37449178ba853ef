import numpy as np
import pytest
import torch

from labcore.course import comparing
from labcore.course.comparing import CheckFailed, Tolerance, as_array, band, brief, close

GRID = np.arange(6.0).reshape(2, 3)


@pytest.mark.parametrize(
    ("actual", "expected"),
    [
        (GRID.tolist(), GRID),
        (torch.from_numpy(GRID), GRID),
        (torch.from_numpy(GRID).requires_grad_(), GRID),
        (GRID, torch.from_numpy(GRID)),
        (np.asfortranarray(GRID), GRID),
        (torch.from_numpy(GRID.T.copy()).T, GRID),
        (GRID.astype(np.float32) * np.float32(1 + 2e-7), GRID),
        (torch.tensor([1.5, 2.0], dtype=torch.bfloat16), np.array([1.5, 2.0])),
        (np.float64(2.0), 2.0),
        (torch.tensor(2.0), 2.0),
        (3.0, 3),
        (2, 2.0),
        (torch.Size([2, 3]), (2, 3)),
        ([2, 3], (2, 3)),
        ((GRID, 1), [GRID, 1]),
        ([torch.tensor(1.0, requires_grad=True)], [torch.tensor(1.0)]),
        ({"b": 1, "a": GRID}, {"a": GRID, "b": 1}),
        ("  The  Keys", "the keys"),
        (np.array([-np.inf, 0.0]), np.array([-np.inf, 0.0])),
        (np.array([np.nan]), np.array([np.nan])),
        (np.array([True]), np.array([True])),
    ],
)
def test_equal_in_other_clothes(actual: object, expected: object) -> None:
    close(actual, expected)


@pytest.mark.parametrize(
    ("actual", "expected", "message"),
    [
        (GRID.T, GRID, r"wrong shape\n  expected \(2, 3\)\n  got      \(3, 2\)"),
        (GRID + np.eye(2, 3), GRID, r"at index \(0, 0\) differs[\s\S]*2 of 6 entries differ"),
        (np.array([1.0, np.nan]), np.ones(2), r"not a finite number at index \(1,\)"),
        (np.array([True]), np.array([1.0]), "holds booleans, not floats"),
        (np.array([1.0]), np.array([1]), "holds floats, not integers"),
        (np.array([1 + 0j]), np.array([1.0]), "holds complex numbers"),
        ("two", 2, "not a number"),
        ({}, 2, "not a number"),
        ([[1], [1, 2]], GRID, "not a number"),
        (2, "two", "a text is wanted"),
        ("one", "two", "'one' is not the right choice"),
        (3, (GRID, GRID), "a sequence is wanted"),
        ((GRID,), (GRID, GRID), "wrong number of items"),
        ((GRID, GRID + 1), (GRID, GRID), r"answer\[1\]: the value at index \(0, 0\)"),
        (3, {"a": 1}, "a mapping is wanted"),
        ({"b": 1}, {"a": 1}, "other keys"),
        ({"a": 2}, {"a": 1}, r"answer\['a'\]: the value differs"),
        (0.5, 0.25, "expected 0.25\n  got      0.5"),
        (np.array([0.0, 1.0]), np.array([-np.inf, 1.0]), r"at index \(0,\) differs"),
    ],
)
def test_failures_say_where(actual: object, expected: object, message: str) -> None:
    with pytest.raises(CheckFailed, match=message):
        close(actual, expected)


def test_tolerances() -> None:
    close(1.02, 1.0, rtol=0.0, atol=band(0.03).atol)
    with pytest.raises(CheckFailed):
        close(1.04, 1.0, rtol=0.0, atol=band(0.03).atol)
    with pytest.raises(CheckFailed):
        comparing.compare(np.float32(1 / 3), 1 / 3, "x", comparing.EXACT)
    with pytest.raises(CheckFailed, match="too little precision"):
        comparing.compare(np.float32(1 / 3), np.float64(1 / 3), "x", Tolerance(float32=False))


def test_brief_and_as_array() -> None:
    assert brief(GRID * 1.0).startswith("array([[0., 1., 2.]")
    assert brief(np.zeros(40)) == "ndarray of shape (40,)"
    assert brief("x" * 200).endswith(" ...")
    assert as_array(torch.eye(2).to_sparse(), "x").tolist() == [[1.0, 0.0], [0.0, 1.0]]


def test_a_notebook_shows_the_message_alone() -> None:
    with pytest.raises(CheckFailed) as caught:
        close(1.0, 2.0)
    assert caught.value._render_traceback_() == [f"CheckFailed: {caught.value}"]
