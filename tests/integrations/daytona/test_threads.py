"""Threads that are used again, and crews of them."""

import asyncio
import threading
import time

import pytest

from fleet_rlm.errors import SandboxUnavailable
from fleet_rlm.integrations.daytona.client import LoopThread
from fleet_rlm.integrations.daytona.threads import Crew, DaemonThreads

THREADS = DaemonThreads("test-crew")


def test_jobs_that_compute_are_done_in_order_by_few_threads() -> None:
    done, threads, over = list[int](), set[int](), threading.Event()

    def job(number: int) -> None:
        done.append(number)
        threads.add(threading.get_ident())
        if number == 499:
            over.set()

    crew = Crew(THREADS, 64)
    for number in range(500):
        crew.run(lambda number=number: job(number))
    assert over.wait(30)
    assert done == list(range(500)) if len(threads) == 1 else len(threads) < 10


def test_jobs_that_wait_are_soon_all_under_way_but_no_more_than_allowed() -> None:
    begun, go, ended = threading.Semaphore(0), threading.Event(), threading.Semaphore(0)

    def job() -> None:
        begun.release()
        assert go.wait(30)
        ended.release()

    crew = Crew(THREADS, 40)
    crew.run(*[job] * 100)
    for _ in range(40):
        assert begun.acquire(timeout=10)
    time.sleep(0.1)
    assert not begun.acquire(blocking=False)
    go.set()
    for _ in range(100):
        assert ended.acquire(timeout=30)


def test_one_job_that_never_ends_holds_up_no_other() -> None:
    never, done = threading.Event(), threading.Semaphore(0)
    crew = Crew(THREADS, 8)

    def hold() -> None:
        never.wait(60)

    crew.run(hold)
    for _ in range(50):
        crew.run(done.release)
        assert done.acquire(timeout=10)
    never.set()


def test_no_job_is_forgotten_when_it_comes_as_the_last_thread_leaves() -> None:
    crew, done = Crew(THREADS, 4), threading.Semaphore(0)
    for number in range(5_000):
        crew.run(done.release)
        if number % 7 == 0:
            time.sleep(0)
    for _ in range(5_000):
        assert done.acquire(timeout=10)
    for _ in range(500):
        crew.run(done.release)
        assert done.acquire(timeout=10)


def test_a_loop_that_another_thread_has_closed_is_no_loop_any_more() -> None:
    thread = LoopThread()
    assert thread.run(asyncio.sleep(0, "there"), 10) == "there"
    thread.stop()
    thread.soon(print, "nobody hears of it")
    with pytest.raises(SandboxUnavailable, match="closed"):
        thread.run(asyncio.sleep(0), 10)
