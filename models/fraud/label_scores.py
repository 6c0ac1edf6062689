"""The scores of some weeks, waiting for the labels of their transactions."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from models.fraud.blocks import NEVER, Int64
from models.fraud.label_rows import HashedRows, Hashes, Rows

SCORE = np.dtype(
    [("event_time_ms", "i8"), ("score", "f4"), ("verdict", "u4"), ("partition", "u2"), ("flagged", "?"), ("late", "?")]
)
CARD = np.dtype([("event_time_ms", "i8")])
LEAST_SCORES = 1 << 20  # 28 MB: labels of quiet streams may be read in batches that span years
SWEEPS = 64  # a sweep each time the horizon has moved by so small a part of the memory


class ScoreHistory:
    """The scores of transactions up to `memory_ms` older than the newest, found by transaction, and the cards seen.

    The newest `least` scores are held however old they are.

    What is held is a function of each source partition's records in offset order: a record that comes again does
    nothing, and of several scores of one transaction the first counts. 28 bytes a score, 16 a card.

    Not thread-safe.

    Args:
        memory_ms: how long scores and cards are held, by event time.
        wait_ms: a score is late whose transaction is older than the newest of its partition by more than this.
        least: how many scores are held in any case.

    Attributes:
        newest_ms: the largest event time so far; None before the first score.
    """

    def __init__(self, memory_ms: int, wait_ms: int, least: int = LEAST_SCORES) -> None:
        self.newest_ms: int | None = None
        self._memory, self._wait, self._least = memory_ms, wait_ms, least
        self._horizon = NEVER  # what is older is forgotten
        self._scores, self._cards = HashedRows(SCORE), HashedRows(CARD)
        self._next: dict[int, int] = {}
        self._newest: dict[int, int] = {}
        self._swept = NEVER

    def __len__(self) -> int:
        """Scores held; a few may be older than the memory."""
        return len(self._scores)

    @property
    def nbytes(self) -> int:
        """Memory held, in bytes."""
        return self._scores.nbytes + self._cards.nbytes

    def newest_of(self, partition: int) -> int | None:
        """The largest event time of a source partition so far, in ms; None before its first score."""
        return self._newest.get(partition)

    def append(
        self,
        partition: int,
        offsets: Int64,
        transactions: Hashes,
        cards: Hashes,
        event_time_ms: Int64,
        scores: NDArray[np.float32],
        flagged: NDArray[np.bool_],
        verdicts: NDArray[np.uint32],
    ) -> None:
        """Add n scores of one source partition, in offset order; those at or before its last offset do nothing.

        Args:
            transactions, cards: uint64 [n], hashes.
            verdicts: uint32 [n], whatever the caller wants to find again.
        """
        fresh = offsets >= self._next.get(partition, 0)
        if not fresh.any():
            return
        times = event_time_ms[fresh]
        seen = np.maximum.accumulate(np.append(self._newest.get(partition, NEVER + self._wait), times))
        rows = np.empty(len(times), SCORE)
        rows["event_time_ms"], rows["partition"], rows["late"] = times, partition, times < seen[:-1] - self._wait
        rows["score"], rows["flagged"], rows["verdict"] = scores[fresh], flagged[fresh], verdicts[fresh]
        self._next[partition], self._newest[partition] = int(offsets[-1]) + 1, int(seen[-1])
        self.newest_ms = max(self._newest.values())
        full = len(self._scores) >= self._least
        kept = times >= (self.newest_ms - self._memory if full else self._horizon)
        self._add(transactions[fresh][kept], rows[kept])
        self._see(cards[fresh][kept], times[kept])
        self._sweep()

    def find(self, transactions: Hashes) -> tuple[NDArray[np.bool_], Rows]:
        """Which of n transactions have a score, bool [n], and it, of type `SCORE` [n]; zeros where there is none."""
        return self._scores.find(transactions)

    def knows(self, cards: Hashes) -> NDArray[np.bool_]:
        """bool [n]: which cards have had a score."""
        return self._cards.find(cards)[0]

    def between(self, after_ms: int, until_ms: int, partitions: Collection[int]) -> tuple[Hashes, Rows]:
        """Transactions and scores with an event time in (after_ms, until_ms], of these source partitions; a copy."""
        hashes, rows = [np.empty(0, np.uint64)], [np.empty(0, SCORE)]
        wanted = np.array(sorted(partitions), np.uint16)
        for run in self._scores.runs():
            times = run.rows["event_time_ms"]
            chosen = np.flatnonzero((times > after_ms) & (times <= until_ms))
            chosen = chosen[np.isin(run.rows["partition"][chosen], wanted)]
            hashes.append(run.hashes[chosen])
            rows.append(run.rows[chosen])
        return np.concatenate(hashes), np.concatenate(rows)

    def _add(self, transactions: Hashes, rows: Rows) -> None:
        unique, first = np.unique(transactions, return_index=True)
        held, _ = self._scores.find(unique)
        self._scores.put(unique[~held], rows[first[~held]])

    def _see(self, cards: Hashes, times: Int64) -> None:
        unique, inverse = np.unique(cards, return_inverse=True)
        _, rows = self._cards.find(unique)
        np.maximum.at(rows["event_time_ms"], inverse, times)
        self._cards.put(unique, rows)

    def _sweep(self) -> None:
        """Forget what is too old; not at every call, since it looks at every score."""
        newest = self.newest_ms or 0
        if self._swept == NEVER:
            self._swept = newest
        if newest < self._swept + self._memory // SWEEPS + 1 or len(self._scores) <= self._least:
            return
        self._swept = newest
        times = np.concatenate([run.rows["event_time_ms"] for run in self._scores.runs()])
        spared = np.partition(times, -self._least)[-self._least] if self._least else newest
        self._horizon = max(self._horizon, min(newest - self._memory, int(spared)))
        for held in (self._scores, self._cards):
            held.drop(lambda rows: rows["event_time_ms"] >= self._horizon)
