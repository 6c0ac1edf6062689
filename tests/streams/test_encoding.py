"""Bulk-written record batches, read back by aiokafka's own parser."""

from __future__ import annotations

import random
from typing import Any

import pytest
from aiokafka.record.memory_records import MemoryRecords

from models.cells import Cells
from streams.encoding import FEW, LZ4_FROM_BYTES, EncodedBatch, encode
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
OFFSETS = [0, 9, 10, 2**63 - 1, 100, 101]
COMMON: Headers = [("model", b"f/1"), ("none", None), ("é", b"")]
OWN: list[Headers] = [[], [("a", b"b")] * 70, [("z", None)], [("é", b"\x00" * 200)]]


@pytest.mark.parametrize("max_bytes", [1 << 20, 1000, 62])
@pytest.mark.parametrize(
    "outgoing",
    [
        Outgoing("t", KEYS, VALUES),
        Outgoing("t", KEYS, VALUES, common_headers=COMMON),
        Outgoing("t", KEYS, VALUES, common_headers=COMMON, id_prefix=b"t/1/", id_offsets=OFFSETS[: len(KEYS)]),
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


@pytest.mark.parametrize("lz4", [False, True])
@pytest.mark.parametrize("count", [1, 2, FEW])
def test_a_few_records_are_written_as_many_are(count: int, lz4: bool) -> None:
    draw = random.Random(count)
    keys = [draw.choice([None, b"", draw.randbytes(9)]) for _ in range(count)]
    values = [draw.choice([None, b"", bytes(LZ4_FROM_BYTES), draw.randbytes(70_000)]) for _ in range(count)]
    for common in (COMMON, []):
        made = [
            [
                bytes(batch._build())
                for batch in encode(
                    Outgoing("t", *columns, common_headers=common, id_prefix=b"t/0/", id_offsets=OFFSETS[:count]),
                    NOW_MS, 1 << 20, lz4,
                )
            ]
            for columns in ((keys, values), (Cells.of(keys), Cells.of(values)))
        ]  # fmt: skip
        assert made[0] == made[1]
        assert len(made[0]) == 1


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


GZIP, LZ4 = 1, 3
TEXT = b'{"transaction_id":"t","flagged":false,"decision":"approve","reasons":[]}'


def block_of(batch: EncodedBatch) -> Any:
    block = MemoryRecords(bytes(batch._build())).next_batch()
    assert block.validate_crc()
    return block


def compressed(outgoing: Outgoing, max_bytes: int = 1 << 20) -> EncodedBatch:
    (batch,) = encode(outgoing, NOW_MS, max_bytes, lz4=True)
    return batch


def sized(size: int) -> Outgoing:
    """One record whose batch has so many bytes before compression."""
    (batch,) = encode(Outgoing("t", [b""], [bytes(size - 100)]), NOW_MS, 1 << 20)
    outgoing = Outgoing("t", [b""], [bytes(size - 100 + size - batch.size())])
    (batch,) = encode(outgoing, NOW_MS, 1 << 20)
    assert batch.size() == size
    return outgoing


def test_a_large_batch_is_compressed_and_reads_the_same() -> None:
    keys = [b"card-%d" % row for row in range(1000)]
    values = [TEXT.replace(b'"t"', b'"t%d"' % row) for row in range(1000)]
    outgoing = Outgoing("t", keys, values, common_headers=COMMON, id_prefix=b"t/1/", id_offsets=range(1000))
    batch = compressed(outgoing)
    assert block_of(batch).compression_type == LZ4
    assert [(row.key, row.value, row.headers) for row in read(batch)] == expected(outgoing)
    assert {row.timestamp for row in read(batch)} == {NOW_MS}
    (plain,) = encode(outgoing, NOW_MS, 1 << 20)
    assert block_of(plain).compression_type == 0
    assert batch.size() == len(batch._build()) < plain.size() / 4


@pytest.mark.parametrize(("size", "codec"), [(LZ4_FROM_BYTES - 1, 0), (LZ4_FROM_BYTES, LZ4)])
def test_only_batches_from_a_size_on_are_compressed(size: int, codec: int) -> None:
    outgoing = sized(size)
    batch = compressed(outgoing)
    assert block_of(batch).compression_type == codec
    assert [row.value for row in read(batch)] == outgoing.values


@pytest.mark.parametrize("size", [LZ4_FROM_BYTES, 300_000])
def test_what_would_only_grow_is_sent_as_it_is(size: int) -> None:
    outgoing = Outgoing("t", [b"k"], [random.Random(size).randbytes(size)])
    batch = compressed(outgoing)
    assert block_of(batch).compression_type == 0
    assert [row.value for row in read(batch)] == outgoing.values


def test_each_batch_is_compressed_by_its_own_size() -> None:
    outgoing = Outgoing("t", [b"k"] * 302, [TEXT * 4] * 301 + [b"v"])
    batches = list(encode(outgoing, NOW_MS, 30_000, lz4=True))
    assert [block_of(batch).compression_type for batch in batches] == [LZ4] * (len(batches) - 1) + [0]
    assert len(batches) > 2
    seen = [row for batch in batches for row in read(batch)]
    assert [(row.key, row.value, row.headers) for row in seen] == expected(outgoing)


def test_the_limit_counts_before_compression() -> None:
    outgoing = Outgoing("t", [b"k"] * 500, [TEXT] * 500)
    with_it, without = (list(encode(outgoing, NOW_MS, 20_000, lz4=lz4)) for lz4 in (True, False))
    assert [batch.record_count() for batch in with_it] == [batch.record_count() for batch in without]


def test_what_is_shrunk_to_fit_stays_gzip() -> None:
    outgoing = Outgoing("t", [b"k"], [bytes(100_000)], shrunk=True)
    batch = compressed(outgoing, max_bytes=20_000)
    assert block_of(batch).compression_type == GZIP
    assert [row.value for row in read(batch)] == outgoing.values


@pytest.mark.parametrize("transactional", [False, True])
@pytest.mark.parametrize(("size", "codec"), [(1000, 0), (100_000, LZ4)])
def test_a_compressed_batch_takes_the_producers_state_and_its_transaction(
    size: int, codec: int, transactional: bool
) -> None:
    batch = compressed(Outgoing("t", [b"k"], [bytes(size)]))
    batch.transactional = transactional
    for state in [(7, 1, 5), (8, 0, 0)]:
        batch._set_producer_state(*state)
        block = block_of(batch)
        assert (block.producer_id, block.producer_epoch, block.base_sequence) == state
        assert (block.compression_type, block.is_transactional) == (codec, transactional)
        assert [row.value for row in read(batch)] == [bytes(size)]
