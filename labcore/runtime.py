"""What every process of the lab sets up first: threads, start-up freeze, and a health report.

Two facts shape this file. A second BLAS thread on a busy machine makes small products many times
slower, so one thread is the default everywhere. And Streamlit collects garbage after every re-run,
which walks all objects that the imports made; freezing them once makes that walk short.
"""

import ctypes
import gc
import importlib
import importlib.metadata
import os
import platform
import shutil
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # options of glibc's mallopt
REPORTED_PACKAGES = ("numpy", "torch", "transformers", "plotly", "streamlit", "labcore")


def limit_threads(n: int = 1) -> None:
    """Use ``n`` BLAS and torch threads in this process (and in its children).

    Libraries that are not imported yet read the environment; those that are imported are told.

    Raises:
        ValueError: ``n`` is not a positive integer.
    """
    if n < 1:
        raise ValueError(f"threads must be at least 1, got {n}")
    for name in THREAD_VARIABLES:
        os.environ[name] = str(n)
    if "numpy" in sys.modules:
        import threadpoolctl

        threadpoolctl.threadpool_limits(n)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(n)


def keep_freed_memory() -> bool:
    """Let this process keep the memory that it frees, where the C library can (glibc: Linux).

    A training step frees tensors of megabytes and asks for as many a moment later. By default they
    go back to the system in between and are touched anew, page by page. Resident memory then stays
    at its peak, so this is for a process that trains or measures, not for a server.

    Returns:
        Whether it was done.
    """
    try:
        set_option = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return False
    return bool(set_option(_TRIM_THRESHOLD, 2**31 - 1)) and bool(set_option(_MMAP_THRESHOLD, 2**25))


def freeze_startup() -> int:
    """Collect garbage, then exempt every living object from later collections.

    Call it once after the heavy imports, and again after a model is cached; not with hot reload,
    which would pin stale modules.

    Returns:
        The number of frozen objects.
    """
    gc.collect()
    gc.freeze()
    return gc.get_freeze_count()


def peers_on_path() -> None:
    """Let this process import the peers that ``lab bench --setup-peers`` has installed.

    An installed lab has no bench and no such peers: then nothing happens.
    """
    root = Path(__file__).resolve().parent.parent
    if (root / "bench" / "peers").is_dir():
        sys.path.insert(0, str(root))
        found = importlib.import_module("bench.peers").ready_paths()
        sys.path.extend(path for path in found if path not in sys.path)


def versions(packages: tuple[str, ...] = REPORTED_PACKAGES) -> dict[str, str]:
    """Version of Python and of each installed package among ``packages``."""
    found = {"python": platform.python_version()}
    for name in packages:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def available_memory() -> int | None:
    """Bytes of memory a new allocation may take, or None where the system does not tell."""
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        return None
    return None


def blas_kernels() -> str:
    """Which kernels numpy's and scipy's products run: "OpenBLAS SkylakeX", "mkl", "unknown".

    OpenBLAS picks them by the processor, or as ``OPENBLAS_CORETYPE`` says.
    """
    import scipy.linalg  # noqa: F401  (has a BLAS of its own)
    import threadpoolctl

    found = {
        f"OpenBLAS {pool['architecture']}" if pool.get("architecture") else pool["internal_api"]
        for pool in threadpoolctl.threadpool_info()
        if pool["user_api"] == "blas"
    }
    return ", ".join(sorted(found)) or "unknown"


@dataclass(frozen=True)
class Check:
    """One line of the health report: what was looked at, whether it is good, how to mend it."""

    name: str
    ok: bool
    detail: str
    fix: str = ""

    def as_dict(self) -> dict[str, Any]:
        """The check as plain data, for ``--json``."""
        return asdict(self)


def _check_python() -> Check:
    good = (3, 11) <= sys.version_info[:2] < (3, 14)
    return Check("python", good, platform.python_version(), "use Python 3.11, 3.12 or 3.13")


def _check_packages() -> Check:
    wanted = ("numpy", "torch", "plotly", "streamlit", "transformers")
    missing = [name for name in wanted if name not in versions(wanted)]
    detail = ", ".join(f"{k} {v}" for k, v in versions(wanted).items() if k != "python")
    return Check(
        "packages",
        not missing,
        f"missing: {', '.join(missing)}" if missing else detail,
        "run ./lab setup",
    )


def _check_torch() -> Check:
    found = versions(("torch",)).get("torch", "not installed")
    cuda = [
        d.name
        for d in importlib.metadata.distributions()
        if (d.name or "").startswith(("nvidia-", "cuda-"))
    ]
    detail = f"{found}, {len(cuda)} CUDA packages" if cuda else f"{found}, no CUDA packages"
    fix = "" if cuda else "run ./lab setup"
    return Check("torch", found != "not installed", detail, fix)


def _check_memory() -> Check:
    free = available_memory()
    if free is None:
        return Check("memory", True, "unknown on this system")
    return Check(
        "memory",
        free > 2 * 2**30,
        f"{free / 2**30:.1f} GiB available",
        "close other programs: the language model needs about 2 GiB",
    )


def _check_cache() -> Check:
    from labcore.assets import cache_root

    root = cache_root()
    try:
        root.mkdir(parents=True, exist_ok=True)
        probe = root / f".doctor-{os.getpid()}"
        probe.write_bytes(b"ok")
        probe.unlink()
    except OSError as error:
        return Check(
            "cache", False, f"{root}: {error.strerror}", "set LAB_CACHE to a writable folder"
        )
    free = shutil.disk_usage(root).free
    return Check(
        "cache",
        free > 2 * 2**30,
        f"{root}, {free / 2**30:.0f} GiB free",
        "free some disk space or set LAB_CACHE to another disk",
    )


def _check_threads() -> Check:
    value = os.environ.get("OMP_NUM_THREADS", "unset")
    return Check(
        "threads", value != "unset", f"OMP_NUM_THREADS={value}", "start with ./lab, which sets it"
    )


def _check_blas() -> Check:
    told = os.environ.get("OPENBLAS_CORETYPE")
    hint = f", as OPENBLAS_CORETYPE={told} says: unset it to measure speed" if told else ""
    try:
        return Check("blas", True, blas_kernels() + hint)
    except ImportError as error:
        return Check("blas", False, f"{error.name} is not installed", "run ./lab setup")


def doctor() -> list[Check]:
    """Look at what the lab leans on: Python, packages, torch, memory, cache, threads, BLAS."""
    checks: tuple[Callable[[], Check], ...] = (
        _check_python,
        _check_packages,
        _check_torch,
        _check_memory,
        _check_cache,
        _check_threads,
        _check_blas,
    )
    return [check() for check in checks]
