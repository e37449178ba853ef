"""Accessibility of every page: axe's rules, and every control by keyboard."""

from pathlib import Path
from typing import Any

import pytest

from labcore.assets import AssetError, fetch
from tests.e2e.conftest import ROOT, Server, Tab

pytestmark = pytest.mark.e2e

PAGES = sorted(path.stem for path in (ROOT / "app" / "pages").glob("*.py"))
RULES = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa")
SERIOUS = ("serious", "critical")
# Streamlit puts a <div> a section between the menu's <ul> and its <li>; a page cannot change that
MENU, OF_THE_MENU = '[data-testid="stSidebarNav"]', ("list", "listitem")
RUN = """
async ([rules, menu]) => {
    const inside = (target) => !!document.querySelector(target)?.closest(menu);
    const found = await axe.run(document, {runOnly: {type: 'tag', values: rules}});
    return found.violations.map(v => ({
        id: v.id, impact: v.impact, help: v.help,
        nodes: v.nodes.map(n => ({
            html: n.html.slice(0, 200), why: n.failureSummary, menu: inside(n.target[0])}))}));
}
"""


@pytest.fixture(scope="session")
def axe() -> Path:
    """The script of the checks."""
    try:
        return fetch("axe-core", offline=True)["axe.min.js"]
    except AssetError as error:
        pytest.skip(f"{error}: ./lab fetch axe-core")


def serious(page: Any, axe: Path) -> list[str]:
    """Serious violations, one line a place."""
    page.add_script_tag(path=str(axe))
    return [
        f"{v['id']} ({v['impact']}): {v['help']}: {node['html']} {node['why']}"
        for v in page.evaluate(RUN, [list(RULES), MENU])
        if v["impact"] in SERIOUS
        for node in v["nodes"]
        if not (node["menu"] and v["id"] in OF_THE_MENU)
    ]


@pytest.mark.parametrize("name", PAGES)
def test_no_serious_violation(name: str, server: Server, tab: Tab, axe: Path) -> None:
    page: Any = tab(f"{server.url}/{'' if name == 'home' else name}").page
    page.locator("h1").first.wait_for()
    if name != "teacher":
        page.locator("svg.main-svg, canvas").first.wait_for()
    page.wait_for_timeout(1500)
    found = serious(page, axe)
    assert not found, "\n".join(found)


def test_the_checks_see_a_violation(server: Server, tab: Tab, axe: Path) -> None:
    page: Any = tab(f"{server.url}/kvcache").page
    page.locator("h1").first.wait_for()
    page.evaluate("document.body.insertAdjacentHTML('beforeend', '<button id=\"dumb\"></button>')")
    assert any("button-name" in line for line in serious(page, axe))
