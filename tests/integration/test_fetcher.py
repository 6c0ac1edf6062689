"""A fetcher of record batches and a real broker: nothing is lost, repeated or out of order."""

from __future__ import annotations

import asyncio
import math

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import OffsetOutOfRangeError

from streams import fetching
from tests import verify
from tests.conftest import Kafka, MakeTopics
from tests.integration.record_batches import (
    LONG_MS,
    MAX_RECORDS,
    NOTHING_MS,
    SOON_S,
    Found,
    Gate,
    consecutive,
    read,
    run,
    send,
    take,
)


def test_everything_comes_in_order_while_it_is_being_sent(kafka: Kafka, make_topics: MakeTopics) -> None:
    partitions, turns, each = 4, 20, 50
    (topic,) = make_topics("fetcher", partitions=partitions)
    sender = verify.Sender(kafka.bootstrap_servers, topic)

    def send_all() -> None:
        for turn in range(turns):
            numbers = range(turn * each, (turn + 1) * each)
            sender.send([(number % partitions, b"k", b"%d" % number, []) for number in numbers])

    async def steps(consumer: AIOKafkaConsumer) -> None:
        sending = asyncio.create_task(asyncio.to_thread(send_all))
        found = await read(consumer, turns * each)
        await sending
        count = turns * each // partitions
        assert found == {partition: consecutive(0, count, partition, partitions) for partition in range(partitions)}
        assert await consumer.getmany(timeout_ms=NOTHING_MS) == {}
        end = await consumer.end_offsets(list(consumer.assignment()))
        assert {tp: await consumer.position(tp) for tp in end} == end == {tp: consumer.highwater(tp) for tp in end}

    run(kafka, topic, steps, partitions=partitions)


def test_a_poll_takes_no_more_record_batches_than_it_asks_for(kafka: Kafka, make_topics: MakeTopics) -> None:
    (topic,) = make_topics("fetcher-few-batches")
    send(kafka, topic, range(4 * MAX_RECORDS))

    async def steps(consumer: AIOKafkaConsumer) -> None:
        tp, found = TopicPartition(topic, 0), Found()
        for most, left in ((1, 4), (2, 3), (5, 1)):
            polled = await consumer.getmany(timeout_ms=LONG_MS, max_records=most)
            assert len(polled[tp]) == min(most, left)
            take(polled, found)
            assert await consumer.position(tp) == len(found[0])
        assert found == {0: consecutive(0, 4 * MAX_RECORDS)}

    run(kafka, topic, steps)


@pytest.mark.parametrize("sought", [3, 12])
def test_what_is_on_its_way_when_it_seeks_is_not_read(kafka: Kafka, make_topics: MakeTopics, sought: int) -> None:
    (topic,) = make_topics("fetcher-seek")
    send(kafka, topic, range(10))

    async def steps(consumer: AIOKafkaConsumer) -> None:
        gate = Gate(consumer)
        assert await read(consumer, 10) == {0: consecutive(0, 10)}
        gate.shut()
        await asyncio.to_thread(send, kafka, topic, range(10, 15))
        await gate.waits.wait()
        consumer.seek(TopicPartition(topic, 0), sought)
        gate.open()
        assert await read(consumer, 15 - sought) == {0: consecutive(sought, 15 - sought)}

    run(kafka, topic, steps)


def test_what_has_been_fetched_when_it_seeks_is_not_read(kafka: Kafka, make_topics: MakeTopics) -> None:
    (topic,) = make_topics("fetcher-seek-fetched")
    send(kafka, topic, range(10))

    async def steps(consumer: AIOKafkaConsumer) -> None:
        tp = TopicPartition(topic, 0)
        assert len((await consumer.getmany(timeout_ms=LONG_MS, max_records=1))[tp]) == 1
        consumer.seek(tp, 2)
        assert await read(consumer, 8) == {0: consecutive(2, 8)}
        await consumer.seek_to_beginning(tp)
        assert await read(consumer, 10) == {0: consecutive(0, 10)}

    run(kafka, topic, steps)


def test_a_partition_that_pauses_goes_on_where_it_was(kafka: Kafka, make_topics: MakeTopics) -> None:
    (topic,) = make_topics("fetcher-pause", partitions=2)
    paused = TopicPartition(topic, 0)

    async def steps(consumer: AIOKafkaConsumer) -> None:
        gate = Gate(consumer)
        gate.shut()
        await asyncio.to_thread(send, kafka, topic, range(40), 2)
        await gate.waits.wait()
        consumer.pause(paused)  # whatever is on its way
        gate.open()
        assert await read(consumer, 20) == {1: consecutive(0, 20, 1, 2)}
        consumer.pause(TopicPartition(topic, 1))  # nothing else is fetched
        assert await consumer.getmany(timeout_ms=NOTHING_MS) == {}
        consumer.resume(paused)
        assert await read(consumer, 20) == {0: consecutive(0, 20, 0, 2)}

    run(kafka, topic, steps, partitions=2)


def test_a_new_assignment_is_read_and_nothing_of_the_one_before(kafka: Kafka, make_topics: MakeTopics) -> None:
    (topic,) = make_topics("fetcher-assignment", partitions=2)

    async def steps(consumer: AIOKafkaConsumer) -> None:
        gate = Gate(consumer)
        gate.shut()
        await asyncio.to_thread(send, kafka, topic, range(20), 2)
        await gate.waits.wait()
        consumer.assign([TopicPartition(topic, 1)])
        gate.open()
        assert await read(consumer, 10) == {1: consecutive(0, 10, 1, 2)}
        assert await consumer.getmany(timeout_ms=NOTHING_MS) == {}

    run(kafka, topic, steps, partitions=2)


def test_an_offset_out_of_range_goes_back_to_the_beginning(kafka: Kafka, make_topics: MakeTopics) -> None:
    (topic,) = make_topics("fetcher-range")
    send(kafka, topic, range(5))

    async def steps(consumer: AIOKafkaConsumer) -> None:
        consumer.seek(TopicPartition(topic, 0), 1000)
        assert await read(consumer, 5) == {0: consecutive(0, 5)}

    run(kafka, topic, steps)


def test_an_offset_out_of_range_is_told_to_who_wants_to_know(kafka: Kafka, make_topics: MakeTopics) -> None:
    (topic,) = make_topics("fetcher-range-told")
    send(kafka, topic, range(5))

    async def steps(consumer: AIOKafkaConsumer) -> None:
        tp = TopicPartition(topic, 0)
        consumer.seek(tp, 1000)
        for _ in range(2):
            with pytest.raises(OffsetOutOfRangeError) as raised:
                await consumer.getmany(timeout_ms=LONG_MS)
            assert raised.value.args == ({tp: 1000},)
        consumer.seek(tp, 2)
        assert await read(consumer, 3) == {0: consecutive(2, 3)}

    run(kafka, topic, steps, auto_offset_reset="none")


def test_a_quiet_partition_is_heard_of_with_every_answer(kafka: Kafka, make_topics: MakeTopics) -> None:
    """Though a broker names only what has changed; whoever waits for a partition's end must hear that it is there."""
    (topic,) = make_topics("fetcher-quiet")
    send(kafka, topic, range(5))

    async def steps(consumer: AIOKafkaConsumer) -> None:
        tp, fetcher = TopicPartition(topic, 0), consumer._fetcher
        assert fetcher.heard_ms(tp) is None
        await read(consumer, 5)
        before_ms = fetcher.heard_ms(tp)
        while fetcher.heard_ms(tp) == before_ms:
            assert await consumer.getmany(timeout_ms=NOTHING_MS) == {}
        assert (consumer.highwater(tp), consumer.last_stable_offset(tp)) == (5, 5)

    run(kafka, topic, steps)


def test_an_answer_that_is_not_read_says_nothing_of_the_end(kafka: Kafka, make_topics: MakeTopics) -> None:
    (topic,) = make_topics("fetcher-unheard")
    send(kafka, topic, range(5))

    async def steps(consumer: AIOKafkaConsumer) -> None:
        tp, fetcher, gate = TopicPartition(topic, 0), consumer._fetcher, Gate(consumer)
        await read(consumer, 5)
        gate.shut()
        await asyncio.to_thread(send, kafka, topic, range(5, 10))
        await gate.waits.wait()
        before_ms = fetcher.heard_ms(tp)
        await asyncio.sleep(0.01)  # an answer is later than the one before
        consumer.seek(tp, 7)
        gate.open()
        while fetcher.heard_ms(tp) == before_ms:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0)
        assert consumer.last_stable_offset(tp) == 10

    run(kafka, topic, steps)


def test_a_new_assignment_learns_of_a_quiet_partition(
    kafka: Kafka, make_topics: MakeTopics, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "LONGEST_HELD_S", math.inf)
    (topic,) = make_topics("fetcher-quiet-assignment")
    send(kafka, topic, range(5))

    async def steps(consumer: AIOKafkaConsumer) -> None:
        tp, fetcher = TopicPartition(topic, 0), consumer._fetcher
        await read(consumer, 5)
        before_ms = fetcher.heard_ms(tp)
        while fetcher.heard_ms(tp) == before_ms:  # its end is asked for
            assert await consumer.getmany(timeout_ms=NOTHING_MS) == {}
        fetcher.hold()
        while fetcher._in_flight:
            assert await consumer.getmany(timeout_ms=NOTHING_MS) == {}
        consumer.assign([tp])
        consumer.seek(tp, 5)
        fetcher.let_go()
        async with asyncio.timeout(SOON_S):
            while consumer.highwater(tp) is None:
                assert await consumer.getmany(timeout_ms=NOTHING_MS) == {}
        assert (consumer.highwater(tp), consumer.last_stable_offset(tp)) == (5, 5)

    run(kafka, topic, steps)


def test_records_that_are_longer_than_a_fetch_are_read(kafka: Kafka, make_topics: MakeTopics) -> None:
    (topic,) = make_topics("fetcher-long")
    values = [bytes([each]) * 50_000 for each in range(3)]
    for value in values:  # a record batch each
        verify.send(kafka.bootstrap_servers, topic, [(0, b"k", value, [])])

    async def steps(consumer: AIOKafkaConsumer) -> None:
        assert await read(consumer, 3) == {0: list(enumerate(values))}

    run(kafka, topic, steps, max_partition_fetch_bytes=1000, fetch_max_bytes=1000)


def test_a_poll_of_few_records_holds_the_next_fetch_back(
    kafka: Kafka, make_topics: MakeTopics, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "LONGEST_HELD_S", math.inf)
    (topic,) = make_topics("fetcher-few")
    send(kafka, topic, range(4))

    async def steps(consumer: AIOKafkaConsumer) -> None:
        assert await read(consumer, 4) == {0: consecutive(0, 4)}
        assert consumer._fetcher.holds
        await asyncio.to_thread(send, kafka, topic, range(4, 9))
        assert await consumer.getmany(timeout_ms=NOTHING_MS) == {}
        consumer._fetcher.let_go()
        assert await read(consumer, 5) == {0: consecutive(4, 5)}
        assert not consumer._fetcher.holds
        await asyncio.to_thread(send, kafka, topic, range(9, 10))
        assert await read(consumer, 1) == {0: consecutive(9, 1)}

    run(kafka, topic, steps, few=5)


def test_what_is_held_back_can_be_sought(
    kafka: Kafka, make_topics: MakeTopics, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "LONGEST_HELD_S", math.inf)
    (topic,) = make_topics("fetcher-held-sought")

    async def steps(consumer: AIOKafkaConsumer) -> None:
        consumer._fetcher.hold()
        tp = TopicPartition(topic, 0)
        await consumer.seek_to_end(tp)
        assert await consumer.position(tp) == 0
        await asyncio.to_thread(send, kafka, topic, range(3))
        await consumer.seek_to_end(tp)
        assert await consumer.position(tp) == 3
        await consumer.seek_to_beginning(tp)
        consumer._fetcher.let_go()
        assert await read(consumer, 3) == {0: consecutive(0, 3)}

    run(kafka, topic, steps)
