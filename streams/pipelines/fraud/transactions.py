"""Transactions off the wire: decoded, validated, columnar."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from models.cells import Cells
from streams.clock import Clock
from streams.decoding import EARLIEST_MS, EventDecoder, wrong_keys
from streams.errors import PoisonEvent
from streams.pipeline import Decoded, Rows, without
from streams.records import RecordBatch
from streams.schemas import Transaction, milliseconds
from streams.settings import Fraud


@dataclass(slots=True)
class Transactions:
    """Decoded transactions, columnar; `keys` are the card ids."""

    events: list[Transaction]
    transaction_ids: Cells[bytes]
    keys: Cells[bytes]
    terminals: Cells[bytes]
    amount: NDArray[np.float64]
    event_time_ms: NDArray[np.int64]
    offset: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.events)

    def take(self, rows: Rows) -> Self:
        return type(self)(
            [self.events[row] for row in rows.tolist()],
            self.transaction_ids.take(rows),
            self.keys.take(rows),
            self.terminals.take(rows),
            self.amount[rows],
            self.event_time_ms[rows],
            self.offset[rows],
        )


class TransactionDecoder:
    """Record batches of transactions as columns; any thread may have one.

    Poison is: a value over the size limit, bytes that are not the schema's JSON, a negative or non-finite amount, a key
    that is not the card id (its state would be on another partition), an event time before 2000 or further ahead of
    the clock than `max_future_s`.
    """

    def __init__(self, settings: Fraud, clock: Clock) -> None:
        self._settings, self._clock = settings, clock
        self._events = EventDecoder(Transaction, "a transaction", settings.max_value_bytes)

    def latest_ms(self) -> int:
        """The latest time that is not absurd, now."""
        return int((self._clock.time() + self._settings.max_future_s) * 1000)

    def first_time(self, batch: RecordBatch) -> int | None:
        """Event time in ms of the first event; None where it is not a good one."""
        events, _, _ = self._events.decode(batch.values[:1])
        return int(milliseconds([event.event_time for event in events])[0]) if events else None

    def good(self, batch: RecordBatch) -> Transactions:
        """The good ones alone."""
        return self(batch).columns

    def __call__(self, batch: RecordBatch) -> Decoded[Transactions]:
        """Parse and validate; a bad record is an entry in `poison`, never an exception."""
        events, rows, poison = self._events.decode(batch.values)
        columns = Transactions(
            events,
            Cells.of_text([event.transaction_id for event in events]),
            Cells.of_text([event.card_id for event in events]),
            Cells.of_text([event.terminal_id for event in events]),
            np.array([event.amount for event in events], np.float64),
            milliseconds([event.event_time for event in events]),
            np.array(batch.offsets, np.int64)[rows],
        )
        keys = [batch.keys[row] for row in rows.tolist()] if poison else batch.keys
        return without(Decoded(columns, rows, poison), _wrong_keys(keys, columns.keys) | self._absurd_times(columns))

    def _absurd_times(self, columns: Transactions) -> dict[int, PoisonEvent]:
        absurd = (columns.event_time_ms < EARLIEST_MS) | (columns.event_time_ms > self.latest_ms())
        return {
            place: PoisonEvent(
                "decode",
                f"expected event_time, RFC 3339 or milliseconds since the epoch, between the year 2000 and "
                f"{self._settings.max_future_s:g} s ahead of the clock, got {columns.events[place].event_time!s}",
                "EventTimeAbsurd",
            )
            for place in np.flatnonzero(absurd).tolist()
        }


def _wrong_keys(keys: Sequence[bytes | None], cards: Cells[bytes]) -> dict[int, PoisonEvent]:
    """Producers key by card, so nearly always there are none."""
    return {} if cards.same_as(Cells.of(keys)) else wrong_keys(keys, "card_id", list(cards))
