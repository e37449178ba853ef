"""The ledger: what the benches and the growth curves measured, kept, and drawn.

``lab bench --save`` keeps a topic's rows in ``bench/results/TOPIC.json`` with when, where and with
what they were measured; ``lab bench growth --save`` keeps the growth curves. Times are only
compared within one run; between machines only ratios and exponents mean something.
"""

import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from labcore.runs import replacing
from labcore.runtime import blas_kernels, versions

if TYPE_CHECKING:
    import plotly.graph_objects as go

FOLDER = Path(__file__).resolve().parent.parent / "bench" / "results"
Row = dict[str, Any]


@dataclass(frozen=True)
class Kept:
    """One saved run of a bench.

    Attributes:
        name: The topic, or ``growth``.
        rows: Its table, as ``lab bench`` printed it.
        created: When, UTC.
        machine: Cores, architecture, and the kernels of numpy's products.
        versions: Of Python and the packages that matter.
        quick: Whether it had fewer repetitions.
    """

    name: str
    rows: list[Row]
    created: str
    machine: str
    versions: dict[str, str]
    quick: bool


def keep(name: str, rows: Sequence[Row], *, quick: bool, folder: Path = FOLDER) -> Path:
    """Save a bench's rows, under a temporary name first.

    Raises:
        TypeError: a goal is not a ratio, or None for no goal; growth has no goals at all.
    """
    for row in rows:
        if not isinstance(row.get("goal"), int | float | None):
            raise TypeError(f"{row['name']}: the goal {row['goal']!r} should be a ratio or None")
    path = folder / f"{name}.json"
    data = {
        "name": name,
        "rows": list(rows),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, {blas_kernels()}",
        "versions": versions(),
        "quick": quick,
    }
    with replacing(path) as part:
        part.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    return path


def kept(name: str, folder: Path = FOLDER) -> Kept | None:
    """A saved run, or None when there is none.

    Raises:
        ValueError: the file is damaged.
    """
    path = folder / f"{name}.json"
    if not path.exists():
        return None
    try:
        return Kept(**json.loads(path.read_text(encoding="utf-8")))
    except (json.JSONDecodeError, TypeError) as error:
        raise ValueError(f"{path.name} is damaged: run lab bench {name} --save again") from error


def races(folder: Path = FOLDER) -> list[Row]:
    """All saved races of all topics: the rows with ``met``, ``created`` and ``quick`` added.

    ``met`` is None where a race has no goal.
    """
    rows: list[Row] = []
    for path in sorted(folder.glob("*.json")):
        run = kept(path.stem, folder)
        if run is not None and path.stem != "growth":
            extra = {"created": run.created, "quick": run.quick}
            rows += [row | {"met": _met(row)} | extra for row in run.rows]
    return rows


def _met(row: Row) -> bool | None:
    return None if row["goal"] is None else bool(row["ratio"] >= row["goal"])


def exponent(sizes: Sequence[float], values: Sequence[float]) -> tuple[float, float]:
    """Slope of a line through the logarithms, and its standard error.

    Args:
        sizes: (points,) positive.
        values: (points,) positive.

    Raises:
        ValueError: fewer than three points, or one that is not positive.

    >>> slope, error = exponent([1, 2, 4, 8], [3, 12, 48, 192])
    >>> round(slope, 6), round(error, 6)
    (2.0, 0.0)
    """
    x, y = np.asarray(sizes, float), np.asarray(values, float)
    if len(x) < 3 or len(x) != len(y) or min(x.min(), y.min()) <= 0:
        raise ValueError(f"three or more positive points are needed, got {len(x)} sizes {values}")
    x, y = np.log(x), np.log(y)
    spread = x - x.mean()
    slope = float(spread @ y / (spread @ spread))
    left = y - y.mean() - slope * spread
    return slope, float(np.sqrt(left @ left / max(len(x) - 2, 1) / (spread @ spread)))


def curves(rows: Sequence[Row]) -> list[Row]:
    """One row a growth curve: fitted exponents beside the theoretical one.

    Args:
        rows: ``{method, work, axis, size, seconds, bytes, theory, memory_theory}`` a measurement.
    """
    found: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        found.setdefault((row["method"], row["axis"]), []).append(row)
    return [_curve(method, axis, points) for (method, axis), points in found.items()]


def _curve(method: str, axis: str, points: Sequence[Row]) -> Row:
    sizes = [row["size"] for row in points]
    slope, error = exponent(sizes, [row["seconds"] for row in points])
    curve = {
        "method": method,
        "work": points[0]["work"],
        "axis": axis,
        "from": min(sizes),
        "to": max(sizes),
        "exponent": slope,
        "error": error,
        "theory": points[0]["theory"],
        "memory_exponent": None,
        "memory_theory": points[0]["memory_theory"],
    }
    if all(row["bytes"] for row in points):
        curve["memory_exponent"] = exponent(sizes, [row["bytes"] for row in points])[0]
    return curve


def races_figure(rows: Sequence[Row], work: str = "") -> "go.Figure":
    """Each race as its ratio over its goal, worst first; right of 1 the goal is met.

    Args:
        rows: As :func:`races` gives them.
        work: One topic only.

    Raises:
        ValueError: there is no such race.
    """
    import plotly.graph_objects as go

    from labcore import viz

    chosen = [row for row in rows if row["met"] is not None and work in ("", row["work"])]
    chosen.sort(key=lambda row: row["ratio"] / row["goal"])
    if not chosen:
        raise ValueError(f"no race of {work or 'any topic'} was saved: lab bench {work} --save")
    fig = go.Figure()
    for met, name, colour, symbol in (
        (True, "goal met", viz.PALETTE[2], "circle"),
        (False, "goal missed", viz.PALETTE[3], "x"),
    ):
        these = [row for row in chosen if row["met"] is met]
        fig.add_scatter(
            x=[row["ratio"] / row["goal"] for row in these],
            y=[_short(row) for row in these],
            mode="markers",
            name=f"{name} ({len(these)})",
            marker={"color": colour, "symbol": symbol, "size": 11},
            customdata=[[row["ratio"], row["goal"], row["peer"]] for row in these],
            hovertemplate="%{y}<br>ratio %{customdata[0]:.3g}, goal %{customdata[1]:.3g}"
            "<br>peer: %{customdata[2]}<extra></extra>",
        )
    fig.add_vline(x=1, line_dash="dash", line_color=viz.INK)
    fig.update_xaxes(title="ratio to the peer, over its goal", type="log", dtick=1)
    lines = list(dict.fromkeys(_short(row) for row in chosen))  # two peers may share one
    fig.update_yaxes(
        title="", tickfont_size=12, automargin=True, range=[len(lines) - 0.5, -0.5],
        categoryorder="array", categoryarray=lines,
    )  # fmt: skip
    good = sum(row["met"] for row in chosen)
    worst = chosen[0]
    return viz.finish(
        fig,
        title="Races against peers",
        alt=f"{good} of {len(chosen)} races meet their goal. Furthest from it: {worst['name']}, "
        f"ratio {worst['ratio']:.3g} for a goal of {worst['goal']:.3g}.",
        caption="Right of the dashed line a race meets its goal; left of it, it does not (yet). "
        "Worst first.",
        source="races_figure",
        params={"work": work},
        height=140 + 24 * len(lines),
    )


def _short(row: Mapping[str, Any]) -> str:
    text = f"{row['work']}: {row['name']}"
    return text if len(text) <= 58 else text[:57] + "…"


def growth_figure(rows: Sequence[Row], what: str = "seconds") -> "go.Figure":
    """Growth curves on logarithmic axes, each relative to its smallest size.

    Args:
        rows: Measurements, as in :func:`curves`.
        what: ``seconds`` or ``bytes``.

    Raises:
        ValueError: another quantity, or nothing measured.
    """
    import plotly.graph_objects as go

    from labcore import viz

    if what not in ("seconds", "bytes"):
        raise ValueError(f"what must be seconds or bytes, got {what!r}")
    fitted = curves(rows)
    key, theory = ("exponent", "theory")
    if what == "bytes":
        key, theory = "memory_exponent", "memory_theory"
        fitted = [curve for curve in fitted if curve[key] is not None]
    if not fitted:
        raise ValueError("no growth curve was saved: lab bench growth --save")
    fig = go.Figure()
    for number, curve in enumerate(fitted):
        points = [r for r in rows if (r["method"], r["axis"]) == (curve["method"], curve["axis"])]
        fig.add_scatter(
            x=[row["size"] / points[0]["size"] for row in points],
            y=[row[what] / points[0][what] for row in points],
            mode="lines+markers",
            name=f"{curve['method']}, {curve['axis']}: {curve[key]:.2f} (theory {curve[theory]})",
            line={"color": viz.PALETTE[number % 6], "dash": viz.DASHES[number // 6 % 6]},
            marker={"symbol": viz.SYMBOLS[number % 8], "size": 8},
        )
    fig.update_xaxes(title="size, relative to the smallest", type="log", dtick=1)
    fig.update_yaxes(title=f"{what}, relative to the smallest", type="log", dtick=1)
    fig.update_layout(legend={"orientation": "h", "y": -0.2})
    steep = max(fitted, key=lambda curve: curve[key])
    return viz.finish(
        fig,
        title="How cost grows",
        alt=f"{len(fitted)} curves of {what} against size on logarithmic axes; the steepest is "
        f"{steep['method']} in {steep['axis']}, exponent {steep[key]:.2f}.",
        caption="A straight line is a power law; its slope, the exponent, stands in the legend "
        "beside the one that theory gives.",
        source="growth_figure",
        params={"what": what},
        height=560 + 20 * len(fitted),
    )
