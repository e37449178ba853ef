"""What a notebook begins with: ``lab = labcore.start("P06")``.

``start`` makes a run repeatable (seeds, threads) and readable (figure template, one printed line);
the :class:`Lab` it returns shows figures, checks answers and gives hints.
"""

import os
import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from labcore import runtime, viz
from labcore.course import checking, frames
from labcore.course.comparing import CheckFailed

if TYPE_CHECKING:
    import plotly.graph_objects as go

ID = re.compile(r"(B\d\d|BA|BB|P\d\d)")
BOOK_BUDGET, PAPER_BUDGET = 30, 60  # CPU seconds
# these chapters run on numpy alone, so that a browser build can hold them; B99 is for examples
WITHOUT_TORCH = frozenset({"B02", "B03", "B04", "B06", "BA", "BB", "B99"})
STATIC = "LAB_STATIC"  # set by the exporter: controls become frames, which need no kernel
SWEEP = "LAB_SWEEP"  # set by the executor: every control is tried at both ends


@dataclass(frozen=True)
class Lab:
    """A started notebook."""

    id: str
    seed: int

    @property
    def budget(self) -> int:
        """CPU seconds this notebook may take."""
        return PAPER_BUDGET if self.id.startswith("P") else BOOK_BUDGET

    @cached_property
    def generator(self) -> Any:
        """A ``torch.Generator`` with the notebook's seed; asking for it imports torch."""
        import torch

        return torch.Generator().manual_seed(self.seed)

    def show(self, fig: "go.Figure", alt: str | None = None) -> None:
        """Display a figure with its alt text under it.

        Raises:
            TypeError: ``fig`` is not a plotly Figure.
            ValueError: There is no alt text, neither here nor in the figure.
        """
        viz.show(fig, alt)

    def explore(self, figure_fn: Callable[..., "go.Figure"], **controls: Any) -> Any:
        """Controls in front of a figure function; make it the last line of its cell.

        Args:
            figure_fn: Pure function of the controls that returns a finished Figure.
            controls: ``name=(min, max)`` or ``(min, max, step)``, a list of choices, or a bool.

        Returns:
            The widget. In an exported page, where no kernel runs, the figure is shown with its
            first control as a slider of frames instead, and None is returned.
        """
        if os.environ.get(SWEEP):
            frames.sweep(figure_fn, controls)
        if os.environ.get(STATIC):
            return viz.show(frames.animate(figure_fn, controls))
        return viz.explore(figure_fn, **controls)

    def check(self, exercise_id: str, obj: Any, *, fresh: int | None = None) -> None:
        """Check an answer and print one line when it is right.

        Raises:
            CheckFailed: It is empty or wrong; the message says what was expected and what came.
            UnknownExercise: There is no such exercise.
        """
        result = checking.run(exercise_id, obj, fresh=fresh)
        if not result.passed:
            raise CheckFailed(result.message)
        print(result.message)

    def hint(self, exercise_id: str, level: int = 1) -> None:
        """Print a hint, from vague (1) to precise (3).

        Raises:
            ValueError: There is no hint of that level.
            UnknownExercise: There is no such exercise.
        """
        hints = checking.find(exercise_id).hints
        if not hints:
            print(f"The hints for {exercise_id} are folded under its check cell.")
            return
        if not 1 <= level <= len(hints):
            raise ValueError(f"{exercise_id} has hints 1 to {len(hints)}, not {level}")
        print(f"Hint {level} of {len(hints)} for {exercise_id}: {hints[level - 1]}")


def start(id: str, *, seed: int = 0, threads: int = 1) -> Lab:
    """Begin a notebook: seeds, threads, figure template, and one line that says so.

    torch is imported and seeded for the notebooks that use it, and left alone in the chapters
    that run on numpy only.

    Args:
        id: ``"B04"`` or ``"P06"``.
        seed: For ``random``, numpy, torch and ``Lab.generator``.
        threads: BLAS and torch threads; more than one rarely pays at these sizes.

    Raises:
        ValueError: ``id`` is not a notebook id, or ``threads`` is not positive.
    """
    if not ID.fullmatch(id):
        raise ValueError(f"a notebook id looks like 'B04', 'BA' or 'P06', got {id!r}")
    runtime.limit_threads(threads)
    _seed(seed, with_torch=id not in WITHOUT_TORCH)
    runtime.limit_threads(threads)  # again, now that the libraries are loaded
    viz.theme()
    lab = Lab(id, seed)
    names = ("numpy", "plotly") if id in WITHOUT_TORCH else ("numpy", "plotly", "torch")
    found = " · ".join(f"{name} {version}" for name, version in runtime.versions(names).items())
    print(f"{id} · {found} · seed {seed} · threads {threads} · budget {lab.budget} s of CPU")
    return lab


def _seed(seed: int, *, with_torch: bool) -> None:
    import numpy as np

    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - for libraries that still draw from the global state
    if with_torch:
        import torch

        torch.manual_seed(seed)
        torch.use_deterministic_algorithms(True, warn_only=True)
        # filling fresh memory is the one part that costs time
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
