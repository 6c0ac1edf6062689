"""Plain stand-ins at the runner's two seams: a consumer with real low-water marks, and a log in place of the broker."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from aiokafka.errors import KafkaError
from aiokafka.record.memory_records import MemoryRecords

from streams.offsets import Flight, LowWaterMarks
from streams.records import Header, Headers, RecordBatch

TOPIC = "events"


def batch(
    values: Sequence[bytes | None],
    *,
    keys: Sequence[bytes | None] | None = None,
    start: int = 0,
    partition: int = 0,
    offsets: Sequence[int] | None = None,
    headers: Sequence[Headers] | None = None,
    topic: str = TOPIC,
) -> RecordBatch:
    """A record batch; by default all of one key, at consecutive offsets from `start`, without headers."""
    count = len(values)
    return RecordBatch(
        topic,
        partition,
        list(offsets if offsets is not None else range(start, start + count)),
        [0] * count,
        list(keys if keys is not None else [b"k"] * count),
        list(values),
        [list(each) for each in headers] if headers is not None else [[] for _ in values],
    )


@dataclass(frozen=True)
class Written:
    """One record as a reader of the topic sees it."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes | None
    headers: tuple[Header, ...]


class Log:
    """Stands for aiokafka's producer: keeps what is sent, acknowledges when it is told to.

    Args:
        acknowledge: at once, or only by `release`.
    """

    def __init__(self, *, acknowledge: bool = True) -> None:
        self.records: list[Written] = []
        self.acknowledge = acknowledge
        self.fail: KafkaError | None = None
        self._pending: list[tuple[asyncio.Future[Any], int]] = []
        self._ends: dict[tuple[str, int], int] = {}

    async def send_batch(self, builder: Any, topic: str, *, partition: int) -> asyncio.Future[Any]:
        parsed = MemoryRecords(bytes(builder._build()))
        count = 0
        while parsed.has_next():
            for record in parsed.next_batch():
                self.records.append(Written(topic, partition, record.key, record.value, tuple(record.headers)))
                count += 1
        base = self._ends.get((topic, partition), 0)
        self._ends[topic, partition] = base + count
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._pending.append((future, base))
        if self.acknowledge:
            self.release()
        return future

    def release(self, last_first: bool = False) -> None:
        """Acknowledge, or refuse, everything that waits for it."""
        for future, base in reversed(self._pending) if last_first else self._pending:
            if not future.done():
                if self.fail is not None:
                    future.set_exception(self.fail)
                else:
                    future.set_result(SimpleNamespace(offset=base))
        self._pending.clear()

    def of(self, topic: str, partition: int | None = None) -> list[Written]:
        return [each for each in self.records if each.topic == topic and partition in (None, each.partition)]


@dataclass(eq=False)
class Message:
    value: RecordBatch
    flight: Flight


@dataclass
class Assignment:
    """Stands for the consumer: what is delivered, alive and committable."""

    marks: LowWaterMarks = field(default_factory=LowWaterMarks)

    def deliver(self, records: RecordBatch) -> Message:
        return Message(records, self.marks.begin(records.partition, records.next_offset))

    def is_alive(self, message: Message) -> bool:
        return self.marks.is_alive(message.value.partition, message.flight)

    def ack(self, message: Message) -> bool:
        self.marks.finish(message.value.partition, message.flight)
        return True

    def revoke(self, partitions: Iterable[int]) -> None:
        self.marks.reset(partitions)
