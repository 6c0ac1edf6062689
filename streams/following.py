"""A consumer without a group, over partitions of which it fetches only those that are wanted at the time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence

from aiokafka import TopicPartition

from streams.client import lone_consumer
from streams.clock import Clock
from streams.fetching import fetch_record_batches
from streams.records import RecordBatch
from streams.settings import Kafka

BATCH_RECORDS = 4096
FETCH_BYTES = 1 << 20
METADATA_MAX_AGE_MS = 5_000  # that a topic has more partitions than before is noticed no sooner


class Follower:
    """Reads committed records of some partitions, from their beginning on. Belongs to one event loop.

    Args:
        max_wait_ms: how long the broker may hold back an answer that would be empty; what comes meanwhile ends it.
    """

    def __init__(self, kafka: Kafka, partitions: Sequence[TopicPartition], max_wait_ms: int, clock: Clock) -> None:
        self._kafka, self._partitions, self._max_wait_ms, self._clock = kafka, partitions, max_wait_ms, clock
        self._counts = Counter(partition.topic for partition in partitions)
        self._started = False

    async def start(self) -> None:
        """Connect; nothing is fetched yet.

        Raises:
            KafkaError: nobody answers.
        """
        self._consumer = lone_consumer(
            self._kafka,
            max_partition_fetch_bytes=FETCH_BYTES,
            fetch_max_wait_ms=self._max_wait_ms,
            metadata_max_age_ms=METADATA_MAX_AGE_MS,
        )
        self._started = True
        await self._consumer.start()
        self._fetcher = fetch_record_batches(self._consumer, BATCH_RECORDS)
        self._consumer.assign(self._partitions)
        self._consumer.pause(*self._partitions)

    async def stop(self) -> None:
        """Close the connection, if there is one."""
        if self._started:
            await self._consumer.stop()

    @property
    def reading(self) -> frozenset[TopicPartition]:
        """What the last poll was for."""
        return frozenset(self._partitions).difference(self._consumer.paused())

    def grown(self) -> list[str]:
        """Topics with more partitions than those that are read here; of each topic all were."""
        there = self._consumer.partitions_for_topic
        return [topic for topic, count in self._counts.items() if len(there(topic) or ()) > count]

    def rest(self) -> None:
        """Fetch nothing until the next poll: records would wait in memory."""
        self._consumer.pause(*self._partitions)

    async def poll(self, wanted: Collection[TopicPartition], timeout_ms: int) -> Iterable[RecordBatch]:
        """What has come of these partitions; waits for something for `timeout_ms`."""
        chosen, paused = set(wanted), self._consumer.paused()
        self._consumer.pause(*(self._consumer.assignment() - chosen - paused))
        self._consumer.resume(*(chosen & paused))
        fetched = await self._consumer.getmany(*wanted, timeout_ms=timeout_ms)
        return [batch for batches in fetched.values() for batch in batches]

    async def read_to_end(self, partition: TopicPartition) -> list[RecordBatch]:
        """All that a partition holds now, from where the last poll has ended.

        Raises:
            KafkaError: nobody answers.
        """
        ends = await self.end_offsets([partition])
        found: list[RecordBatch] = []
        while not await self.is_past(ends):
            found += await self.poll([partition], self._max_wait_ms)
        return found

    async def skip_to(self, partition: TopicPartition, offset: int) -> None:
        """Leave out what lies before an offset."""
        if await self._consumer.position(partition) < offset:
            self._consumer.seek(partition, offset)

    async def end_offsets(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        """Where these end now.

        Raises:
            KafkaError: nobody answers.
        """
        return dict(await self._consumer.end_offsets(list(partitions)))

    async def empty(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, float]:
        """Which of these have nothing to be read, and as of when, on the monotonic clock.

        Raises:
            KafkaError: nobody answers.
        """
        now = self._clock.monotonic()
        ends = await self.end_offsets(partitions)
        return {tp: now for tp, end in ends.items() if await self._consumer.position(tp) >= end}

    async def is_past(self, offsets: Mapping[TopicPartition, int]) -> bool:
        """Whether all up to these offsets has been polled: the position, for a log may end in a transaction marker."""
        return all([await self._consumer.position(tp) >= offset for tp, offset in offsets.items()])

    async def ended(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, float]:
        """Which of these had nothing more at the broker's last answer, and when that was, on the monotonic clock."""
        found: dict[TopicPartition, float] = {}
        for tp in partitions:
            end, answered_ms = self._consumer.last_stable_offset(tp), self._fetcher.heard_ms(tp)
            if end is not None and answered_ms is not None and await self._consumer.position(tp) >= end:
                found[tp] = self._clock.monotonic() - (self._clock.time() - answered_ms / 1000)
        return found
