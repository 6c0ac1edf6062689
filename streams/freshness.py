"""Freshness: an overloaded worker shows the present, by leaving out what something newer of its key has overtaken."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from streams.records import RecordBatch


@dataclass(frozen=True, slots=True)
class LatestPerKey:
    """Sheds records older than a bound by their Kafka timestamp, unless they are the newest of their key that waits.

    So every key that sends has answers, whatever another one sends, and what is published is as old as the bound and
    the time that it takes to serve one record of every key. Records without a key are never shed.

    Args:
        staleness_bound_s: younger records are all served.
    """

    staleness_bound_s: float

    def shed(self, batches: Sequence[RecordBatch], now_s: float) -> list[RecordBatch]:
        """The same record batches, which wait in this order, without what is overtaken.

        Example:
            >>> batch = RecordBatch("frames", 0, [7, 8], [1000, 1040], [b"gate"] * 2, [b"", b""], [[], []])
            >>> LatestPerKey(0.2).shed([batch], now_s=2.0)[0].offsets
            [8]
        """
        oldest_ms = (now_s - self.staleness_bound_s) * 1000
        seen: set[bytes] = set()
        kept: list[RecordBatch] = []
        for batch in reversed(batches):
            overtaken = []
            for row in range(len(batch) - 1, -1, -1):
                key = batch.keys[row]
                if key in seen and 0 <= batch.timestamps_ms[row] < oldest_ms:
                    overtaken.append(row)
                elif key is not None:
                    seen.add(key)
            kept.append(batch.without(overtaken) if overtaken else batch)
        return kept[::-1]
