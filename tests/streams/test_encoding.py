"""Bulk-written record batches, read back by aiokafka's own parser."""

from __future__ import annotations

import random
from typing import Any

import pytest
from aiokafka.record.memory_records import MemoryRecords

from streams.encoding import EncodedBatch, encode
from streams.records import Headers, Outgoing

NOW_MS = 1_700_000_000_123
Row = tuple[bytes | None, bytes | None, Headers]


def read(batch: EncodedBatch) -> list[Any]:
    """What a client sees of one batch, its checksum verified."""
    records = MemoryRecords(bytes(batch._build()))
    rows: list[Any] = []
    while records.has_next():
        block = records.next_batch()
        assert block.validate_crc()
        rows += list(block)
    assert len(rows) == batch.record_count()
    return rows


def rows(outgoing: Outgoing, max_bytes: int = 1 << 20) -> list[Row]:
    seen = [row for batch in encode(outgoing, NOW_MS, max_bytes) for row in read(batch)]
    assert {row.timestamp for row in seen} <= {NOW_MS}
    return [(row.key, row.value, row.headers) for row in seen]


def expected(outgoing: Outgoing) -> list[Row]:
    places = range(len(outgoing))
    return [(outgoing.keys[row], outgoing.values[row], outgoing.headers_of(row)) for row in places]


LENGTHS = [0, 1, 63, 64, 127, 128, 5000]
KEYS = [b"a", None, b"", b"x" * 300]
VALUES = [b"1" * 70_000, b"v", None, b""]
OFFSETS = [0, 9, 10, 2**63 - 1]
COMMON: Headers = [("model", b"f/1"), ("none", None), ("é", b"")]
OWN: list[Headers] = [[], [("a", b"b")] * 70, [("z", None)], [("é", b"\x00" * 200)]]


@pytest.mark.parametrize("max_bytes", [1 << 20, 1000, 62])
@pytest.mark.parametrize(
    "outgoing",
    [
        Outgoing("t", KEYS, VALUES),
        Outgoing("t", KEYS, VALUES, common_headers=COMMON),
        Outgoing("t", KEYS, VALUES, common_headers=COMMON, id_prefix=b"t/1/", id_offsets=OFFSETS),
        Outgoing("t", KEYS, VALUES, headers=OWN),
    ],
    ids=["plain", "common headers", "ids", "own headers"],
)
def test_what_goes_in_comes_out_whatever_the_batches(outgoing: Outgoing, max_bytes: int) -> None:
    assert rows(outgoing, max_bytes) == expected(outgoing)


def test_random_columns_come_out_as_they_went_in() -> None:
    draw = random.Random(7)
    for _ in range(50):
        count = draw.randrange(1, 200)

        def cells(count: int = count) -> list[bytes | None]:
            return [
                draw.choice([None, draw.randbytes(draw.choice([0, 1, 63, 64, 127, 128, 5000]))]) for _ in range(count)
            ]

        outgoing = Outgoing("t", cells(), cells(), common_headers=COMMON, id_prefix=b"t/0/", id_offsets=range(count))
        limit = draw.choice([100, 5_000, 1 << 20])
        assert rows(outgoing, limit) == expected(outgoing)


def test_batches_keep_to_their_limit_unless_one_record_exceeds_it() -> None:
    outgoing = Outgoing("t", [b"k"] * 100, [b"v" * 50] * 99 + [b"v" * 5000])
    batches = list(encode(outgoing, NOW_MS, 1000))
    assert all(batch.size() <= 1000 for batch in batches[:-1])
    assert batches[-1].record_count() == 1 and batches[-1].size() > 5000


def test_the_producers_state_is_written_in_when_it_is_known_and_again_on_a_retry() -> None:
    (batch,) = encode(Outgoing("t", [b"k"], [b"v"]), NOW_MS, 1000)
    for state in [(7, 1, 5), (8, 0, 0)]:
        batch._set_producer_state(*state)
        records = MemoryRecords(bytes(batch._build()))
        block = records.next_batch()
        assert block.validate_crc()
        assert (block.producer_id, block.producer_epoch, block.base_sequence) == state
