"""What only a browser can show: the address bar, downloads, long work, a restarted server."""

import csv
import re
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import Server, Tab

pytestmark = pytest.mark.e2e

METRIC = '[data-testid="stMetricValue"]'


def metric(page: Any, wanted: str) -> None:
    """Wait until the metric shows this and the page's run has ended."""
    page.locator(METRIC).get_by_text(wanted, exact=True).wait_for()
    page.locator('[data-test-script-state="notRunning"]').wait_for()


def slider(page: Any, name: str) -> Any:
    return page.get_by_role("slider", name=re.compile(name)).first


def in_address(page: Any, text: str) -> None:
    page.wait_for_function("text => location.search.includes(text)", arg=text)


def test_moving_a_slider_writes_the_address_which_reads_back(sample: Server, tab: Tab) -> None:
    seen = tab(f"{sample.url}/kvcache")
    page: Any = seen.page
    metric(page, "8")
    assert page.evaluate("location.search") == ""
    handle = slider(page, "Turns")
    handle.focus()
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    in_address(page, "k=7")
    metric(page, "14")
    other: Any = tab(page.url).page
    metric(other, "14")
    label = other.locator('[aria-label*="7 turns"]')
    label.first.wait_for()
    assert (seen.errors, seen.outside) == ([], [])


def test_back_to_the_default_leaves_the_address(sample: Server, tab: Tab) -> None:
    page: Any = tab(f"{sample.url}/kvcache?k=5").page
    metric(page, "10")
    slider(page, "Turns").focus()
    page.keyboard.press("ArrowLeft")
    metric(page, "8")
    page.wait_for_function("() => !location.search.includes('k=')")


def test_a_wrong_link_is_told(sample: Server, tab: Tab) -> None:
    page: Any = tab(f"{sample.url}/kvcache?k=999&rho=0.25&kind=abc").page
    page.get_by_text("k=999 in the link is outside 1..16; showing 4.").wait_for()
    page.get_by_text("kind=abc in the link is not one of sine, cosine; showing sine.").wait_for()
    metric(page, "8")
    page.get_by_text(re.compile(r"values \(4, 0\.25,")).wait_for()


def test_a_preset_writes_the_address(sample: Server, tab: Tab) -> None:
    page: Any = tab(f"{sample.url}/kvcache").page
    page.get_by_role("button", name="Many turns").click()
    in_address(page, "k=16")
    in_address(page, "kind=cosine")
    page.get_by_text("Count them.").wait_for()
    metric(page, "32")


def test_another_page_begins_with_its_own_defaults(sample: Server, tab: Tab) -> None:
    seen = tab(f"{sample.url}/kvcache?k=9")
    page: Any = seen.page
    metric(page, "18")
    page.get_by_role("link", name=re.compile("Koopman modes")).click()
    page.wait_for_url("**/koopman*")
    page.get_by_role("heading", name="Koopman modes").wait_for()
    metric(page, "8")
    assert page.evaluate("location.search") == ""
    assert seen.errors == []


def test_the_map_leads_to_an_open_page(sample: Server, tab: Tab) -> None:
    page: Any = tab(sample.url).page
    page.locator("svg.main-svg").first.wait_for()
    page.locator(".textpoint", has_text="P06").first.wait_for()
    box = page.locator(".textpoint", has_text="P06").first.bounding_box()
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.wait_for_url("**/kvcache")
    metric(page, "8")


def test_data_and_figure_can_be_taken_home(sample: Server, tab: Tab, tmp_path: Path) -> None:
    seen = tab(f"{sample.url}/kvcache?k=3")
    page: Any = seen.page
    metric(page, "6")
    page.locator("svg.main-svg").first.wait_for()  # a figure that comes in moves the button
    menu = page.get_by_test_id("stPopover").filter(has_text="Download")
    menu.get_by_role("button").first.click()
    page.get_by_role("button", name="Data (CSV)").wait_for()
    taken = {}
    for label, suffix in (("Data (CSV)", "csv"), ("Figure (HTML)", "html"), ("Setting", "json")):
        with page.expect_download() as coming:
            page.get_by_role("button", name=re.compile(re.escape(label))).click()
        taken[suffix] = tmp_path / coming.value.suggested_filename
        coming.value.save_as(taken[suffix])
    rows = list(csv.DictReader(taken["csv"].open()))
    assert len(rows) == 60
    assert '"k": 3' in taken["json"].read_text()
    home = tab(taken["html"].as_uri())
    alone: Any = home.page
    alone.locator("svg.main-svg").first.wait_for()
    assert alone.locator('[role="img"]').get_attribute("aria-label").startswith("A sine wave of 3")
    assert (home.outside, home.errors) == ([], [])
    assert (seen.outside, seen.errors) == ([], [])


def test_long_work_shows_progress_stops_and_ends(sample: Server, tab: Tab) -> None:
    seen = tab(f"{sample.url}/kvcache?k=2")
    page: Any = seen.page
    metric(page, "4")
    page.get_by_role("button", name="Forty steps").click()
    page.get_by_text(re.compile(r"step: \d+ of 40")).wait_for()
    page.get_by_role("button", name="Stop", exact=True).last.click()
    start = page.get_by_role("button", name="Forty steps")
    start.wait_for()
    start.click()
    page.get_by_text("slow gave 40").wait_for()
    metric(page, "4")
    assert (seen.outside, seen.errors) == ([], [])


def test_one_session_does_not_wait_for_anothers_long_work(sample: Server, tab: Tab) -> None:
    busy: Any = tab(f"{sample.url}/koopman").page
    metric(busy, "8")
    busy.get_by_role("button", name="Forty steps").click()
    page: Any = tab(f"{sample.url}/kvcache").page
    metric(page, "8")
    slider(page, "Turns").focus()
    page.keyboard.press("ArrowRight")
    metric(page, "10")


def test_a_stale_tab_comes_back_after_a_restart(sample: Server, tab: Tab) -> None:
    page: Any = tab(f"{sample.url}/kvcache?k=9").page
    metric(page, "18")
    connected = page.locator('[data-test-connection-state="CONNECTED"]')
    connected.wait_for()
    sample.stop()
    connected.wait_for(state="detached")
    sample.start("/_stcore/health")
    connected.wait_for()
    metric(page, "18")
    slider(page, "Turns").focus()
    page.keyboard.press("ArrowRight")
    metric(page, "20")
    in_address(page, "k=10")
    # this deep link was the new process's first request: the menu is still ours
    page.get_by_role("link", name=re.compile("P02 +Koopman modes")).wait_for()


def test_two_tabs_of_one_browser_do_not_touch_each_other(sample: Server, tab: Tab) -> None:
    first: Any = tab(f"{sample.url}/kvcache?k=9").page
    metric(first, "18")
    second: Any = first.context.new_page()
    second.goto(f"{sample.url}/kvcache?k=3")
    metric(second, "6")
    slider(first, "Turns").focus()
    first.keyboard.press("ArrowRight")
    metric(first, "20")
    in_address(first, "k=10")
    metric(second, "6")
    assert "k=3" in second.url
