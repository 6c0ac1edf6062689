"""Every terminal of the cluster: how much of what it did a week ago and before turned out to be fraud.

Transactions are partitioned by card, and a terminal's are on every partition. Its windows end a week before the event
that asks, since labels take that long; so a worker that follows what all workers have seen has what it needs, days
before it is needed, and no event is sent to and fro between workers or waits for one.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from models.cells import Cells
from models.fraud import ledger
from models.fraud.blocks import DAY_MS, TIME_LIMIT_MS
from models.fraud.hashes import transaction_hashes
from models.fraud.terminals import TerminalHistory, warm_up
from streams.decoding import EventDecoder, wrong_keys
from streams.records import RecordBatch
from streams.schemas import FraudLabel, milliseconds

DELAY_MS = 7 * DAY_MS
# In a replay partitions drift apart; what the fastest asks for must not make the table forget what the slowest needs.
LATENESS_MS = 30 * DAY_MS

Int64 = NDArray[np.int64]


class Columns(Protocol):
    """Decoded transactions of one partition, good ones, columnar."""

    @property
    def transaction_ids(self) -> Cells[bytes]: ...
    @property
    def keys(self) -> Cells[bytes]: ...
    @property
    def terminals(self) -> Cells[bytes]: ...
    @property
    def event_time_ms(self) -> Int64: ...
    @property
    def offset(self) -> Int64: ...


class TerminalTable:
    """The table of the fraud pipeline; implements `streams.tables.Table`.

    Labels are read from their own topic, which must keep what the windows look back on: 37 days. A label that is none
    (see `streams.pipelines.labels`, which reports it) is left out.

    Args:
        transactions, labels: the topics.
        decode: the good events of a record batch of transactions, by the pipeline's own rules, so that a worker
            counts the same of a partition whether it reads it or owns it.
        latest_ms: the latest label time that is not absurd, now.
        max_value_bytes: a longer label is none.
    """

    copartitioned = False

    def __init__(
        self,
        transactions: str,
        labels: str,
        decode: Callable[[RecordBatch], Columns],
        latest_ms: Callable[[], int],
        max_value_bytes: int,
    ) -> None:
        self._transactions, self._labels, self._decode, self._latest_ms = transactions, labels, decode, latest_ms
        self._history = TerminalHistory(DELAY_MS, LATENESS_MS)
        self._watermarks: dict[tuple[str, int], int] = {}
        self._next: dict[int, int] = {}
        self._lock = threading.Lock()
        self._label_decoder = EventDecoder(FraudLabel, "a label", max_value_bytes)
        self.reached: Callable[[int], bool] = lambda _: True

    @staticmethod
    def warm_up() -> None:
        """Compile the kernels, or load them."""
        warm_up()
        transaction_hashes([b""], [b""])

    def __len__(self) -> int:
        """Terminals held."""
        with self._lock:
            return len(self._history)

    @property
    def nbytes(self) -> int:
        """Memory held, in bytes."""
        with self._lock:
            return self._history.nbytes

    @property
    def covered_days(self) -> float:
        """From the oldest transaction held to the watermark."""
        with self._lock:
            return self._history.covered_ms / DAY_MS

    def topics(self) -> Mapping[str, int]:
        return {self._transactions: DELAY_MS, self._labels: 0}

    def watermark(self, topic: str, partition: int) -> int | None:
        return self._watermarks.get((topic, partition))

    def next_offset(self, topic: str, partition: int) -> int | None:
        return self._next.get(partition) if topic == self._transactions else None

    def append(self, partition: int, columns: Columns) -> Sequence[bytes]:
        new = _entries(columns)
        if not len(new.offsets):
            return ()
        self._append(partition, new)
        return ledger.encode(new)

    def restore(self, batch: RecordBatch) -> None:
        self._append(batch.partition, ledger.joined(list(map(ledger.decode, batch.values))))

    def apply(self, batch: RecordBatch) -> int:
        if batch.topic == self._labels:
            return self._apply_labels(batch)
        new = _entries(self._decode(batch))
        self._append(batch.partition, new)
        return len(batch) - len(new.offsets)

    def windows(self, terminals: Sequence[bytes], times: Int64) -> NDArray[np.float64]:
        """float64 [n, 10]: `TerminalHistory.windows`, once the table has been read far enough."""
        if len(times):
            self.reached(int(times.max()))
        with self._lock:
            return self._history.windows(terminals, times)

    def _append(self, partition: int, new: ledger.Entries) -> None:
        if not len(new.offsets):
            return
        source = self._transactions, partition
        with self._lock:
            self._history.append(partition, new.offsets, new.terminals, new.event_time_ms, new.transaction_hash)
            self._next[partition] = max(self._next.get(partition, 0), int(new.offsets[-1]) + 1)
            largest = int(new.event_time_ms.max())
            self._watermarks[source] = max(self._watermarks.get(source, largest), largest)

    def _apply_labels(self, batch: RecordBatch) -> int:
        decoded, rows, _ = self._label_decoder.decode(batch.values)
        cards = [label.card_id.encode() for label in decoded]
        event_times = milliseconds([label.event_time for label in decoded])
        label_times = milliseconds([label.label_time for label in decoded])
        good = (label_times >= event_times) & (label_times <= self._latest_ms()) & (event_times > -TIME_LIMIT_MS)
        good[list(wrong_keys([batch.keys[row] for row in rows.tolist()], "card_id", cards))] = False
        labels = [decoded[place] for place in np.flatnonzero(good).tolist()]
        if not labels:
            return len(batch)
        source, largest = (batch.topic, batch.partition), int(label_times[good].max())
        with self._lock:
            self._history.label(
                [label.terminal_id.encode() for label in labels],
                event_times[good],
                transaction_hashes(
                    [label.transaction_id.encode() for label in labels], [label.card_id.encode() for label in labels]
                ),
                np.array([label.fraud for label in labels], np.bool_),
                label_times[good],
            )
            self._watermarks[source] = max(self._watermarks.get(source, largest), largest)
        return len(batch) - len(labels)


def _entries(columns: Columns) -> ledger.Entries:
    """What the table keeps of transactions."""
    hashes = transaction_hashes(columns.transaction_ids, columns.keys)
    return ledger.Entries(columns.offset, columns.terminals, columns.event_time_ms, hashes)
