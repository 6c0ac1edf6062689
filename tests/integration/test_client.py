"""A client that is closed while it is being opened, and one that misses a leader or a topic."""

from __future__ import annotations

import asyncio
import gc
from itertools import pairwise
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.client import AIOKafkaClient
from aiokafka.cluster import ClusterMetadata
from confluent_kafka.admin import AdminClient

from streams import settings
from streams.client import lone_consumer, steady_producer
from streams.fetching import fetch_record_batches
from streams.telemetry import Telemetry
from streams.transactions import TransactionalEmitter
from tests import verify
from tests.conftest import Kafka, MakeTopics

MOST_STEPS = 400
MOST_MOMENTS, MOMENT_S, ENDED_S = 1000, 0.003, 5.0
LIMIT_S = 60.0
BACKOFF_S = 0.1  # aiokafka's `retry_backoff_ms` where nobody says otherwise


class Asked:
    """When metadata were asked for."""

    def __init__(self) -> None:
        self.at_s: list[float] = []
        self._changed = asyncio.Event()

    def once_more(self) -> None:
        self.at_s.append(asyncio.get_running_loop().time())
        self._changed.set()

    async def times(self, count: int) -> list[float]:
        """The pauses between the next so many."""
        self.at_s.clear()
        while len(self.at_s) < count:
            self._changed.clear()
            await self._changed.wait()
        return [after - before for before, after in pairwise(self.at_s)]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    """By any client, over the wire."""
    seen, update = Asked(), AIOKafkaClient._metadata_update

    async def seeing(self: AIOKafkaClient, *args: Any) -> Any:
        seen.once_more()
        return await update(self, *args)

    monkeypatch.setattr(AIOKafkaClient, "_metadata_update", seeing)
    return seen


@pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")
def test_a_start_that_is_cancelled_at_any_moment_leaves_no_connection_open(kafka: Kafka) -> None:
    async def run() -> list[dict[str, Any]]:
        complaints: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        for steps in range(MOST_STEPS):
            consumer = lone_consumer(settings.Kafka(kafka.bootstrap_servers))
            starting = asyncio.create_task(consumer.start())
            for _ in range(steps):
                await asyncio.sleep(0)
            done = not starting.cancel()
            await asyncio.wait({starting})
            await consumer.stop()
            del consumer, starting
            gc.collect()
            if done:
                return complaints
        raise AssertionError(f"the client is not open after {MOST_STEPS} steps of the loop")

    assert asyncio.run(asyncio.wait_for(run(), LIMIT_S)) == []


def test_partitions_that_are_revoked_at_any_moment_of_their_opening_leave_no_client_open(kafka: Kafka) -> None:
    asked = settings.Settings(kafka=settings.Kafka(bootstrap_servers=kafka.bootstrap_servers))

    async def run() -> None:
        for moment in range(MOST_MOMENTS):
            emitter = TransactionalEmitter(asked, "revoked-group", "events", Telemetry("counting"))
            opening = asyncio.create_task(emitter.open([0, 1]))
            await asyncio.sleep(moment * MOMENT_S)
            emitter.revoked([0, 1])
            opened = await opening
            await emitter.stop()
            if left := asyncio.all_tasks() - {asyncio.current_task()}:
                assert not (await asyncio.wait(left, timeout=ENDED_S))[1], (
                    f"{moment * MOMENT_S:g} s after its beginning"
                )
            if opened:
                return
        raise AssertionError(f"nothing is open after {MOST_MOMENTS * MOMENT_S:g} s")

    asyncio.run(run())


def test_a_producer_whose_partition_has_no_leader_asks_for_it_once_a_pause(
    kafka: Kafka, make_topics: MakeTopics, asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    (topic,) = make_topics("leaderless", partitions=2)
    servers, leader = kafka.bootstrap_servers, ClusterMetadata.leader_for_partition

    def missing_one(self: ClusterMetadata, partition: TopicPartition) -> Any:
        return -1 if partition.partition == 1 else leader(self, partition)

    async def run() -> list[float]:
        async with steady_producer(AIOKafkaProducer(bootstrap_servers=servers, enable_idempotence=True)) as producer:
            await producer.partitions_for(topic)
            with monkeypatch.context() as patched:
                patched.setattr(ClusterMetadata, "leader_for_partition", missing_one)
                written = await producer.send(topic, b"late", partition=1)
                pauses = await asked.times(5)
                await producer.send_and_wait(topic, b"meanwhile", partition=0)
            await written
            return pauses

    pauses = asyncio.run(asyncio.wait_for(run(), LIMIT_S))
    assert min(pauses) >= 0.9 * BACKOFF_S, pauses
    found = [(record.partition, record.value) for record in verify.read(servers, topic)]
    assert sorted(found) == [(0, b"meanwhile"), (1, b"late")]


def test_a_consumer_whose_topic_is_gone_asks_for_it_once_a_pause(
    kafka: Kafka, make_topics: MakeTopics, asked: Asked
) -> None:
    (topic,) = make_topics("gone")
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})

    async def run() -> list[float]:
        consumer = lone_consumer(settings.Kafka(kafka.bootstrap_servers))
        await consumer.start()
        try:
            fetch_record_batches(consumer, 100)
            consumer.assign([TopicPartition(topic, 0)])
            assert await consumer.getmany(timeout_ms=100) == {}
            await asyncio.to_thread(admin.delete_topics([topic])[topic].result, LIMIT_S)
            return await asked.times(8)
        finally:
            await consumer.stop()

    pauses = asyncio.run(asyncio.wait_for(run(), LIMIT_S))
    assert min(pauses) >= 0.9 * BACKOFF_S, pauses
