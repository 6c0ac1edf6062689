"""Waiting for an event or a future, for at most so long."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from streams.clock import completes, happens

LONG_S, SHORT_S = 60.0, 0.01


@asynccontextmanager
async def waiting(waiter: Awaitable[bool]) -> AsyncIterator[asyncio.Task[bool]]:
    """A task that has begun to wait."""

    async def wait() -> bool:
        return await waiter

    task = asyncio.create_task(wait())
    await asyncio.sleep(0)
    assert not task.done()
    try:
        yield task
    finally:
        task.cancel()


def timers() -> int:
    """How many of the loop's are still to go off."""
    scheduled: list[asyncio.TimerHandle] = asyncio.get_running_loop()._scheduled  # type: ignore[attr-defined]
    return sum(not timer.cancelled() for timer in scheduled)


def callbacks(future: asyncio.Future[Any]) -> int:
    return len(future._callbacks or ())


def test_an_event_that_is_set() -> None:
    async def run() -> None:
        event = asyncio.Event()
        event.set()
        assert await happens(event, 0)
        assert await happens(event, None)

    asyncio.run(run())


@pytest.mark.parametrize("within_s", [LONG_S, None])
def test_an_event_that_is_set_while_two_wait(within_s: float | None) -> None:
    async def run() -> None:
        event = asyncio.Event()
        async with waiting(happens(event, within_s)) as first, waiting(happens(event, within_s)) as second:
            event.set()
            event.clear()  # who has waited is told all the same, as by the event itself
            assert await first
            assert await second
        assert not event._waiters
        assert timers() == 0

    asyncio.run(run())


def test_an_event_that_is_set_too_late() -> None:
    async def run() -> None:
        event = asyncio.Event()
        async with waiting(happens(event, LONG_S)) as patient:
            assert await happens(event, SHORT_S) is False
            assert len(event._waiters) == 1
            event.set()
            assert await patient
        assert not event._waiters

    asyncio.run(run())


@pytest.mark.parametrize("set_too", [False, True])
def test_who_waits_for_an_event_and_is_cancelled_leaves_nothing_behind(set_too: bool) -> None:
    async def run() -> None:
        event = asyncio.Event()
        async with waiting(happens(event, LONG_S)) as task:
            if set_too:
                event.set()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert not event._waiters
        assert timers() == 0

    asyncio.run(run())


def fail(future: asyncio.Future[int]) -> None:
    future.set_exception(KeyError())
    future.exception()  # or asyncio says that nobody has asked


ENDS: dict[str, Callable[[asyncio.Future[int]], object]] = {
    "result": lambda future: future.set_result(1),
    "exception": fail,
    "cancelled": lambda future: future.cancel(),
}


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_a_future_that_is_done(end: Callable[[asyncio.Future[int]], object]) -> None:
    async def run() -> None:
        future = asyncio.get_running_loop().create_future()
        end(future)
        assert await completes(future, 0)

    asyncio.run(run())


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_a_future_that_is_done_while_two_wait(end: Callable[[asyncio.Future[int]], object]) -> None:
    async def run() -> None:
        future = asyncio.get_running_loop().create_future()
        async with waiting(completes(future, LONG_S)) as first, waiting(completes(future, LONG_S)) as second:
            end(future)
            assert await first
            assert await second
        assert timers() == 0

    asyncio.run(run())


def test_a_future_that_is_done_too_late() -> None:
    async def run() -> None:
        future = asyncio.get_running_loop().create_future()
        async with waiting(completes(future, LONG_S)) as patient:
            assert await completes(future, SHORT_S) is False
            assert callbacks(future) == 1
            future.set_result(1)
            assert await patient

    asyncio.run(run())


@pytest.mark.parametrize("done_too", [False, True])
def test_who_waits_for_a_future_and_is_cancelled_leaves_it_as_it_was(done_too: bool) -> None:
    async def run() -> None:
        future = asyncio.get_running_loop().create_future()
        async with waiting(completes(future, LONG_S)) as task:
            if done_too:
                future.set_result(1)
                await asyncio.sleep(0)  # whoever waits is told, and cancelled before it goes on
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert not future.cancelled()
        assert future.done() == done_too
        assert callbacks(future) == 0
        assert timers() == 0

    asyncio.run(run())
