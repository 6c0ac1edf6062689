"""Threads that compute, never in the way of the process's end; a single one takes its calls in order."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from contextlib import suppress
from functools import partial
from queue import SimpleQueue
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

Call = tuple["Future[Any] | None", Callable[[], Any]]
"""What is to be called, and the future that is told how it went, unless the call does that itself."""


class ComputeThreads(Executor):
    """An executor of `count` daemon threads.

    `ThreadPoolExecutor` joins its threads when the interpreter ends: a model call that hangs would then keep a worker
    that its watchdog has given up from ever ending.
    """

    def __init__(self, name: str, count: int = 1) -> None:
        self.count = count
        self._calls: SimpleQueue[Call | None] = SimpleQueue()
        self._threads = [
            threading.Thread(target=self._run, name=name if count == 1 else f"{name}-{number}", daemon=True)
            for number in range(count)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        future: Future[T] = Future()
        self._calls.put((future, lambda: function(*args, **kwargs)))
        return future

    def call(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> asyncio.Future[T]:
        """For the running event loop: what `loop.run_in_executor` does, in half of its steps on the loop.

        To cancel the future does not keep the function from running.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()

        def run() -> None:
            try:
                result = function(*args, **kwargs)
            except BaseException as error:  # whatever it was, it belongs to the caller, as with any executor
                tell = partial(_fail, future, error)
            else:
                tell = partial(_succeed, future, result)
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(tell)

        self._calls.put((None, run))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        if cancel_futures:
            while not self._calls.empty():
                call = self._calls.get()
                if call is not None and call[0] is not None:
                    call[0].cancel()
        for _ in self._threads:
            self._calls.put(None)
        for thread in self._threads if wait else ():
            thread.join()

    def _run(self) -> None:
        while (call := self._calls.get()) is not None:
            future, function = call
            if future is None:
                function()
                continue
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(function())
            except BaseException as error:  # whatever it was, it belongs to the caller, as with any executor
                future.set_exception(error)


def _succeed(future: asyncio.Future[T], result: T) -> None:
    if not future.done():
        future.set_result(result)


def _fail(future: asyncio.Future[Any], error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)
