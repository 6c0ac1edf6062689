"""What is really on the broker, read by librdkafka, and what should be there, computed in plain Python.

Nothing here shares code with the worker: a mistake in its reading, writing or counting cannot hide itself.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

TIMEOUT_S = 20
COORDINATOR_COMES_UP = (
    KafkaError.NOT_COORDINATOR,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
)
Headers = list[tuple[str, bytes]]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Record:
    """One record as a subscriber sees it."""

    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: Headers

    def header(self, name: str) -> bytes | None:
        """The last header of that name."""
        return next((value for key, value in reversed(self.headers) if key == name), None)

    def source(self, input_topic: str) -> tuple[int, int]:
        """Partition and offset of the input that this output is for, from its `id` header."""
        topic, partition, offset = (self.header("id") or b"").decode().rsplit("/", 2)
        assert topic == input_topic, f"expected an id of {input_topic}, got {self.header('id')!r}"
        return int(partition), int(offset)


def send(
    servers: str, topic: str, records: Iterable[tuple[int, bytes | None, bytes | None, Headers]], **settings: Any
) -> None:
    """Produce (partition, key, value, headers) and wait until the broker has acknowledged all of them."""
    Sender(servers, topic, **settings).send(records)


class Sender:
    """A producer to one topic that is kept: starting one anew costs as much as thousands of records."""

    def __init__(self, servers: str, topic: str, **settings: Any) -> None:
        self._topic = topic
        self._producer = Producer(
            {"bootstrap.servers": servers, "linger.ms": 5, "enable.idempotence": True, **settings}
        )

    def send(self, records: Iterable[tuple[int, bytes | None, bytes | None, Headers]]) -> None:
        """Produce (partition, key, value, headers) and wait until the broker has acknowledged all of them."""
        failed: list[str] = []

        def delivered(error: KafkaError | None, _: object) -> None:
            if error is not None:
                failed.append(str(error))

        for partition, key, value, headers in records:
            while True:
                try:
                    self._producer.produce(self._topic, value, key, partition, headers=headers, on_delivery=delivered)
                    break
                except BufferError:
                    self._producer.poll(0.1)
        left = self._producer.flush(60)
        assert not left and not failed, f"producing to {self._topic}: {left} records left, errors {failed[:3]}"


def read(servers: str, topic: str) -> list[Record]:
    """All committed records of a topic up to its end as of now, in log order within each partition."""
    return [
        Record(
            message.partition(),
            message.offset(),
            message.timestamp()[1],
            message.key(),
            message.value(),
            message.headers() or [],
        )
        for message in _messages(servers, topic)
    ]


def values(servers: str, topic: str) -> Iterator[bytes]:
    """The values alone, of topics that are too long to be held."""
    return (message.value() for message in _messages(servers, topic))


def _messages(servers: str, topic: str) -> Iterator[Any]:
    with closing(Consumer({**_reader(servers), "enable.partition.eof": True, "fetch.wait.max.ms": 20})) as consumer:
        partitions = _partitions(consumer, topic)
        consumer.assign([TopicPartition(topic, partition, 0) for partition in partitions])
        open_partitions, heard_at = set(partitions), time.monotonic()
        while open_partitions:
            assert time.monotonic() < heard_at + 60, f"reading {topic}: no end of partitions {open_partitions}"
            for message in consumer.consume(10_000, 0.2):
                heard_at = time.monotonic()
                if message.error():
                    open_partitions.discard(message.partition())
                else:
                    yield message


def ends(servers: str, topic: str) -> dict[int, int]:
    """Partition -> log end offset."""
    with closing(Consumer(_reader(servers))) as consumer:
        return {
            partition: consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=TIMEOUT_S)[1]
            for partition in _partitions(consumer, topic)
        }


def committed(servers: str, group: str, topic: str) -> dict[int, int]:
    """Partition -> committed offset of a consumer group, 0 where there is none."""
    # read_committed would wait until no transaction has an offset pending, which may be as long as one may take.
    options = {"group.id": group, "isolation.level": "read_uncommitted"}
    with closing(Consumer(_reader(servers) | options)) as consumer:
        wanted = [TopicPartition(topic, partition) for partition in _partitions(consumer, topic)]
        return {each.partition: max(0, each.offset) for each in _committed(consumer, wanted)}


def behind(servers: str, group: str, topic: str) -> dict[int, int]:
    """Partition -> records that the group has not committed yet; empty when it has caught up."""
    done = committed(servers, group, topic)
    lag = {partition: end - done[partition] for partition, end in ends(servers, topic).items()}
    return {partition: records for partition, records in lag.items() if records}


def members(servers: str, group: str) -> list[str]:
    """The member ids of a consumer group."""
    admin = AdminClient({"bootstrap.servers": servers})
    described = admin.describe_consumer_groups([group])[group].result(TIMEOUT_S)
    return sorted(member.member_id for member in described.members)


def at_rest(look: Callable[[], T]) -> T:
    """What `look` tells once it tells the same twice: a killed process leaves requests that the broker still serves."""
    before = look()
    while True:
        time.sleep(0.1)
        after = look()
        if after == before:
            return after
        before = after


def counts(records: Iterable[Record]) -> Counter[tuple[int, bytes | None]]:
    """How many records each key has, by partition and key."""
    return Counter((record.partition, record.key) for record in records)


def counts_by_partition(records: Iterable[Record]) -> Counter[int]:
    """How many records each partition has."""
    return Counter(record.partition for record in records)


def by_source(outputs: Iterable[Record], input_topic: str) -> dict[tuple[int, int], list[Record]]:
    """Input partition and offset -> the outputs for it, in log order; more than one where a worker was killed."""
    found: dict[tuple[int, int], list[Record]] = defaultdict(list)
    for output in outputs:
        found[output.source(input_topic)].append(output)
    return found


def assert_nothing_lost(inputs: Iterable[Record], outputs: Iterable[Record], input_topic: str) -> int:
    """Every input has an output, under its key and on its partition, and nothing else has one.

    Returns:
        How many outputs are repetitions.
    """
    wanted = {(record.partition, record.offset): record.key for record in inputs}
    found = by_source(outputs, input_topic)
    missing, alien = wanted.keys() - found.keys(), found.keys() - wanted.keys()
    assert not missing, f"{len(missing)} of {len(wanted)} inputs have no output, first {sorted(missing)[:5]}"
    assert not alien, f"{len(alien)} outputs are for no input, first {sorted(alien)[:5]}"
    for source, made in found.items():
        assert all(each.partition == source[0] and each.key == wanted[source] for each in made), made
    return sum(len(made) - 1 for made in found.values())


def assert_key_order(outputs: Iterable[Record], input_topic: str) -> None:
    """Without repetitions, each key's outputs stand in the order of their inputs."""
    last: dict[tuple[int, bytes | None], int] = {}
    seen: set[tuple[int, int]] = set()
    for output in outputs:
        source = output.source(input_topic)
        if source in seen:
            continue
        seen.add(source)
        key = (output.partition, output.key)
        assert last.get(key, -1) < source[1], f"{source} of key {output.key!r} comes after offset {last[key]}"
        last[key] = source[1]


def _reader(servers: str) -> dict[str, Any]:
    return {
        "bootstrap.servers": servers,
        "group.id": "verify",
        "enable.auto.commit": False,
        "isolation.level": "read_committed",
        "log_level": 3,
    }


def _committed(consumer: Consumer, wanted: list[TopicPartition]) -> list[TopicPartition]:
    """Asks again while the broker's group coordinator comes up or moves, which librdkafka leaves to its caller."""
    deadline = time.monotonic() + TIMEOUT_S
    while True:
        try:
            return consumer.committed(wanted, timeout=TIMEOUT_S)  # type: ignore[no-any-return]
        except KafkaException as error:
            if not error.args[0].retriable() and error.args[0].code() not in COORDINATOR_COMES_UP:
                raise
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def _partitions(consumer: Consumer, topic: str) -> Sequence[int]:
    return sorted(consumer.list_topics(topic, timeout=TIMEOUT_S).topics[topic].partitions)
