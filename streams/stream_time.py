"""Which of the record batches that wait comes first: the one whose events are oldest, whatever its partition.

Partitions of a backlog are read in no particular order, and soon lie days of event time apart. A pipeline that looks
across partitions would have to wait, or to look ahead.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

OVERTAKEN_S = 1.0


class Waiting(Protocol):
    """A record batch that waits."""

    @property
    def partition(self) -> int: ...
    @property
    def delivered_at(self) -> float: ...
    @property
    def event_time_ms(self) -> int | None:
        """Of its first event; None where that cannot be told."""


def in_stream_time(waiting: Sequence[Waiting], now_s: float) -> list[int]:
    """Places of what waits, given in order of arrival, by event time.

    Each partition keeps its order. What has waited for `OVERTAKEN_S` is overtaken no more.
    """
    reached: dict[int, float] = {}
    keys: list[float] = []
    for each in waiting:
        known = reached.get(each.partition, float("-inf"))
        if each.event_time_ms is not None and now_s - each.delivered_at < OVERTAKEN_S:
            known = max(known, each.event_time_ms)
        reached[each.partition] = known
        keys.append(known)
    return sorted(range(len(keys)), key=keys.__getitem__)
