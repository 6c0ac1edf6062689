"""The reader of a table, without a broker: what it takes for silence."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from aiokafka import TopicPartition

from streams.clock import ManualClock
from streams.settings import Kafka
from streams.tables import Table, TableReader

LOG = TopicPartition("group.table", 0)


class Events:
    """A table of one input topic; it is never asked."""

    def topics(self) -> dict[str, int]:
        return {"events": 0}

    def watermark(self, topic: str, partition: int) -> None:
        return None


class SlowLog:
    """A log whose end is read with the second poll only."""

    polls = 0

    def rest(self) -> None:
        pass

    async def poll(self, wanted: list[TopicPartition], timeout_ms: int) -> list[Any]:
        self.polls += 1
        await asyncio.sleep(0)
        return []

    async def end_offsets(self, partitions: list[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(partitions, 5)

    async def is_past(self, offsets: dict[TopicPartition, int]) -> bool:
        return self.polls > 1

    async def ended(self, partitions: list[TopicPartition]) -> dict[TopicPartition, float]:
        return {}


def test_a_log_that_was_not_asked_for_long_has_not_been_silent() -> None:
    async def scenario() -> None:
        clock = ManualClock(0.0)
        table = cast(Table, Events())
        reader = TableReader(table, LOG.topic, "events", {"events": 1}, Kafka(), 45.0, clock)
        log = reader._log_reader = cast(Any, SlowLog())
        following = asyncio.create_task(reader._guard(reader._follow(log, reader._wanted_logs, reader._restore)))
        await asyncio.sleep(0)
        clock.advance(1000.0)  # nothing is wanted meanwhile: all partitions are our own
        async with asyncio.timeout(5):
            assert await reader.assigned([0]) == 0
        assert log.polls > 1
        following.cancel()

    asyncio.run(scenario())
