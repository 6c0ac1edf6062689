"""The table of the label loop: every flag of the cluster, as long as labels may come for it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import blake2b
from typing import Annotated, NamedTuple, Protocol

import numpy as np
from msgspec import Meta, Struct
from numpy.typing import NDArray

from models.fraud.blocks import DAY_MS, Int64
from models.fraud.label_rows import Hashes, Rows
from models.fraud.label_scores import ScoreHistory
from streams.clock import Clock
from streams.decoding import EARLIEST_MS, EventDecoder
from streams.records import RecordBatch
from streams.schemas import milliseconds
from streams.settings import Fraud, Labels


class _Flag(Struct, gc=False):
    """What the table needs of a `streams.schemas.FraudFlag`."""

    transaction_id: str
    card_id: str
    event_time: Annotated[datetime, Meta(tz=True)]
    score: Annotated[float, Meta(ge=0, le=1)]
    flagged: bool
    decision: str
    model: str


class Identified(Protocol):
    """What names a transaction."""

    transaction_id: str
    card_id: str


class Verdict(NamedTuple):
    """What a model made of a score."""

    decision: str
    model: str


@dataclass(frozen=True, slots=True)
class Found:
    """The flags of n transactions.

    Args:
        held: bool [n].
        rows: [n], of type `models.fraud.label_scores.SCORE`; zeros where there is no flag.
        verdicts: by the rows' field `verdict`.
    """

    held: NDArray[np.bool_]
    rows: Rows
    verdicts: Sequence[Verdict]


class ScoreTable:
    """Follows the fraud pipeline's output; implements `streams.tables.Table`.

    It has no log of its own: the topic of flags must keep `labels.memory_days`, and is read from its beginning. What is
    no flag there is passed over. Thread-safe: `apply` runs in the reader's thread, the rest in the pipeline's.

    Args:
        settings: how long flags are held, and when one is late.
        fraud: the topic of the flags, and how far ahead of the clock their event time can be.

    Attributes:
        reached: waits until the table can answer for an event at a time in ms, and says whether it can; set by the
            worker.
    """

    copartitioned = True

    def __init__(self, settings: Labels, fraud: Fraud, clock: Clock) -> None:
        self.reached: Callable[[int], bool] = lambda _: True
        self._topic, self._max_future_s, self._clock = fraud.output, fraud.max_future_s, clock
        self._decoder = EventDecoder(_Flag, "a flag", fraud.max_value_bytes)
        self._scores = ScoreHistory(int(settings.memory_days * DAY_MS), int(settings.wait_days * DAY_MS))
        self._next: dict[int, int] = {}
        self._verdicts: list[Verdict] = []
        self._codes: dict[Verdict, int] = {}
        self._lock = threading.Lock()
        self.applied = 0
        """Record batches so far; moves when there is something new."""

    def topics(self) -> Mapping[str, int]:
        return {self._topic: 0}

    def watermark(self, topic: str, partition: int) -> int | None:
        return self.newest_of(partition)

    def next_offset(self, topic: str, partition: int) -> int | None:
        return self._next.get(partition)

    def append(self, partition: int, columns: object) -> Sequence[bytes]:
        """Nothing: labels are no flags."""
        return ()

    def restore(self, batch: RecordBatch) -> None:
        """Nothing: there is no log."""

    def apply(self, batch: RecordBatch) -> int:
        flags, rows, _ = self._decoder.decode(batch.values)
        times = milliseconds([flag.event_time for flag in flags])
        possible = (times >= EARLIEST_MS) & (times <= int((self._clock.time() + self._max_future_s) * 1000))
        if not possible.all():
            flags = [flags[at] for at in np.flatnonzero(possible).tolist()]
            rows, times = rows[possible], times[possible]
        if flags:
            self._add(batch.partition, np.array(batch.offsets, np.int64)[rows], flags, times)
        self._next[batch.partition] = max(self._next.get(batch.partition, 0), batch.next_offset)
        return len(batch) - len(flags)

    def _add(self, partition: int, offsets: Int64, flags: Sequence[_Flag], times: Int64) -> None:
        transactions = transaction_hashes(flags)
        cards = card_hashes(flags)
        scores = np.array([flag.score for flag in flags], np.float32)
        flagged = np.array([flag.flagged for flag in flags], np.bool_)
        verdicts = np.array([self._code(Verdict(flag.decision, flag.model)) for flag in flags], np.uint32)
        with self._lock:
            self._scores.append(partition, offsets, transactions, cards, times, scores, flagged, verdicts)
            self.applied += 1

    def _code(self, verdict: Verdict) -> int:
        code = self._codes.get(verdict)
        if code is None:
            code = self._codes[verdict] = len(self._verdicts)
            self._verdicts.append(verdict)
        return code

    def find(self, transactions: Hashes) -> Found:
        """The flags of transactions."""
        with self._lock:
            return Found(*self._scores.find(transactions), self._verdicts)

    def knows(self, cards: Hashes) -> NDArray[np.bool_]:
        """bool [n]: which cards have been scored within the memory."""
        with self._lock:
            return self._scores.knows(cards)

    def between(self, after_ms: int, until_ms: int, partitions: Collection[int]) -> tuple[Hashes, Rows]:
        """Transactions and flags with an event time in (after_ms, until_ms], of these partitions."""
        with self._lock:
            return self._scores.between(after_ms, until_ms, partitions)

    @property
    def newest_ms(self) -> int | None:
        """The largest event time of a flag so far; None before the first."""
        return self._scores.newest_ms

    def newest_of(self, partition: int) -> int | None:
        """The largest event time of a partition's flags so far; None before its first."""
        return self._scores.newest_of(partition)

    def __len__(self) -> int:
        """Flags held."""
        with self._lock:
            return len(self._scores)

    @property
    def nbytes(self) -> int:
        """Memory held, in bytes."""
        with self._lock:
            return self._scores.nbytes


def transaction_hashes(events: Iterable[Identified]) -> Hashes:
    """uint64 [n]: a transaction's id and card; the same in every process."""
    return _hashes(f"{len(event.card_id)}:{event.card_id}{event.transaction_id}" for event in events)


def card_hashes(events: Iterable[Identified]) -> Hashes:
    """uint64 [n]."""
    return _hashes(event.card_id for event in events)


def _hashes(texts: Iterable[str]) -> Hashes:
    digests = b"".join([blake2b(text.encode(), digest_size=8).digest() for text in texts])
    return np.frombuffer(digests, ">u8").astype(np.uint64)
