"""The fraud pipeline's table of terminals: which labels count, and which are none."""

from __future__ import annotations

import json

import numpy as np
import pytest

from models.fraud.terminals import COLUMNS
from streams.clock import ManualClock
from streams.pipelines.fraud.table import TerminalTable
from streams.pipelines.fraud.transactions import TransactionDecoder
from streams.settings import Fraud
from tests.streams.inmemory import batch

NOW_S = 1_767_225_600.0  # 2026-01-01
NOW_MS = int(NOW_S * 1000)
DAY_MS = 86_400_000
SEEN_MS = NOW_MS - 10 * DAY_MS
IN, LABELS = "transactions", "fraud.labels"


def label(number: int, **fields: object) -> bytes:
    made = {"transaction_id": f"t{number}", "card_id": "k", "terminal_id": "shop", "fraud": True,
            "event_time": SEEN_MS + number, "label_time": NOW_MS - DAY_MS}  # fmt: skip
    return json.dumps(made | fields).encode()


@pytest.fixture
def table() -> TerminalTable:
    """With four transactions of one terminal, ten days ago."""
    decoder = TransactionDecoder(Fraud(), ManualClock(NOW_S))
    made = TerminalTable(IN, LABELS, decoder.good, decoder.latest_ms, Fraud().max_value_bytes)
    event = {"card_id": "k", "terminal_id": "shop", "amount": 1}
    events = [event | {"transaction_id": f"t{number}", "event_time": SEEN_MS + number} for number in range(4)]
    made.apply(batch([json.dumps(event).encode() for event in events], topic=IN))
    return made


def windows(table: TerminalTable) -> list[float]:
    return list(table.windows([b"shop"], np.array([NOW_MS], np.int64))[0].tolist())


NO_LABELS: dict[str, tuple[bytes | None, bytes | None]] = {
    "a tombstone": (b"k", None),
    "nothing": (b"k", b""),
    "not JSON": (b"k", b"label"),
    "half of it": (b"k", label(1)[:40]),
    "invalid UTF-8": (b"k", label(1).replace(b'"t1"', b'"\xff\xfe"')),
    "lists without end": (b"k", label(1)[:-1] + b',"x":' + b"[" * 7000 + b"]" * 7000 + b"}"),
    "too long": (b"k", label(1, note="x" * 20_000)),
    "a label before its transaction": (b"k", label(1, label_time=SEEN_MS)),
    "a label from the future": (b"k", label(1, label_time=NOW_MS + 40 * DAY_MS)),
    "an event below 64 bits": (b"k", label(1, event_time=-(2**62))),
    "no key": (None, label(1)),
    "another key": (b"c", label(1)),
    "a key that begins like the card": (b"k\x00", label(1)),
}


@pytest.mark.parametrize(("key", "value"), NO_LABELS.values(), ids=NO_LABELS.keys())
def test_what_is_no_label_is_left_out_and_its_neighbours_count(
    table: TerminalTable, key: bytes | None, value: bytes | None
) -> None:
    before = windows(table)
    assert table.apply(batch([value], keys=[key], topic=LABELS)) == 1
    assert (windows(table), table.watermark(LABELS, 0)) == (before, None)
    assert table.apply(batch([label(0), value, label(3)], keys=[b"k", key, b"k"], start=1, topic=LABELS)) == 1
    after = windows(table)
    assert after != before
    assert table.watermark(LABELS, 0) == NOW_MS - DAY_MS
    assert table.apply(batch([label(0), label(3)], keys=[b"k"] * 2, start=4, topic=LABELS)) == 0
    assert windows(table) == after


def test_a_share_of_fraud_is_that_of_its_labels(table: TerminalTable) -> None:
    labels = [label(0), label(1, fraud=False), label(2)]
    table.apply(batch(labels, keys=[b"k"] * 3, topic=LABELS))
    assert windows(table)[COLUMNS.index("fraud_share_30d")] == pytest.approx(2 / 4)
