"""Every page, found by glob: it runs with any link, and its figures can be read without seeing."""

import ast
import json
import runpy
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from app.ui.catalogue import PAGES
from app.ui.parameters import Table, checked
from tests.app.conftest import Run, charts, page_files

NONSENSE = ("", "abc", "-1", "1e9", "NaN", "null", "<b>", "9" * 400)
FILES = page_files()
ids = [path.stem for path in FILES]


def table_of(path: Path) -> Table:
    return checked(runpy.run_path(str(path), run_name="page_table")["PARAMETERS"])


def sound(at: AppTest) -> None:
    assert not at.exception, [e.value for e in at.exception]
    assert not at.error, [e.value for e in at.error]
    assert at.title, "a page has a title"
    for chart in charts(at):
        assert any(c.isdigit() for c in chart.alt), f"alt text without a number: {chart.alt!r}"


@pytest.mark.parametrize("path", FILES, ids=ids)
def test_a_page_opens_as_it_is(path: Path, run_page: Run) -> None:
    at = run_page(path)
    sound(at)
    assert not at.warning, [w.value for w in at.warning]
    if path.stem != "teacher":
        assert charts(at), "a page shows a figure at once"


@pytest.mark.parametrize("edge", [1, 2], ids=["least", "most"])
@pytest.mark.parametrize("path", FILES, ids=ids)
def test_a_page_runs_at_the_edges_of_its_table(path: Path, edge: int, run_page: Run) -> None:
    table = table_of(path)
    query = {key: p.write(p.samples()[edge]) for key, p in table.items()}
    at = run_page(path, query)
    sound(at)
    assert not at.warning, [w.value for w in at.warning]
    for key, p in table.items():
        if key in at.session_state:
            assert plain(at.session_state[key]) == plain(p.samples()[edge]), key


@pytest.mark.parametrize("raw", NONSENSE, ids=lambda raw: raw[:6] or "empty")
@pytest.mark.parametrize("path", FILES, ids=ids)
def test_nonsense_in_a_link_is_told_and_the_default_shown(
    path: Path, raw: str, run_page: Run
) -> None:
    table = table_of(path)
    at = run_page(path, dict.fromkeys(table, raw))
    sound(at)
    said = {w.value.partition("=")[0]: w.value for w in at.warning}
    for key, parameter in table.items():
        if key not in at.session_state:
            continue  # its control is not made for this setting
        try:
            wanted = parameter.read([raw])
        except ValueError:
            assert key in said, f"{key}={raw!r} vanished without a word"
            assert "showing None" not in said[key]
        else:
            assert plain(at.session_state[key]) == plain(wanted)
            assert key not in said


def plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


PAGE_FILES = [path for path in FILES if path.parent == PAGES]


@pytest.mark.parametrize("path", PAGE_FILES, ids=lambda p: p.stem)
def test_a_page_holds_no_mathematics(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    roots = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            roots |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            roots.add((node.module or "").split(".")[0])
    forbidden = {"numpy", "torch", "plotly", "scipy", "math", "statistics", "networkx", "pandas"}
    assert not roots & forbidden, f"{path.name} imports {roots & forbidden}: that is labcore's work"
    maths = (ast.Mult, ast.Pow, ast.MatMult, ast.FloorDiv, ast.Mod, ast.Sub)
    found = [
        n.lineno for n in ast.walk(tree) if isinstance(n, ast.BinOp) and isinstance(n.op, maths)
    ]
    assert not found, f"{path.name} computes in lines {found}: that is labcore's work"


@pytest.mark.parametrize("path", PAGE_FILES, ids=lambda p: p.stem)
def test_a_page_keeps_the_contract(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    assert 'if __name__ == "__main__":' in source, "importing a page must not draw it"
    assert "st.slider" not in source, "controls come from app.ui, which binds them to the address"
    assert "st.plotly_chart" not in source, "figures go through app.ui.figure, with alt text"


def test_a_figure_on_a_page_equals_the_direct_call(run_page: Run) -> None:
    from tests.app.conftest import SAMPLE
    from tests.app.data import sample_figures

    query = {"k": "7", "rho": "0.25", "kind": "cosine", "marks": "true", "parts": ["recent"]}
    at = run_page(SAMPLE, query)
    direct = sample_figures.wave(7, 0.25, "cosine", True, ("recent",))
    (chart,) = charts(at)
    shown = json.loads(chart.spec)
    assert shown == json.loads(direct.to_json())
    other = json.loads(charts(run_page(SAMPLE))[0].spec)
    assert shown["data"] != other["data"]
