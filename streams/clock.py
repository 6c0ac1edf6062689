"""Time, injected: the one place that asks the machine what time it is."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from functools import lru_cache
from typing import Protocol


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
    try:
        # Not wait_for: in Python 3.11 it swallows a cancellation that comes together with the event.
        async with asyncio.timeout(within_s):
            return await event.wait()
    except TimeoutError:
        return False


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
