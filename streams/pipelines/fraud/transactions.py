"""Transactions off the wire: decoded, validated, columnar."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self, cast

import numpy as np
from numpy.typing import NDArray

from streams.clock import Clock
from streams.decoding import EARLIEST_MS, EventDecoder, wrong_keys
from streams.errors import PoisonEvent
from streams.pipeline import Decoded, Rows, without
from streams.records import RecordBatch
from streams.schemas import Transaction, milliseconds
from streams.settings import Fraud


@dataclass(slots=True)
class Transactions:
    """Decoded transactions, columnar; `keys` are the card ids, all ids as bytes."""

    events: list[Transaction]
    keys: list[bytes]
    terminals: list[bytes]
    amount: NDArray[np.float64]
    event_time_ms: NDArray[np.int64]
    offset: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.events)

    @property
    def transaction_ids(self) -> list[bytes]:
        """Made anew on each call."""
        return [event.transaction_id.encode() for event in self.events]

    def take(self, rows: Rows) -> Self:
        picked = rows.tolist()
        return type(self)(
            [self.events[row] for row in picked],
            [self.keys[row] for row in picked],
            [self.terminals[row] for row in picked],
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

    def good(self, batch: RecordBatch) -> Transactions:
        """The good ones alone."""
        return self(batch).columns

    def __call__(self, batch: RecordBatch) -> Decoded[Transactions]:
        """Parse and validate; a bad record is an entry in `poison`, never an exception."""
        events, rows, poison = self._events.decode(batch.values)
        record_keys: Sequence[bytes | None] = batch.keys
        if poison:
            record_keys = [batch.keys[row] for row in rows.tolist()]
        columns = Transactions(
            events,
            _card_keys(events, record_keys),
            [event.terminal_id.encode() for event in events],
            np.array([event.amount for event in events], np.float64),
            milliseconds([event.event_time for event in events]),
            np.array(batch.offsets, np.int64)[rows],
        )
        wrong = wrong_keys(record_keys, "card_id", columns.keys) | self._absurd_times(columns)
        return without(Decoded(columns, rows, poison), wrong)

    def _absurd_times(self, columns: Transactions) -> dict[int, PoisonEvent]:
        absurd = (columns.event_time_ms < EARLIEST_MS) | (columns.event_time_ms > self.latest_ms())
        return {
            place: PoisonEvent(
                "decode",
                f"expected event_time between 2000 and {self._settings.max_future_s:g} s ahead of the clock, "
                f"got {columns.events[place].event_time!s}",
                "EventTimeAbsurd",
            )
            for place in np.flatnonzero(absurd).tolist()
        }


def _card_keys(events: list[Transaction], record_keys: Sequence[bytes | None]) -> list[bytes]:
    """The card ids as bytes. Producers key by card, so nearly always the records' own keys are just that."""
    cards = [event.card_id for event in events]
    keys = cast(list[bytes], record_keys)
    try:
        # Equal when joined and cut at the same places; the cuts are comparable while every character is one byte.
        joined, text = b"".join(keys), "".join(cards)
        if text.isascii() and joined == text.encode() and [*map(len, cards)] == [*map(len, keys)]:
            return keys
    except TypeError:
        pass  # a record without a key
    return [card.encode() for card in cards]
