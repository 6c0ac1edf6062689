"""Time, injected: the one place that asks the machine what time it is."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Protocol


class Clock(Protocol):
    """Processing time."""

    def time(self) -> float:
        """Seconds since the epoch (UTC)."""

    def monotonic(self) -> float:
        """Seconds that never run backwards; only differences mean anything."""


class SystemClock:
    """The machine's own clock."""

    def time(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()


class ManualClock:
    """A clock that moves only when told to, so that time is an input of a test.

    Example:
        >>> clock = ManualClock(start=100.0)
        >>> clock.advance(2.5)
        >>> clock.time(), clock.monotonic()
        (102.5, 102.5)
    """

    def __init__(self, start: float = 0.0) -> None:
        self._now = start

    def time(self) -> float:
        return self._now

    def monotonic(self) -> float:
        return self._now

    def advance(self, seconds: float) -> None:
        """Move on by `seconds`."""
        self._now += seconds


async def happens(event: asyncio.Event, within_s: float | None) -> bool:
    """Wait until an event is set, for at most so long, and say whether it is; None: however long it takes."""
    if event.is_set():
        return True
    if within_s is None:
        return await event.wait()
    # What `event.wait()` does, with a timer beside it: `asyncio.timeout` takes three times as long, and `wait_for`
    # swallows a cancellation that comes together with the event in Python 3.11.
    waiters = event._waiters
    waiter = _waiter(within_s)
    waiters.append(waiter)
    try:
        return await waiter or event.is_set()  # both may have come in one step of the loop
    finally:
        waiters.remove(waiter)


async def completes(future: asyncio.Future[Any], within_s: float) -> bool:
    """Wait until a future is done, whichever way, for at most so long, and say whether it is.

    Whoever waits may be cancelled; the future is not.
    """
    if future.done():
        return True
    waiter = _waiter(within_s)

    def tell(_: object) -> None:
        if not waiter.done():
            waiter.set_result(True)

    future.add_done_callback(tell)
    try:
        return await waiter or future.done()
    finally:
        future.remove_done_callback(tell)


def _waiter(within_s: float) -> asyncio.Future[bool]:
    """A future that is false after so long, unless it is done by then."""
    loop = asyncio.get_running_loop()
    waiter: asyncio.Future[bool] = loop.create_future()

    def give_up() -> None:
        if not waiter.done():
            waiter.set_result(False)

    timer = loop.call_later(within_s, give_up)
    waiter.add_done_callback(lambda _: timer.cancel())
    return waiter


def rfc3339(epoch_s: float) -> str:
    """`2026-01-02T03:04:05.678Z` for seconds since the epoch."""
    second, microseconds = divmod(round(epoch_s * 1e6), 1_000_000)
    return f"{_to_the_second(second)}.{microseconds // 1000:03}Z"


@lru_cache(64)  # what flows is of a few seconds, many times over
def _to_the_second(epoch_s: int) -> str:
    return datetime.fromtimestamp(epoch_s, UTC).isoformat()[:19]


def local_time(moment: str) -> str:
    """`12:30:00`, where this machine stands, for what `rfc3339` has made."""
    return datetime.fromisoformat(moment).astimezone().strftime("%H:%M:%S")
