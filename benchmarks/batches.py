"""Simulated transactions as the record batches of one partition, in memory."""

from __future__ import annotations

from benchmarks.work import simulated_transactions
from streams.records import NO_HEADERS, RecordBatch


def record_batches(count: int, size: int, topic: str = "transactions") -> list[RecordBatch]:
    """The first `count` simulated transactions, `size` in a batch."""
    keys, values = (list(column) for column in zip(*simulated_transactions(count), strict=True))
    starts = range(0, count, size)
    return [
        RecordBatch(
            topic,
            0,
            list(range(start, min(start + size, count))),
            [0] * min(size, count - start),
            keys[start : start + size],
            values[start : start + size],
            [NO_HEADERS] * min(size, count - start),
        )
        for start in starts
    ]
