"""Compare an answer with what was expected: shape first, then type, finiteness and values.

Answers arrive as Python numbers, lists, numpy arrays, torch tensors, strings, or tuples and
mappings of those; numbers are compared in float64. Every failure names the first place that
differs, because "not equal" teaches nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Shaped

Array = Shaped[np.ndarray, "..."]
KINDS = {"b": "booleans", "i": "integers", "u": "integers", "f": "floats", "c": "complex numbers"}


class CheckFailed(AssertionError):
    """An answer is not right. A notebook shows the message alone, without a traceback."""

    def _render_traceback_(self) -> list[str]:
        return [f"CheckFailed: {self}"]


@dataclass(frozen=True)
class Tolerance:
    """How far a number may be off: ``|got - expected| <= atol + rtol * |expected|``.

    With ``float32`` an answer computed in single precision is met with a wider tolerance.
    """

    rtol: float = 1e-6
    atol: float = 1e-8
    float32: bool = True


EXACT = Tolerance(0.0, 0.0)
LINALG = Tolerance()


def band(width: float) -> Tolerance:
    """The tolerance of a trained metric: within ``width`` of the expected number.

    >>> band(0.03)
    Tolerance(rtol=0.0, atol=0.03, float32=True)
    """
    return Tolerance(0.0, width)


def close(
    actual: Any,
    expected: Any,
    *,
    what: str = "answer",
    rtol: float = 1e-6,
    atol: float = 1e-8,
    float32: bool = True,
) -> None:
    """Return silently when ``actual`` equals ``expected``, shape before values.

    Args:
        actual: Number, string, array, tensor, or a tuple, list or mapping of those.
        expected: What it should equal.
        what: How the messages call it.
        rtol: Relative tolerance.
        atol: Absolute tolerance.
        float32: Accept single precision, with a tolerance of at least 1e-5.

    Raises:
        CheckFailed: They differ; the message has both and the first differing index.

    >>> close(np.float32(0.5), 0.5)
    >>> close([1.0, 2.0], [1.0, 3.0], what="norms")
    Traceback (most recent call last):
    ...
    labcore.course.comparing.CheckFailed: norms: the value at index (1,) differs
      expected 3.0
      got      2.0
      1 of 2 entries differ, by at most 1
    """
    compare(actual, expected, what, Tolerance(rtol, atol, float32))


def compare(actual: Any, expected: Any, what: str, tolerance: Tolerance) -> None:
    """:func:`close` with its tolerances in one object.

    Raises:
        CheckFailed: They differ.
    """
    if isinstance(expected, str):
        _close_text(actual, expected, what)
    elif isinstance(expected, Mapping):
        _close_mapping(actual, expected, what, tolerance)
    elif _is_nested(expected):
        _close_sequence(actual, expected, what, tolerance)
    else:
        _close_numbers(actual, expected, what, tolerance)


def fail(head: str, expected: object, got: object, *notes: str) -> None:
    """Raise :class:`CheckFailed` in the one form that all messages share."""
    lines = [head, f"  expected {expected}", f"  got      {got}", *(f"  {n}" for n in notes if n)]
    raise CheckFailed("\n".join(lines))


def brief(value: object, limit: int = 90) -> str:
    """``repr`` of a value, or its type and shape where that would be long.

    >>> brief([1, 2]), brief(np.zeros((40, 30)))
    ('[1, 2]', 'ndarray of shape (40, 30)')
    """
    shape = getattr(value, "shape", None)
    text = " ".join(repr(value).split()) if shape is None or np.prod(shape) <= 16 else ""
    if text and len(text) <= limit:
        return text
    if shape is not None:
        return f"{type(value).__name__} of shape {tuple(shape)}"
    return text[:limit] + " ..."


def as_array(value: Any, what: str) -> Array:
    """A number, nested list, numpy array or torch tensor as a numpy array of numbers.

    Raises:
        CheckFailed: It does not hold numbers.
    """
    if type(value).__module__.split(".")[0] == "torch" and hasattr(value, "detach"):
        value = value.detach().cpu().to_dense().resolve_conj()
        if value.dtype.is_floating_point and value.element_size() < 4:
            value = value.float()  # numpy has no bfloat16
    try:
        array = np.asarray(value.numpy() if hasattr(value, "numpy") else value)
    except (ValueError, TypeError, RuntimeError):
        array = np.asarray(None)
    if array.dtype.kind not in KINDS:
        fail(f"{what}: this is not a number or an array of numbers", "numbers", brief(value))
    return array


def _is_nested(value: object) -> bool:
    """A tuple or list that holds arrays, texts or containers rather than plain numbers."""
    if not isinstance(value, list | tuple):
        return False
    parts = (str, list, tuple, Mapping)
    return any(isinstance(v, parts) or hasattr(v, "detach") or np.ndim(v) > 0 for v in value)


def _close_text(actual: Any, expected: str, what: str) -> None:
    if not isinstance(actual, str):
        fail(f"{what}: a text is wanted", repr("..."), brief(actual))
    if " ".join(actual.split()).casefold() != " ".join(expected.split()).casefold():
        raise CheckFailed(f"{what}: {actual!r} is not the right choice")


def _close_mapping(
    actual: Any, expected: Mapping[Any, Any], what: str, tolerance: Tolerance
) -> None:
    if not isinstance(actual, Mapping):
        fail(f"{what}: a mapping is wanted", f"keys {list(expected)}", brief(actual))
    if set(actual) != set(expected):
        fail(f"{what}: other keys than expected", list(expected), list(actual))
    for key, value in expected.items():
        compare(actual[key], value, f"{what}[{key!r}]", tolerance)


def _close_sequence(actual: Any, expected: Any, what: str, tolerance: Tolerance) -> None:
    if (
        not hasattr(actual, "__len__")
        or isinstance(actual, str | Mapping)
        or getattr(actual, "shape", None) == ()
    ):
        fail(f"{what}: a sequence is wanted", f"{len(expected)} items", brief(actual))
    if len(actual) != len(expected):
        fail(f"{what}: wrong number of items", len(expected), len(actual))
    for index, value in enumerate(expected):
        compare(actual[index], value, f"{what}[{index}]", tolerance)


def _close_numbers(actual: Any, expected: Any, what: str, tolerance: Tolerance) -> None:
    want = as_array(expected, f"reference of {what}")
    got = as_array(actual, what)
    if got.shape != want.shape:
        fail(f"{what}: wrong shape", want.shape, got.shape)
    _same_kind(got, want, what, tolerance)
    lost = np.asarray(np.isfinite(want) & ~np.isfinite(got))
    if lost.any():
        where = _first(lost)
        fail(f"{what}: not a finite number{_place(where)}", want[where], got[where])
    _same_values(got, want, what, tolerance)


def _same_kind(got: Array, want: Array, what: str, tolerance: Tolerance) -> None:
    kinds = (got.dtype.kind.replace("u", "i"), want.dtype.kind.replace("u", "i"))
    # whole numbers may stand for floats, and a float such as 3.0 for one whole number
    agree = kinds[0] == kinds[1] or kinds == ("i", "f") or (kinds == ("f", "i") and got.ndim == 0)
    if not agree:
        head = f"{what}: holds {KINDS[kinds[0]]}, not {KINDS[kinds[1]]}"
        fail(head, f"dtype {want.dtype}", f"dtype {got.dtype}")
    if kinds[0] == "f" and not tolerance.float32 and got.dtype.itemsize < want.dtype.itemsize:
        fail(f"{what}: too little precision", f"dtype {want.dtype}", f"dtype {got.dtype}")


def _same_values(got: Array, want: Array, what: str, tolerance: Tolerance) -> None:
    rtol, atol = tolerance.rtol, tolerance.atol
    single = min(got.dtype.itemsize, want.dtype.itemsize) <= 4 and got.dtype.kind == "f"
    if single and rtol + atol > 0:
        rtol, atol = max(rtol, 1e-5), max(atol, 1e-6)
    if got.dtype.kind == "b":
        differs = np.asarray(got != want)
    else:
        wide = np.complex128 if got.dtype.kind == "c" else np.float64
        got, want = got.astype(wide), want.astype(wide)
        differs = np.asarray(~np.isclose(got, want, rtol=rtol, atol=atol, equal_nan=True))
    if not differs.any():
        return
    where = _first(differs)
    note = ""
    if got.ndim:
        gap = np.abs(got.astype(complex) - want.astype(complex))[differs]
        largest = f", by at most {np.nanmax(gap):.3g}" if np.isfinite(gap).any() else ""
        note = f"{differs.sum()} of {differs.size} entries differ{largest}"
    fail(f"{what}: the value{_place(where)} differs", want[where], got[where], note)


def _first(mask: Array) -> tuple[int, ...]:
    return tuple(int(i) for i in np.argwhere(mask)[0])


def _place(index: tuple[int, ...]) -> str:
    return f" at index {index}" if index else ""
