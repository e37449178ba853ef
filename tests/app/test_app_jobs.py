"""The workers: progress, queue, stop, and every way in which a job can end badly."""

import time
from collections.abc import Callable, Iterator

import pytest

from app.ui.jobs import Pool, job_key
from app.ui.slot import Job
from tests.app.data import sample_figures as jobs


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    made = Pool(1, grace=0.5)
    yield made
    made.close()


def until(true: Callable[[], object], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.02)


def ended(job: Job) -> Job:
    until(lambda: not job.active)
    return job


def test_a_result_comes_back_with_progress(pool: Pool) -> None:
    job = pool.submit(jobs.slow, (5,), label="five", watcher="a")
    assert ended(job).state == "done"
    assert (job.value, job.done, job.total, job.note) == (5, 5, 5, "step")


def test_equal_calls_run_once_and_are_kept(pool: Pool) -> None:
    first = pool.submit(jobs.slow, (6,), label="six", watcher="a")
    assert pool.submit(jobs.slow, (6,), label="six", watcher="b") is first
    assert ended(first).state == "done"
    assert pool.submit(jobs.slow, (6,), label="six", watcher="c") is first
    pool.forget(first.key)
    assert ended(pool.submit(jobs.slow, (6,), label="six", watcher="c")) is not first


def test_a_print_does_not_break_the_pipe(pool: Pool) -> None:
    assert ended(pool.submit(jobs.chatty, label="x", watcher="a")).value == "said"


def test_a_function_without_progress(pool: Pool) -> None:
    job = pool.submit(jobs.square, (7,), label="square", watcher="a", reports=False)
    assert ended(job).value == 49


def test_the_queue_has_places_and_a_waiting_job_can_be_stopped(pool: Pool) -> None:
    first = pool.submit(jobs.slow, (60,), label="first", watcher="a")
    until(lambda: first.state == "running")
    second = pool.submit(jobs.slow, (2, 0.0), label="second", watcher="b")
    third = pool.submit(jobs.slow, (3, 0.0), label="third", watcher="c")
    assert [pool.position(job) for job in (first, second, third)] == [0, 1, 2]
    pool.stop(second, "b")
    assert second.state == "cancelled"
    assert pool.position(third) == 1
    pool.stop(first, "a")
    assert ended(first).state == "cancelled"
    assert first.done < 60
    assert ended(third).value == 3


def test_one_session_cannot_queue_two_runs(pool: Pool) -> None:
    job = pool.submit(jobs.slow, (61,), label="mine", watcher="a")
    with pytest.raises(ValueError, match="'mine' is still going"):
        pool.submit(jobs.slow, (1,), label="more", watcher="a")
    pool.stop(job, "a")
    ended(job)


def test_stop_waits_for_the_last_one_who_wants_it(pool: Pool) -> None:
    job = pool.submit(jobs.slow, (20,), label="both", watcher="a")
    pool.submit(jobs.slow, (20,), label="both", watcher="b")
    pool.stop(job, "a")
    assert ended(job).state == "done"


def test_a_job_that_cannot_stop_is_ended_and_the_next_one_runs(pool: Pool) -> None:
    job = pool.submit(jobs.stubborn, (60.0,), label="deaf", watcher="a", reports=False)
    until(lambda: job.state == "running")
    time.sleep(0.1)
    pool.stop(job, "a")
    assert ended(job).state == "cancelled"
    assert ended(pool.submit(jobs.square, (3,), label="x", watcher="a", reports=False)).value == 9


@pytest.mark.parametrize(
    ("function", "args", "speaks", "text"),
    [
        (jobs.wrong, ("rank 99 is outside 1..16",), True, "rank 99 is outside 1..16"),
        (jobs.broken, (), False, "missing"),
        (jobs.dead, (), True, "worker died"),
        (jobs.unsendable, (), False, "unsendable.<locals>.<lambda>"),
    ],
)
def test_a_job_that_fails_says_so_and_the_pool_goes_on(
    pool: Pool, function: Callable[..., object], args: tuple[object, ...], speaks: bool, text: str
) -> None:
    job = ended(pool.submit(function, args, label="bad", watcher="a"))
    assert (job.state, job.speaks) == ("failed", speaks)
    assert text in job.error
    good = pool.submit(jobs.slow, (1,), label="good", watcher="a")
    assert ended(good).state == "done"


def test_a_waiting_job_that_nobody_watches_is_dropped(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = pool.submit(jobs.slow, (30,), label="first", watcher="a")
    left = pool.submit(jobs.slow, (4, 0.0), label="left", watcher="b")
    monkeypatch.setattr("app.ui.jobs.PATIENCE", 0.1)
    assert ended(first).state == "done"
    assert ended(left).state == "cancelled"


def test_a_worker_is_replaced_after_its_tasks() -> None:
    small = Pool(1, tasks=1)
    try:
        pids = [
            ended(small.submit(jobs.pid, (i,), label="pid", watcher="a", reports=False)).value
            for i in range(2)
        ]
        assert pids[0] != pids[1]
    finally:
        small.close()


def test_old_results_are_forgotten() -> None:
    small = Pool(1, keep=2)
    try:
        for i in range(4):
            ended(small.submit(jobs.square, (i,), label="s", watcher="a", reports=False))
        assert small.find(job_key(jobs.square, (0,), {}), "a") is None
        assert small.find(job_key(jobs.square, (3,), {}), "a") is not None
    finally:
        small.close()


def test_a_name_does_what_its_function_does(pool: Pool) -> None:
    name = "tests.app.data.sample_figures.square"
    assert job_key(name, (8,), {}) == job_key(jobs.square, (8,), {})
    assert ended(pool.submit(name, (8,), label="x", watcher="a", reports=False)).value == 64
    lost = ended(pool.submit("labcore.nowhere.at_all", label="x", watcher="a"))
    assert (lost.state, "nowhere" in lost.error) == ("failed", True)
    with pytest.raises(ValueError, match="must read package"):
        pool.submit("rm -rf", label="x", watcher="a")


def test_a_function_that_no_worker_can_import_is_refused(pool: Pool) -> None:
    with pytest.raises(ValueError, match="top-level function"):
        pool.submit(lambda: 1, label="x", watcher="a")
