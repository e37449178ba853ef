"""The server: ``streamlit run app/server.py``, or any ASGI server with ``app.server:app``.

Pages are served at once. Heavy modules come in behind them, in a thread; then all that is loaded is
exempted from the garbage collection that Streamlit runs after every re-run, and only then does
``/ready`` answer 200, so a proxy sends students to a server at full speed.
"""

import importlib
import importlib.util
import logging
import sys
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import streamlit as st
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from streamlit.runtime.pages_manager import PagesManager

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from labcore import __version__  # noqa: E402
from labcore.runtime import freeze_startup, limit_threads  # noqa: E402

LOG = logging.getLogger("labcore.app")
HEAVY = ("labcore.course.map", "labcore.claims", "labcore.assets", "scipy", "torch", "transformers")


@dataclass
class Readiness:
    """How far the start has come."""

    frozen: int = 0
    seconds: float = 0.0
    error: str = ""

    def as_response(self) -> JSONResponse:
        """200 when warm, 503 before; JSON in both cases."""
        body = {
            "ready": self.frozen > 0,
            "version": __version__,
            "frozen": self.frozen,
            "seconds": round(self.seconds, 2),
        }
        if self.error:
            body["error"] = self.error
        return JSONResponse(body, status_code=200 if self.frozen else 503)


def warm(state: Readiness) -> None:
    """Import the heavy modules that are installed, draw one figure, freeze."""
    start = time.monotonic()
    limit_threads(1)
    try:
        for name in HEAVY:
            if importlib.util.find_spec(name.partition(".")[0]):
                importlib.import_module(name)
        _draw()
    except Exception as error:  # pages still work and import what they need themselves
        LOG.exception("warm-up failed")
        state.error = f"{type(error).__name__}: {error}"
    limit_threads(1)  # once more: now that they are loaded, tell the libraries themselves
    state.seconds = time.monotonic() - start
    state.frozen = freeze_startup()


def _draw() -> None:
    from labcore.course.map import course_map
    from labcore.works import WORKS

    course_map(WORKS, ()).to_json()


# a folder called "pages" makes Streamlit build its own menu in a process's first run, so a deep
# link that comes first would miss main.py; main.py's navigation is the only one
PagesManager.uses_pages_directory = False
readiness = Readiness()


@asynccontextmanager
async def lifespan(_: st.App) -> AsyncIterator[dict[str, Any]]:
    """Warm up behind the first pages; end the workers with the server."""
    threading.Thread(target=warm, args=(readiness,), name="warm-up", daemon=True).start()
    yield {"readiness": readiness}


async def ready(_: Request) -> JSONResponse:
    """``/ready``."""
    return readiness.as_response()


def on_script_error(error: Exception) -> bool:
    """Log under an id, show the id (see :func:`app.ui.page.on_script_error`)."""
    from app.ui.page import on_script_error as report

    return report(error)


app = st.App(
    ROOT / "app" / "main.py",
    lifespan=lifespan,
    routes=[Route("/ready", ready)],
    on_script_error=on_script_error,
)
