"""Grids: the same bytes whatever the engine, resume, failures, dead workers."""

from pathlib import Path

import numpy as np
import pytest

from labcore import runs
from labcore.grid import run_grid, task_id, task_seed
from tests.grid_tasks import die_on_one, fail_on_two, measure

GRID = [{"a": a, "b": b} for a in range(3) for b in (0.5, 2.0)]


def files(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir()}


@pytest.fixture(scope="module")
def serial(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("serial")
    run_grid(measure, GRID, out=folder, n_jobs=1, seed=7)
    return folder


@pytest.mark.parametrize(("n_jobs", "cluster"), [(2, None), (2, "local")])
def test_same_bytes_on_every_engine(
    serial: Path, tmp_path: Path, n_jobs: int, cluster: str | None
) -> None:
    results = run_grid(measure, GRID[::-1], out=tmp_path, n_jobs=n_jobs, cluster=cluster, seed=7)
    assert files(tmp_path) == files(serial)
    assert [r.params for r in results] == GRID[::-1]
    assert len(files(serial)) == 2 * len(GRID)


def test_a_dask_scheduler_by_address(serial: Path, tmp_path: Path) -> None:
    from distributed import LocalCluster

    with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None) as cluster:
        run_grid(measure, GRID, out=tmp_path, cluster=cluster.scheduler_address, seed=7)
    assert files(tmp_path) == files(serial)


def test_resume_recomputes_only_what_is_missing(serial: Path, tmp_path: Path) -> None:
    run_grid(measure, GRID, out=tmp_path, n_jobs=1, seed=7)
    gone = sorted(tmp_path.glob("*.json"))[:2]
    for path in gone:
        path.unlink()
    seen: list[tuple[int, int, str]] = []
    run_grid(measure, GRID, out=tmp_path, n_jobs=1, seed=7, progress=lambda *a: seen.append(a))
    assert seen[0][:2] == (4, 6)
    assert len(seen) == 3
    assert files(tmp_path) == files(serial)


def test_values_come_back_with_arrays(serial: Path) -> None:
    first = run_grid(measure, GRID[:1], out=serial, n_jobs=1, seed=7)[0]
    identity = task_id(measure, GRID[0])
    rng = np.random.default_rng(task_seed(7, identity))
    np.testing.assert_array_equal(first.values["draw"], rng.standard_normal(4))
    assert first.values["sum"] == 0.5


def test_a_failing_task_is_recorded_and_the_others_go_on(tmp_path: Path) -> None:
    grid = [{"a": a} for a in range(4)]
    results = run_grid(fail_on_two, grid, out=tmp_path, n_jobs=1)
    assert [r.error is None for r in results] == [True, True, False, True]
    assert "two is not allowed" in str(results[2].error)
    with pytest.raises(RuntimeError, match="two is not allowed"):
        run_grid(fail_on_two, grid, out=tmp_path, n_jobs=1, on_error="raise")


def test_a_dead_worker_is_named_and_the_others_go_on(tmp_path: Path) -> None:
    results = run_grid(die_on_one, [{"a": a} for a in range(4)], out=tmp_path, n_jobs=2)
    assert [r.error for r in results] == [None, "worker died (out of memory?)", None, None]


def test_cancelling_keeps_what_is_done(tmp_path: Path) -> None:
    def stop(done: int, total: int, label: str) -> None:
        if done == 2:
            raise runs.Cancelled

    with pytest.raises(runs.Cancelled):
        run_grid(measure, GRID, out=tmp_path, n_jobs=1, progress=stop)
    assert len(list(tmp_path.glob("*.json"))) == 2


def test_bad_input(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="JSON-able"):
        run_grid(measure, [{"a": np.zeros(3)}], out=tmp_path)
    with pytest.raises(ValueError, match="twice"):
        run_grid(measure, [GRID[0], GRID[0]], out=tmp_path)
    with pytest.raises(ValueError, match="n_jobs"):
        run_grid(measure, GRID, out=tmp_path, n_jobs=0)
    run_grid(measure, GRID[:1], out=tmp_path, n_jobs=1)
    next(tmp_path.glob("*.json")).write_text("{")
    with pytest.raises(runs.ResultError, match="damaged"):
        run_grid(measure, GRID[:1], out=tmp_path, n_jobs=1)
