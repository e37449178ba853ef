"""The house keeps its stairs: imports go down only, and importing the package stays cheap."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "labcore"
LEVELS = {
    "ground": {
        "assets",
        "blocks",
        "viz",
        "runs",
        "parts",
        "tally",
        "lazy",
        "grid",
        "runtime",
        "uploads",
    },
    "first floor": {
        "course",
        "claims",
        "cli",
        "works",
        "bootstrap",
        "serving",
        "ledger",
        "estimate",
        "printing",
    },
}
TOPICS = {p.name for p in PACKAGE.iterdir() if p.is_dir() and p.name != "__pycache__"} - set.union(
    *LEVELS.values()
)
HEAVY = {"torch", "plotly", "streamlit", "transformers", "pandas", "scipy"}


def imported(path: Path) -> set[str]:
    """Dotted names of everything that a file imports, at any depth."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def parts_of_labcore(path: Path) -> set[str]:
    return {
        n.split(".")[1] for n in imported(path) if n.startswith("labcore.") and n.count(".") >= 1
    }


FILES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_down_only(path: Path) -> None:
    room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    used = parts_of_labcore(path)
    assert "streamlit" not in {n.split(".")[0] for n in imported(path)}
    if room in LEVELS["ground"]:
        above = used & (LEVELS["first floor"] | TOPICS)
        assert not above, f"the ground floor leans on {above}"
    elif room in TOPICS:
        above = used & ((LEVELS["first floor"] | TOPICS) - {room})
        assert not above, f"topic {room} leans on {above}"


def test_the_walk_sees_an_upward_import(tmp_path: Path) -> None:
    bad = tmp_path / "bad.py"
    bad.write_text("def f():\n    from labcore.kvcache import norms\n    return norms\n")
    assert "kvcache" in parts_of_labcore(bad)


def test_method_files_do_not_draw() -> None:
    for topic in TOPICS:
        for path in (PACKAGE / topic).glob("*.py"):
            roots = {n.split(".")[0] for n in imported(path)}
            if not path.name.startswith("figures"):
                assert "plotly" not in roots, f"{path} draws: move it to figures.py"


def test_import_is_fast_and_light() -> None:
    code = (
        "import time, sys; t = time.process_time(); import labcore; "
        "print(time.process_time() - t); print(*sys.modules)"
    )
    seconds = []
    for _ in range(3):
        out = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout.splitlines()
        seconds.append(float(out[0]))
        assert not HEAVY & set(out[1].split())
    assert min(seconds) < 0.3


def test_file_and_function_sizes() -> None:
    for path in [*FILES, *(PACKAGE.parent / "app").rglob("*.py")]:
        source = path.read_text()
        assert len(source.splitlines()) <= 400, f"{path}: split it"
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.FunctionDef):
                body = node.body[1:] if ast.get_docstring(node) else node.body
                if not body:
                    continue
                length = (body[-1].end_lineno or 0) - body[0].lineno + 1
                assert length <= 60, f"{path}:{node.lineno} {node.name} has {length} lines"
