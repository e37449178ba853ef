"""Stand-ins for a topic: a figure function and jobs, importable by a worker."""

import time
from typing import Any

import numpy as np
import plotly.graph_objects as go

from labcore import viz
from labcore.runs import Progress


def wave(k: int, rho: float, kind: str, marks: bool, parts: tuple[str, ...]) -> Any:
    x = np.linspace(0, 6, 60)
    y = rho * (np.sin if kind == "sine" else np.cos)(k * x)
    fig = go.Figure(go.Scatter(x=x, y=y, mode="lines+markers" if marks else "lines", name=kind))
    fig.update_layout(xaxis_title="time (s)", yaxis_title="height (m)")
    return viz.finish(
        fig,
        title="A wave",
        alt=f"A {kind} wave of {k} turns, height {y.max():.2f} m, with {len(parts)} parts.",
        source="sample_figures.wave",
        params={"k": k, "rho": rho, "kind": kind},
    )


def slow(steps: int, seconds: float = 0.02, *, progress: Progress) -> int:
    for i in range(steps):
        time.sleep(seconds)
        progress(i + 1, steps, "step")
    return steps


def stubborn(seconds: float) -> None:
    time.sleep(seconds)


def chatty(*, progress: Progress) -> str:
    print("this must not break the pipe")
    progress(1, 1, "said")
    return "said"


def wrong(text: str, *, progress: Progress) -> None:
    raise ValueError(text)


def broken(*, progress: Progress) -> None:
    {}["missing"]


def dead(*, progress: Progress) -> None:
    import os

    os._exit(3)


def unsendable(*, progress: Progress) -> Any:
    return lambda: None


def square(x: int) -> int:
    return x * x


def pid(number: int) -> int:
    import os

    return os.getpid()
