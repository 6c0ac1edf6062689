"""Transactions in, fraud flags out: exact history per card, a small network, reasons for what is flagged."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any, Self, cast

import msgspec
import numpy as np
from numpy.typing import NDArray

from models import repository
from models.engine import Engine
from models.fraud.explain import Reason as Explained
from models.fraud.explain import reasons
from models.fraud.features import FEATURES, features
from models.fraud.history import CardHistory, warm_up
from streams.clock import Clock, SystemClock
from streams.errors import PoisonEvent
from streams.pipeline import Decoded, Rows
from streams.records import RecordBatch
from streams.schemas import FraudFlag, Reason, Transaction
from streams.settings import Fraud

EARLIEST_MS = 946_684_800_000  # 2000; what seems older is mostly seconds taken for milliseconds
SCORE_DIGITS = 6
_NEEDS_ESCAPE = re.compile(r'[\x00-\x1f"\\]').search  # what a JSON string cannot hold as it is


@dataclass(slots=True)
class Transactions:
    """Decoded transactions, columnar; `keys` are the card ids as bytes."""

    events: list[Transaction]
    keys: list[bytes]
    amount: NDArray[np.float64]
    event_time_ms: NDArray[np.int64]
    offset: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.events)

    def take(self, rows: Rows) -> Self:
        picked = rows.tolist()
        return type(self)(
            [self.events[row] for row in picked],
            [self.keys[row] for row in picked],
            self.amount[rows],
            self.event_time_ms[rows],
            self.offset[rows],
        )


class FraudPipeline:
    """The fraud domain, as `streams.pipeline.Pipeline` asks for it.

    Poison is: a value over the size limit, bytes that are not the schema's JSON, a negative or non-finite amount, a key
    that is not the card id (its state would be on another partition), an event time before 2000 or further ahead of
    the clock than `max_future_s`.
    """

    name = "fraud"

    def __init__(self, settings: Fraud, clock: Clock | None = None) -> None:
        root = repository.ZOO if settings.models is None else Path(settings.models)
        loaded = repository.load(root, settings.model, settings.version)
        self._loaded = loaded
        self._engine: Engine = repository.open_engine(loaded, settings.engine)
        self._settings = settings
        self._clock = clock or SystemClock()
        self.input_topic = settings.input
        self.output_topic = settings.output
        self.model = loaded.reference
        self.engine = self._engine.name
        thresholds = loaded.manifest.thresholds
        self._flag, self._decline = thresholds["flag"], thresholds["decline"]
        self._baseline = np.array([loaded.manifest.baseline[name] for name in FEATURES], np.float32)
        self._decode = msgspec.json.Decoder(Transaction).decode
        self._encode = msgspec.json.Encoder().encode

    def warm_up(self) -> None:
        warm_up()

    def new_store(self) -> CardHistory:
        return CardHistory()

    def decode(self, batch: RecordBatch) -> Decoded[Transactions]:
        events, poison = self._parse(batch.values)
        rows = np.arange(len(batch))
        record_keys: Sequence[bytes | None] = batch.keys
        if poison:
            rows = np.delete(rows, list(poison))
            record_keys = [batch.keys[row] for row in rows.tolist()]
        columns = Transactions(
            events,
            _card_keys(events, record_keys),
            np.array([event.amount for event in events], np.float64),
            _milliseconds([event.event_time for event in events]),
            np.array(batch.offsets, np.int64)[rows],
        )
        return self._validate(Decoded(columns, rows, poison), record_keys)

    def _parse(self, values: Sequence[bytes | None]) -> tuple[list[Transaction], dict[int, PoisonEvent]]:
        events: list[Transaction] = []
        poison: dict[int, PoisonEvent] = {}
        try:
            harmless = max(map(len, values), default=0) <= self._settings.max_value_bytes  # type: ignore[arg-type]
        except TypeError:
            harmless = False  # a tombstone
        decode: Callable[[Any], Transaction] = self._decode if harmless else self._decode_checked
        row = 0
        while row < len(values):
            known = len(events)
            try:
                events.extend(map(decode, islice(values, row, None)))
                break
            except (PoisonEvent, msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
                row += len(events) - known  # extend keeps what came before the error
                poison[row] = _poison(error)
                row += 1
        return events, poison

    def _decode_checked(self, value: bytes | None) -> Transaction:
        if value is None:
            raise PoisonEvent("decode", "expected a transaction, got a tombstone", "Tombstone")
        if len(value) > self._settings.max_value_bytes:
            limit = self._settings.max_value_bytes
            raise PoisonEvent("decode", f"expected at most {limit} bytes, got {len(value)}", "ValueTooLarge")
        return self._decode(value)

    def _validate(self, decoded: Decoded[Transactions], record_keys: Sequence[bytes | None]) -> Decoded[Transactions]:
        columns, rows, poison = decoded.columns, decoded.rows.tolist(), decoded.poison
        latest = int((self._clock.time() + self._settings.max_future_s) * 1000)
        bad = (columns.event_time_ms < EARLIEST_MS) | (columns.event_time_ms > latest)
        for place in np.flatnonzero(bad).tolist():
            message = (
                f"expected event_time between 2000 and {self._settings.max_future_s:g} s ahead of the clock, "
                f"got {columns.events[place].event_time!s}"
            )
            poison[rows[place]] = PoisonEvent("decode", message, "EventTimeAbsurd")
        if record_keys != columns.keys:
            for place, (got, card) in enumerate(zip(record_keys, columns.keys, strict=True)):
                if got != card:
                    bad[place] = True
                    message = f"expected the record's key to be its card_id {card!r}, got {got!r}"
                    poison[rows[place]] = PoisonEvent("decode", message, "KeyMismatch")
        if not bad.any():
            return decoded
        good = np.flatnonzero(~bad)
        return Decoded(columns.take(good), decoded.rows[good], poison)

    def features(self, columns: Transactions, store: CardHistory) -> NDArray[np.float32]:
        windows = store.update(columns.keys, columns.event_time_ms, columns.amount, columns.offset)
        return features(columns.amount, columns.event_time_ms, windows)

    def infer(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        return self._engine.infer({"features": features})["score"]

    def encode(
        self, columns: Transactions, features: NDArray[np.float32], predictions: NDArray[np.float32]
    ) -> list[bytes]:
        times = np.datetime_as_string(columns.event_time_ms.view("M8[ms]"), unit="ms").tolist()
        scores = np.round(predictions.astype(np.float64), SCORE_DIGITS).tolist()
        events = columns.events
        if _NEEDS_ESCAPE("".join([event.transaction_id + event.card_id for event in events])) is None:
            # Nearly all are approved, and then only four fields differ: this is three times a general encoder's speed.
            tail = f',"flagged":false,"decision":"approve","model":"{self.model}","reasons":[]}}'
            lines = [
                f'{{"transaction_id":"{event.transaction_id}","card_id":"{event.card_id}",'
                f'"event_time":"{time}Z","score":{score}{tail}'
                for event, time, score in zip(events, times, scores, strict=True)
            ]
            values = "\n".join(lines).encode().split(b"\n")
        else:
            values = [
                self._encode(self._flag_of(event, time, score))
                for event, time, score in zip(events, times, scores, strict=True)
            ]
        for row, found in self._explain(features, predictions):
            flag = self._flag_of(events[row], times[row], scores[row])
            flag.flagged = True
            flag.decision = "decline" if predictions[row] >= self._decline else "review"
            flag.reasons = [Reason(name, round(value, 4), round(share, 4)) for name, value, share in found]
            values[row] = self._encode(flag)
        return values

    def _flag_of(self, event: Transaction, time: str, score: float) -> FraudFlag:
        return FraudFlag(event.transaction_id, event.card_id, f"{time}Z", score, False, "approve", self.model)

    def _explain(
        self, features: NDArray[np.float32], predictions: NDArray[np.float32]
    ) -> Iterable[tuple[int, list[Explained]]]:
        """Row and reasons of every transaction at or above the flag threshold."""
        flagged = np.flatnonzero(predictions >= self._flag)
        explained = reasons(self.infer, features[flagged], predictions[flagged], self._baseline)
        return zip(flagged.tolist(), explained, strict=True)

    def check_model(self) -> None:
        self._loaded.golden().replay(self._engine, self._loaded.manifest.golden, self._loaded.reference)

    def close(self) -> None:
        """Release the engine."""
        self._engine.close()


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


def _milliseconds(times: list[datetime | int]) -> NDArray[np.int64]:
    try:
        return np.array(times, np.int64)
    except (TypeError, OverflowError):
        return np.array([_clip(time) for time in times], np.int64)


def _clip(time: datetime | int) -> int:
    """Milliseconds since the epoch; numbers beyond int64 become its bounds, which are absurd anyway."""
    milliseconds = round(time.timestamp() * 1000) if isinstance(time, datetime) else time
    return max(min(milliseconds, 2**63 - 1), -(2**63))


def _poison(error: Exception) -> PoisonEvent:
    if isinstance(error, PoisonEvent):
        return error
    return PoisonEvent("decode", _lower(str(error)), type(error).__name__)


def _lower(text: str) -> str:
    return text if text[1:2].isupper() else text[:1].lower() + text[1:]
