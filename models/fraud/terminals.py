"""The transactions of every terminal with their late labels, and exact delayed windows over them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.cells import Cells
from models.fraud import series as store
from models.fraud import terminal_windows as ask
from models.fraud.blocks import DAY_MS, NEVER, TIME_LIMIT_MS, WINDOWS_MS, WITNESSES, Int64
from models.fraud.keys import Keys

__all__ = ["COLUMNS", "TerminalHistory", "warm_up"]

COLUMNS = ask.COLUMNS


class TerminalHistory:
    """What each terminal did, as far as its labels were known: shares of fraud over 1, 7 and 30 days, shifted back.

    What `windows` answers is a function of the sets of transactions and labels that have come, not of their order, nor
    of how they were batched or how often they came:

    - A label belongs to the transactions of its terminal with its event time and hash. Of several labels the one with
      the largest label time counts, fraud before genuine where they are equal; the others are forgotten. One that
      comes before its transaction waits for it.
    - The watermark is the 16th largest event time so far, so up to 15 absurd times in the future move nothing.
      Transactions that are older than the watermark by more than delay + 30 days + lateness count for nothing and are
      dropped, a few terminals a call; so are labels of such ones. Up to `lateness_ms` behind the watermark, every
      window is exact.

    A query costs a few binary searches in what its terminal holds, plus a look at each fraud of the terminal's last 30
    days that can be unknown at the query's time, which is none where no label comes later than `delay_ms` after its
    transaction. An entry takes 24 bytes, an eighth to spare, and at times a third more until it is pushed together.

    Not thread-safe: one call at a time, from any thread. The compiled parts release the GIL.

    Args:
        delay_ms: how long, in ms, labels are given to come: windows end so long before the event.
        lateness_ms: how far behind the watermark, in ms, windows are still exact.

    Attributes:
        waiting: labels that wait for their transaction now.
        expired: labels that came for a transaction too old to be held, or that waited until it would have been; the
            latter are counted when their terminal has its turn to be looked through.
    """

    def __init__(self, delay_ms: int = 7 * DAY_MS, lateness_ms: int = DAY_MS) -> None:
        if not (0 <= delay_ms <= TIME_LIMIT_MS and 0 <= lateness_ms <= TIME_LIMIT_MS):
            raise ValueError(
                f"making a terminal history: delay_ms and lateness_ms must be within 0 and {TIME_LIMIT_MS}, "
                f"got {delay_ms} and {lateness_ms}"
            )
        self.waiting = 0
        self.expired = 0
        self._delay = delay_ms
        self._span = delay_ms + WINDOWS_MS[-1] + lateness_ms
        self._index = Keys()
        self._entries, self._frauds, self._waiting = store.empty(), store.empty(), store.empty()
        self._held = np.zeros(0, np.bool_)  # rows that belong to a terminal
        self._lags = np.zeros(0, np.int64)  # at most so long after its transaction came any label of a row
        self._top = np.full(WITNESSES, NEVER, np.int64)  # largest event times, ascending; the first is the watermark
        self._seen: dict[int, int] = {}  # source -> largest offset
        self._cursor = 0
        self._new_rows = 0  # by the call in hand

    def __len__(self) -> int:
        """Terminals held: those with a transaction or a waiting label, and some that have just lost their last."""
        return len(self._index)

    @property
    def nbytes(self) -> int:
        """Memory held, in bytes: arrays with their spare room, the table of terminals and their keys."""
        arrays = (*self._entries, *self._frauds, *self._waiting, self._held, self._lags, self._top)
        return sum(array.nbytes for array in arrays) + self._index.nbytes

    @property
    def covered_ms(self) -> int:
        """From the oldest transaction held to the watermark, in ms; 0 while there is none."""
        series = self._entries
        rows = series.rows[series.rows[:, store.ROOM] > 0]
        if not len(rows) or self._top[0] == NEVER:
            return 0
        oldest = series.words[rows[:, store.PIECE] + store.HEADER + rows[:, store.FROM]].min()
        return int(self._top[0] - oldest)

    def append(
        self,
        source: int,
        offsets: Int64,
        terminals: Sequence[bytes],
        event_time_ms: Int64,
        transaction_hash: Int64,
    ) -> None:
        """Add transactions of one source partition; those at or before its largest offset so far do nothing.

        Args:
            source: the partition.
            offsets: int64 [n], not negative, ascending but for repeats.
            terminals: n terminal keys, any bytes.
            event_time_ms: int64 [n], ms since the epoch.
            transaction_hash: int64 [n], by which labels find their transaction, among those of the same terminal and
                event time.

        Raises:
            ValueError, TypeError: an argument is not of that form. Nothing has been added then.
        """
        action = "adding transactions to terminal history"
        _check(action, terminals, offsets=offsets, event_time_ms=event_time_ms, transaction_hash=transaction_hash)
        if not len(terminals):
            return
        if offsets.min() < 0:
            raise ValueError(f"{action}: offsets must not be negative, got {offsets!r}; nothing has been added")
        seen = np.maximum.accumulate(np.append(self._seen.get(source, -1), offsets))
        fresh = offsets > seen[:-1]
        top = self._top.copy()
        ask.witness_all(top, event_time_ms[fresh])
        horizon = self._horizon(top)
        kept = fresh & (event_time_ms > horizon)
        rows = self._rows(terminals, kept)
        self._top, self._seen[source] = top, int(seen[-1])
        order = np.lexsort((transaction_hash[kept], event_time_ms[kept], rows))
        added = rows[order], event_time_ms[kept][order], transaction_hash[kept][order]
        labels, claimed = ask.claim(self._entries, self._waiting, *added)
        store.insert(self._entries, horizon, *added, labels)
        store.insert(self._frauds, horizon, *_chosen(labels & 1 == 1, *added, labels))
        store.remove(self._waiting, *_chosen(claimed, *added))
        self.waiting -= int(np.count_nonzero(claimed))
        self._sweep(len(terminals), horizon)

    def label(
        self,
        terminals: Sequence[bytes],
        event_time_ms: Int64,
        transaction_hash: Int64,
        fraud: NDArray[np.bool_],
        label_time_ms: Int64,
    ) -> None:
        """Add labels, in any order, before or after their transactions, once or again.

        Args:
            terminals: n terminal keys.
            event_time_ms: int64 [n], of the transaction.
            transaction_hash: int64 [n].
            fraud: bool [n].
            label_time_ms: int64 [n], since when it has been known.

        Raises:
            ValueError, TypeError: an argument is not of that form. Nothing has been added then.
        """
        _check(
            "adding labels to terminal history", terminals, event_time_ms=event_time_ms,
            transaction_hash=transaction_hash, label_time_ms=label_time_ms, fraud=fraud,
        )  # fmt: skip
        if not len(terminals):
            return
        horizon = self._horizon(self._top)
        kept = event_time_ms > horizon
        rows = self._rows(terminals, kept)
        self.expired += len(terminals) - len(rows)
        times, hashes, labels = event_time_ms[kept], transaction_hash[kept], 2 * label_time_ms[kept] + fraud[kept]
        np.maximum.at(self._lags, rows, label_time_ms[kept] - times)
        order = np.lexsort((labels, hashes, times, rows))
        *keys, labels = (column[order] for column in (rows, times, hashes, labels))
        counts = np.ones(len(order), np.bool_)  # the last one of its key: the label that counts
        counts[:-1] = np.any([column[1:] != column[:-1] for column in keys], axis=0)
        new = _chosen(counts, *keys, labels)
        fates = ask.relabel(self._entries, self._frauds, self._waiting, *new)
        store.insert(self._frauds, horizon, *(np.repeat(column, np.maximum(fates, 0)) for column in new))
        store.remove(self._frauds, *_chosen(fates == ask.CLEARED, *new[:3]))
        store.insert(self._waiting, NEVER, *_chosen(fates == ask.WAIT, *new))  # only a sweep counts what expires
        self.waiting += int(np.count_nonzero(fates == ask.WAIT))
        self._sweep(len(terminals), horizon)

    def windows(self, terminals: Sequence[bytes], event_time_ms: Int64) -> NDArray[np.float64]:
        """What each terminal had done before an event at time t, as it was known at t; changes nothing.

        The windows are (t - delay - W, t - delay]. A label counts if its time is at most t, and a transaction without
        one that counts is taken for genuine. Columns, as in `COLUMNS`:

        - count and share of fraud (0 where the count is 0) for 1, 7 and 30 days;
        - run: number of frauds in a row at the end of the 30 days, up to 64; run_age_days: age of the first of those,
          99 where there is none;
        - last_fraud_age_days: age of the last fraud of the 30 days; last_genuine_age_days: of the last genuine
          transaction, among the last 64; both at most 99, and 99 where there is none.

        An age is t less the transaction's event time. Of transactions with equal times, the larger hash is the later.

        Args:
            terminals: n terminal keys; an unknown one has done nothing.
            event_time_ms: int64 [n].

        Returns:
            float64 [n, 10].

        Raises:
            ValueError, TypeError: an argument is not of that form.
        """
        _check("asking terminal history", terminals, event_time_ms=event_time_ms)
        rows = self._index.find(terminals)
        answers = np.empty((len(terminals), len(COLUMNS)), np.float64)
        horizon = self._horizon(self._top)
        now = event_time_ms.copy()  # kernels are compiled for arrays that are contiguous and may be written
        ask.look(self._entries, self._frauds, self._lags, rows, now, self._delay, horizon, answers)
        return answers

    def snapshot(self) -> dict[bytes, list[tuple[int, int, int | None, bool]]]:
        """All that counts, as terminal -> [(event_time_ms, hash, label_time_ms or None, fraud)]; for comparisons."""
        horizon = self._horizon(self._top)
        held: dict[bytes, list[tuple[int, int, int | None, bool]]] = {}
        for key, row in self._index.items():
            piece, first, until, room = self._entries.rows[row].tolist()
            columns = self._entries.words[piece + store.HEADER :][: store.ENTRY_WORDS * room]
            entries = [
                (time, number, None if label == ask.UNKNOWN else label >> 1, label & 1 == 1)
                for time, number, label in columns.reshape(store.ENTRY_WORDS, room)[:, first:until].T.tolist()
                if time > horizon
            ]
            if entries:
                held[key] = entries
        return held

    def _horizon(self, top: Int64) -> int:
        """Transactions up to here count for nothing."""
        watermark = int(top[0])
        return NEVER if watermark == NEVER else watermark - self._span

    def _rows(self, terminals: Sequence[bytes], kept: NDArray[np.bool_]) -> Int64:
        """Rows of the terminals that are kept; those that are new have got one."""
        chosen = terminals if kept.all() else Cells.of(terminals).take(np.flatnonzero(kept))
        terminals_before = len(self._index)
        rows = self._index.rows(chosen)
        self._new_rows = len(self._index) - terminals_before
        size = len(self._held)
        if self._index.rows_used > size:
            size = store.grown(size, self._index.rows_used)
            for series in (self._entries, self._frauds, self._waiting):
                series.rows.resize((size, store.ROW_WORDS), refcheck=False)
            self._held.resize(size, refcheck=False)
            self._lags.resize(size, refcheck=False)
        self._held[rows] = True
        return rows

    def _sweep(self, applied: int, horizon: int) -> None:
        """Look through a few rows, and drop what is too old, also terminals that have nothing left."""
        rows = self._index.rows_used
        steps = min(applied // 8 + 2 * self._new_rows + 64, rows)  # old terminals leave twice as fast as new ones come
        if not steps or horizon == NEVER:
            return
        gone, expired = ask.sweep(
            self._entries, self._frauds, self._waiting, self._held[:rows], self._cursor, steps, horizon
        )  # fmt: skip
        self._cursor = (self._cursor + steps) % rows
        self.waiting -= int(expired)
        self.expired += int(expired)
        self._lags[gone] = 0
        self._index.forget(gone)
        self._index.recycle(gone)
        for series in (self._entries, self._frauds, self._waiting):
            store.tidy(series)


def warm_up() -> None:
    """Compile the kernels, or load them from the cache on disk, so that the first batch need not wait."""
    history = TerminalHistory(0, 0)
    times = np.repeat(np.array([0, 365 * DAY_MS]), WITNESSES)
    for at in range(0, len(times), WITNESSES):
        batch = times[at : at + WITNESSES]
        hashes = np.arange(WITNESSES)
        for fraud in (True, False):
            history.label([b""] * WITNESSES, batch, hashes, np.full(WITNESSES, fraud), batch + at + (not fraud))
        history.append(0, hashes + at, [b""] * WITNESSES, batch, hashes)
    history.windows([b""] * len(times), times)
    store.compact(history._entries)


def _chosen(mask: NDArray[np.bool_], *columns: Int64) -> tuple[Int64, ...]:
    return tuple(column[mask] for column in columns)


def _check(action: str, terminals: Sequence[bytes], **columns: NDArray[Any]) -> None:
    n = len(terminals)
    for name, column in columns.items():
        dtype = np.dtype(np.bool_ if name == "fraud" else np.int64)
        if not isinstance(column, np.ndarray) or column.dtype != dtype or column.shape != (n,):
            got = f"{column.dtype} {list(column.shape)}" if isinstance(column, np.ndarray) else repr(column)
            raise ValueError(f"{action}: expected {name} as {dtype} [{n}], got {got}; nothing has been done")
        if name.endswith("_ms") and n and (column.min() < -TIME_LIMIT_MS or column.max() > TIME_LIMIT_MS):
            raise ValueError(
                f"{action}: {name} must be within ±{TIME_LIMIT_MS} ms, got {column!r}; nothing has been done"
            )
