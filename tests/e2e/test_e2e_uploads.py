"""Files over the limit: the browser refuses them, and the server does when a client does not."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from labcore.merging.tsv import tsv_merge
from labcore.merging.vectors import apply, task_vector
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


def test_uploaded_checkpoints_come_back_merged(server: Server, tab: Tab, tmp_path: Path) -> None:
    g = torch.Generator().manual_seed(0)
    base = {"w": torch.randn(24, 16, generator=g), "b": torch.randn(16, generator=g)}
    noise = [{n: torch.randn(v.shape, generator=g) / 10 for n, v in base.items()} for _ in range(2)]
    models = [{n: v + tau[n] for n, v in base.items()} for tau in noise]
    files = [tmp_path / f"{name}.safetensors" for name in ("base", "first", "second")]
    for state, file in zip([base, *models], files, strict=True):
        save_file(state, file)
    seen = tab(f"{server.url}/merging")
    page: Any = seen.page
    page.get_by_text("Merge your own checkpoints").click()
    page.locator(CHOOSER).first.set_input_files(files)
    button = page.get_by_role("button", name="Merged checkpoint")
    with page.expect_download() as coming:
        button.click()
    coming.value.save_as(tmp_path / "merged.safetensors")
    got = load_file(tmp_path / "merged.safetensors")
    taus = {str(i): task_vector(base, model) for i, model in enumerate(models)}
    want = apply(base, tsv_merge(taus)[0])
    assert got.keys() == base.keys()
    assert all(torch.allclose(got[n], want[n], atol=1e-6) for n in want)
    page.locator('[data-testid="stDataFrame"]').first.wait_for()
    assert (seen.errors, seen.outside) == ([], [])
