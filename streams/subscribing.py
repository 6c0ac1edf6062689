"""Reading a topic as it is, without a consumer group: from an end or from a time, committed records only."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from streams.acls import explained
from streams.client import lone_consumer
from streams.errors import TopicAbsent, TopicError
from streams.fetching import fetch_record_batches
from streams.records import RecordBatch
from streams.settings import Kafka
from streams.topics import Admin, absent, unavailable

BATCH_RECORDS = 1000

_AGO = re.compile(r"-(\d+(?:\.\d+)?)([smhd])")
_UNIT_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_LAST_MS = 2**63 - 1  # what Kafka can be asked for; no record is later


@dataclass(frozen=True)
class Start:
    """Where reading begins: `latest` (what comes from now on), `earliest`, or the first record at or after a time.

    Times are Kafka's, of when a record was produced; milliseconds since the epoch. Before it, and after what fits
    into 64 bits, there are no records: such times are brought back to these ends, which Kafka can be asked for.
    """

    at: Literal["latest", "earliest"] | int = "latest"

    @classmethod
    def parse(cls, text: str, now_s: float) -> Start:
        """From `latest`, `earliest`, `-5m` (s, m, h, d ago), epoch milliseconds or RFC 3339 (UTC without an offset).

        Raises:
            ValueError: it is none of them.
        """
        if text == "latest":
            return cls("latest")
        if text == "earliest":
            return cls("earliest")
        if ago := _AGO.fullmatch(text):
            return cls(int(max(0.0, now_s - float(ago[1]) * _UNIT_S[ago[2]]) * 1000))
        if text.isdecimal():
            return cls(min(int(text), _LAST_MS))
        moment = datetime.fromisoformat(text)
        return cls(max(0, int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)))


class Subscription:
    """An open topic. Records come in order within a partition; of aborted transactions none. Commits nothing.

    Raises (entering and reading):
        BrokerUnavailable: nobody answers. TopicError: the topic does not exist, or may not be read.
    """

    def __init__(self, kafka: Kafka, topic: str, start: Start) -> None:
        self._kafka, self._topic, self._start = kafka, topic, start

    async def __aenter__(self) -> Subscription:
        async with Admin(self._kafka) as admin:
            there = await admin.partitions()
        if self._topic not in there:
            close = sorted(name for name in there if not name.startswith("__"))
            seen = f"there are {', '.join(close)}" if close else "there is none"
            raise TopicAbsent(f"{absent(self._kafka, self._topic)}; {seen}")
        self._consumer = lone_consumer(self._kafka, fetch_max_wait_ms=200)
        try:
            await self._consumer.start()
            fetch_record_batches(self._consumer, BATCH_RECORDS)
            await self._seek([TopicPartition(self._topic, number) for number in range(there[self._topic])])
        except (KafkaError, OSError) as error:
            await self._consumer.stop()
            raise unavailable(self._kafka, error) from error
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._consumer.stop()

    async def read(self, timeout_s: float) -> list[RecordBatch]:
        """What has come; empty where nothing did within `timeout_s`."""
        try:
            found = await self._consumer.getmany(timeout_ms=int(timeout_s * 1000))
        except KafkaError as error:
            raise TopicError(f"reading {self._topic!r}: {explained(error, 'READ')}") from error
        return [batch for batches in found.values() for batch in batches]

    async def _seek(self, partitions: list[TopicPartition]) -> None:
        self._consumer.assign(partitions)
        if self._start.at == "earliest":
            offsets = await self._consumer.beginning_offsets(partitions)
        else:
            offsets = await self._consumer.end_offsets(partitions)
            if isinstance(self._start.at, int):
                at_time = await self._consumer.offsets_for_times(dict.fromkeys(partitions, self._start.at))
                offsets |= {partition: found.offset for partition, found in at_time.items() if found is not None}
        for partition, offset in offsets.items():
            self._consumer.seek(partition, offset)
