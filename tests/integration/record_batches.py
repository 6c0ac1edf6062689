"""A consumer of record batches, for tests of its fetcher."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from streams.fetching import Polled, fetch_record_batches
from streams.wire import Fetch, Fetched
from tests import verify
from tests.conftest import Kafka

MAX_RECORDS = 7
NOTHING_MS, POLL_MS, LONG_MS = 300, 1000, 60_000
SOON_S, LIMIT_S = 15.0, 60.0
Steps = Callable[[AIOKafkaConsumer], Coroutine[Any, Any, None]]
Found = dict[int, list[tuple[int, bytes | None]]]


@asynccontextmanager
async def reading(
    servers: str, topic: str, *, partitions: int = 1, few: int = 0, **options: Any
) -> AsyncIterator[AIOKafkaConsumer]:
    defaults = {"group_id": None, "auto_offset_reset": "earliest", "fetch_max_wait_ms": 100}
    consumer = AIOKafkaConsumer(bootstrap_servers=servers, **defaults | options)
    await consumer.start()
    try:
        fetch_record_batches(consumer, MAX_RECORDS, few)._fetcher_timeout = LIMIT_S  # looks when told to
        consumer.assign([TopicPartition(topic, partition) for partition in range(partitions)])
        yield consumer
    finally:
        await consumer.stop()


def run(kafka: Kafka, topic: str, steps: Steps, **options: Any) -> None:
    async def all_of_it() -> None:
        async with asyncio.timeout(LIMIT_S), reading(kafka.bootstrap_servers, topic, **options) as consumer:
            await steps(consumer)

    asyncio.run(all_of_it())


def send(kafka: Kafka, topic: str, numbers: Iterable[int], partitions: int = 1) -> None:
    """Records whose values are these numbers, in turn over the partitions."""
    records: list[Any] = [(number % partitions, b"k", b"%d" % number, []) for number in numbers]
    verify.send(kafka.bootstrap_servers, topic, records)


def take(polled: Polled, found: Found) -> None:
    for tp, batches in polled.items():
        for batch in batches:
            assert (batch.topic, batch.partition) == tp
            assert 0 < len(batch) <= MAX_RECORDS
            found.setdefault(tp.partition, []).extend(zip(batch.offsets, batch.values, strict=True))


async def read(consumer: AIOKafkaConsumer, count: int) -> Found:
    """At least so many records."""
    found: Found = {}
    while sum(map(len, found.values())) < count:
        take(await consumer.getmany(timeout_ms=POLL_MS), found)
    return found


def consecutive(first: int, count: int, partition: int = 0, partitions: int = 1) -> list[tuple[int, bytes | None]]:
    """Offsets and values of a partition that `send` has filled from 0 on."""
    return [(offset, b"%d" % (offset * partitions + partition)) for offset in range(first, first + count)]


def alter_once(consumer: AIOKafkaConsumer, alter: Callable[[Fetched], Fetched]) -> None:
    """Change the first answer that brings something."""
    send, altered = consumer._client.send, asyncio.Event()

    async def altering(node_id: int, request: Any, **options: Any) -> Any:
        answer = await send(node_id, request, **options)
        if isinstance(request, Fetch) and answer.partitions and not altered.is_set():
            altered.set()
            return alter(answer)
        return answer

    consumer._client.send = altering


class Gate:
    """Holds the answers to a consumer's fetches back while it is shut."""

    def __init__(self, consumer: AIOKafkaConsumer) -> None:
        self._send = consumer._client.send
        consumer._client.send = self._answering
        self._open, self.waits = asyncio.Event(), asyncio.Event()
        self._open.set()

    def shut(self) -> None:
        self._open.clear()
        self.waits.clear()

    def open(self) -> None:
        self._open.set()

    async def _answering(self, node_id: int, request: Any, **options: Any) -> Any:
        answer = await self._send(node_id, request, **options)
        if isinstance(request, Fetch) and not self._open.is_set() and answer.partitions:
            self.waits.set()
            await self._open.wait()
        return answer


async def polling(consumer: AIOKafkaConsumer) -> asyncio.Task[Polled]:
    """A poll that has begun to wait."""
    poll = asyncio.create_task(consumer.getmany(timeout_ms=LONG_MS))
    await asyncio.sleep(0)
    assert consumer._fetcher._fetch_waiters
    return poll
