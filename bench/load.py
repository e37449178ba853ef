"""Thirty students on one server: scripted sessions against this app and against a plain one.

A session is what a browser is to Streamlit: a web socket that speaks its protobuf messages, reads
a page to its end, then moves a slider, waits for the new page, thinks, and moves again. Loopback
only, a bounded number of moves. The plain app is the same page under ``streamlit run`` with
default settings: no frozen start-up objects; the same libraries loaded, one BLAS thread in both.

    python -m bench.load --sessions 30 --port 8501     # against a server that already runs
"""

import argparse
import asyncio
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import websockets
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg

ROOT = Path(__file__).resolve().parents[1]
PLAIN = """import sys
sys.path.insert(0, {root!r})
import gc
gc.freeze = lambda: None
import scipy, torch, transformers, labcore.assets, labcore.claims
from app.main import main
main()
"""
PATIENCE = 120.0  # seconds for one re-run
START = 120.0


@dataclass
class Moves:
    """What the sessions met.

    Attributes:
        first: Seconds from the first message to a whole page, one a session.
        seconds: Seconds from a slider's move to the whole new page.
        failed: Why a session ended early, one text each.
    """

    first: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    def percentile(self, share: float) -> float:
        """Seconds below which this share of the moves stayed."""
        return float(np.percentile(self.seconds, share)) if self.seconds else float("nan")

    def row(self) -> dict[str, Any]:
        """The figures in one row."""
        return {
            "sessions": len(self.first),
            "moves": len(self.seconds),
            "first_page_s": round(statistics.median(self.first), 3) if self.first else None,
            "p50_s": round(self.percentile(50), 3),
            "p95_s": round(self.percentile(95), 3),
            "failed": len(self.failed),
        }


async def session(port: int, page: str, moves: int, think: float, rng: Any, found: Moves) -> None:
    """One student: open the page, then move its first slider."""
    address = f"ws://127.0.0.1:{port}/_stcore/stream"
    try:
        await asyncio.sleep(float(rng.exponential(think)))
        async with websockets.connect(address, subprotocols=["streamlit"], max_size=None) as ws:
            start = time.perf_counter()
            slider = await _rerun(ws, page, None, None)
            found.first.append(time.perf_counter() - start)
            if slider is None:
                raise RuntimeError(f"the page {page!r} has no slider")
            for _ in range(moves):
                await asyncio.sleep(float(rng.exponential(think)))
                steps = round((slider.max - slider.min) / slider.step)
                value = slider.min + slider.step * int(rng.integers(0, steps + 1))
                start = time.perf_counter()
                await _rerun(ws, page, slider.id, value)
                found.seconds.append(time.perf_counter() - start)
    except (OSError, RuntimeError, TimeoutError, websockets.WebSocketException) as error:
        found.failed.append(f"{type(error).__name__}: {error}")


async def _rerun(ws: Any, page: str, widget: str | None, value: float | None) -> Any:
    """Ask for a run of the page and read to its end; its first slider."""
    message = BackMsg()
    message.rerun_script.page_name = page
    if widget is not None:
        state = message.rerun_script.widget_states.widgets.add()
        state.id = widget
        state.double_array_value.data.append(value)
    await ws.send(message.SerializeToString())
    slider = None
    async with asyncio.timeout(PATIENCE):
        while True:
            answer = ForwardMsg()
            answer.ParseFromString(await ws.recv())
            kind = answer.WhichOneof("type")
            if kind == "script_finished":
                if answer.script_finished == ForwardMsg.FINISHED_EARLY_FOR_RERUN:
                    continue
                return slider
            if kind == "delta" and answer.delta.WhichOneof("type") == "new_element":
                element = answer.delta.new_element
                name = element.WhichOneof("type")
                if name == "exception":
                    raise RuntimeError(element.exception.message)
                if name == "slider" and slider is None:
                    slider = element.slider


async def crowd(port: int, page: str, sessions: int, moves: int, think: float, seed: int) -> Moves:
    """Many sessions at once; each has its own random think times and moves."""
    found = Moves()
    generators = np.random.default_rng(seed).spawn(sessions)
    await asyncio.gather(*(session(port, page, moves, think, g, found) for g in generators))
    return found


@contextmanager
def server(kind: str) -> Iterator[tuple[int, int]]:
    """A warm server of this app (``ours``) or of the plain one; its port and process id."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        script, cwd, probe_path = "app/server.py", ROOT, "/ready"
        if kind == "plain":
            path = Path(folder) / "plain.py"
            path.write_text(PLAIN.format(root=str(ROOT)))
            script, cwd, probe_path = str(path), Path(folder), "/_stcore/health"
        command = [sys.executable, "-m", "streamlit", "run", script, "--server.port", str(port)]
        command += ["--server.headless", "true", "--browser.gatherUsageStats", "false"]
        threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        with (Path(folder) / "log").open("wb") as log:
            process = subprocess.Popen(
                command, cwd=cwd, env={**os.environ, **threads}, stdout=log, stderr=log
            )
        try:
            _wait(port, probe_path, process)
            yield port, process.pid
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(20)


def _wait(port: int, path: str, process: "subprocess.Popen[bytes]") -> None:
    end = time.monotonic() + START
    while time.monotonic() < end:
        try:
            if httpx.get(f"http://127.0.0.1:{port}{path}", timeout=2).status_code == 200:
                return
        except httpx.HTTPError:
            pass
        if process.poll() is not None:
            raise RuntimeError(f"the server ended with code {process.returncode}")
        time.sleep(0.2)
    raise RuntimeError(f"no server after {START:.0f} s")


def cpu_seconds(pid: int) -> float:
    """CPU seconds a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@dataclass
class Measured:
    """One server under a crowd, and alone."""

    moves: Moves
    cpu_ms: float


def measure(kind: str, page: str, sessions: int, moves: int, think: float, seed: int) -> Measured:
    """A crowd on a fresh, warmed-up server; then CPU milliseconds of a re-run of one session."""
    with server(kind) as (port, pid):
        warm = asyncio.run(crowd(port, page, 1, 3, 0.0, seed))
        if warm.failed:
            raise RuntimeError(f"the {kind} app does not show {page!r}: {warm.failed[0]}")
        found = asyncio.run(crowd(port, page, sessions, moves, think, seed))
        before, alone = cpu_seconds(pid), 12
        asyncio.run(crowd(port, page, 1, alone, 0.0, seed + 1))
        spent = 1000 * (cpu_seconds(pid) - before) / (alone + 1)
    return Measured(found, spent)


def main() -> None:
    """Sessions against a server that already runs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, default=8501)
    parser.add_argument("--page", default="kvcache")
    parser.add_argument("--sessions", type=int, default=30)
    parser.add_argument("--moves", type=int, default=4)
    parser.add_argument("--think", type=float, default=1.0, help="mean seconds between moves")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    found = asyncio.run(
        crowd(args.port, args.page, args.sessions, args.moves, args.think, args.seed)
    )
    print(json.dumps(found.row(), indent=1))
    for why in sorted(set(found.failed)):
        print(why, file=sys.stderr)


if __name__ == "__main__":
    main()
