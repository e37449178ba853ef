"""Running pages as Streamlit runs them, without a browser."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from app.ui.catalogue import PAGES

SAMPLE = Path(__file__).parent / "data" / "sample.py"
Run = Callable[..., AppTest]


@pytest.fixture(autouse=True)
def _fresh_caches() -> None:
    """Cached results of one test do not reach the next."""
    import streamlit as st

    st.cache_data.clear()


@pytest.fixture
def run_page() -> Run:
    """Run a page file with a query string's parameters."""

    def run(path: Path, query: dict[str, Any] | None = None) -> AppTest:
        at = AppTest.from_file(str(path), default_timeout=60)
        for key, value in (query or {}).items():
            at.query_params[key] = value
        return at.run()

    return run


def page_files() -> list[Path]:
    """Every page of the app, and the sample."""
    return [*sorted(PAGES.glob("*.py")), SAMPLE]


def charts(at: AppTest) -> list[Any]:
    """The plotly charts of a page, as their messages."""
    return [element.proto for element in at.get("plotly_chart")]
