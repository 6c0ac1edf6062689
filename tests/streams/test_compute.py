"""Threads that compute: order, errors, and an end that a hanging call cannot hold up."""

from __future__ import annotations

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
