"""The demo notebook B99, its checks, and fragments of sources to break."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import nbformat
import pytest

DATA = Path(__file__).parent / "data"


@pytest.fixture(scope="session", autouse=True)
def _demo_checks() -> Iterator[None]:
    """Let the demo's checks be found, here and in kernels and scripts that tests start."""
    from labcore.course import checks

    before = list(checks.__path__)
    checks.__path__.append(str(DATA / "checks"))
    os.environ["LAB_CHECKS"] = str(DATA / "checks")
    yield
    checks.__path__[:] = before
    del os.environ["LAB_CHECKS"]


@pytest.fixture(scope="session")
def demo() -> Path:
    """A complete small source."""
    return DATA / "B99_demo.py"


@pytest.fixture
def edited(demo: Path, tmp_path: Path) -> Callable[[str, str], Path]:
    """The demo with one piece of text replaced, in a folder called ``book``."""

    def edit(old: str, new: str) -> Path:
        text = demo.read_text()
        assert old in text, f"the demo no longer holds {old!r}"
        path = tmp_path / "book" / "B99_demo.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text.replace(old, new, 1))
        return path

    return edit


@pytest.fixture
def written(tmp_path: Path) -> Callable[..., Path]:
    """A notebook of code cells called c0, c1, ..."""

    def write(*codes: str, tags: tuple[str, ...] = ()) -> Path:
        cells = [nbformat.v4.new_code_cell(code, id=f"c{i}") for i, code in enumerate(codes)]
        cells[-1].metadata["tags"] = list(tags)
        path = tmp_path / "written.ipynb"
        nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
        return path

    return write
