"""A fetcher of record batches whose poll ends otherwise than with records."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import (
    CorruptRecordException,
    KafkaError,
    KafkaStorageError,
    NotLeaderForPartitionError,
    UnknownTopicOrPartitionError,
)
from aiokafka.protocol.offset import OffsetRequest

from streams.fetching import BatchFetcher
from streams.wire import Fetched
from tests import verify
from tests.conftest import Kafka, MakeTopics
from tests.integration.record_batches import (
    LONG_MS,
    POLL_MS,
    SOON_S,
    Found,
    alter_once,
    consecutive,
    polling,
    read,
    run,
    send,
    take,
)


def test_a_poll_that_is_cancelled_leaves_nothing_behind(kafka: Kafka, make_topics: MakeTopics) -> None:
    (topic,) = make_topics("fetcher-cancelled")

    async def steps(consumer: AIOKafkaConsumer) -> None:
        poll = await polling(consumer)
        poll.cancel()
        with pytest.raises(asyncio.CancelledError):
            await poll
        assert not consumer._fetcher._fetch_waiters
        await asyncio.to_thread(send, kafka, topic, range(10))
        assert await read(consumer, 10) == {0: consecutive(0, 10)}

    run(kafka, topic, steps)


def test_polls_that_are_cancelled_at_any_moment_lose_nothing(kafka: Kafka, make_topics: MakeTopics) -> None:
    count = 200
    (topic,) = make_topics("fetcher-cancelled-often")

    sender = verify.Sender(kafka.bootstrap_servers, topic)

    def send_all() -> None:
        for number in range(count):
            sender.send([(0, b"k", b"%d" % number, [])])

    async def steps(consumer: AIOKafkaConsumer) -> None:
        found, turn = Found(), 0
        sending = asyncio.create_task(asyncio.to_thread(send_all))
        while len(found.get(0, [])) < count:
            poll = asyncio.create_task(consumer.getmany(timeout_ms=LONG_MS, max_records=1))
            for _ in range(turn % 5):
                await asyncio.sleep(0)
            poll.cancel()
            with suppress(asyncio.CancelledError):
                take(await poll, found)
            turn += 1
        await sending
        assert found == {0: consecutive(0, count)}
        assert not consumer._fetcher._fetch_waiters

    run(kafka, topic, steps)


def test_who_polls_when_it_is_closed_goes_on(kafka: Kafka, make_topics: MakeTopics) -> None:
    (topic,) = make_topics("fetcher-closed")

    async def steps(consumer: AIOKafkaConsumer) -> None:
        fetcher: BatchFetcher = consumer._fetcher
        poll = await polling(consumer)
        await consumer.stop()
        assert await poll == {}
        assert not fetcher._fetch_waiters
        assert not fetcher._pending_tasks

    run(kafka, topic, steps)


@pytest.mark.parametrize("place", ["_keep", "_get_actions_per_node"])
def test_a_fault_is_told_to_whoever_polls(
    kafka: Kafka, make_topics: MakeTopics, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    (topic,) = make_topics("fetcher-fault")

    def fail(*_: object) -> None:
        raise RuntimeError("broken")

    async def steps(consumer: AIOKafkaConsumer) -> None:
        poll = await polling(consumer)
        monkeypatch.setattr(BatchFetcher, place, fail)
        await asyncio.to_thread(send, kafka, topic, range(1))
        with pytest.raises(KafkaError, match="broken"):
            await asyncio.wait_for(poll, SOON_S)
        for _ in range(2):
            with pytest.raises(KafkaError, match="broken"):
                await asyncio.wait_for(consumer.getmany(timeout_ms=LONG_MS), SOON_S)

    run(kafka, topic, steps)


@pytest.mark.parametrize("error", [NotLeaderForPartitionError, UnknownTopicOrPartitionError, KafkaStorageError])
def test_a_partition_that_cannot_be_read_for_a_while_is_tried_again(
    kafka: Kafka, make_topics: MakeTopics, error: type[KafkaError]
) -> None:
    (topic,) = make_topics("fetcher-again")
    send(kafka, topic, range(5))

    def refused(answer: Fetched) -> Fetched:
        return answer._replace(partitions=[each._replace(error=error.errno, blocks=b"") for each in answer.partitions])

    async def steps(consumer: AIOKafkaConsumer) -> None:
        alter_once(consumer, refused)
        assert await read(consumer, 5) == {0: consecutive(0, 5)}

    run(kafka, topic, steps)


def test_records_that_are_damaged_cost_no_others(kafka: Kafka, make_topics: MakeTopics) -> None:
    (topic,) = make_topics("fetcher-damaged", partitions=2)
    send(kafka, topic, range(20), 2)

    def damaged(answer: Fetched) -> Fetched:
        *others, last = answer.partitions
        return answer._replace(partitions=[*others, last._replace(blocks=last.blocks[:-1] + b"?")])

    async def steps(consumer: AIOKafkaConsumer) -> None:
        alter_once(consumer, damaged)
        found = Found()
        with pytest.raises(CorruptRecordException, match="fails its CRC"):
            for _ in range(2):  # what comes with it may be told first
                take(await consumer.getmany(timeout_ms=LONG_MS), found)
        async with asyncio.timeout(SOON_S):
            while sum(map(len, found.values())) < 20:
                take(await consumer.getmany(timeout_ms=POLL_MS), found)
        assert found == {partition: consecutive(0, 10, partition, 2) for partition in range(2)}

    run(kafka, topic, steps, partitions=2)


def test_a_reset_that_is_refused_asks_who_leads_and_the_nodes_other_partitions_flow_once_it_is_granted(
    kafka: Kafka, make_topics: MakeTopics
) -> None:
    """A leader that has moved refuses it until metadata name the one that follows."""
    (topic,) = make_topics("fetcher-reset", partitions=2)
    send(kafka, topic, range(10), 2)

    async def steps(consumer: AIOKafkaConsumer) -> None:
        client, moved, found_out = consumer._client, TopicPartition(topic, 0), asyncio.Event()
        ask, update = client.send, client._metadata_update

        async def refusing(node_id: int, request: Any, **options: Any) -> Any:
            if isinstance(request, OffsetRequest) and not found_out.is_set():
                raise NotLeaderForPartitionError(moved)  # what aiokafka makes of such an answer
            return await ask(node_id, request, **options)

        async def finding_out(*args: Any) -> Any:
            updated = await update(*args)
            found_out.set()
            return updated

        everything = {partition: consecutive(0, 5, partition, 2) for partition in range(2)}
        assert await read(consumer, 10) == everything
        await client.force_metadata_update()  # none that is on its way for another reason is taken for the answer
        client.send, client._metadata_update = refusing, finding_out
        async with asyncio.timeout(SOON_S):
            consumer.seek(TopicPartition(topic, 1), 0)
            await consumer.seek_to_beginning(moved)
            assert await read(consumer, 10) == everything

    run(kafka, topic, steps, partitions=2)
