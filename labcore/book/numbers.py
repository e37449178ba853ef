"""What a chapter's experiment hands back: arrays, tables, figures beside what they should be."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np

from labcore.runs import Table


@runtime_checkable
class Size(Protocol):
    """What a chapter reads of the experiment's configuration."""

    @property
    def seed(self) -> int:
        """Seed of whatever is drawn once."""

    @property
    def seeds(self) -> tuple[int, ...]:
        """Seeds of whatever is repeated: one at the quick size, three else."""

    @property
    def small(self) -> bool:
        """Whether to run at the quick size."""


@dataclass
class Findings:
    """Arrays and tables that a chapter's ``measure`` returns, without the chapter's name."""

    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    tables: dict[str, Table] = field(default_factory=dict)


def number(
    what: str,
    measured: float,
    expected: float | None = None,
    band: float = 0.0,
    *,
    sample: str = "exact",
    spread: float | None = None,
) -> dict[str, Any]:
    """One row of a chapter's table ``numbers``.

    Args:
        what: What was measured, with its unit.
        measured: The figure (the mean over seeds, where there are seeds).
        expected: The known figure; None when there is none.
        band: How far ``measured`` may be from it.
        sample: On how much, as ``"359 test rows, 5 seeds"``.
        spread: Deviation over seeds.
    """
    return {
        "what": what,
        "measured": float(measured),
        "expected": None if expected is None else float(expected),
        "band": float(band),
        "spread": spread,
        "sample": sample,
    }


def over_seeds(
    what: str,
    found: Sequence[float] | np.ndarray,
    expected: float | None = None,
    band: float = 0.0,
    *,
    sample: str,
    runs: str = "seeds",
) -> dict[str, Any]:
    """A row for a figure that was measured several times: mean, sample deviation, how often.

    >>> over_seeds("bits", [1.0, 3.0], sample="1 text")["spread"]
    1.4142135623730951
    """
    several = len(found) > 1
    return number(
        what,
        float(np.mean(found)),
        expected,
        band if expected is not None else 0.0,
        sample=f"{sample}, {len(found)} {runs if several else runs.removesuffix('s')}",
        spread=float(np.std(found, ddof=1)) if several else None,
    )


def within(row: Mapping[str, Any]) -> bool:
    """Whether a row of ``numbers`` is as expected; a row without expectation always is.

    >>> within(number("pi", 3.1, 3.14, 0.05)), within(number("pi", 3.0, 3.14, 0.05))
    (True, False)
    """
    if row["expected"] is None:
        return True
    slack = 1e-12 * max(1.0, abs(row["expected"]))
    gap = abs(row["measured"] - row["expected"])
    return not math.isnan(gap) and gap <= row["band"] + slack


def shown(rows: Table) -> list[dict[str, str]]:
    """Rows of ``numbers`` as texts, for people."""
    return [
        {
            "": "✔" if within(row) else "✘",
            "What": str(row["what"]),
            "Measured": _text(row["measured"])
            + ("" if row["spread"] is None else f" ± {_text(row['spread'])}"),
            "Expected": "—"
            if row["expected"] is None
            else _text(row["expected"]) + (f" ± {_text(row['band'])}" if row["band"] else ""),
            "Sample": str(row["sample"]),
        }
        for row in rows
    ]


def _text(value: float) -> str:
    """Seven digits at most, whole numbers without a point."""
    return f"{value:.7g}"
