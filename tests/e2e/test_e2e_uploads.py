"""Files over the limit: the browser refuses them, and the server does when a client does not."""

import re
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import Server, Tab, answer

pytestmark = pytest.mark.e2e

CHOOSER = 'input[type="file"]'
RUN_ENDED = '[data-test-script-state="notRunning"]'
HUGE = 22 << 20  # the limit is 20 MiB, the server's margin for the request's frame 1 MiB


def test_a_huge_file_gets_one_line_and_the_page_lives(
    server: Server, tab: Tab, tmp_path: Path
) -> None:
    seen = tab(f"{server.url}/tokens")
    page: Any = seen.page
    sent: list[str] = []
    page.on("request", lambda r: sent.append(r.url) if "upload_file" in r.url else None)
    (tmp_path / "huge.png").write_bytes(bytes(HUGE))
    page.locator(CHOOSER).first.set_input_files(tmp_path / "huge.png")
    told = page.get_by_text("File must be 20.0MB or smaller")
    told.first.wait_for()
    assert told.count() == 1
    assert told.bounding_box()["height"] > 10, "said to screen readers only"
    assert sent == []
    page.get_by_role("slider", name=re.compile("Canvas")).first.focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_function("() => location.search.includes('canvas=')")
    page.locator(RUN_ENDED).wait_for()
    page.locator("svg.main-svg").first.wait_for()
    assert page.locator('[data-testid="stException"]').count() == 0
    assert (seen.errors, seen.outside) == ([], [])


def test_the_server_refuses_what_a_client_sends_all_the_same(
    server: Server, tab: Tab, tmp_path: Path
) -> None:
    seen = tab(f"{server.url}/tokens")
    page: Any = seen.page
    page.locator(CHOOSER).first.wait_for(state="attached")
    (tmp_path / "small.png").write_bytes(b"no picture")
    with page.expect_request(lambda r: r.method == "PUT" and "upload_file" in r.url) as sent:
        page.locator(CHOOSER).first.set_input_files(tmp_path / "small.png")
    page.get_by_text("small.png is no PNG or JPEG picture").first.wait_for()
    good = sent.value
    token = {"X-Xsrftoken": good.header_value("X-Xsrftoken")}
    sizes = {}
    for size in (1000, HUGE):
        body = {"file": {"name": "a.png", "mimeType": "image/png", "buffer": bytes(size)}}
        sizes[size] = page.request.put(good.url, headers=token, multipart=body).status
    assert sizes == {1000: 204, HUGE: 413}
    assert answer(server.port, "/ready")[0] == 200
