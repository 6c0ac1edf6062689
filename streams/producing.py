"""Events into a topic: whole record batches, acknowledged, at a steady rate or as fast as the broker takes them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, KafkaTimeoutError

from streams.acls import explained
from streams.client import give_up, patient_producer
from streams.clock import SystemClock
from streams.errors import ProduceError, TopicError
from streams.partitioning import Partitioner
from streams.records import NO_HEADERS, Headers
from streams.settings import Kafka, Worker
from streams.topics import unavailable

BATCH_BYTES = 256 * 1024  # a quarter of what a broker takes; 64 KiB costs a third more CPU
TICK_S = 0.01  # a rate is kept on this grid
LAST_LOOK_S = 1.0  # a process that stood still itself has acknowledgements to read
BROKER_TIMEOUT_S = Worker().broker_timeout_s

Events = tuple[Sequence[bytes | None], Sequence[bytes]]
"""Keys and values; without a key the partition is drawn by chance."""


class EventProducer:
    """Writes events to one topic, in their order for each key; idempotent, acknowledged by all replicas.

    What is not acknowledged is sent again, which repeats no event, until no acknowledgement has come for
    `broker_timeout_s`. Meanwhile at most three record batches a partition are held, and `send` waits.

    Belongs to one event loop. As a context manager it waits for every acknowledgement at the end.

    Args:
        kafka: where.
        topic: must exist.
        broker_timeout_s: how long the broker may be away.

    Raises (all methods and entering):
        BrokerUnavailable: nobody answers. TopicError: the topic is not there.
        ProduceError: a write was not acknowledged; the message says how many were.
    """

    def __init__(self, kafka: Kafka, topic: str, broker_timeout_s: float = BROKER_TIMEOUT_S) -> None:
        self._kafka, self._topic, self._broker_timeout_s = kafka, topic, broker_timeout_s
        self._clock = SystemClock()
        self._heard_at = 0.0  # the last acknowledgement, or when the first write since was handed over
        self._pending: set[asyncio.Future[Any]] = set()
        self._failure: BaseException | None = None
        self.sent = 0
        self.acknowledged = 0

    async def __aenter__(self) -> EventProducer:
        self._producer = patient_producer(
            AIOKafkaProducer(**self._kafka.client_options(), enable_idempotence=True, max_batch_size=BATCH_BYTES)
        )
        try:
            await asyncio.wait_for(self._producer.start(), self._kafka.request_timeout_s)
            partitions = len(await self._producer.partitions_for(self._topic))
        except (KafkaError, OSError, TimeoutError) as error:
            await self._producer.stop()
            if self._producer.client.cluster.brokers():
                raise TopicError(f"producing to {self._topic!r}: {explained(error, 'WRITE')}") from error
            raise unavailable(self._kafka, error) from error
        self._partitioner = Partitioner(partitions)
        self._builders = [self._producer.create_batch() for _ in range(partitions)]
        return self

    async def __aexit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        try:
            if not isinstance(error, ProduceError):
                await self.flush()
        finally:
            if isinstance(self._failure, Exception):
                give_up(self._producer, self._failure)
            await self._producer.stop()

    async def send(
        self, keys: Sequence[bytes | None], values: Sequence[bytes], headers: Sequence[Headers] | None = None
    ) -> None:
        """Put events into record batches; full ones leave, and this waits while the broker is slower.

        A record's Kafka timestamp is the moment of this call.
        """
        builders, done = self._builders, 0
        partitions = map(self._partitioner.__getitem__, keys)
        each_headers = repeat(NO_HEADERS, len(keys)) if headers is None else headers
        try:
            for key, value, own, partition in zip(keys, values, each_headers, partitions, strict=True):
                if builders[partition].append(timestamp=None, key=key, value=value, headers=own) is None:
                    await self._dispatch(partition)
                    builders[partition].append(timestamp=None, key=key, value=value, headers=own)
                done += 1
        finally:
            self.sent += done
        await asyncio.sleep(0)  # a source that never waits must not starve the sender
        self._check()

    async def push(self) -> None:
        """Let what was sent leave now, instead of when its record batch is full."""
        for partition, builder in enumerate(self._builders):
            if builder.record_count():
                await self._dispatch(partition)

    async def flush(self) -> None:
        """Push, and wait until the broker has acknowledged everything."""
        await self.push()
        while self._pending:
            await asyncio.wait(self._pending, timeout=self._left_s())
            await self._look()
        self._check()

    async def _dispatch(self, partition: int) -> None:
        builder = self._builders[partition]
        self._builders[partition] = self._producer.create_batch()
        builder.close()
        if not self._pending:
            self._heard_at = self._clock.monotonic()
        future = await self._hand_over(builder, partition)
        self._pending.add(future)
        count = builder.record_count()
        future.add_done_callback(lambda done: self._settle(done, count))

    async def _hand_over(self, builder: Any, partition: int) -> asyncio.Future[Any]:
        """Wait until the partition's last record batch has left. Returns the acknowledgement of this one."""
        while True:
            try:
                async with asyncio.timeout(self._left_s()):
                    future: asyncio.Future[Any] = await self._producer.send_batch(
                        builder, self._topic, partition=partition
                    )
                    return future
            except (TimeoutError, KafkaTimeoutError):
                await self._look()
            except KafkaError as error:
                self._failure = self._failure or error
                self._check()

    def _left_s(self) -> float:
        """How long an acknowledgement may take from now on."""
        return max(0.0, self._heard_at + self._broker_timeout_s - self._clock.monotonic())

    async def _look(self) -> None:
        """Give up where the time is over."""
        if self._left_s() == 0:
            await asyncio.sleep(LAST_LOOK_S)
        if self._left_s() == 0:
            self._failure = self._failure or KafkaTimeoutError()
        self._check()

    def _settle(self, future: asyncio.Future[Any], count: int) -> None:
        self._pending.discard(future)
        error = future.exception()
        if error is None:
            self.acknowledged += count
            self._heard_at = self._clock.monotonic()
        else:
            self._failure = self._failure or error

    def _check(self) -> None:
        if self._failure is None:
            return
        reason, advice = explained(self._failure, "WRITE"), ""
        if isinstance(self._failure, KafkaTimeoutError):
            reason = f"no acknowledgement for {self._broker_timeout_s:g} s (worker.broker_timeout_s)"
            advice = "; see that the broker runs and can be reached, then produce the others again"
        raise ProduceError(
            f"producing to {self._topic!r} at {self._kafka.bootstrap_servers!r}: {reason}; "
            f"{self.acknowledged} of {self.sent} events were acknowledged, of the others some may be there too{advice}"
        ) from self._failure


@dataclass(frozen=True)
class Pace:
    """When events go out and when to end; 0 means no limit.

    Args:
        rate: events a second, on an absolute schedule: after a late tick the following ones make up for it.
        count: end after so many events.
        seconds: end after so long.
    """

    rate: float = 0.0
    count: int = 0
    seconds: float = 0.0

    def due(self, elapsed_s: float, sent: int, at_hand: int) -> int:
        """How many of the events at hand should leave now."""
        due = at_hand if not self.rate else min(at_hand, int(elapsed_s * self.rate) + 1 - sent)
        return min(due, self.count - sent) if self.count else due

    def over(self, elapsed_s: float, sent: int) -> bool:
        """Whether to end."""
        return bool((self.count and sent >= self.count) or (self.seconds and elapsed_s >= self.seconds))


async def pump(
    producer: EventProducer,
    source: Iterator[Events],
    pace: Pace,
    stop: asyncio.Event,
    on_progress: Callable[[int], None] = lambda _: None,
) -> None:
    """Drive a source into a producer until the source or the pace ends, or `stop` is set.

    The next events are made in a thread while the current ones leave.

    Args:
        on_progress: called with the number of events sent so far.

    Raises:
        ProduceError: a write was not acknowledged. What the source raises, after what came before it was sent.
    """
    started, tick, sent = time.perf_counter(), 0, 0
    following = asyncio.create_task(asyncio.to_thread(next, source, None))
    try:
        while not stop.is_set() and (events := await following) is not None:
            following = asyncio.create_task(asyncio.to_thread(next, source, None))
            place, (keys, values) = 0, events
            while place < len(keys) and not stop.is_set():
                elapsed = time.perf_counter() - started
                if pace.over(elapsed, sent):
                    return
                due = pace.due(elapsed, sent, len(keys) - place)
                if due > 0:
                    await producer.send(keys[place : place + due], values[place : place + due])
                    place, sent = place + due, sent + due
                    on_progress(sent)
                if pace.rate:
                    await producer.push()
                    tick = max(tick + 1, int((time.perf_counter() - started) / TICK_S) + 1)
                    await asyncio.sleep(max(0.0, started + tick * TICK_S - time.perf_counter()))
            if pace.over(time.perf_counter() - started, sent):
                return
    finally:
        await asyncio.wait({following})  # the thread must be done with the source before it is closed
        if not following.cancelled():
            following.exception()
