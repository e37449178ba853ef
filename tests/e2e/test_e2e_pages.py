"""Every page of the app in a real browser."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import ROOT, Server, Tab, answer

pytestmark = pytest.mark.e2e

PAGES = sorted(path.stem for path in (ROOT / "app" / "pages").glob("*.py"))
ADDRESS = {"home": ""}
CHART = '[data-testid="stPlotlyChart"]'


@pytest.fixture(scope="session")
def shots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where screenshots go: LAB_SHOTS, or a temporary folder."""
    folder = os.environ.get("LAB_SHOTS")
    made = Path(folder) if folder else tmp_path_factory.mktemp("shots")
    made.mkdir(exist_ok=True, parents=True)
    return made


@pytest.mark.parametrize("width", [1400, 800])
@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_drawn_and_asks_nobody(
    name: str, width: int, server: Server, tab: Tab, shots: Path
) -> None:
    seen = tab(f"{server.url}/{ADDRESS.get(name, name)}", width=width)
    page: Any = seen.page
    page.locator("h1").first.wait_for()
    if name != "teacher":
        page.locator("svg.main-svg, canvas").first.wait_for()
    page.wait_for_timeout(1000)
    page.screenshot(path=shots / f"{name}-{width}.png", full_page=True)
    assert page.locator('[data-testid="stException"]').count() == 0
    for chart in page.locator(CHART).all():
        label = chart.evaluate(
            "e => (e.closest('[aria-label]') || e.querySelector('[aria-label]') || e)"
            ".getAttribute('aria-label')"
        )
        assert label, "a figure without alt text"
        assert any(c.isdigit() for c in label), label
    wide = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
    assert wide <= 0, f"the page is {wide} px wider than the window"
    assert seen.outside == []
    assert seen.errors == []


def test_ready_names_version_and_frozen_objects(server: Server) -> None:
    status, body = answer(server.port, "/ready")
    found = json.loads(body)
    assert status == 200
    assert found["ready"] is True
    assert found["frozen"] > 50_000
    assert "error" not in found


def test_an_unknown_address_shows_the_way_home(server: Server, tab: Tab) -> None:
    seen = tab(f"{server.url}/nowhere")
    page: Any = seen.page
    page.get_by_text("Page not found").first.wait_for()
    assert seen.outside == []
