"""The process that a worker runs in: its interpreter, its event loop, its signals."""

from __future__ import annotations

import asyncio
import gc
import signal
import sys
from collections.abc import Callable, Coroutine
from typing import Any

import uvloop

from streams.settings import Settings
from streams.worker import Worker

# The compute thread hands the GIL over this often: with CPython's 5 ms the event loop would wait that long for a turn.
SWITCH_INTERVAL_S = 0.0005
GC_YOUNG_OBJECTS = 20_000
END_TIMEOUT_S = 1.0


def tune_interpreter() -> None:
    """Settings of the process that a worker needs for its speed; call once, before its event loop."""
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    # Records die by reference count. With CPython's 700 the collector would look at every fetched record, for a fifth
    # of the CPU.
    gc.set_threshold(GC_YOUNG_OBJECTS, 20, 100)


def run_worker(settings: Settings, pipeline: Any) -> None:
    """Run a worker in this process until SIGTERM or SIGINT.

    Raises:
        HeadraceError, ModelError: with a sentence for the operator; the process should exit non-zero.
    """
    run(lambda: _run(Worker(settings, pipeline)))


def run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a worker's coroutine to its end on an event loop of its own; the process is to end after it.

    Unlike `asyncio.run` this waits for the tasks that are left for a moment only: without a broker, some of Faust's
    never end.
    """
    tune_interpreter()
    loop = uvloop.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        loop.run_until_complete(main())
    finally:
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        if left:
            loop.set_exception_handler(lambda *_: None)
            loop.run_until_complete(asyncio.wait(left, timeout=END_TIMEOUT_S))


async def _run(worker: Worker) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, worker.stop)
    await worker.run()
