"""Threads, freeze, health report."""

import gc
import os
import subprocess
import sys
from pathlib import Path

import pytest
import threadpoolctl

from labcore import runtime


def test_threads_are_limited_before_and_after_imports() -> None:
    code = (
        "from labcore.runtime import limit_threads; limit_threads(1); import torch, numpy, os;"
        "limit_threads(2); print(torch.get_num_threads(), os.environ['OMP_NUM_THREADS'])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.split() == ["2", "2"]
    with pytest.raises(ValueError, match="at least 1"):
        runtime.limit_threads(0)


def test_freed_memory_is_kept_where_that_is_possible() -> None:
    code = """
import resource
from labcore.runtime import keep_freed_memory
kept = keep_freed_memory()
def work():
    held = [bytearray(3_000_000) for _ in range(8)]
for _ in range(3): work()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20): work()
print(kept, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
    run = [sys.executable, "-c", code]
    kept, faults = subprocess.run(run, capture_output=True, text=True, check=True).stdout.split()
    if kept == "False":
        pytest.skip("another C library")
    assert int(faults) < 1000  # of the 117 000 pages that are written to


def test_without_such_a_library_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise OSError(name)

    monkeypatch.setattr(runtime.ctypes, "CDLL", missing)
    assert not runtime.keep_freed_memory()


def test_freeze_spares_old_objects_and_still_collects_new_cycles() -> None:
    count = runtime.freeze_startup()
    try:
        assert count > 10_000
        gc.collect()
        cycle: list[object] = []
        cycle.append(cycle)
        del cycle
        assert gc.collect() >= 1
    finally:
        gc.unfreeze()


def test_doctor_names_each_check_and_mends() -> None:
    checks = {check.name: check for check in runtime.doctor()}
    assert checks["python"].ok
    assert checks["torch"].ok
    assert set(checks) == {"python", "packages", "torch", "memory", "cache", "threads", "blas"}


def test_doctor_reports_a_cache_it_cannot_write(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    blocker = tmp_path / "file"
    blocker.write_text("")
    monkeypatch.setenv("LAB_CACHE", str(blocker / "cache"))
    (cache,) = [check for check in runtime.doctor() if check.name == "cache"]
    assert not cache.ok
    assert "LAB_CACHE" in cache.fix


def test_unset_threads_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    assert os.environ["OMP_NUM_THREADS"] == "1"
    monkeypatch.delenv("OMP_NUM_THREADS")
    (threads,) = [check for check in runtime.doctor() if check.name == "threads"]
    assert not threads.ok


def test_doctor_says_which_kernels_numpy_runs_and_who_chose_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kernels = runtime.blas_kernels()
    loaded = {pool.get("architecture") for pool in threadpoolctl.threadpool_info()} - {None}
    assert all(name in kernels for name in loaded)
    for told in (None, "Haswell"):
        monkeypatch.delenv("OPENBLAS_CORETYPE", raising=False)
        if told:
            monkeypatch.setenv("OPENBLAS_CORETYPE", told)
        (blas,) = [check for check in runtime.doctor() if check.name == "blas"]
        assert blas.ok
        assert kernels in blas.detail
        assert ("OPENBLAS_CORETYPE=Haswell" in blas.detail) == bool(told)
