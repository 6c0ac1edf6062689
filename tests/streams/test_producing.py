from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator

import pytest
from confluent_kafka import Message, Producer

from streams.errors import ProduceError
from streams.partitioning import Partitioner
from streams.producing import EventProducer, Events, Pace, pump
from streams.settings import Kafka as KafkaSettings
from tests.conftest import Kafka, MakeTopics


def test_keys_go_where_the_java_default_partitioner_puts_them(kafka: Kafka, make_topics: MakeTopics) -> None:
    (topic,) = make_topics("keys", partitions=7)
    chance = random.Random(1)
    keys = [chance.randbytes(chance.randrange(0, 40)) for _ in range(500)] + [b"c%07d" % n for n in range(500)]
    theirs: dict[bytes, int] = {}

    def delivered(_: object, message: Message) -> None:
        theirs[message.key() or b""] = message.partition()

    # librdkafka's own implementation of the Java client's partitioner
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers, "partitioner": "murmur2_random"})
    for key in keys:
        producer.produce(topic, b"v", key, on_delivery=delivered)
    producer.flush(20)
    partitioner = Partitioner(7, cached_keys=300)  # fewer than there are: forgetting changes nothing
    assert {key: partitioner[key] for key in keys} == theirs
    assert len(partitioner) <= 300


def test_events_without_a_key_are_spread() -> None:
    partitioner = Partitioner(3)
    assert {partitioner[None] for _ in range(200)} == {0, 1, 2}
    assert not partitioner


def test_a_pace_is_absolute_and_ends_where_it_should() -> None:
    steady = Pace(rate=1000)
    assert steady.due(0.0, sent=0, at_hand=50) == 1
    assert steady.due(0.02, sent=1, at_hand=50) == 20
    assert steady.due(1.0, sent=1, at_hand=5000) == 1000  # a late tick makes up for all that is due
    assert steady.due(0.02, sent=21, at_hand=50) <= 0
    assert Pace().due(0.0, sent=0, at_hand=50) == 50
    assert Pace(count=30).due(0.0, sent=10, at_hand=50) == 20
    assert Pace(count=30).over(0.0, 30)
    assert Pace(seconds=2).over(2.0, 0)
    assert not Pace().over(1e9, 10**9)


def produce(kafka: Kafka, topic: str, source: Iterator[Events], pace: Pace) -> EventProducer:
    async def run() -> EventProducer:
        async with EventProducer(KafkaSettings(bootstrap_servers=kafka.bootstrap_servers), topic) as producer:
            await pump(producer, source, pace, asyncio.Event())
        return producer

    return asyncio.run(run())


def test_all_that_the_source_gave_is_acknowledged(kafka: Kafka, make_topics: MakeTopics) -> None:
    (topic,) = make_topics("pump", partitions=3)
    producer = produce(kafka, topic, (([b"%d" % n, None], [b"a" * 9000, b"b"]) for n in range(500)), Pace())
    assert producer.sent == producer.acknowledged == 1000


def test_what_the_source_raises_comes_after_what_it_gave_was_written(kafka: Kafka, make_topics: MakeTopics) -> None:
    (topic,) = make_topics("broken")
    seen: list[EventProducer] = []

    def source() -> Iterator[Events]:
        yield [b"k"], [b"v"]
        raise LookupError("damaged")

    async def run() -> None:
        async with EventProducer(KafkaSettings(bootstrap_servers=kafka.bootstrap_servers), topic) as producer:
            seen.append(producer)
            await pump(producer, source(), Pace(), asyncio.Event())

    with pytest.raises(LookupError):
        asyncio.run(run())
    assert seen[0].acknowledged == 1


def test_a_record_that_the_broker_refuses_is_an_error_with_the_count(kafka: Kafka, make_topics: MakeTopics) -> None:
    (topic,) = make_topics("large", config={"max.message.bytes": "20000"})
    events = iter([([b"k"] * 3, [b"v"] * 3), ([b"k"], [b"x" * 300_000])])
    with pytest.raises(ProduceError, match=r"MessageSizeTooLarge.*; [03] of 4 events were acknowledged"):
        produce(kafka, topic, events, Pace())
