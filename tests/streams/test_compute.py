"""Threads that compute: order, errors, and an end that a hanging call cannot hold up."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading

import pytest

from streams.compute import ComputeThreads


def test_calls_run_in_order_in_one_thread_of_that_name() -> None:
    compute = ComputeThreads("numbers")
    seen: list[tuple[int, str]] = []
    futures = [compute.submit(lambda n=n: seen.append((n, threading.current_thread().name))) for n in range(100)]
    for future in futures:
        future.result(10)
    compute.shutdown()
    assert seen == [(n, "numbers") for n in range(100)]


def test_an_error_belongs_to_the_caller_and_the_next_call_runs() -> None:
    compute = ComputeThreads("errors")
    with pytest.raises(ZeroDivisionError):
        compute.submit(lambda: 1 // 0).result(10)
    assert compute.submit(lambda: 2).result(10) == 2
    compute.shutdown()


def test_an_event_loop_is_told_how_its_calls_went() -> None:
    compute = ComputeThreads("called", 2)

    async def run() -> None:
        calls = [compute.call(divmod, 7, number) for number in (2, 0, 3)]
        went = await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), 10)
        assert went[::2] == [(3, 1), (2, 1)]
        assert isinstance(went[1], ZeroDivisionError)

    asyncio.run(run())
    compute.shutdown()


def test_a_call_that_nobody_waits_for_any_more_costs_no_thread() -> None:
    compute, go_on = ComputeThreads("left"), threading.Event()

    async def leave() -> None:
        compute.call(go_on.wait, 10).cancel()
        compute.call(go_on.wait, 10)

    asyncio.run(leave())  # its loop is closed when they end
    go_on.set()
    assert compute.submit(lambda: 2).result(10) == 2
    compute.shutdown()


def test_what_has_not_begun_can_be_cancelled() -> None:
    compute = ComputeThreads("cancelled")
    began, go_on = threading.Event(), threading.Event()
    first = compute.submit(lambda: (began.set(), go_on.wait(10)))
    second = compute.submit(lambda: None)
    assert began.wait(10)
    compute.shutdown(wait=False, cancel_futures=True)
    go_on.set()
    first.result(10)
    assert second.cancelled()


def test_a_call_that_hangs_does_not_keep_the_process_from_ending() -> None:
    script = (
        "import threading; from streams.compute import ComputeThreads; compute = ComputeThreads('hangs'); "
        "began = threading.Event(); compute.submit(lambda: (began.set(), threading.Event().wait())); began.wait()"
    )
    assert subprocess.run([sys.executable, "-c", script], timeout=30, check=False).returncode == 0
