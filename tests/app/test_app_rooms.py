"""Every work's page has what a student looks for: claim, presets, code, notebook, link, data."""

from pathlib import Path
from urllib.parse import parse_qs, urlparse

import pytest
from streamlit.testing.v1 import AppTest

from app.ui.catalogue import ROOT, page_file, pages
from labcore.works import WORKS
from tests.app.conftest import Run, charts

NAMES = sorted(pages())


def shown(at: AppTest) -> tuple[str, ...]:
    return tuple(chart.spec for chart in charts(at))


def link(at: AppTest, name: str) -> dict[str, list[str]]:
    """The setting in the link that "Copy settings" offers."""
    (address,) = [c.value for c in at.code if urlparse(c.value).path == f"/{name}"]
    return parse_qs(urlparse(address).query, keep_blank_values=True)


def test_every_work_has_its_page() -> None:
    assert {work.page for work in WORKS} == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_page_has_all_its_rooms(name: str, run_page: Run) -> None:
    at = run_page(page_file(name))
    claims = [m.value for m in at.markdown if m.value.startswith("**Claim.** ")]
    assert len(claims) == 1, "one claim"
    assert 20 < len(claims[0]) < 240, "in one sentence"
    folded = [expander.label for expander in at.expander]
    assert "What to look for" in folded
    assert [label for label in folded if label.startswith("Show me the code: ")]
    sources = [c.value for c in at.caption if c.value.startswith("`labcore.")]
    assert sources, "the code is labcore's"
    for work in WORKS:
        if work.page == name:
            (path,) = (ROOT / "notebooks" / "student").rglob(f"{work.id}_*.ipynb")
            command = f".venv/bin/jupyter lab {path.relative_to(ROOT)}"
            assert command in [c.value for c in at.code]
    offered = [button.proto.label for button in at.get("download_button")]
    for kind in ("Data (CSV)", "Figure (HTML)", "Setting (JSON)"):
        assert offered.count(kind) >= len(charts(at)) >= 1
    assert link(at, name) == {}, "the link of the defaults is the page's address"


@pytest.mark.parametrize("name", NAMES)
def test_presets_lead_to_other_figures_and_to_a_link_that_leads_back(
    name: str, run_page: Run
) -> None:
    path: Path = page_file(name)
    at = run_page(path)
    buttons = [b.key for b in at.button if str(b.key).startswith("preset-")]
    assert len(buttons) >= 3
    seen = {shown(at)}
    for key in buttons:
        at.button(key=key).click().run()
        assert not at.exception, [e.value for e in at.exception]
        assert not at.warning, [w.value for w in at.warning]
        seen.add(shown(at))
    assert len(seen) >= 3, "the presets show the same"
    again = run_page(path, link(at, name))
    assert shown(again) == shown(at)
