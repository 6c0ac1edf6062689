"""A producer that does not stop: events at a steady rate, whatever happens to the broker and to who reads them."""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Iterable, Iterator
from functools import partial
from threading import Event, Thread

from confluent_kafka import KafkaError, Producer

from tests import verify

Row = tuple[int, bytes | None, bytes | None, verify.Headers]

CLIENT = {"enable.idempotence": False, "reconnect.backoff.max.ms": 1000, "linger.ms": 5, "log_level": 0}
FLUSH_S, FLUSHES = 15.0, 6

POISON = (b"poison", b"bad:features", b"bad:infer", b"bad:encode")
POISON_SHARE = 0.01


class Flow:
    """Writes rows at a steady rate from a thread until they end or it is stopped; a stall is made up for.

    What is on the topic is the input, however often it was written: what a client does not get rid of in time, which
    librdkafka's has been seen to do after several ends of its broker, another one sends again.
    """

    def __init__(self, servers: str, topic: str, rows: Iterable[Row], per_second: float) -> None:
        self._end = Event()
        self._rows, self._per_second = rows, per_second
        self._client, self._topic = {"bootstrap.servers": servers, **CLIENT}, topic
        self._error: BaseException | None = None
        self._left: list[Row] = []
        self._thread = Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._left = self._send(self._paced())
            for _ in range(FLUSHES):
                if self._left:
                    self._left = self._send(self._left)
        except BaseException as error:
            self._error = error

    def _send(self, rows: Iterable[Row]) -> list[Row]:
        """Produce rows with a client of their own; returns those that were not acknowledged in time."""
        producer, left = Producer(self._client), dict[int, Row]()

        def delivered(number: int, error: KafkaError | None, _: object) -> None:
            if error is None:
                del left[number]

        for number, row in enumerate(rows):
            left[number] = row
            partition, key, value, headers = row
            while True:
                try:
                    told = partial(delivered, number)
                    producer.produce(self._topic, value, key, partition, headers=headers, on_delivery=told)
                    break
                except BufferError:
                    producer.poll(0.1)
            producer.poll(0)
        producer.flush(FLUSH_S)
        producer.purge()
        producer.flush(FLUSH_S)  # what was purged is told
        return list(left.values())

    def _paced(self) -> Iterator[Row]:
        started = time.monotonic()
        for number, row in enumerate(self._rows):
            while not self._end.is_set() and number > (time.monotonic() - started) * self._per_second:
                self._end.wait(0.01)
            if self._end.is_set():
                return
            yield row

    def stop(self) -> None:
        """End it, once all that was sent is acknowledged.

        Raises:
            AssertionError: something was not.
        """
        self.abandon()
        assert not self._thread.is_alive(), f"the producer of {self._topic} does not come to an end"
        assert not self._left, f"producing to {self._topic}: {len(self._left)} records are not acknowledged"
        if self._error is not None:
            raise self._error

    def abandon(self) -> None:
        """End it, whatever became of what was sent."""
        self._end.set()
        self._thread.join(FLUSHES * 2 * FLUSH_S)


def events(seed: int, partitions: int, keys: int, slow_share: float = 0.0) -> Iterator[Row]:
    """Events without end; a key is always on the same partition, and some come more often than others.

    One in a hundred is refused by the pipeline, each time for another reason.
    """
    dice = random.Random(seed)
    reasons = itertools.cycle(POISON)
    while True:
        key = int(keys * dice.random() ** 2)
        chance = dice.random()
        if chance < POISON_SHARE:
            value = next(reasons)
        elif chance < POISON_SHARE + slow_share:
            value = b"slow"
        else:
            value = b"{}"
        yield key % partitions, b"k%d" % key, value, []
