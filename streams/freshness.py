"""Freshness: an overloaded worker shows the present, by leaving out what something newer of its key has overtaken."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from streams.records import RecordBatch

PACE_RECORDS = 64  # the latest so many decide


@dataclass(frozen=True, slots=True)
class LatestPerKey:
    """Sheds records that would be older than a bound when they are served, unless they are the newest of their key.

    Age counts from the Kafka timestamp up to now; where a key's clock is ahead, up to the newest that waits of it. So
    every key that sends has answers, whatever another one sends, and what is published is as old as the bound, or as
    the time that it takes to serve one record of every key. Records without a key are never shed.

    Args:
        staleness_bound_s: records that are served younger than this are all served.
        max_batch_size: records that are served together, and so at the same time.
    """

    staleness_bound_s: float
    max_batch_size: int = 1

    def shed(self, batches: Sequence[RecordBatch], now_s: float, seconds_each: float = 0.0) -> list[RecordBatch]:
        """The same record batches, which wait in this order, without what is overtaken.

        Args:
            seconds_each: how long a record takes to be served.

        Example:
            >>> batch = RecordBatch("frames", 0, [7, 8], [1000, 1040], [b"gate"] * 2, [b"", b""], [[], []])
            >>> LatestPerKey(0.2).shed([batch], now_s=2.0)[0].offsets
            [8]
        """
        newest = {key: (place, row) for place, batch in enumerate(batches) for row, key in enumerate(batch.keys)}
        newest_ms = {key: batches[place].timestamps_ms[row] for key, (place, row) in newest.items()}
        most, waiting, kept = self.max_batch_size, sum(map(len, batches)), 0
        left = []
        for place, batch in enumerate(batches):
            overtaken = []
            for row, key in enumerate(batch.keys):
                served_s = now_s + seconds_each * min(waiting, (kept // most + 1) * most)
                until_ms = max(served_s * 1000, newest_ms[key])
                too_old = 0 <= batch.timestamps_ms[row] < until_ms - self.staleness_bound_s * 1000
                if too_old and key is not None and newest[key] != (place, row):
                    overtaken.append(row)
                else:
                    kept += 1
            left.append(batch.without(overtaken) if overtaken else batch)
        return left


class Pace:
    """How long a record takes to be served, of late.

    Args:
        instances: how many micro-batches are served at once.

    Attributes:
        seconds_each: 0 before the first micro-batch.
    """

    def __init__(self, instances: int = 1) -> None:
        self._instances = instances
        self.seconds_each = 0.0
        self._records = 0

    def served(self, records: int, seconds: float) -> None:
        """A micro-batch was served; it counts for as many as it held, up to `PACE_RECORDS`."""
        if records:
            self._records = min(self._records + records, PACE_RECORDS)
            weight = min(1.0, records / self._records)
            self.seconds_each += (seconds / records / self._instances - self.seconds_each) * weight
