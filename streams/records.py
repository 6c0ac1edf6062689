"""Plain values that travel through a worker: record batches in, outboxes out.

Both are columnar: one list a field, one entry a record. A Kafka record never becomes an object of its own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

Header = tuple[str, bytes | None]
Headers = list[Header]  # a list, because aiokafka's compiled builder takes nothing else
STAGES = ("decode", "features", "infer", "encode")  # of computing; a worker has others around them
NO_HEADERS: Headers = []  # these two are shared: never changed in place
NOTHING_SHED: Counter[bytes | None] = Counter()
SHOWN_KEY_BYTES = 80


def shown_key(key: bytes) -> str:
    """A key for people: what of it fits into a sentence, or into a label of a metric."""
    return key[:SHOWN_KEY_BYTES].decode(errors="replace")


@dataclass(slots=True)
class RecordBatch:
    """Consecutive records of one partition, in offset order; offsets may have gaps (compaction, transactions).

    Args:
        shed: key -> records that a freshness policy has taken out; perhaps all of them.
        bounds: the first offset and the one after the last, as they were before that.
    """

    topic: str
    partition: int
    offsets: list[int]
    timestamps_ms: list[int]
    keys: list[bytes | None]
    values: list[bytes | None]
    headers: list[Headers]
    shed: Counter[bytes | None] = field(default_factory=lambda: NOTHING_SHED)
    bounds: tuple[int, int] | None = None

    def __len__(self) -> int:
        return len(self.offsets)

    def take(self, rows: Sequence[int]) -> RecordBatch:
        """The same batch, `rows` only, in that order."""
        return RecordBatch(
            self.topic,
            self.partition,
            [self.offsets[row] for row in rows],
            [self.timestamps_ms[row] for row in rows],
            [self.keys[row] for row in rows],
            [self.values[row] for row in rows],
            [self.headers[row] for row in rows],
        )

    def without(self, rows: Sequence[int]) -> RecordBatch:
        """The same stretch of the partition, these rows shed."""
        gone = set(rows)
        kept = self.take([row for row in range(len(self)) if row not in gone])
        kept.shed = self.shed + Counter(self.keys[row] for row in rows)
        kept.bounds = (self.first_offset, self.next_offset)
        return kept

    @classmethod
    def joined(cls, batches: Sequence[RecordBatch]) -> RecordBatch:
        """Batches of one partition that follow each other, as one."""
        if len(batches) == 1:
            return batches[0]
        columns = (
            [each for batch in batches for each in getattr(batch, name)]
            for name in ("offsets", "timestamps_ms", "keys", "values", "headers")
        )
        offsets, times, keys, values, headers = columns
        whole = cls(batches[0].topic, batches[0].partition, offsets, times, keys, values, headers)
        if any(batch.bounds is not None for batch in batches):
            whole.shed = sum((batch.shed for batch in batches), Counter())
            whole.bounds = (batches[0].first_offset, batches[-1].next_offset)
        return whole

    @property
    def first_offset(self) -> int:
        """Where the stretch of the partition begins that it stands for."""
        return self.offsets[0] if self.bounds is None else self.bounds[0]

    @property
    def next_offset(self) -> int:
        """The offset to commit once every record of the batch is done."""
        return self.offsets[-1] + 1 if self.bounds is None else self.bounds[1]


@dataclass(slots=True)
class Outgoing:
    """Records for one topic; they go to the partition number that their input came from.

    Args:
        shrunk: whether a record batch that is too large is made as small as it can be: one that came in compressed must
            fit a topic again.
        headers: each record's own headers; without them every record has `common_headers`, and where `id_offsets` is
            given, an `id` header behind them that reads `id_prefix` and its offset in decimals.
    """

    topic: str
    keys: Sequence[bytes | None]
    values: Sequence[bytes | None]
    headers: Sequence[Headers] | None = None
    common_headers: Headers = field(default_factory=list)
    id_prefix: bytes = b""
    id_offsets: Sequence[int] = ()
    shrunk: bool = False

    def __len__(self) -> int:
        return len(self.keys)

    def headers_of(self, row: int) -> Headers:
        """One record's headers, as a reader of the topic will see them."""
        if self.headers is not None:
            return self.headers[row]
        ids: Headers = [("id", self.id_prefix + str(self.id_offsets[row]).encode())] if self.id_offsets else []
        return [*self.common_headers, *ids]


@dataclass(slots=True)
class Outbox:
    """All that one record batch has become. Its input may be committed once every write is acknowledged.

    Args:
        records, first_offset, next_offset: of the record batch.
    """

    partition: int
    outgoing: list[Outgoing] = field(default_factory=list)
    outputs: int = 0
    records: int = 0
    first_offset: int = 0
    next_offset: int = 0
    poison: dict[tuple[str, str], int] = field(default_factory=dict)  # (stage, error type) -> dead letters

    def add(self, outgoing: Outgoing) -> None:
        """Put records in, unless there are none."""
        if len(outgoing):
            self.outgoing.append(outgoing)


@dataclass(slots=True)
class Processed:
    """Outboxes in the order of the batches, and what telemetry wants to know."""

    outboxes: list[Outbox] = field(default_factory=list)
    records: int = 0
    stage_seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))
