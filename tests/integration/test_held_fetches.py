"""A fetcher sends no fetch before it is wanted, and does not keep one back for ever."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from streams import fetching
from streams.fetching import fetch_record_batches
from streams.records import RecordBatch
from tests import verify
from tests.conftest import Kafka, MakeTopics

NOTHING_MS, LONG_MS = 300, 20_000


@asynccontextmanager
async def holding(servers: str, topic: str) -> AsyncIterator[AIOKafkaConsumer]:
    """A consumer of a topic's only partition that is to send no fetch yet."""
    consumer = AIOKafkaConsumer(bootstrap_servers=servers, group_id=None, auto_offset_reset="earliest")
    await consumer.start()
    try:
        fetch_record_batches(consumer, 100).hold()
        consumer.assign([TopicPartition(topic, 0)])
        yield consumer
    finally:
        await consumer.stop()


def values(polled: dict[TopicPartition, list[RecordBatch]]) -> list[bytes | None]:
    return [value for batches in polled.values() for batch in batches for value in batch.values]


def test_what_came_while_a_fetch_was_held_comes_with_it(
    kafka: Kafka, make_topics: MakeTopics, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "LONGEST_HELD_S", math.inf)
    (topic,) = make_topics("held")
    sent = [b"%d" % number for number in range(5)]

    async def run() -> tuple[list[bytes | None], list[bytes | None]]:
        async with holding(kafka.bootstrap_servers, topic) as consumer:
            for value in sent:
                await asyncio.to_thread(verify.send, kafka.bootstrap_servers, topic, [(0, b"k", value, [])])
            held = await consumer.getmany(timeout_ms=NOTHING_MS)
            consumer._fetcher.let_go()
            return values(held), values(await consumer.getmany(timeout_ms=LONG_MS))

    assert asyncio.run(run()) == ([], sent)


def test_a_fetch_that_nobody_lets_go_goes_by_itself(kafka: Kafka, make_topics: MakeTopics) -> None:
    (topic,) = make_topics("held-long")

    async def run() -> list[bytes | None]:
        async with holding(kafka.bootstrap_servers, topic) as consumer:
            await asyncio.to_thread(verify.send, kafka.bootstrap_servers, topic, [(0, b"k", b"late", [])])
            return values(await consumer.getmany(timeout_ms=LONG_MS))

    assert asyncio.run(run()) == [b"late"]
