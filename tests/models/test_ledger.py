from __future__ import annotations

import random

import numpy as np
import pytest

from models.fraud import ledger
from models.fraud.ledger import Entries, LedgerCorrupt


def make_entries(count: int, longest: int = 12) -> Entries:
    dice = random.Random(count)
    return Entries(
        np.cumsum(np.array([dice.randrange(1, 4) for _ in range(count)], np.int64)),
        [dice.randbytes(dice.randrange(longest + 1)) for _ in range(count)],
        np.array([dice.randrange(-(2**62), 2**62) for _ in range(count)], np.int64),
        np.array([dice.randrange(2**32) for _ in range(count)], np.int64),
    )


@pytest.mark.parametrize(("count", "longest", "values"), [(1, 12, 1), (4096, 12, 1), (4096, 700, 3), (3, 65_535, 1)])
def test_what_is_written_is_read(count: int, longest: int, values: int) -> None:
    entries = make_entries(count, longest)
    encoded = ledger.encode(entries)
    assert len(encoded) == values
    assert max(map(len, encoded)) < 1 << 20  # what a broker takes
    read = ledger.joined([ledger.decode(value) for value in encoded])
    assert list(read.terminals) == list(entries.terminals)
    for column in ("offsets", "event_time_ms", "transaction_hash"):
        np.testing.assert_array_equal(getattr(read, column), getattr(entries, column))


def test_an_id_that_is_too_long_is_refused() -> None:
    entries = make_entries(1)._replace(terminals=[bytes(65_536)])
    with pytest.raises(ValueError, match="at most 65535 bytes, got 65536"):
        ledger.encode(entries)


def test_what_is_no_ledger_record_is_a_sentence() -> None:
    (value,) = ledger.encode(make_entries(5))
    for broken in (None, b"", b"tl", b"xx" + value[2:], b"tl\2\0" + value[4:], value[:-1], value + b"x", value[:30]):
        with pytest.raises(LedgerCorrupt, match="decoding a ledger record: expected"):
            ledger.decode(broken)
    with pytest.raises(LedgerCorrupt):
        ledger.decode(value[:4] + b"\xff\xff\xff\xff" + value[8:])
