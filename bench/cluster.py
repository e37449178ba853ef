"""Past one machine: a grid and a merge on a Dask cluster, with a worker killed on the way.

    python -m bench.cluster            # makes a scheduler and two workers of its own
    python -m bench.cluster tcp://scheduler:8786   # a cluster that is there; nothing is killed
    python -m bench.cluster --model    # merges SmolLM2-135M and two short fine-tunes made here

Two hosts are played by two worker processes in folders of their own, which share only what a real
cluster shares: the folder of the checkpoints and of the results. Every line must say "same bytes".
"""

import argparse
import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from bench import merging_disk
from labcore.grid import run_grid
from labcore.merging import merge_checkpoints

ROOT = Path(__file__).resolve().parents[1]
TASKS = 24
WIDTH, LAYERS, FINETUNED = 192, 12, 3
Row = dict[str, Any]


def spectrum(size: int, seed: int) -> dict[str, Any]:
    """A grid task of a fraction of a second: the singular values of a random matrix."""
    rng = np.random.default_rng(seed)
    start = time.perf_counter()
    values = np.linalg.svd(rng.standard_normal((size, size)), compute_uv=False)
    while time.perf_counter() - start < 0.25:  # long enough that a worker can die inside one
        np.linalg.svd(rng.standard_normal((64, 64)))
    return {"largest": float(values[0]), "values": values}


def digest(folder: Path) -> str:
    """One hash of all files below a folder, names and bytes."""
    total = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        total.update(str(path.relative_to(folder)).encode())
        total.update(path.read_bytes())
    return total.hexdigest()[:16]


class Hosts:
    """A scheduler and worker processes, each worker in a folder of its own."""

    def __init__(self, folder: Path, workers: int = 2) -> None:
        self.folder = folder
        file = folder / "scheduler.json"
        self.processes = [self._start("scheduler", "--port", "0", "--scheduler-file", str(file))]
        self.address = self._address(file)
        self.workers = [self.add(number) for number in range(workers)]

    def add(self, number: int) -> "subprocess.Popen[bytes]":
        """One more host."""
        home = self.folder / f"host{number}"
        home.mkdir(exist_ok=True)
        words = ("worker", self.address, "--nthreads", "1", "--no-nanny", "--no-dashboard")
        process = self._start(*words, "--local-directory", str(home), cwd=home)
        self.processes.append(process)
        return process

    def _start(self, *words: str, cwd: Path | None = None) -> "subprocess.Popen[bytes]":
        extra = () if words[0] == "worker" else ("--no-dashboard",)
        command = [sys.executable, "-m", "distributed.cli.dask_" + words[0], *words[1:], *extra]
        threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        with (self.folder / "log").open("ab") as log:
            return subprocess.Popen(
                command,
                cwd=cwd or self.folder,
                env={**os.environ, **threads, "PYTHONPATH": str(ROOT)},
                stdout=log,
                stderr=log,
            )

    def _address(self, file: Path) -> str:
        end = time.monotonic() + 60
        while time.monotonic() < end:
            if file.exists() and (text := file.read_text()):
                return str(json.loads(text)["address"])
            time.sleep(0.1)
        raise RuntimeError(f"no scheduler: {(self.folder / 'log').read_text()[-500:]}")

    def close(self) -> None:
        """End all processes."""
        for process in reversed(self.processes):
            process.kill()
            process.wait(10)


@contextmanager
def hosts() -> Iterator[Hosts]:
    """A cluster of two hosts on this machine."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        made = Hosts(Path(folder))
        try:
            yield made
        finally:
            made.close()


def killer(cluster: Hosts, after: float) -> Callable[[], None]:
    """Kill the older host after some seconds, then bring up another; gives what waits for it."""

    def run() -> None:
        time.sleep(after)
        gone = cluster.workers.pop(0)
        if gone.poll() is not None:
            raise RuntimeError("the host to be killed had ended by itself")
        gone.send_signal(signal.SIGKILL)
        cluster.workers.append(cluster.add(len(cluster.processes)))

    thread = threading.Thread(target=run)
    thread.start()
    return thread.join


def checkpoints(folder: Path) -> tuple[Path, dict[str, Path]]:
    """A base of some layers, and fine-tuned copies of it."""
    generator = torch.Generator().manual_seed(0)
    base = {
        f"layers.{i}.weight": torch.randn(WIDTH, WIDTH, generator=generator) for i in range(LAYERS)
    }
    made = {}
    for name in ("base", *(f"task{i}" for i in range(FINETUNED))):
        moved = {
            key: value + 0.01 * (name != "base") * torch.randn(value.shape, generator=generator)
            for key, value in base.items()
        }
        made[name] = folder / f"{name}.safetensors"
        save_file(moved, made[name])
    return made.pop("base"), made


def _timed(name: str, call: Callable[[], Path], wanted: str | None) -> tuple[Row, str]:
    start = time.perf_counter()
    found = digest(call())
    row = {
        "run": name,
        "seconds": round(time.perf_counter() - start, 1),
        "sha256": found,
        "against serial": "" if wanted is None else "same bytes" if found == wanted else "OTHER",
    }
    return row, found


def rows(address: str | None = None) -> list[Row]:
    """Serial, on the cluster, and on the cluster with a worker killed: bytes and seconds.

    Args:
        address: A running scheduler; None makes hosts of its own and kills one of them.
    """
    grid = [{"size": 96 + i} for i in range(TASKS)]
    table: list[Row] = []
    with tempfile.TemporaryDirectory() as name, hosts() as own:
        folder, cluster = Path(name), address or own.address
        base, tuned = checkpoints(folder)

        def gridded(where: str | None, to: str, limit: int = TASKS) -> Path:
            run_grid(spectrum, grid[:limit], out=folder / to, n_jobs=1, cluster=where)
            return folder / to

        def merged(engine: str, to: str) -> Path:
            merge_checkpoints(base, tuned, folder / to, engine=engine, address=cluster)
            return folder / to

        row, serial_grid = _timed("grid, serial", lambda: gridded(None, "g0"), None)
        table.append(row)
        table.append(_timed("grid, two hosts", lambda: gridded(cluster, "g1"), serial_grid)[0])
        gridded(cluster, "g2", TASKS // 3)
        row = _timed("grid, resumed after a third", lambda: gridded(cluster, "g2"), serial_grid)[0]
        table.append(row)
        row, serial_merge = _timed("merge, serial", lambda: merged("serial", "m0"), None)
        table.append(row)
        table.append(_timed("merge, two hosts", lambda: merged("dask", "m1"), serial_merge)[0])
        if address is None:
            wait = killer(own, 1.5)
            row = _timed("grid, a host killed", lambda: gridded(cluster, "g3"), serial_grid)[0]
            wait()
            table.append(row)
            wait = killer(own, 0.7)
            row = _timed("merge, a host killed", lambda: merged("dask", "m2"), serial_merge)[0]
            wait()
            table.append(row)
    return table


def model_rows(address: str | None = None) -> list[Row]:
    """SmolLM2-135M and two short fine-tunes of it, merged serially and on the cluster.

    Args:
        address: A running scheduler; None makes hosts of its own.

    Raises:
        AssetError: the model or a text is not here.
    """
    with tempfile.TemporaryDirectory() as name, hosts() as own:
        disk = merging_disk.language_on_disk(Path(name))
        options = {"exclude": ["embed_tokens"], "report": False}

        def merged(engine: str) -> Path:
            where = {"engine": engine, "address": address or own.address}
            merge_checkpoints(disk.base, disk.tuned, disk.home / engine, options=options, **where)
            return disk.home / engine

        row, serial = _timed("SmolLM2-135M, serial", lambda: merged("serial"), None)
        return [row, _timed("SmolLM2-135M, two hosts", lambda: merged("dask"), serial)[0]]


def main() -> int:
    """Print the table; 1 when any run gave other bytes."""
    from labcore.printing import print_rows

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("address", nargs="?", help="a running Dask scheduler")
    parser.add_argument("--model", action="store_true", help="merge SmolLM2-135M instead")
    args = parser.parse_args()
    found = (model_rows if args.model else rows)(args.address)
    print_rows(found, as_json=False)
    return int(any(row["against serial"] == "OTHER" for row in found))


if __name__ == "__main__":
    sys.exit(main())
