"""From record values to events: JSON by its schema, under a limit on its size; a bad one is poison by itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any, Generic, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from streams.errors import PoisonEvent

EARLIEST_MS = 946_684_800_000  # 2000; what seems older is mostly seconds taken for milliseconds

E = TypeVar("E")


class EventDecoder(Generic[E]):
    """Decodes record values into events of one message type. Thread-safe.

    Args:
        message: the msgspec struct.
        noun: what an event is, for errors: "a transaction".
        max_value_bytes: a longer value is poison before anybody parses it.
    """

    def __init__(self, message: type[E], noun: str, max_value_bytes: int) -> None:
        self._decode = msgspec.json.Decoder(message).decode
        self._noun, self._max_value_bytes = noun, max_value_bytes

    def decode(self, values: Sequence[bytes | None]) -> tuple[list[E], NDArray[np.intp], dict[int, PoisonEvent]]:
        """The good events, int [n] the row that each came from, and row -> why it can never succeed."""
        events: list[E] = []
        poison: dict[int, PoisonEvent] = {}
        try:
            harmless = max(map(len, values), default=0) <= self._max_value_bytes  # type: ignore[arg-type]
        except TypeError:
            harmless = False  # a tombstone
        decode: Callable[[Any], E] = self._decode if harmless else self._decode_checked
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
        rows = np.arange(len(values))
        return events, np.delete(rows, list(poison)) if poison else rows, poison

    def _decode_checked(self, value: bytes | None) -> E:
        if value is None:
            raise PoisonEvent("decode", f"expected {self._noun}, got a tombstone", "Tombstone")
        if len(value) > self._max_value_bytes:
            limit = self._max_value_bytes
            raise PoisonEvent("decode", f"expected at most {limit} bytes, got {len(value)}", "ValueTooLarge")
        return self._decode(value)


def wrong_keys(keys: Sequence[bytes | None], field: str, ids: Sequence[bytes]) -> dict[int, PoisonEvent]:
    """Place -> poison, of the records whose key is not the id that stands in the field: another partition's state."""
    if keys == ids:
        return {}
    return {
        place: PoisonEvent(
            "decode", f"expected the record's key to be its {field} {wanted!r}, got {got!r}", "KeyMismatch"
        )
        for place, (got, wanted) in enumerate(zip(keys, ids, strict=True))
        if got != wanted
    }


def _poison(error: Exception) -> PoisonEvent:
    if isinstance(error, PoisonEvent):
        return error
    return PoisonEvent("decode", _lower(str(error)), type(error).__name__)


def _lower(text: str) -> str:
    return text if text[1:2].isupper() else text[:1].lower() + text[1:]
