"""What a steady producer sends stands in the log as it was given, and is read so."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.client import AIOKafkaClient

from streams.client import steady_producer
from streams.emitter import Emitter, Letters
from streams.errors import ProduceError
from streams.records import Outbox, Outgoing
from tests import verify
from tests.conftest import Kafka, MakeTopics
from tests.integration.record_batches import SOON_S, Found, read, run, take
from tests.waiting import until

PARTITIONS, COUNT = 3, 90
LINGER_MS, NOTHING_MS = 20, 300


def key(number: int) -> bytes | None:
    return None if number % 4 == 0 else b"key %d" % number


def value(number: int) -> bytes | None:
    return {0: b"", 1: None, 2: b"\xff\x00" * 40_000}.get(number % 30, b"value %d" % number)


def headers(number: int) -> list[Any]:
    return [] if number % 2 else [("id", b"%d" % number), ("caf\u00e9", None), ("id", b"")]


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The names of the types of requests that go over the wire."""
    seen: set[str] = set()
    send = AIOKafkaClient.send

    async def seeing(self: AIOKafkaClient, node_id: int, request: Any, **options: Any) -> Any:
        seen.add(type(request).__name__)
        return await send(self, node_id, request, **options)

    monkeypatch.setattr(AIOKafkaClient, "send", seeing)
    return seen


@pytest.mark.parametrize("options", [{"acks": "all", "enable_idempotence": True}, {"acks": 1}], ids=["all", "leader"])
def test_everything_arrives_as_it_was_and_in_order(
    kafka: Kafka, make_topics: MakeTopics, sent: set[str], options: dict[str, Any]
) -> None:
    servers = kafka.bootstrap_servers
    (topic,) = make_topics("produced", partitions=PARTITIONS)

    async def produce() -> None:
        async with steady_producer(
            AIOKafkaProducer(bootstrap_servers=servers, linger_ms=LINGER_MS, **options)
        ) as producer:
            for number in range(COUNT):
                columns = (value(number), key(number), number % PARTITIONS, 1_700_000_000_000 + number, headers(number))
                await producer.send(topic, *columns)

    asyncio.run(produce())
    assert "Produce" in sent
    assert "ProduceRequest" not in sent
    expected = [
        verify.Record(partition, offset, 1_700_000_000_000 + number, key(number), value(number), headers(number))
        for partition in range(PARTITIONS)
        for offset, number in enumerate(range(partition, COUNT, PARTITIONS))
    ]
    read_by_others = sorted(verify.read(servers, topic), key=lambda record: (record.partition, record.offset))
    assert read_by_others == expected

    async def steps(consumer: AIOKafkaConsumer) -> None:
        found: list[verify.Record] = []
        while len(found) < COUNT:
            for batches in (await consumer.getmany(timeout_ms=1000)).values():
                for batch in batches:
                    columns = (batch.offsets, batch.timestamps_ms, batch.keys, batch.values, batch.headers)
                    found += [verify.Record(batch.partition, *row) for row in zip(*columns, strict=True)]
        assert sorted(found, key=lambda record: (record.partition, record.offset)) == expected

    run(kafka, topic, steps, partitions=PARTITIONS)


def test_who_wants_no_acknowledgement_waits_for_none(kafka: Kafka, make_topics: MakeTopics, sent: set[str]) -> None:
    servers = kafka.bootstrap_servers
    (topic,) = make_topics("produced-unacknowledged")
    verify.send(servers, topic, [(0, b"k", b"first", [])])  # a topic that is not there yet loses what is sent to it

    async def produce() -> None:
        async with steady_producer(AIOKafkaProducer(bootstrap_servers=servers, acks=0)) as producer:
            for number in range(COUNT):
                assert await producer.send_and_wait(topic, b"%d" % number, partition=0) is None

    asyncio.run(produce())
    assert "ProduceRequest" in sent
    assert "Produce" not in sent
    until(lambda: verify.ends(servers, topic) == {0: 1 + COUNT}, SOON_S, "all records in the log")
    values = [record.value for record in verify.read(servers, topic)]
    assert values == [b"first", *(b"%d" % number for number in range(COUNT))]


def test_transactions_are_read_when_they_are_committed(kafka: Kafka, make_topics: MakeTopics, sent: set[str]) -> None:
    (topic,) = make_topics("produced-transactions")
    turns, each = [True, False, True, False], 10

    async def produce() -> None:
        async with steady_producer(
            AIOKafkaProducer(bootstrap_servers=kafka.bootstrap_servers, transactional_id=topic)
        ) as producer:
            for turn, committed in enumerate(turns):
                await producer.begin_transaction()
                for number in range(each):
                    await producer.send(topic, b"%d" % (turn * each + number), partition=0)
                await producer.flush()  # what is aborted must stand in the log, too
                await (producer.commit_transaction() if committed else producer.abort_transaction())

    asyncio.run(produce())
    assert "Produce" in sent
    assert "ProduceRequest" not in sent
    everything = []
    for turn in range(len(turns)):  # behind each of them stands a marker
        numbers = range(turn * each, (turn + 1) * each)
        everything += [(number + turn, b"%d" % number) for number in numbers]

    async def committed(consumer: AIOKafkaConsumer) -> None:
        assert await read(consumer, 2 * each) == {0: everything[:each] + everything[2 * each : 3 * each]}
        await assert_at_the_end(consumer)

    async def uncommitted(consumer: AIOKafkaConsumer) -> None:
        assert await read(consumer, 4 * each) == {0: everything}
        await assert_at_the_end(consumer)

    async def assert_at_the_end(consumer: AIOKafkaConsumer) -> None:
        found = Found()
        take(await consumer.getmany(timeout_ms=NOTHING_MS), found)
        assert found == {}
        (tp,) = consumer.assignment()
        assert await consumer.position(tp) == len(turns) * (each + 1)

    run(kafka, topic, committed, isolation_level="read_committed")
    run(kafka, topic, uncommitted)


def test_letters_for_a_partition_that_their_topic_lacks_are_refused_in_words(
    kafka: Kafka, make_topics: MakeTopics
) -> None:
    (topic,) = make_topics("fewer", partitions=PARTITIONS)

    async def send(partition: int) -> Any:
        async with steady_producer(AIOKafkaProducer(bootstrap_servers=kafka.bootstrap_servers)) as producer:
            letters = Letters(Outbox(partition, [Outgoing(topic, [b"k"], [b"v"])]), 0)
            sent = await Emitter(producer, SOON_S).send(letters, lambda: True)
            return sent and await sent.written()

    assert asyncio.run(send(PARTITIONS - 1)) == [(topic, 0, 1)]
    with pytest.raises(ProduceError, match=rf"{topic}\[{PARTITIONS}\]: the topic has no such partition"):
        asyncio.run(send(PARTITIONS))
