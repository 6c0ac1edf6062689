"""Dynamic batching: what a take returns, when, and that nothing gets lost between the two ends."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Coroutine, Sequence
from typing import Any

import pytest

from streams.batcher import Batcher
from streams.clock import ManualClock
from streams.settings import Batch

SOON_S = 1.0  # far more than any take needs that should not wait
BRIEF_S = 0.02

Item = range  # has a length, and tells which one it is


def _run(coroutine: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(coroutine, 20))


def _batcher(clock: ManualClock | None = None, **settings: Any) -> Batcher[Item]:
    return Batcher(Batch(**settings), clock)


async def _is_blocked(task: asyncio.Task[Any]) -> bool:
    await asyncio.wait({task}, timeout=BRIEF_S)
    return not task.done()


def test_an_idle_engine_takes_what_is_there() -> None:
    async def scenario() -> None:
        batcher = _batcher(max_batch_size=100)
        await batcher.put(range(3))
        await batcher.put(range(10, 12))
        assert await batcher.take() == [range(3), range(10, 12)]
        assert batcher.records == 0

    _run(scenario())


def test_a_waiting_take_gets_the_first_item_at_once() -> None:
    async def scenario() -> None:
        batcher = _batcher()
        take = asyncio.create_task(batcher.take())
        assert await _is_blocked(take)
        await batcher.put(range(1))
        assert await asyncio.wait_for(take, SOON_S) == [range(1)]

    _run(scenario())


def test_items_are_never_split_and_keep_their_order() -> None:
    async def scenario() -> None:
        batcher = _batcher(max_batch_size=10)
        items = [range(6), range(20, 25), range(30, 34), range(40, 41)]
        for item in items:
            await batcher.put(item)
        assert await batcher.take() == items[:1]  # 6 + 5 would be more than 10
        assert await batcher.take() == items[1:]
        assert batcher.records == 0

    _run(scenario())


def test_idle_engines_share_what_waits() -> None:
    async def scenario() -> None:
        batcher = _batcher(max_batch_size=10)
        items = [range(start, start + 1) for start in range(5)]
        for item in items:
            await batcher.put(item)
        assert await batcher.take(among=2) == items[:3]
        assert await batcher.take() == items[3:]
        await batcher.put(range(8))
        await batcher.put(range(8, 9))
        assert await batcher.take(among=2) == [range(8)], "one item at least, which is not split"
        assert await batcher.take(among=2) == [range(8, 9)]

    _run(scenario())


def test_an_item_longer_than_a_batch_goes_alone() -> None:
    async def scenario() -> None:
        batcher = _batcher(max_batch_size=10, max_queue_size=10)
        await batcher.put(range(50))
        assert await batcher.take() == [range(50)]

    _run(scenario())


def test_a_batch_that_is_not_full_waits_for_the_delay_of_its_oldest_item() -> None:
    async def scenario() -> None:
        clock = ManualClock()
        batcher = _batcher(clock, max_batch_size=100, max_queue_delay_s=30.0)
        await batcher.put(range(1))
        clock.advance(29.0)
        await batcher.put(range(2))
        take = asyncio.create_task(batcher.take())
        assert await _is_blocked(take)
        clock.advance(1.5)  # 30.5 s for the oldest, 1.5 s for the other
        await batcher.put(range(3))  # wakes the take
        assert await asyncio.wait_for(take, SOON_S) == [range(1), range(2), range(3)]

    _run(scenario())


def test_the_delay_ends_by_itself() -> None:
    async def scenario() -> None:
        batcher = _batcher(max_batch_size=100, max_queue_delay_s=0.05)
        started = time.monotonic()
        await batcher.put(range(1))
        assert await batcher.take() == [range(1)]
        assert 0.045 <= time.monotonic() - started < SOON_S

    _run(scenario())


def test_time_spent_queued_behind_a_busy_engine_counts_as_delay() -> None:
    async def scenario() -> None:
        clock = ManualClock()
        batcher = _batcher(clock, max_batch_size=100, max_queue_delay_s=30.0)
        await batcher.put(range(1))
        clock.advance(31.0)
        assert await asyncio.wait_for(batcher.take(), SOON_S) == [range(1)]

    _run(scenario())


def test_a_full_batch_does_not_wait_for_the_delay() -> None:
    async def scenario() -> None:
        batcher = _batcher(ManualClock(), max_batch_size=10, max_queue_delay_s=30.0)
        take = asyncio.create_task(batcher.take())
        await batcher.put(range(4))
        assert await _is_blocked(take)
        await batcher.put(range(6))
        assert await asyncio.wait_for(take, SOON_S) == [range(4), range(6)]

    _run(scenario())


def test_put_waits_while_the_queue_is_full_and_goes_on_after_a_take() -> None:
    async def scenario() -> None:
        batcher = _batcher(max_batch_size=10, max_queue_size=20)
        await batcher.put(range(10))
        await batcher.put(range(10))
        put = asyncio.create_task(batcher.put(range(5)))
        assert await _is_blocked(put)
        assert batcher.records == 20
        assert await batcher.take() == [range(10)]
        await asyncio.wait_for(put, SOON_S)
        assert batcher.records == 15

    _run(scenario())


def test_many_that_wait_for_room_all_get_in_and_the_queue_never_grows_past_its_limit() -> None:
    async def scenario() -> None:
        batcher = _batcher(max_batch_size=4, max_queue_size=8)
        puts = [asyncio.create_task(batcher.put(range(n * 10, n * 10 + 3))) for n in range(30)]
        seen: list[Item] = []
        while len(seen) < 30:
            seen += await asyncio.wait_for(batcher.take(), SOON_S)
            assert batcher.records <= 8
        assert sorted(item.start for item in seen) == [n * 10 for n in range(30)]
        await asyncio.gather(*puts)

    _run(scenario())


def test_clear_drops_and_returns_what_waits_and_makes_room() -> None:
    async def scenario() -> None:
        batcher = _batcher(max_batch_size=10, max_queue_size=10)
        await batcher.put(range(10))
        put = asyncio.create_task(batcher.put(range(5)))
        assert await _is_blocked(put)
        assert batcher.clear() == [range(10)]
        await asyncio.wait_for(put, SOON_S)
        assert await batcher.take() == [range(5)]
        assert batcher.clear() == []
        assert batcher.records == 0

    _run(scenario())


def test_clear_during_a_delay_leaves_the_take_waiting_for_what_comes() -> None:
    async def scenario() -> None:
        batcher = _batcher(max_batch_size=10, max_queue_delay_s=0.05)
        take = asyncio.create_task(batcher.take())
        await batcher.put(range(3))
        assert await _is_blocked(take)
        batcher.clear()
        await asyncio.sleep(0.1)
        assert not take.done()
        await batcher.put(range(4))
        assert await asyncio.wait_for(take, SOON_S) == [range(4)]

    _run(scenario())


@pytest.mark.parametrize("delay", [0.0, 30.0])
def test_a_cancelled_take_loses_nothing(delay: float) -> None:
    async def scenario() -> None:
        batcher = _batcher(max_batch_size=4, max_queue_delay_s=delay)
        taken: list[Item] = []

        async def engine() -> None:
            while True:
                taken.extend(await batcher.take())

        for number in range(40):
            task = asyncio.create_task(engine())
            for _ in range(number % 4):
                await asyncio.sleep(0)
            await batcher.put(range(number * 10, number * 10 + 1 + number % 4))
            for _ in range(number % 3):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait({task}, timeout=SOON_S)
            assert task.cancelled(), "the cancellation was swallowed"
        assert [item.start for item in [*taken, *batcher.clear()]] == [n * 10 for n in range(40)]

    _run(scenario())


def test_a_cancelled_put_leaves_no_trace() -> None:
    async def scenario() -> None:
        batcher = _batcher(max_batch_size=4, max_queue_size=4)
        await batcher.put(range(4))
        put = asyncio.create_task(batcher.put(range(90, 93)))
        assert await _is_blocked(put)
        put.cancel()
        with pytest.raises(asyncio.CancelledError):
            await put
        assert await batcher.take() == [range(4)]
        assert batcher.records == 0

    _run(scenario())


def _newest_first(waiting: Sequence[Item]) -> list[int]:
    return sorted(range(len(waiting)), key=lambda place: -waiting[place].start)


def test_an_order_counts_only_where_not_all_that_waits_fits_into_one_micro_batch() -> None:
    async def scenario() -> None:
        batcher = Batcher[Item](Batch(max_batch_size=10), order=_newest_first)
        items = [range(10, 14), range(30, 34), range(20, 22)]
        for item in items:
            await batcher.put(item)
        assert await batcher.take() == items, "all of it is taken at once"
        for item in [*items, range(40, 41)]:
            await batcher.put(item)
        assert await batcher.take() == [range(40, 41), range(30, 34), range(20, 22)]
        assert await batcher.take() == [range(10, 14)]
        assert batcher.records == 0

    _run(scenario())


def test_what_comes_later_is_put_in_order_with_what_was_left() -> None:
    async def scenario() -> None:
        batcher = Batcher[Item](Batch(max_batch_size=4), order=_newest_first)
        for start in (10, 30, 20):
            await batcher.put(range(start, start + 4))
        assert await batcher.take() == [range(30, 34)]
        await batcher.put(range(15, 19))
        assert await batcher.take() == [range(20, 24)]
        assert await batcher.take() == [range(15, 19)]
        assert await batcher.take() == [range(10, 14)]

    _run(scenario())


def test_the_delay_counts_from_the_oldest_of_what_waits_wherever_it_stands() -> None:
    async def scenario() -> None:
        clock = ManualClock()
        batcher = Batcher[Item](Batch(max_batch_size=10, max_queue_delay_s=30.0), clock, order=_newest_first)
        await batcher.put(range(1, 3))
        clock.advance(20.0)
        await batcher.put(range(50, 54))
        await batcher.put(range(60, 68))
        assert await batcher.take() == [range(60, 68)]  # the younger one of those left now stands first
        take = asyncio.create_task(batcher.take())
        assert await _is_blocked(take)
        clock.advance(10.5)
        await batcher.put(range(70, 71))  # wakes the take
        assert await asyncio.wait_for(take, SOON_S) == [range(50, 54), range(1, 3), range(70, 71)]

    _run(scenario())


def test_whatever_the_order_nothing_is_lost_and_none_is_taken_twice() -> None:
    async def scenario() -> None:
        for seed in range(30):
            dice = random.Random(seed)

            def shuffled(waiting: Sequence[Item], dice: random.Random = dice) -> list[int]:
                return dice.sample(range(len(waiting)), len(waiting))

            batcher = Batcher[Item](Batch(max_batch_size=8), order=shuffled)
            put, taken = [], []
            for number in range(60):
                item = range(number * 100, number * 100 + dice.randrange(1, 12))
                await batcher.put(item)
                put.append(item)
                if dice.random() < 0.4 and batcher.records:
                    items = await batcher.take(dice.randrange(1, 4))
                    assert len(items) == 1 or sum(map(len, items)) <= 8
                    taken += items
                assert batcher.records == sum(map(len, put)) - sum(map(len, taken))
            while batcher.records:
                taken += await batcher.take()
            assert sorted(taken, key=lambda item: item.start) == put

    _run(scenario())


def test_what_is_shed_is_shed_before_it_is_put_in_order() -> None:
    def halved(waiting: Sequence[Item]) -> list[Item]:
        return [item[: len(item) // 2] for item in waiting]

    async def scenario() -> None:
        batcher = Batcher[Item](Batch(max_batch_size=10), shed=halved, order=_newest_first)
        for start in (10, 30, 20):
            await batcher.put(range(start, start + 6))
        assert await batcher.take() == [range(10, 13), range(30, 33), range(20, 23)], "now it fits"
        for start in (10, 30, 20):
            await batcher.put(range(start, start + 8))
        assert await batcher.take() == [range(30, 34), range(20, 24)]
        assert batcher.records == 4

    _run(scenario())
