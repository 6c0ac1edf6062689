"""What card history writes to its changelog, and what it refuses."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pytest

from models.engine import ModelError
from models.fraud.history import CardHistory, HistoryCorrupt
from tests.models.test_history import START, Event, merge, report, update


def test_records_hold_the_entries_of_one_block() -> None:
    stream = [Event(b"a\0b", START + i, i + 0.25) for i in range(9)]
    history = CardHistory()
    update(history, stream, range(9))
    packed = [struct.pack("<3q", START + i, i * 1_000_000 + 250_000, i) for i in range(9)]
    assert report(history) == [
        (b"a\0b\0" + struct.pack(">q", 0), b"".join(packed[:8])),
        (b"a\0b\0" + struct.pack(">q", 8), packed[8]),
    ]
    assert report(history) == []
    update(history, stream, [2])
    assert report(history) == [(b"a\0b\0" + struct.pack(">q", 0), b"".join(packed[:8]))]


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"amount": np.array([1.0, np.nan])}, ValueError),
        ({"amount": np.array([1.0, np.inf])}, ValueError),
        ({"amount": np.array([1.0, 1e11])}, ValueError),
        ({"amount": np.array([1, 2])}, ValueError),
        ({"event_time_ms": np.array([START])}, ValueError),
        ({"event_time_ms": np.array([START, 1 << 62])}, ValueError),
        ({"offsets": np.array([5, -1])}, ValueError),
        ({"keys": [b"a", b"new", b"b"]}, ValueError),
        ({"keys": [b"new", None]}, TypeError),
        ({"keys": [b"new", "b"]}, TypeError),
        ({"keys": [b"new", bytearray(b"b")]}, TypeError),
    ],
)
def test_a_refused_batch_changes_nothing(change: dict[str, Any], error: type[Exception]) -> None:
    good: dict[str, Any] = {
        "keys": [b"a", b"b"],
        "event_time_ms": np.array([START, START + 1]),
        "amount": np.array([1.0, 2.0]),
        "offsets": np.array([5, 6]),
    }
    history = CardHistory()
    history.update(**good)
    history.changes()
    before, size = history.snapshot(), history.nbytes
    with pytest.raises(error):
        history.update(**good | change)
    assert (history.snapshot(), len(history), history.nbytes) == (before, 2, size)
    assert report(history) == []


ENTRY = struct.pack("<3q", START, 1, 7)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (b"card\0" + struct.pack(">q", 7), b""),
        (b"card\0" + struct.pack(">q", 7), ENTRY + b"x"),
        (b"card\0" + struct.pack(">q", 7), ENTRY + ENTRY),
        (b"card\0" + struct.pack(">q", 8), ENTRY),
        (b"card\0" + struct.pack(">q", 7), b"".join(struct.pack("<3q", START, 1, 7 + i) for i in range(9))),
        (b"card\0" + struct.pack(">q", 7), struct.pack("<3q", 1 << 62, 1, 7)),
        (b"card\0" + struct.pack(">q", -7), struct.pack("<3q", START, 1, -7)),
        (b"card1" + struct.pack(">q", 7), ENTRY),
        (b"short", ENTRY),
        (b"card1" + struct.pack(">q", 7), None),
    ],
)
def test_a_corrupt_record_is_refused_by_name_and_nothing_is_applied(key: bytes, value: bytes | None) -> None:
    history = CardHistory()
    good = (b"good\0" + struct.pack(">q", 7), ENTRY)
    with pytest.raises(HistoryCorrupt) as caught:
        merge(history, [good, (key, value), good])
    assert repr(key) in str(caught.value)
    assert isinstance(caught.value, ModelError)
    assert isinstance(caught.value, ValueError)
    assert len(history) == 0
    assert merge(history, [good]).snapshot() == {b"good": [(7, START, 1)]}
