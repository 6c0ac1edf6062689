"""Exactly once: outputs, dead letters, state and offsets become visible together, or not at all."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from connectors.broker import Broker
from tests import verify
from tests.conftest import Kafka, MakeTopics
from tests.integration.test_bad_weather import assert_ends
from tests.processes import WorkerProcess, Workers
from tests.waiting import until

PARTITIONS, RECORDS, SOON_S = 2, 40, 20
EXACTLY_ONCE = {"worker__processing_guarantee": "exactly_once"}
KEYS = [b"a", b"b", b"c"]


def rows(values: list[bytes]) -> list[tuple[int, bytes, bytes, verify.Headers]]:
    """Records that rotate over the partitions, each key on its own."""
    return [
        (number % PARTITIONS, KEYS[number % 3] + str(number % PARTITIONS).encode(), value, [])
        for number, value in enumerate(values)
    ]


def good_and_poison() -> list[bytes]:
    return [b"poison" if number % 10 == 9 else b"x" for number in range(RECORDS)]


def written(servers: str, topic: str) -> int:
    """Records that stand in the log, whether their transaction is committed or not; markers do not count."""
    consumer = Consumer(
        {"bootstrap.servers": servers, "group.id": "written", "isolation.level": "read_uncommitted"}
        | {"enable.partition.eof": True, "enable.auto.commit": False}
    )
    consumer.assign([TopicPartition(topic, partition, 0) for partition in range(PARTITIONS)])
    unread, count = set(range(PARTITIONS)), 0
    while unread:
        message = consumer.poll(SOON_S)
        assert message is not None, f"reading {topic}: nothing for {SOON_S} s"
        if message.error() is None:
            count += 1
        else:
            unread.discard(message.partition())
    consumer.close()
    return count


def expect_each_once(servers: str, source: str, output: str, group: str) -> None:
    """Every good record has one output with its key's running count, every bad one its dead letter."""
    inputs, outputs = verify.read(servers, source), verify.read(servers, output)
    letters = verify.read(servers, f"{source}.dead-letter")
    good = [record for record in inputs if record.value != b"poison"]
    assert sorted(record.source(source) for record in outputs) == [
        (r.partition, r.offset) for r in sorted(good, key=lambda record: (record.partition, record.offset))
    ]
    assert len(letters) == len(inputs) - len(good)
    counts: Counter[bytes | None] = Counter()
    for record in outputs:
        counts[record.key] += 1
        assert json.loads(record.value or b"")["count"] == counts[record.key], record
    assert not verify.behind(servers, group, source)


def test_a_killed_workers_transaction_is_never_seen_and_comes_once(
    kafka: Kafka, make_topics: MakeTopics, workers: Workers
) -> None:
    servers = kafka.bootstrap_servers
    source, output = make_topics("once", "once-out", partitions=PARTITIONS)
    group, script = f"{source}-group", {"input": source, "output": output}

    def start(**settings: object) -> WorkerProcess:
        return workers.counting(group, script, worker__slot="one", **EXACTLY_ONCE, **settings)

    # Its transactions stay open: all is written, nothing is committed.
    worker = start(worker__transaction_interval_s=60, worker__transaction_timeout_s=300).running()
    verify.send(servers, source, rows(good_and_poison()))
    until(lambda: written(servers, f"{group}.changelog") > 0, SOON_S, "a write to the changelog")
    until(lambda: written(servers, output) == RECORDS * 9 // 10, SOON_S, "all outputs in the log")
    worker.kill()
    assert set(verify.committed(servers, group, source).values()) == {0}

    worker = start().running()
    until(lambda: not verify.behind(servers, group, source), SOON_S, "a commit of everything")
    expect_each_once(servers, source, output, group)
    # And goes on with the state that it has.
    verify.send(servers, source, rows(good_and_poison()))
    until(lambda: not verify.behind(servers, group, source), SOON_S, "a commit of everything")
    assert worker.metric("headrace_transactions_total", outcome="committed") >= 2 * PARTITIONS
    assert worker.metric("headrace_records_in_total") == 2 * RECORDS
    assert worker.stop() == 0
    expect_each_once(servers, source, output, group)


def test_an_orderly_end_commits_what_is_in_flight(kafka: Kafka, make_topics: MakeTopics, workers: Workers) -> None:
    servers = kafka.bootstrap_servers
    source, output = make_topics("ended", "ended-out", partitions=PARTITIONS)
    group = f"{source}-group"
    script = {"input": source, "output": output}
    worker = workers.counting(
        group, script, **EXACTLY_ONCE, worker__transaction_interval_s=60, worker__transaction_timeout_s=300
    ).running()
    verify.send(servers, source, rows(good_and_poison()))
    until(lambda: written(servers, output) == RECORDS * 9 // 10, SOON_S, "all outputs in the log")
    assert worker.stop() == 0  # long before the interval is over
    expect_each_once(servers, source, output, group)


def test_a_transactional_id_that_somebody_else_takes(kafka: Kafka, make_topics: MakeTopics, workers: Workers) -> None:
    servers = kafka.bootstrap_servers
    source, output = make_topics("taken", "taken-out", partitions=PARTITIONS)
    group = f"{source}-group"
    worker = workers.counting(
        group, {"input": source, "output": output}, **EXACTLY_ONCE, worker__session_timeout_s=6
    ).running()
    thief = Producer({"bootstrap.servers": servers, "transactional.id": f"{group}-{source}-0"})
    thief.init_transactions(SOON_S)
    verify.send(servers, source, rows(good_and_poison()))
    worker.said("shut out")
    assert_ends(worker, f"transactional id '{group}-{source}-0' is used by another application")

    worker = workers.counting(group, {"input": source, "output": output}, **EXACTLY_ONCE).running()
    until(lambda: not verify.behind(servers, group, source), SOON_S, "a commit of everything")
    assert worker.stop() == 0
    expect_each_once(servers, source, output, group)


@pytest.mark.parametrize("guarantee", ["at_least_once", "exactly_once"])
@pytest.mark.parametrize("hours", [-3, 3])
def test_a_clock_that_jumps(
    kafka: Kafka, make_topics: MakeTopics, workers: Workers, guarantee: str, hours: int
) -> None:
    servers, limit = kafka.bootstrap_servers, {"message.timestamp.before.max.ms": str(3_600_000)}
    source, output = make_topics("clock", "clock-out", partitions=PARTITIONS, config=limit)
    group, script = f"{source}-group", {"input": source, "output": output}
    verify.send(servers, source, rows(good_and_poison()))
    settings = {"worker__processing_guarantee": guarantee, "worker__slot": "one"}
    worker = workers.counting(group, script | {"clock_ahead_s": 3600 * hours}, **settings)
    assert_ends(worker, r"writing \d+ records to .* this machine's clock and the broker's differ", "set the clocks")
    assert not verify.read(servers, output)

    worker = workers.counting(group, script, **settings).running()
    until(lambda: not verify.behind(servers, group, source), SOON_S, "a commit of everything")
    assert worker.stop() == 0
    assert (
        verify.assert_nothing_lost(
            [record for record in verify.read(servers, source) if record.value != b"poison"],
            verify.read(servers, output),
            source,
        )
        == 0
    )


@pytest.mark.parametrize(
    ("properties", "expected"),
    [
        ({"transaction.max.timeout.ms": "10000"}, ["transaction_timeout_s = 60", "transaction.max.timeout.ms"]),
        (
            {"transaction.state.log.replication.factor": "3", "transaction.state.log.min.isr": "2"},
            ["no transaction coordinator within 5 s", "transaction.state.log.replication.factor", "at_least_once"],
        ),
    ],
    ids=["timeout", "replicas"],
)
def test_a_broker_without_transactions_for_us(
    private_broker: Callable[..., Broker],
    make_topics: MakeTopics,
    workers: Workers,
    properties: dict[str, str],
    expected: list[str],
) -> None:
    broker = private_broker(properties=properties)
    broker.start()
    source, output = make_topics("refused", "refused-out", partitions=PARTITIONS, kafka=broker)
    servers = broker.bootstrap_servers
    verify.send(servers, source, rows(good_and_poison()))
    group = f"{source}-group"
    script = {"input": source, "output": output}
    worker = workers.counting(group, script, servers, **EXACTLY_ONCE, worker__broker_timeout_s=5)
    assert_ends(worker, *expected)
    for topic in (output, f"{group}.changelog", f"{source}.dead-letter"):
        assert written(servers, topic) == 0
