"""What the server does: re-runs and their CPU, and how large a class that allows.

One :class:`Meter` a process. ``main.py`` counts each run; the teacher page reads.
"""

import http.client
import re
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from statistics import median

import streamlit as st


@dataclass
class Meter:
    """Counts page runs, and the CPU time of the process between one and the next."""

    window: int = 200
    least: int = 10
    _spent: deque[float] = field(default_factory=deque)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _last: float | None = None
    _runs: int = 0

    def count(self) -> None:
        """Note that a page runs."""
        with self._lock:
            now = time.process_time()
            if self._last is not None:
                self._spent.append(1000 * (now - self._last))
            self._last = now
            self._runs += 1
            if len(self._spent) > self.window:
                self._spent.popleft()

    @property
    def runs(self) -> int:
        """Page runs since the process began."""
        return self._runs

    def cpu_ms(self) -> float | None:
        """CPU milliseconds of a run: the median of the last ones; None before there are ten.

        All the process did counts: the page, Streamlit's messages, the collection after the run.
        The median leaves out the run that imported something.
        """
        with self._lock:
            return median(self._spent) if len(self._spent) >= self.least else None


@st.cache_resource(show_spinner=False)
def meter() -> Meter:
    """The meter of this process."""
    return Meter()


_LINE = re.compile(r"^(?P<name>\w+)(?:\{(?P<labels>[^}]*)\})? (?P<value>\S+)", re.MULTILINE)


def digest() -> dict[str, int]:
    """The server's own counters, added up by name and kind; empty when no server runs."""
    if not st.runtime.exists():
        return {}
    address = st.get_option("server.address") or "127.0.0.1"
    host = "127.0.0.1" if address in ("0.0.0.0", "::") else address  # noqa: S104
    base = (st.get_option("server.baseUrlPath") or "").strip("/")
    connection = http.client.HTTPConnection(host, st.get_option("server.port"), timeout=2)
    try:
        connection.request("GET", f"/{base}/_stcore/metrics" if base else "/_stcore/metrics")
        return summed(connection.getresponse().read().decode())
    except (OSError, http.client.HTTPException):
        return {}
    finally:
        connection.close()


def summed(text: str) -> dict[str, int]:
    """OpenMetrics text -> name (with its type, if it has one) -> sum; histograms are left out.

    >>> summed('# TYPE a counter\\na{type="x",cache="1"} 2\\na{type="x",cache="2"} 3\\nb 1')
    {'a x': 5, 'b': 1}
    """
    sums: dict[str, int] = {}
    for line in _LINE.finditer(text):
        if line["name"].endswith(("_bucket", "_sum", "_count")):
            continue  # histograms
        kind = re.search(r'(?:^|,)(?:type|cache_type)="([^"]*)"', line["labels"] or "")
        name = f"{line['name']} {kind[1]}" if kind else line["name"]
        sums[name] = sums.get(name, 0) + round(float(line["value"]))
    return sums


def largest_class(cpu_ms: float, *, think_seconds: float, cores: int, load: float = 0.6) -> int:
    """Students that ``cores`` can serve: load * (1000 / cpu_ms) re-runs a second and core.

    A class of S students who think Z seconds between two moves needs S / Z re-runs a second.

        >>> largest_class(30, think_seconds=5, cores=1)
        100

    Raises:
        ValueError: a figure is not positive.
    """
    if min(cpu_ms, think_seconds, cores, load) <= 0:
        raise ValueError("CPU milliseconds, think time, cores and load must be positive")
    return int(load * 1000 * think_seconds * cores / cpu_ms)
