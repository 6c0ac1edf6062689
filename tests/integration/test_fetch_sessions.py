"""Fetches that name only what has changed bring what whole ones bring."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaConnectionError
from aiokafka.protocol.fetch import FetchRequest, FetchRequest_v11

from streams.client import SteadyClient, steady_consumer
from streams.fetch_sessions import LARGEST_EPOCH, FetchSession
from streams.fetching import fetch_record_batches
from streams.membership import Membership
from streams.settings import Worker
from streams.wire import Fetch, Fetched
from tests import verify
from tests.conftest import Kafka, MakeTopics

PARTITIONS, MAX_RECORDS = 6, 2
POLL_MS, SHORT_MS = 10_000, 400
Seen = list[tuple[FetchRequest_v11, Fetched]]


@pytest.fixture
def fetches(monkeypatch: pytest.MonkeyPatch) -> Seen:
    """Every fetch that goes over the wire, as it was asked and answered."""
    seen: Seen = []
    send = SteadyClient.send

    async def seeing(self: SteadyClient, node_id: int, request: Any, **options: Any) -> Any:
        response = await send(self, node_id, request, **options)
        if isinstance(request, Fetch):
            assert request.version == FetchRequest_v11.API_VERSION
            seen.append((FetchRequest_v11.decode(request.encode()), response))
        return response

    monkeypatch.setattr(SteadyClient, "send", seeing)
    return seen


@asynccontextmanager
async def consuming(servers: str, topic: str) -> AsyncIterator[AIOKafkaConsumer]:
    consumer = AIOKafkaConsumer(
        bootstrap_servers=servers, group_id=None, auto_offset_reset="earliest", fetch_max_wait_ms=100
    )
    steady_consumer(consumer, Membership("sessions", Worker()))
    await consumer.start()
    fetch_record_batches(consumer, MAX_RECORDS)
    try:
        consumer.assign([TopicPartition(topic, partition) for partition in range(PARTITIONS)])
        yield consumer
    finally:
        await consumer.stop()


async def send(servers: str, topic: str, partition: int, values: Iterable[bytes]) -> None:
    await asyncio.to_thread(verify.send, servers, topic, [(partition, b"k", value, []) for value in values])


async def polled(consumer: AIOKafkaConsumer, count: int) -> list[tuple[int, bytes | None]]:
    """So many records, and what comes with them and soon after."""
    found: list[tuple[int, bytes | None]] = []
    while records := await consumer.getmany(timeout_ms=POLL_MS if len(found) < count else SHORT_MS):
        found += [(tp.partition, value) for tp, each in records.items() for batch in each for value in batch.values]
    return found


def named(topics: Any) -> set[int]:
    return {partition[0] for _, partitions in topics for partition in partitions}


def run(
    kafka: Kafka, topic: str, steps: Callable[[AIOKafkaConsumer], Coroutine[Any, Any, None]], most_s: float = 60.0
) -> None:
    async def all_of_it() -> None:
        async with consuming(kafka.bootstrap_servers, topic) as consumer:
            await asyncio.wait_for(steps(consumer), most_s)

    asyncio.run(all_of_it())


def test_only_what_has_changed_is_named_and_nothing_is_missed(
    kafka: Kafka, make_topics: MakeTopics, fetches: Seen
) -> None:
    (topic,) = make_topics("sessions", partitions=PARTITIONS)

    async def steps(consumer: AIOKafkaConsumer) -> None:
        for turn in range(2):
            for partition in range(PARTITIONS):
                values = [b"%d-%d" % (turn, each) for each in range(3)]
                await send(kafka.bootstrap_servers, topic, partition, values)
                assert await polled(consumer, 3) == [(partition, value) for value in values]
        end = await consumer.end_offsets(list(consumer.assignment()))
        assert {tp: consumer.highwater(tp) for tp in end} == end

    run(kafka, topic, steps)
    (first, answer), *others = fetches
    assert named(first.topics) == set(range(PARTITIONS))
    assert (first.session_id, first.session_epoch) == (0, 0)
    assert answer.session > 0
    assert [each.session_epoch for each, _ in others] == list(range(1, len(fetches)))
    for asked, answered in others:
        assert asked.session_id == answer.session
        assert len(named(asked.topics)) <= 1
        assert len(answered.partitions) <= 1


def test_a_partition_that_pauses_is_forgotten_until_it_goes_on(
    kafka: Kafka, make_topics: MakeTopics, fetches: Seen
) -> None:
    (topic,) = make_topics("sessions-paused", partitions=PARTITIONS)

    async def steps(consumer: AIOKafkaConsumer) -> None:
        await send(kafka.bootstrap_servers, topic, 0, [b"a"])
        assert await polled(consumer, 1) == [(0, b"a")]
        consumer.pause(TopicPartition(topic, 0))
        await polled(consumer, 0)  # the fetch that was on its way
        await send(kafka.bootstrap_servers, topic, 0, [b"b"])
        await send(kafka.bootstrap_servers, topic, 1, [b"c"])
        assert await polled(consumer, 1) == [(1, b"c")]
        consumer.resume(TopicPartition(topic, 0))
        assert await polled(consumer, 1) == [(0, b"b")]
        consumer.seek(TopicPartition(topic, 0), 0)
        assert await polled(consumer, 2) == [(0, b"a"), (0, b"b")]

    run(kafka, topic, steps)
    assert [(topic, [0])] in [asked.forgotten_topics_data for asked, _ in fetches]


@pytest.mark.parametrize("lost", ["session", "epoch", "answer"])
def test_a_session_that_is_lost_is_begun_anew(
    kafka: Kafka, make_topics: MakeTopics, fetches: Seen, monkeypatch: pytest.MonkeyPatch, lost: str
) -> None:
    (topic,) = make_topics(f"sessions-lost-{lost}", partitions=PARTITIONS)
    answered, send_, answers = FetchSession.answered, SteadyClient.send, itertools.count(1)

    def forgetting(self: FetchSession, answer: Fetched, now_ms: int) -> None:
        answered(self, answer, now_ms)
        if next(answers) == 2:
            self._id += lost == "session"
            self._epoch += 5 * (lost == "epoch")

    async def losing(self: SteadyClient, node_id: int, request: Any, **options: Any) -> Any:
        response = await send_(self, node_id, request, **options)
        if isinstance(request, Fetch) and next(answers) == 2:
            raise KafkaConnectionError("lost on its way")
        return response

    if lost == "answer":
        monkeypatch.setattr(SteadyClient, "send", losing)
    else:
        monkeypatch.setattr(FetchSession, "answered", forgetting)

    def begun() -> list[FetchRequest_v11]:
        return [asked for asked, _ in fetches if asked.session_epoch == 0]

    async def steps(consumer: AIOKafkaConsumer) -> None:
        while len(begun()) < 2:  # what waits unread is not fetched, so nothing is sent before
            assert await polled(consumer, 0) == []
        sent = [(partition, b"%d" % partition) for partition in range(PARTITIONS)]
        for partition, value in sent:
            await send(kafka.bootstrap_servers, topic, partition, [value])
        assert sorted(await polled(consumer, PARTITIONS)) == sent

    run(kafka, topic, steps)
    assert [named(asked.topics) for asked in begun()] == 2 * [set(range(PARTITIONS))]
    assert len([answer for _, answer in fetches if answer.error]) == (lost != "answer")


@pytest.mark.parametrize("version", [4, 6])
def test_a_broker_without_sessions_is_asked_for_everything_every_time(version: int) -> None:
    session, whole = FetchSession(), FetchRequest(100, 1, 1 << 20, 1, [("t", [(0, 5, 100), (1, 7, 100)])])
    versions = {FetchRequest.API_KEY: (4, version)}
    for _ in range(2):
        asked = session.asking(whole).prepare(versions)
        assert asked.encode() == whole.prepare(versions).encode()
        session.answered(Fetched(0, 0, []), 0)


def test_epochs_begin_again_behind_the_largest() -> None:
    session, whole = FetchSession(), FetchRequest(100, 1, 1 << 20, 1, [("t", [(0, 5, 100)])])
    session.asking(whole)
    session._epoch = LARGEST_EPOCH
    session.answered(Fetched(0, 3, []), 0)
    asked = FetchRequest_v11.decode(session.asking(whole).prepare({FetchRequest.API_KEY: (4, 11)}).encode())
    assert (asked.session_id, asked.session_epoch) == (3, 1)


def test_a_throttled_answer_says_nothing_about_where_partitions_end() -> None:
    session, whole = FetchSession(), FetchRequest(100, 1, 1 << 20, 1, [("t", [(0, 5, 100), (1, 7, 100)])])
    session.asking(whole)
    session.answered(Fetched(0, 3, [], throttled_ms=250), 1000)
    assert (set(session.heard), session.heard_ms) == (set(), 0)
    session.asking(whole)
    session.answered(Fetched(0, 3, []), 2000)
    assert (set(session.heard), session.heard_ms) == ({("t", 0), ("t", 1)}, 2000)
    session.asking(whole)
    session.answered(Fetched(0, 3, [], throttled_ms=250), 3000)
    assert (set(session.heard), session.heard_ms) == ({("t", 0), ("t", 1)}, 2000)
    asked = FetchRequest_v11.decode(session.asking(whole).prepare({FetchRequest.API_KEY: (4, 11)}).encode())
    assert (asked.session_id, asked.session_epoch) == (3, 3)  # it counts as an answer all the same
