"""Notices a partition that has work and does not move."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PartitionView:
    """One assigned partition as the watchdog sees it."""

    done: int | None  # low-water mark; None before the first batch since the assignment
    end: int | None  # log end, as far as fetched responses told
    in_flight: int  # record batches delivered and not done


class Watchdog:
    """A partition is stalled when it has work (records in flight, or behind the log end) and its mark does not move.

    Args:
        timeout_s: how long without progress is a stall.
    """

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._seen: dict[int, tuple[tuple[int | None, bool], float]] = {}

    def look(self, partitions: Mapping[int, PartitionView], now: float) -> dict[int, float]:
        """Take a look at all assigned partitions.

        Args:
            now: monotonic seconds.

        Returns:
            Stalled partition -> seconds without progress.
        """
        stalled: dict[int, float] = {}
        for partition in list(self._seen):
            if partition not in partitions:
                del self._seen[partition]
        for partition, view in partitions.items():
            behind = view.end is not None and view.done is not None and view.end > view.done
            state = (view.done, view.in_flight > 0 or behind)
            known = self._seen.get(partition)
            if known is None or known[0] != state or not state[1]:
                self._seen[partition] = (state, now)
            elif now - known[1] >= self._timeout_s:
                stalled[partition] = now - known[1]
        return stalled

    def reset(self) -> None:
        """Begin anew, e.g. after a rebalance."""
        self._seen.clear()
