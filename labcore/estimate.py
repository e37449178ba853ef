"""How long the large jobs would take on N machines, from what was measured here.

Merging: the growth curve of one TSV-Merge against width, carried on to the shapes of a model. Two
exponents bracket the answer: the fitted one, and the 3 of theory from the largest measured width.
Only arithmetic is counted; reading and writing come on top and are stated in bytes. A grid: the
CPU seconds of the parts of a committed experiment. Neither can be shorter than its longest task.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from labcore import ledger
from labcore.runs import committed

METHOD, AXIS = "TSV-Merge of one matrix", "width (8 tasks)"
Row = dict[str, Any]


@dataclass(frozen=True)
class Shape:
    """Matrices of one shape in a model: rows, columns, how many."""

    rows: int
    columns: int
    count: int

    @property
    def width(self) -> float:
        """Side of the square matrix that costs as much: (m n min(m, n))^(1/3)."""
        return float((self.rows * self.columns * min(self.rows, self.columns)) ** (1 / 3))


# a decoder of 7 billion parameters: 32 layers, hidden size 4096, MLP of 11008, 32000 words
SEVEN_B = (Shape(4096, 4096, 32 * 4), Shape(4096, 11008, 32 * 3))
SEVEN_B_PARAMETERS = 32 * (4 * 4096**2 + 3 * 4096 * 11008 + 2 * 4096) + 2 * 32000 * 4096 + 4096


def one_matrix(width: float, curve: Sequence[Row]) -> tuple[float, float]:
    """Seconds to merge one square matrix: by the fitted exponent, and by that of theory.

    Args:
        width: Side of the matrix.
        curve: Measurements with ``size`` and ``seconds``.

    Raises:
        ValueError: fewer than three measurements.
    """
    sizes, seconds = ([row[key] for row in curve] for key in ("size", "seconds"))
    slope, _ = ledger.exponent(sizes, seconds)
    largest = int(np.argmax(sizes))
    ratio = width / sizes[largest]
    return seconds[largest] * ratio**slope, seconds[largest] * ratio**3


def merging(
    machines: Sequence[int], cores: int, *, shapes: Sequence[Shape] = SEVEN_B, tasks: int = 8
) -> list[Row]:
    """Hours to merge fine-tuned copies of a model, one row a number of machines.

    Raises:
        ValueError: no growth curve was saved, or numbers that are not positive.
    """
    run = ledger.kept("growth")
    curve = [r for r in run.rows if (r["method"], r["axis"]) == (METHOD, AXIS)] if run else []
    if not curve:
        raise ValueError("no growth curve of merging: lab bench growth --save")
    each = [one_matrix(shape.width, curve) for shape in shapes]
    totals = [
        sum(s.count * seconds[i] for s, seconds in zip(shapes, each, strict=True)) for i in (0, 1)
    ]
    longest = [max(seconds[i] for seconds in each) for i in (0, 1)]
    gigabytes = 2 * SEVEN_B_PARAMETERS * (tasks + 2) / 1e9
    rows = []
    for count in machines:
        hours = [shared(t, lo, count, cores) / 3600 for t, lo in zip(totals, longest, strict=True)]
        rows.append(
            _row(f"merge of {tasks} checkpoints of 7 B", count, cores, *hours)
            | {"besides": f"{gigabytes:.0f} GB read and written once (bfloat16)"}
        )
    return rows


def experiment(topic: str, machines: Sequence[int], cores: int) -> list[Row]:
    """Hours to run a topic's committed experiment again, its parts shared out.

    Raises:
        FileNotFoundError: the topic has no committed result.
        ValueError: numbers that are not positive.
    """
    result = committed(topic)
    parts = [row["cpu_seconds"] for row in result.tables.get("parts", ())]
    parts = parts or [result.provenance.cpu_seconds]
    rows = []
    for count in machines:
        hours = shared(sum(parts), max(parts), count, cores) / 3600
        row = _row(f"full experiment of {topic}", count, cores, hours, hours)
        rows.append(row | {"besides": f"{len(parts)} parts, the longest {max(parts):.0f} s"})
    return rows


def shared(total: float, longest: float, machines: int, cores: int) -> float:
    """Seconds of work that is shared out over all cores; never less than its longest task.

    >>> shared(100.0, 20.0, 2, 5), shared(100.0, 20.0, 1, 2)
    (20.0, 50.0)

    Raises:
        ValueError: fewer than one machine or core.
    """
    if machines < 1 or cores < 1:
        raise ValueError(f"machines and cores must be at least 1, got {machines} and {cores}")
    return max(total / (machines * cores), longest)


def _row(job: str, machines: int, cores: int, low: float, high: float) -> Row:
    hours = f"{low:.2g}" if f"{low:.2g}" == f"{high:.2g}" else f"{low:.2g} to {high:.2g}"
    return {"job": job, "machines": machines, "cores each": cores, "hours": hours}
