"""A served app and a real browser that may talk to this machine only."""

import http.client
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
WAIT = 60_000  # milliseconds, generous for a busy machine


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answer(port: int, path: str) -> tuple[int, str]:
    """Status and body of a GET; status 0 while nobody listens."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read().decode()
    except OSError:
        return 0, ""
    finally:
        connection.close()


@dataclass
class Server:
    """An app on its own port; can be stopped and started again."""

    command: list[str]
    folder: Path
    port: int
    log: Path
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self, path: str = "/ready") -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command, cwd=self.folder, stdout=log, stderr=log, env={**os.environ}
            )
        end = time.monotonic() + 120
        while answer(self.port, path)[0] != 200:
            assert self.process.poll() is None, self.log.read_text()[-2000:]
            assert time.monotonic() < end, "the server did not get ready"
            time.sleep(0.1)

    def stop(self) -> None:
        if self.process:
            self.process.terminate()
            self.process.wait(20)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The app as people start it."""
    port = free_port()
    command = [sys.executable, "-m", "labcore.cli", "app", "--port", str(port)]
    made = Server(command, ROOT, port, tmp_path_factory.mktemp("app") / "log.txt")
    made.start()
    yield made
    made.stop()


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The same app with the sample page under two addresses, in a folder of its own."""
    folder = tmp_path_factory.mktemp("sample")
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "app", folder / "app", ignore=ignore)
    shutil.copytree(ROOT / ".streamlit", folder / ".streamlit")
    page = (ROOT / "tests" / "app" / "data" / "sample.py").read_text(encoding="utf-8")
    for name in ("kvcache", "koopman"):
        there = folder / "app" / "pages" / f"{name}.py"
        there.write_text(page.replace('"kvcache"', f'"{name}"'), encoding="utf-8")
    port = free_port()
    run = ["-m", "streamlit", "run", "app/server.py", "--server.port", str(port)]
    made = Server([sys.executable, *run], folder, port, folder / "log.txt")
    made.start()
    yield made
    made.stop()


@dataclass
class Watched:
    """A tab, and what it did: console errors, requests to elsewhere."""

    page: "object"
    errors: list[str] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)


def local(url: str) -> bool:
    return url.startswith(
        ("http://127.0.0.1", "ws://127.0.0.1", "data:", "blob:", "file:", "about:")
    )


@pytest.fixture(scope="session")
def browser() -> Iterator[object]:
    """Chromium of the system; a missing one fails in CI and skips elsewhere."""
    path = os.environ.get("LAB_CHROMIUM") or next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        say = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
        say("no chromium on this machine: install it, or name it in LAB_CHROMIUM")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        made = play.chromium.launch(executable_path=path, args=list(FLAGS))
        yield made
        made.close()


# below "/", Streamlit's own client first asks whether the page's address is the server's base
PROBE = re.compile(r"/\w+/_stcore/(health|host-config)$")


def _bad(message: object) -> bool:
    at = message.location.get("url", "")  # type: ignore[attr-defined]
    return message.type == "error" and not PROBE.search(at)  # type: ignore[attr-defined]


def _said(message: object) -> str:
    return f"{message.text} ({message.location.get('url', '')})"  # type: ignore[attr-defined]


Tab = Callable[..., Watched]


@pytest.fixture
def tab(browser: object) -> Iterator[Tab]:
    """Open watched tabs; requests to anywhere but this machine are noted and refused."""
    with _tabs(browser) as opened:
        yield opened


@contextmanager
def _tabs(browser: object) -> Iterator[Tab]:
    contexts = []

    def opened(url: str, width: int = 1400, height: int = 900) -> Watched:
        context = browser.new_context(  # type: ignore[attr-defined]
            viewport={"width": width, "height": height}, accept_downloads=True
        )
        context.set_default_timeout(WAIT)
        contexts.append(context)
        page = context.new_page()
        seen = Watched(page)

        def judge(route: object) -> None:
            address = route.request.url  # type: ignore[attr-defined]
            if local(address):
                route.continue_()  # type: ignore[attr-defined]
            else:
                seen.outside.append(address)
                route.abort()  # type: ignore[attr-defined]

        def socket_opened(ws: object) -> None:
            if not local(ws.url):  # type: ignore[attr-defined]
                seen.outside.append(ws.url)  # type: ignore[attr-defined]

        context.route("**/*", judge)
        page.on("websocket", socket_opened)
        page.on("console", lambda m: seen.errors.append(_said(m)) if _bad(m) else None)
        page.on("pageerror", lambda e: seen.errors.append(str(e)))
        page.goto(url)
        return seen

    yield opened
    for context in contexts:
        context.close()
