"""Topics of one benchmark run: made anew, filled, counted, deleted."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable, Mapping
from contextlib import closing
from types import TracebackType

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

Headers = list[tuple[str, bytes]]

PARTITIONS = 4
REQUEST_TIMEOUT_S = 15.0
READ_LIMIT_S = 60.0
_QUIET = {"log_level": 0}  # a broker that is gone raises here; librdkafka would also write about it, again and again
_POLL_EVERY = 4_096  # records between two looks at the delivery reports while filling


class Topics:
    """The topics that one benchmark run makes on a broker; leaving the context deletes them.

    All names share a prefix of the run's own, so that a user's cluster is left as it was. Not thread-safe.
    """

    def __init__(self, bootstrap: str) -> None:
        self.bootstrap = bootstrap
        self._prefix = f"headrace-bench-{secrets.token_hex(3)}"
        self._admin = AdminClient({"bootstrap.servers": bootstrap, **_QUIET})
        offsets = {"group.id": f"{self._prefix}.offsets", "isolation.level": "read_uncommitted"}
        self._offsets = Consumer({"bootstrap.servers": bootstrap, **offsets, **_QUIET})
        self._made: dict[str, int] = {}  # topic -> partitions

    def __enter__(self) -> Topics:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._offsets.close()
        there = self._admin.list_topics(timeout=REQUEST_TIMEOUT_S).topics if self._made else {}
        # By prefix: the product makes dead-letter and changelog topics of its own beside those made here.
        if left := [name for name in there if name.startswith(self._prefix)]:
            for outcome in self._admin.delete_topics(left, request_timeout=REQUEST_TIMEOUT_S).values():
                outcome.exception()  # what is left behind is a named throw-away topic: no reason to hide the results

    def create(self, name: str, partitions: int = PARTITIONS, config: Mapping[str, str] | None = None) -> str:
        """Create a topic and return its full name.

        Raises:
            KafkaException: the broker is not there or refuses.
        """
        topic = f"{self._prefix}.{name}"
        new = NewTopic(topic, partitions, 1, config=dict(config or {}))
        self._admin.create_topics([new], request_timeout=REQUEST_TIMEOUT_S)[topic].result()
        self._made[topic] = partitions
        self.ends(topic)
        return topic

    def fill(self, topic: str, records: Iterable[tuple[bytes, bytes] | tuple[bytes, bytes, Headers]]) -> int:
        """Produce keys and values, partitioned by key, and return how many once the broker has all of them.

        Args:
            records: (key, value) or (key, value, headers).

        Raises:
            KafkaException: a record was not delivered.
        """
        producer = Producer(
            {
                "bootstrap.servers": self.bootstrap,
                "linger.ms": 20,
                "queue.buffering.max.messages": 1_000_000,
                "on_delivery": _raise_undelivered,
                "delivery.report.only.error": True,
                **_QUIET,
            }
        )
        count = 0
        for key, value, *headers in records:
            producer.produce(topic, value, key, headers=headers[0] if headers else None)
            count += 1
            if count % _POLL_EVERY == 0:
                producer.poll(0)
                while len(producer) > 500_000:  # well below the queue's limit, where produce would raise
                    producer.poll(0.01)
        producer.flush()
        return count

    def size(self, topic: str) -> int:
        """Return the number of records that were ever written to a topic, by its end offsets.

        Those count the markers and aborted records of transactions, too: see `committed`.
        """
        return sum(self.ends(topic).values())

    def committed(self, topic: str) -> int:
        """Return the number of records that a `read_committed` subscriber finds in a topic, by reading all of them.

        Up to where the topic ends now: transactions that are still open there are waited for.

        Raises:
            TimeoutError: the broker did not send all of them in time.
        """
        settings = {
            "bootstrap.servers": self.bootstrap,
            "group.id": f"{self._prefix}.reader",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "isolation.level": "read_committed",
            "fetch.wait.max.ms": 10,
            **_QUIET,
        }
        count, unread, limit_s = 0, self.ends(topic), time.monotonic() + READ_LIMIT_S
        with closing(Consumer(settings)) as consumer:
            consumer.assign([TopicPartition(topic, partition, 0) for partition in unread])
            while unread:
                if time.monotonic() > limit_s:
                    raise TimeoutError(f"counting {topic}: not read in {READ_LIMIT_S:.0f} s: {unread} (partition: end)")
                for message in consumer.consume(_POLL_EVERY, 0.1):
                    error = message.error()
                    if error is None:
                        count += 1
                    elif error.code() == KafkaError._PARTITION_EOF and message.offset() >= unread.get(
                        message.partition(), 0
                    ):  # before that, it is a transaction that is still open
                        unread.pop(message.partition(), None)
        return count

    def ends(self, topic: str) -> dict[int, int]:
        """Return partition -> end offset.

        A new topic is known a moment before its partitions are, and these before they have a leader: both is waited
        for.
        """
        limit_s = time.monotonic() + REQUEST_TIMEOUT_S
        while True:
            try:
                return {partition: self._end(topic, partition) for partition in range(self._made[topic])}
            except KafkaException:
                if time.monotonic() > limit_s:
                    raise
                time.sleep(0.05)
                self._offsets.list_topics(topic, REQUEST_TIMEOUT_S)  # the client keeps what it was told too early

    def _end(self, topic: str, partition: int) -> int:
        place = TopicPartition(topic, partition)
        return int(self._offsets.get_watermark_offsets(place, timeout=REQUEST_TIMEOUT_S)[1])


def _raise_undelivered(error: KafkaError | None, _message: Message) -> None:
    if error is not None:
        raise KafkaException(error)
