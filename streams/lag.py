"""How far a consumer group is behind: in records, and in the age of the first one that it has not committed."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from streams.client import lone_consumer
from streams.fetching import fetch_record_batches
from streams.settings import Kafka
from streams.topics import ask_coordinator, unavailable

READ_TIMEOUT_S = 3.0
READ_POLL_MS = 200


@dataclass(frozen=True)
class PartitionLag:
    """One partition as a consumer group sees it.

    Attributes:
        committed: the offset that the group goes on from; None where it has committed nothing.
        end: the log end offset.
        records: offsets between the two; where nothing is committed, all that the log still holds.
        seconds: how long ago the first uncommitted record was produced; 0 without one, None where it could not be read,
            or has no timestamp.
    """

    topic: str
    partition: int
    committed: int | None
    end: int
    records: int
    seconds: float | None


@dataclass(frozen=True)
class TopicSize:
    """A topic: partitions, and offsets between its beginning and its end (compaction and transactions leave gaps)."""

    name: str
    partitions: int
    records: int


class LagReader:
    """Looks at groups and topics without joining a group. Use as an async context manager, on one event loop.

    Raises (entering and all methods):
        BrokerUnavailable: nobody answers.
    """

    def __init__(self, kafka: Kafka) -> None:
        self._kafka = kafka
        self._admin = AIOKafkaAdminClient(**kafka.client_options())
        # A broker sends the first batch whatever the limit.
        self._consumer = lone_consumer(kafka, max_partition_fetch_bytes=1)

    async def __aenter__(self) -> LagReader:
        try:
            await self._admin.start()
            await self._consumer.start()
        except (KafkaError, OSError) as error:
            await self.__aexit__()
            raise unavailable(self._kafka, error) from error
        fetch_record_batches(self._consumer, 1)
        return self

    async def __aexit__(self, *_: object) -> None:
        try:
            await self._consumer.stop()
        finally:
            await self._admin.close()

    async def sizes(self, topics: Mapping[str, int]) -> list[TopicSize]:
        """Of each topic (name -> partitions) how much it holds."""
        partitions = [TopicPartition(name, number) for name, count in topics.items() for number in range(count)]
        begin, end = await self._ends(partitions)
        held = dict.fromkeys(topics, 0)
        for partition in partitions:
            held[partition.topic] += end[partition] - begin[partition]
        return [TopicSize(name, topics[name], held[name]) for name in sorted(topics)]

    async def committed(self, group: str) -> dict[TopicPartition, int]:
        """What the group has committed; empty for one that does not exist."""
        found = await ask_coordinator(self._kafka, lambda: self._admin.list_consumer_group_offsets(group))
        return {partition: at.offset for partition, at in found.items() if at.offset >= 0}

    async def lag(
        self, partitions: Sequence[TopicPartition], committed: Mapping[TopicPartition, int], now_s: float
    ) -> list[PartitionLag]:
        """The lag of each partition.

        Args:
            now_s: processing time, seconds since the epoch.
        """
        begin, end = await self._ends(partitions)
        # Retention may have removed what stands behind the commit: reading goes on at the beginning then.
        first = {p: max(committed.get(p, begin[p]), begin[p]) for p in partitions}
        behind = {p: first[p] for p in partitions if first[p] < end[p]}
        produced_ms = await self._timestamps(behind, end)
        lags: list[PartitionLag] = []
        for p in partitions:
            seconds: float | None = 0.0
            if p in behind:
                at_ms = produced_ms.get(p, -1)
                seconds = max(0.0, round(now_s - at_ms / 1000, 3)) if at_ms >= 0 else None
            records = max(0, end[p] - first[p])
            lags.append(PartitionLag(p.topic, p.partition, committed.get(p), end[p], records, seconds))
        return lags

    async def _ends(
        self, partitions: Sequence[TopicPartition]
    ) -> tuple[dict[TopicPartition, int], dict[TopicPartition, int]]:
        if not partitions:
            return {}, {}
        try:
            # aiokafka learns of one topic at a time, with a pause behind each.
            await self._consumer._client.set_topics({partition.topic for partition in partitions})
            begin = await self._consumer.beginning_offsets(partitions)
            return begin, await self._consumer.end_offsets(partitions)
        except KafkaError as error:
            raise unavailable(self._kafka, error) from error

    async def _timestamps(
        self, behind: Mapping[TopicPartition, int], end: Mapping[TopicPartition, int]
    ) -> dict[TopicPartition, int]:
        """When the first record at or after each offset was produced; absent where only markers stand there."""
        found: dict[TopicPartition, int] = {}
        if not behind:
            return found
        # The next look assigns anew: to unsubscribe here, before the fetcher has seen the assignment, would kill it.
        wanted, deadline = set(behind), time.monotonic() + READ_TIMEOUT_S
        self._consumer.assign(list(behind))
        for partition, offset in behind.items():
            self._consumer.seek(partition, offset)
        while wanted and time.monotonic() < deadline:
            try:
                records = await self._consumer.getmany(*wanted, timeout_ms=READ_POLL_MS)
                for partition in list(wanted):
                    if batches := records.get(partition):
                        found[partition] = batches[0].timestamps_ms[0]
                        wanted.discard(partition)
                    elif await self._consumer.position(partition) >= end[partition]:
                        wanted.discard(partition)
            except KafkaError as error:
                raise unavailable(self._kafka, error) from error
        return found
