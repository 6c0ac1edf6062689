"""The recent transactions of every card of one partition, and exact windows over them."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from heapq import nlargest
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.cells import Cells
from models.fraud import blocks as store
from models.fraud import changelog
from models.fraud.blocks import DAY_MS, TIME_LIMIT_MS, WINDOWS_MS, Int64
from models.fraud.changelog import HistoryCorrupt
from models.fraud.habits import COLUMNS
from models.fraud.keys import Keys
from models.fraud.windows import apply

__all__ = ["WINDOWS_MS", "CardHistory", "HistoryCorrupt", "warm_up"]

AMOUNT_LIMIT = 1e10  # 900 of these still add up exactly
GROWTH = 8  # slabs grow by an eighth
SMALLEST_SLAB = 1024


class CardHistory:
    """The keyed state of one partition: per card exact counts, sums and means over 1, 7 and 30 days of event time.

    What an event sees is a function of the events with smaller offsets alone, however they were batched, and whether
    they came once, again, or out of a restored changelog:

    - A window is (t - W, t] of the event's own time t, over the card's events up to its offset, itself included.
      Amounts are held as whole millionths, so sums do not depend on the order.
    - The watermark is the 16th largest event time so far, so up to 15 absurd times in the future move nothing. Events
      older than the watermark less 30 days less `lateness_ms` count for nothing: one that arrives that late sees only
      itself and is not kept, and a card that holds nothing younger is dropped. Up to `lateness_ms` behind the
      watermark, every window is exact.
    - An event whose offset has been applied to its card is a redelivery: it changes nothing, gets the windows that it
      got the first time, and its block is reported by `changes` again. This holds for events up to `redelivery`
      offsets back; what only older ones could need is freed.

    Not thread-safe: one call at a time, from any thread. The compiled parts release the GIL.

    Args:
        lateness_ms: how far behind the watermark, in ms, windows are still exact; memory grows with it plus 30 days.
        redelivery: how many offsets back an event may be delivered again.
    """

    def __init__(self, lateness_ms: int = DAY_MS, redelivery: int = 65_536) -> None:
        if lateness_ms < 0 or redelivery < 0:
            raise ValueError(f"lateness_ms and redelivery must not be negative, got {lateness_ms} and {redelivery}")
        self._span = WINDOWS_MS[-1] + lateness_ms
        self._redelivery = redelivery
        self._index = Keys()
        self._dropped: list[Int64] = []  # rows whose names the next report still needs
        self._slabs = store.Slabs(
            cards=np.zeros((0, store.CARD_WORDS), np.int64),
            blocks=np.zeros((0, store.BLOCK_WORDS), np.int64),
            marks=np.zeros(0, np.uint8),
            touched=np.zeros(0, np.int32),
            free=np.zeros(0, np.int32),
            scalars=np.array([store.NONE, 0, 0, 0, 0, 0], np.int64),
            top=np.full(store.WITNESSES, store.NEVER, np.int64),
        )
        self._top_is_stale = False
        self._held = np.zeros((0, 2), np.int64)  # what a rewind took from the watermark, to be given back
        self._rewound = False
        self._floor = store.NEVER
        self._watermarks: deque[tuple[int, int]] = deque()  # (offset, watermark) on the way to becoming the floor

    def __len__(self) -> int:
        """Cards held."""
        return len(self._index)

    @property
    def nbytes(self) -> int:
        """Memory held, in bytes: slabs with their spare room, the table of cards and their keys."""
        return sum(slab.nbytes for slab in self._slabs) + self._index.nbytes

    def update(
        self,
        keys: Sequence[bytes],
        event_time_ms: Int64,
        amount: NDArray[np.float64],
        offsets: Int64,
        habits: NDArray[np.float64] | None = None,
    ) -> NDArray[np.float64]:
        """Apply events in the order given, and return each one's windows.

        Args:
            keys: n card keys, any bytes.
            event_time_ms: int64 [n], ms since the epoch.
            amount: float64 [n], finite; kept to the millionth.
            offsets: int64 [n], of one input partition, ascending but for redeliveries.
            habits: float64 [n, 7], written where given, each event against the card's 64 latest before it in 30 days:
                `amount_ratio` (to their mean without those above 2.5 times the mean of the rest: the habit),
                `amount_deviation` (from their mean, in standard deviations plus a fifth of the mean), `unusual_14d`
                (how many in 14 days are above 2.5 times the habit), `largest_14d` (of them, by the habit), `count_1m`
                and `count_1h` (with itself, so at most 65), `since_last_s` (30 days where there is none).

        Returns:
            float64 [n, 9]: count, sum and mean over 1 day, over 7, over 30.

        Raises:
            ValueError, TypeError: an argument is not of that form. Nothing has been applied then.
        """
        _check(keys, event_time_ms, amount, offsets)
        windows = np.empty((len(keys), 9), np.float64)
        if not len(keys):
            return windows
        card_of = self._index.rows(keys)
        self._reserve(len(keys))
        micro = np.rint(amount * store.MICRO).astype(np.int64)
        beside = np.empty((0, len(COLUMNS))) if habits is None else habits
        turns = np.flatnonzero(offsets[1:] <= offsets[:-1]) + 1
        for start, end in zip([0, *turns], [*turns, len(keys)], strict=True):
            run = slice(start, end)
            self._apply(card_of[run], event_time_ms[run], micro[run], offsets[run], windows[run], beside[run])
        self._expire(2 * len(keys) + 64)
        return windows

    def changes(self) -> tuple[Cells[bytes], Cells[bytes | None]]:
        """Report what changed since the last call, as records for a compacted changelog.

        A record is one block of a card's entries: its key the card, a zero byte and the offset of its first entry (8
        bytes, big endian); its value the entries (event time in ms, amount in millionths, offset; 8 bytes each,
        little endian), or `None` for a block that is gone. A block comes once, an older one of a card before a newer,
        so any prefix of the log restores to a state that redelivery completes. To be called regularly, also by who
        keeps no changelog: only then is memory used again.
        """
        slabs = self._slabs
        if self._rewound:
            touched = slabs.touched[: slabs.scalars[store.TOUCHED]]
            touched[:] = touched[np.argsort(slabs.blocks[touched, store.ENTRIES + 2], kind="stable")]
            self._rewound = False
        owners, firsts, ends, entries = changelog.drain(slabs)
        keys, values = changelog.encode(self._index.names(owners), firsts, ends, entries)
        for rows in self._dropped:
            self._index.recycle(rows)
        self._dropped.clear()
        return keys, values

    def merge(self, keys: Sequence[bytes], values: Sequence[bytes | None]) -> None:
        """Restore from records that `changes` wrote, in log order; records may be stale, repeated, or compacted away.

        Raises:
            HistoryCorrupt: a record is none of ours. Nothing of this call has been applied then.
        """
        if len(keys) != len(values):
            raise ValueError(f"restoring card history: {len(keys)} keys do not match {len(values)} values")
        if not len(keys):
            return
        firsts, ends, entries = changelog.decode(keys, values)
        card_of = self._index.rows([key[: -changelog.SUFFIX] for key in keys])
        self._reserve(len(keys))
        empty = changelog.restore(self._slabs, card_of, firsts, ends, entries)
        self._drop(empty)
        self._top_is_stale = True

    def snapshot(self) -> dict[bytes, list[tuple[int, int, int]]]:
        """All that counts, as card -> [(offset, event_time_ms, amount in millionths)] by offset; for comparisons."""
        held: dict[bytes, list[tuple[int, int, int]]] = {}
        for key, card in self._index.items():
            entries: list[tuple[int, int, int]] = []
            block = self._slabs.cards[card, store.TAIL]
            while block != store.NONE:
                row = self._slabs.blocks[block, store.ENTRIES :][: 3 * self._slabs.blocks[block, store.COUNT]]
                entries += [(o, t, a) for t, a, o in row.reshape(-1, 3)[::-1].tolist()]
                block = self._slabs.blocks[block, store.PREV]
            held[key] = entries[::-1]
        top = nlargest(store.WITNESSES, (t for entries in held.values() for _, t, _ in entries))
        horizon = top[-1] - self._span if len(top) == store.WITNESSES else store.NEVER
        counted = {key: [entry for entry in entries if entry[1] > horizon] for key, entries in held.items()}
        return {key: entries for key, entries in counted.items() if entries}

    def _apply(
        self,
        card_of: Int64,
        times: Int64,
        micro: Int64,
        offsets: Int64,
        windows: NDArray[np.float64],
        habits: NDArray[np.float64],
    ) -> None:
        if self._top_is_stale or offsets[0] <= self._slabs.scalars[store.POSITION]:
            self._rewind(int(offsets[0]))
        apply(self._slabs, card_of, times, micro, offsets, self._span, self._floor, self._held, windows, habits)

    def _rewind(self, offset: int) -> None:
        """Set the watermark back to what it was before `offset`: a redelivered event must see it as it did first."""
        held = np.stack(store.witness_again(self._slabs, offset), axis=1)
        self._held = held[np.argsort(held[:, 0])]
        self._slabs.scalars[store.PENDING] = 0
        self._slabs.scalars[store.POSITION] = min(offset - 1, int(self._slabs.scalars[store.POSITION]))
        self._top_is_stale = False
        self._rewound = True
        self._watermarks.clear()

    def _expire(self, steps: int) -> None:
        """Move the floor to the watermark of `redelivery` offsets ago, and drop some of the cards that lie below."""
        position, watermark = int(self._slabs.scalars[store.POSITION]), int(self._slabs.top[0])
        marks = self._watermarks
        if watermark != store.NEVER and (not marks or position >= marks[-1][0] + self._redelivery // 16):
            marks.append((position, watermark))
        while marks and marks[0][0] <= position - self._redelivery:
            self._floor = max(self._floor, marks.popleft()[1] - self._span)
        gone = store.sweep(self._slabs, steps, self._index.rows_used, self._floor)
        self._drop(gone)

    def _drop(self, cards: Int64) -> None:
        if len(cards):
            self._index.forget(cards)
            self._dropped.append(cards)

    def _reserve(self, events: int) -> None:
        """Make room for as many new blocks, and for the cards that have got a row."""
        slabs, rows = self._slabs, len(self._slabs.cards)
        if self._index.rows_used > rows:
            slabs.cards.resize((_grown(rows, self._index.rows_used), store.CARD_WORDS), refcheck=False)
            slabs.cards[rows:, store.NEWEST] = store.VACANT
        needed = int(slabs.scalars[store.USED]) + max(0, events - int(slabs.scalars[store.FREE]))
        if needed > len(slabs.blocks):
            size = max(_grown(len(slabs.blocks), needed), needed + events)  # or the next call would grow them again
            slabs.blocks.resize((size, store.BLOCK_WORDS), refcheck=False)  # moves pages, where the C library can
            for slab in (slabs.marks, slabs.touched, slabs.free):
                slab.resize(size, refcheck=False)


def warm_up() -> None:
    """Compile the kernels, or load them from the cache on disk, so that the first batch need not wait."""
    history = CardHistory()
    one = np.zeros(1, np.int64)
    history.update([b""], one, np.zeros(1), one)
    history.update([b""], one, np.zeros(1), one)
    CardHistory().merge(*history.changes())


def _grown(size: int, needed: int) -> int:
    return max(needed, size + size // GROWTH, SMALLEST_SLAB)


def _check(keys: Sequence[bytes], times: Int64, amount: NDArray[np.float64], offsets: Int64) -> None:
    columns: list[tuple[str, NDArray[Any], Any]] = [
        ("event_time_ms", times, np.int64), ("amount", amount, np.float64), ("offsets", offsets, np.int64)
    ]  # fmt: skip
    for name, column, dtype in columns:
        if column.dtype != dtype or column.shape != (len(keys),):
            raise ValueError(
                f"updating card history: expected {name} as {dtype.__name__} [{len(keys)}], "
                f"got {column.dtype} {list(column.shape)}"
            )
    if not len(keys):
        return
    if not np.abs(amount).max() <= AMOUNT_LIMIT:
        raise ValueError(f"updating card history: amounts must be finite and within ±{AMOUNT_LIMIT:g}, got {amount!r}")
    if times.min() < -TIME_LIMIT_MS or times.max() > TIME_LIMIT_MS:
        raise ValueError(f"updating card history: event times must be within ±{TIME_LIMIT_MS} ms, got {times!r}")
    if offsets.min() < 0:
        raise ValueError(f"updating card history: offsets must not be negative, got {offsets!r}")
