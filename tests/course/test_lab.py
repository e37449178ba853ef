import random
import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import plotly.graph_objects as go
import plotly.io as pio
import pytest
import torch

import labcore
from labcore import viz
from labcore.course import lab as lab_module
from labcore.course.checking import UnknownExercise
from labcore.course.comparing import CheckFailed


@pytest.fixture(autouse=True)
def _global_state() -> Iterator[None]:
    """``start`` sets seeds and flags on purpose; put them back."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    deterministic = torch.are_deterministic_algorithms_enabled()
    template = pio.templates.default
    yield
    random.setstate(states[0])
    np.random.set_state(states[1])  # noqa: NPY002
    torch.set_rng_state(states[2])
    torch.use_deterministic_algorithms(deterministic)
    pio.templates.default = template


def test_start_prints_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    lab = labcore.start("P06", seed=3)
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    for part in ("P06", "torch", "numpy", "seed 3", "threads 1", "budget 60 s of CPU"):
        assert part in out
    assert (lab.id, lab.seed, lab.budget) == ("P06", 3, 60)
    assert labcore.start("BA").budget == 30


def draws() -> tuple[float, float, float]:
    return random.random(), float(np.random.rand()), float(torch.rand(()))  # noqa: NPY002


def test_start_makes_draws_repeatable() -> None:
    labcore.start("B05", seed=5)
    first = draws()
    labcore.start("B05", seed=5)
    assert draws() == first
    labcore.start("B05", seed=6)
    assert draws() != first


def test_generator_is_the_notebooks_own() -> None:
    one, other = labcore.start("B05", seed=1), labcore.start("B05", seed=1)
    assert one.generator is one.generator
    assert torch.equal(
        torch.rand(3, generator=one.generator), torch.rand(3, generator=other.generator)
    )


@pytest.mark.parametrize("id", ["b05", "B5", "P6", "", "X01"])
def test_start_refuses_what_is_no_id(id: str) -> None:
    with pytest.raises(ValueError, match="a notebook id looks like"):
        labcore.start(id)


def test_start_refuses_no_threads() -> None:
    with pytest.raises(ValueError, match="threads must be at least 1"):
        labcore.start("B05", threads=0)


def test_numpy_chapters_leave_torch_alone() -> None:
    ids = sorted(lab_module.WITHOUT_TORCH)
    starts = "\n".join(f"labcore.start({id!r})" for id in ids)
    code = f"import sys, labcore\n{starts}\nassert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert {"B02", "B03", "B04", "B06", "BA", "BB"} <= set(ids)


def test_check_and_hint(capsys: pytest.CaptureFixture[str]) -> None:
    lab = labcore.start("B99")
    capsys.readouterr()
    lab.check("B99.2", 0.75)
    assert capsys.readouterr().out == "B99.2 passed\n"
    with pytest.raises(CheckFailed, match="Hint: these are the odds"):
        lab.check("B99.2", 3.0)
    with pytest.raises(CheckFailed, match=r"B99\.1 is still empty"):
        lab.check("B99.1", None)
    with pytest.raises(UnknownExercise, match="did you mean"):
        lab.check("B99.9", None)
    lab.hint("B99.2", 2)
    assert capsys.readouterr().out == "Hint 2 of 2 for B99.2: The weights are 1 and 3.\n"
    with pytest.raises(ValueError, match="hints 1 to 2, not 3"):
        lab.hint("B99.2", 3)
    lab.hint("B99.1")
    assert "folded under its check cell" in capsys.readouterr().out


def bars(n: int = 2) -> go.Figure:
    if n == 4:
        raise RuntimeError("four is too many")
    fig = go.Figure(go.Bar(y=[1.0] * n))
    return viz.finish(fig, title="bars", alt=f"{n} bars.")


def test_explore_tries_both_ends_only_when_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    lab = labcore.start("B99")
    assert len(lab.explore(bars, n=(1, 4)).children) == 2
    monkeypatch.setenv(lab_module.SWEEP, "1")
    with pytest.raises(RuntimeError, match="four is too many"):
        lab.explore(bars, n=(1, 4))
    assert len(lab.explore(bars, n=(1, 3)).children) == 2


def test_explore_in_a_page_shows_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[tuple[go.Figure, str | None]] = []
    monkeypatch.setenv(lab_module.STATIC, "1")
    monkeypatch.setattr(viz, "show", lambda fig, alt=None: shown.append((fig, alt)))
    lab = labcore.start("B99")
    assert lab.explore(bars, n=(1, 3)) is None
    assert len(shown[0][0].frames) == 3
    lab.show(bars(2), alt="Two.")
    assert shown[1][1] == "Two."


def test_figures_must_be_figures() -> None:
    lab = labcore.start("B99")
    with pytest.raises(TypeError, match="Figure"):
        lab.show("figure")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="Figure"):
        lab.explore(lambda n: "figure", n=(1, 3))
