"""The reading copy opened from its folder: every page, every plot, no network.

By itself the test exports two short notebooks. ``LAB_SITE`` names a folder that ``lab notebooks
export`` wrote, to open all of it.
"""

import os
from pathlib import Path
from typing import Any

import pytest

from labcore.course import commands, pages
from tests.e2e.conftest import ROOT, Tab

pytestmark = pytest.mark.e2e

SHORT = ("B02", "BA")
DRAWN = """
() => [...document.querySelectorAll('.plot')].map(box => ({
    name: box.id,
    marks: box.querySelectorAll('svg.main-svg, canvas').length,
    traces: (box.data || []).length,
    wide: box.getBoundingClientRect().width,
    high: box.getBoundingClientRect().height,
    crossed: [...box.querySelectorAll('.slider-container rect')].some(a =>
        [...box.querySelectorAll('.legend, [class*=title] text, [class$=tick] text')].some(b => {
            const [p, q] = [a.getBoundingClientRect(), b.getBoundingClientRect()];
            return Math.min(p.right, q.right) - Math.max(p.left, q.left) > 1
                && Math.min(p.bottom, q.bottom) - Math.max(p.top, q.top) > 1;
        })),
    frames: ((box._transitionData || {})._frames || []).length,
}))
"""


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a reading copy."""
    if given := os.environ.get("LAB_SITE"):
        return Path(given)
    out = tmp_path_factory.mktemp("site")
    silent = {"report": lambda said: None}
    assert commands.export_all(ROOT / "notebooks", out, names=SHORT, **silent) == []
    return out


def test_every_page_draws_every_plot_and_asks_nobody(site: Path, tab: Tab) -> None:
    found = sorted(site.glob("*/*.html"))
    assert len(found) >= len(SHORT)
    moving = 0
    for path in found:
        seen = tab(path.as_uri(), width=1000)
        page: Any = seen.page
        wanted = path.read_text(encoding="utf-8").count('class="plot"')
        page.wait_for_function(
            "n => [...document.querySelectorAll('.plot')]"
            ".filter(b => b.querySelector('svg.main-svg')).length === n",
            arg=wanted,
        )
        page.wait_for_timeout(300)
        plots = page.evaluate(DRAWN)
        assert len(plots) == wanted > 0
        for plot in plots:
            assert plot["marks"], (path, plot)
            assert plot["traces"], (path, plot)
            assert plot["wide"] > 300, (path, plot)
            assert plot["high"] > 200, (path, plot)
            assert not plot["crossed"], f"a slider lies over a legend or label: {path}, {plot}"
        moving += any(plot["frames"] > 1 for plot in plots)
        wide = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
        assert wide <= 0, f"{path} is {wide} px wider than the window"
        if shots := os.environ.get("LAB_SHOTS"):
            page.screenshot(path=Path(shots) / f"site-{path.stem}.png", full_page=True)
        assert (seen.outside, seen.errors) == ([], []), path
        page.close()
    assert moving == len(found), "each page has a centre-piece that moves"


def test_a_plot_moves_and_its_text_follows(site: Path, tab: Tab) -> None:
    path = sorted(site.glob("book/B02*.html"))[0]
    page: Any = tab(path.as_uri(), width=1000).page
    ruler = page.get_by_role("slider").first
    text = page.locator('[aria-live="polite"]').first
    before, at = text.text_content(), ruler.get_attribute("aria-valuetext")
    ruler.focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_function(
        "said => document.querySelector('[aria-live=polite]').textContent !== said", arg=before
    )
    assert ruler.get_attribute("aria-valuetext") != at


def test_the_index_leads_to_every_page_and_no_link_is_broken(site: Path, tab: Tab) -> None:
    assert pages.broken_links(site) == []
    seen = tab((site / "index.html").as_uri())
    page: Any = seen.page
    links = page.evaluate("[...document.querySelectorAll('.works a')].map(a => a.href)")
    assert sorted(links) == sorted(path.as_uri() for path in site.glob("*/*.html"))
    page.locator(".works a").first.click()
    page.locator("h1").first.wait_for()
    assert (seen.outside, seen.errors) == ([], [])
