"""The executor on real kernels; a kernel costs seconds, so each is made to answer a lot."""

from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest

from labcore.course import building, executing, scripts
from labcore.course.executing import NotebookError, Run

Write = Callable[..., Path]


@pytest.fixture(scope="module")
def solution(demo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("solution") / "B99_demo.ipynb"
    building.build(demo, out, kind="solution")
    return out


@pytest.fixture(scope="module")
def run(solution: Path) -> Run:
    return executing.execute(solution, timeout=60)


def test_solution_runs_and_reports(run: Run, solution: Path) -> None:
    code = [c for c in nbformat.read(solution, as_version=4).cells if c.cell_type == "code"]
    assert set(run.cells) == {c.id for c in code}
    assert 0 < sum(run.cells.values()) < run.seconds
    assert run.cpu_seconds > 0
    assert run.widget_errors == ()
    assert run.missing_plots == ()
    assert "B99.1 passed\nB99.2 passed\n" in run.printed


def test_figures_inside_widgets_are_found(run: Run, solution: Path) -> None:
    cells = nbformat.read(solution, as_version=4).cells
    centre = next(c.id for c in cells if "centrepiece" in c.metadata.get("tags", []))
    plots = [o for o in run.outputs[centre] if executing.is_plot(o)]
    assert len(plots) == 1
    assert "largest probability is 0.43" in plots[0]["metadata"]["alt"]


def test_the_same_numbers_again_and_frames_for_a_page(run: Run, solution: Path) -> None:
    before = solution.read_bytes()
    again = executing.execute(solution, timeout=60, static=True)
    assert again.printed == run.printed
    plots = [o for found in again.outputs.values() for o in found if executing.is_plot(o)]
    frames = [len(p["data"][executing.PLOT].get("frames", ())) for p in plots]
    assert frames == [16, 0]
    assert solution.read_bytes() == before


def test_student_copy_stops_then_passes_when_filled_in(demo: Path, tmp_path: Path) -> None:
    path = tmp_path / "B99_demo.ipynb"
    building.build(demo, path, kind="student")
    with pytest.raises(NotebookError, match=r"B99-1-check: [\s\S]*B99\.1 is still empty"):
        executing.execute(path, timeout=60)
    notebook = nbformat.read(path, as_version=4)
    answers = {
        "B99-1-exercise": "    e = np.exp(scores - scores.max(-1)[..., None])\n"
        "    return e / e.sum(-1)[..., None]",
        "B99-2-exercise": "larger = 3 / (1 + 3)",
    }
    for cell in notebook.cells:
        if cell.id in answers:
            kept = [line for line in cell.source.split("\n") if "NotImplementedError" not in line]
            cell.source = "\n".join([*kept, answers[cell.id]])
    nbformat.write(notebook, path)
    assert "B99.1 passed\nB99.2 passed\n" in executing.execute(path, timeout=60).printed


WIDGET = """
import ipywidgets as w
slider = w.IntSlider(value=1, min=0, max=3)
def draw(value):
    if value == 0:
        raise ZeroDivisionError("hidden in the widget")
box = w.VBox([slider, w.interactive_output(draw, {"value": slider})])
box
"""


def test_an_error_inside_a_widget_fails(written: Write) -> None:
    path = written(WIDGET, "slider.value = 0")
    with pytest.raises(NotebookError, match="hidden in the widget") as caught:
        executing.execute(path, timeout=60)
    assert caught.value.cell_id == "c0"
    assert "ZeroDivisionError" in caught.value.tail


def test_noise_passes_and_a_missing_plot_fails(written: Write) -> None:
    noise = "import sys, warnings; warnings.warn('loud'); print('noise', file=sys.stderr)"
    show = "class Lab:\n    def show(self, fig):\n        pass\nlab = Lab()\nlab.show(1)"
    path = written(noise, "print('said')", show, "1 + 1", tags=("centrepiece",))
    run = executing.execute(path, timeout=60, strict=False)
    assert run.printed == "said\n"
    assert run.missing_plots == ("c2", "c3")
    assert run.widget_errors == ()
    with pytest.raises(NotebookError, match="left no plot") as caught:
        executing.execute(path, timeout=60)
    assert caught.value.cell_id == "c2"


def test_a_cell_that_hangs_is_named(written: Write) -> None:
    path = written("x = 1", "while True:\n    pass")
    with pytest.raises(NotebookError, match="still running after 2 s") as caught:
        executing.execute(path, timeout=2)
    assert caught.value.cell_id == "c1"


def test_a_cell_that_raises_is_named_with_its_traceback(written: Write) -> None:
    path = written("x = 1", "def f():\n    return {}['key']\nf()")
    with pytest.raises(NotebookError, match="KeyError: 'key'") as caught:
        executing.execute(path, timeout=60)
    assert caught.value.cell_id == "c1"
    assert "\x1b" not in caught.value.tail
    assert len(caught.value.tail.splitlines()) <= executing.TAIL_LINES


@pytest.mark.parametrize(
    ("stops", "timeout", "said"),
    [
        ("import os; os._exit(1)", 60, "the kernel died, twice"),
        ("import time; time.sleep(60)", 6, "the kernel fell silent, twice"),
    ],
)
def test_a_lost_kernel_gets_one_more_try(
    written: Write, tmp_path: Path, stops: str, timeout: float, said: str
) -> None:
    flag = f"import pathlib\nflag = pathlib.Path({str(tmp_path / 'lost')!r})"
    once = f"{flag}\nif not flag.exists():\n    flag.touch()\n    {stops}\nprint('alive')"
    assert executing.execute(written(once), timeout=timeout).printed == "alive\n"
    with pytest.raises(NotebookError, match=said) as caught:
        executing.execute(written("x = 1", stops), timeout=timeout)
    assert caught.value.cell_id == "c1"


def test_script_lane(demo: Path, edited: Callable[[str, str], Path]) -> None:
    run = scripts.execute_script(demo, timeout=60)
    assert "B99.1 passed\nB99.2 passed\n" in run.printed
    assert run.cpu_seconds > 0
    path = edited("larger = 3 / 4", "larger = 1 / 4")
    with pytest.raises(NotebookError, match="Hint: that is the other option") as caught:
        scripts.execute_script(path, timeout=60)
    assert caught.value.cell_id.startswith("B99-2-check (line ")


def test_a_script_that_hangs_is_stopped(tmp_path: Path) -> None:
    path = tmp_path / "endless.py"
    path.write_text("while True:\n    pass\n")
    with pytest.raises(NotebookError, match="still running after 1 s"):
        scripts.execute_script(path, timeout=1)
