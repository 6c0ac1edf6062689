"""Plain values that travel through a worker: record batches in, outboxes out.

Both are columnar: one list a field, one entry a record. A Kafka record never becomes an object of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

Header = tuple[str, bytes | None]
Headers = list[Header]  # a list, because aiokafka's compiled builder takes nothing else
NO_HEADERS: Headers = []  # shared: never changed in place


@dataclass(slots=True)
class RecordBatch:
    """Consecutive records of one partition, in offset order; offsets may have gaps (compaction, transactions)."""

    topic: str
    partition: int
    offsets: list[int]
    timestamps_ms: list[int]
    keys: list[bytes | None]
    values: list[bytes | None]
    headers: list[Headers]

    def __len__(self) -> int:
        return len(self.offsets)

    @property
    def next_offset(self) -> int:
        """The offset to commit once every record of the batch is done."""
        return self.offsets[-1] + 1


@dataclass(slots=True)
class Outgoing:
    """Records for one topic; they go to the partition number that their input came from."""

    topic: str
    keys: Sequence[bytes | None]
    values: Sequence[bytes | None]
    headers: Sequence[Headers] | None = None

    def __len__(self) -> int:
        return len(self.keys)


@dataclass(slots=True)
class Outbox:
    """All that one record batch has become. Its input may be committed once every write is acknowledged."""

    partition: int
    outgoing: list[Outgoing] = field(default_factory=list)
    outputs: int = 0
    poison: dict[tuple[str, str], int] = field(default_factory=dict)  # (stage, error type) -> dead letters

    def add(self, outgoing: Outgoing) -> None:
        """Put records in, unless there are none."""
        if len(outgoing):
            self.outgoing.append(outgoing)
