"""Frames by their offsets: what a detection was made from, read again from its topic."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from streams.client import lone_consumer
from streams.errors import TopicError
from streams.settings import Kafka
from streams.topics import Admin, absent, unavailable

WAIT_S = 5.0  # an offset that has not come by then is gone
READ_ON = 100  # records that are sooner read than jumped over


class FrameReader:
    """A topic whose records are read by offset; joins no consumer group. Belongs to one event loop.

    Reading is cheapest where offsets grow.

    Raises (entering and reading):
        BrokerUnavailable: nobody answers. TopicError: the topic does not exist, or may not be read.
    """

    def __init__(self, kafka: Kafka, topic: str) -> None:
        self._kafka, self.topic = kafka, topic
        self._next: dict[int, int] = {}  # partition -> the offset that the consumer gives next

    async def __aenter__(self) -> FrameReader:
        async with Admin(self._kafka) as admin:
            partitions = (await admin.partitions()).get(self.topic)
        if partitions is None:
            raise TopicError(f"reading frames: {absent(self._kafka, self.topic)}")
        self._consumer = lone_consumer(self._kafka, isolation_level="read_uncommitted")
        try:
            await self._consumer.start()
        except (KafkaError, OSError) as error:
            await self._consumer.stop()
            raise unavailable(self._kafka, error) from error
        self._partitions = [TopicPartition(self.topic, number) for number in range(partitions)]
        self._consumer.assign(self._partitions)
        self._consumer.pause(*self._partitions)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._consumer.stop()

    async def read(self, partition: int, offsets: Collection[int]) -> dict[int, bytes]:
        """The values of those offsets that are still there."""
        if not offsets or not 0 <= partition < len(self._partitions):
            return {}
        first, last = min(offsets), max(offsets)
        place = self._partitions[partition]
        at = self._next.get(partition)
        if at is None or not at <= first <= at + READ_ON:
            self._consumer.seek(place, first)
            at = first
        self._consumer.resume(place)
        try:
            return await self._read(place, at, last, offsets)
        except KafkaError as error:
            raise TopicError(f"reading frames from {self.topic!r}: {error!r}") from error
        finally:
            self._consumer.pause(place)

    async def _read(self, place: TopicPartition, at: int, last: int, offsets: Collection[int]) -> dict[int, bytes]:
        values: dict[int, bytes] = {}
        deadline = time.monotonic() + WAIT_S
        while at <= last and time.monotonic() < deadline:
            found = await self._consumer.getmany(place, timeout_ms=200, max_records=min(last - at + 1, READ_ON))
            for record in found.get(place, []):
                at = record.offset + 1
                if record.offset in offsets and record.value is not None:
                    values[record.offset] = record.value
            if found:
                deadline = time.monotonic() + WAIT_S
            await asyncio.sleep(0)
        self._next[place.partition] = at
        return values
