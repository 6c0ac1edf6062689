from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest
from aiokafka.consumer.fetcher import READ_COMMITTED, READ_UNCOMMITTED
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import DefaultRecordBatchBuilder, _DefaultRecordBatchBuilderPy
from aiokafka.record.legacy_records import LegacyRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.record.util import calc_crc32c_py
from aiokafka.structs import TopicPartition

from streams.blocks import Blocks

TP = TopicPartition("events", 3)
ABORT = bytes(4)  # a marker: version 0, type 0


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def block(first: int, count: int) -> bytes:
    """Records as they were produced in one go, where the broker has put them."""
    builder = DefaultRecordBatchBuilder(2, 0, False, -1, -1, -1, 1 << 20)
    for number, offset in enumerate(range(first, first + count)):
        builder.append(number, 1000 + offset, b"key %d" % offset, b"value %d" % offset, [])
    return first.to_bytes(8, "big") + bytes(builder.build())[8:]


def fetched(content: bytes, offset: int = 0, max_records: int = 4) -> Blocks:
    return Blocks(TP, content, MemoryRecords(content), offset, [], READ_UNCOMMITTED, max_records)


def test_a_block_becomes_record_batches() -> None:
    batches = list(fetched(block(0, 10)))
    assert [batch.offsets for batch in batches] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert (batches[0].topic, batches[0].partition) == ("events", 3)
    assert batches[2].values == [b"value 8", b"value 9"]
    assert batches[2].keys == [b"key 8", b"key 9"]
    assert batches[2].timestamps_ms == [1008, 1009]


def test_the_next_fetch_begins_behind_what_has_been_read() -> None:
    blocks = fetched(block(5, 10) + block(20, 1), 5)
    assert [(batch.offsets[-1], blocks.next_fetch_offset) for batch in blocks] == [(8, 9), (12, 13), (20, 21)]


def test_what_is_before_the_offset_that_was_asked_for_is_left_out() -> None:
    assert [batch.offsets for batch in fetched(block(5, 6), 7)] == [[7, 8, 9, 10]]


def test_a_block_that_is_cut_off_is_fetched_again() -> None:
    blocks = fetched(block(0, 3) + block(3, 3)[:-1])
    assert [batch.offsets for batch in blocks] == [[0, 1, 2]]
    assert blocks.next_fetch_offset == 3


def transactional(first: int, count: int, producer: int, marker: bytes | None = None) -> bytes:
    """Records of a transaction, or with a marker the control batch that ends it."""
    builder = _DefaultRecordBatchBuilderPy(2, 0, True, producer, 0, 0, 1 << 20)
    for number in range(count):
        builder.append(number, 1000, marker, b"value", [])
    content = builder.build()
    content[:8] = first.to_bytes(8, "big")
    content[22] |= 0x20 * (marker is not None)  # a control batch
    content[17:21] = calc_crc32c_py(content[21:]).to_bytes(4, "big")
    return bytes(content)


@pytest.mark.parametrize(
    ("isolation_level", "read"), [(READ_COMMITTED, [2, 3, 5]), (READ_UNCOMMITTED, [0, 1, 2, 3, 5])]
)
def test_an_aborted_transaction_is_left_out_and_its_marker_is_read_over(isolation_level: int, read: list[int]) -> None:
    content = transactional(0, 2, 7) + transactional(2, 2, 8) + transactional(4, 1, 7, ABORT) + transactional(5, 1, 7)
    blocks = Blocks(TP, content, MemoryRecords(content), 0, [(7, 0)], isolation_level, 100)
    assert [offset for batch in blocks for offset in batch.offsets] == read
    assert blocks.next_fetch_offset == 6


@pytest.mark.parametrize("isolation_level", [READ_COMMITTED, READ_UNCOMMITTED])
def test_a_marker_that_compaction_has_emptied_is_read_over(isolation_level: int) -> None:
    """Kafka keeps the control batch without its record, for the sequence numbers of the producer that wrote it."""
    content = transactional(0, 2, 7) + transactional(2, 0, 8, ABORT) + transactional(3, 2, 7)
    blocks = Blocks(TP, content, MemoryRecords(content), 0, [], isolation_level, 100)
    assert [offset for batch in blocks for offset in batch.offsets] == [0, 1, 3, 4]
    assert blocks.next_fetch_offset == 5


def old_format(magic: int, codec: int) -> bytes:
    """Three records in a format before 2, as old segments on brokers before 4.0 hold them."""
    builder = LegacyRecordBatchBuilder(magic, codec, 1 << 20)
    for offset in range(3):
        builder.append(offset, timestamp=1000 + offset, key=b"k", value=b"value %d" % offset)
    return bytes(builder.build())


@pytest.mark.parametrize("codec", [0, 1], ids=["plain", "gzip"])
@pytest.mark.parametrize(("magic", "timestamps_ms"), [(0, [-1, -1, -1]), (1, [1000, 1001, 1002])])
def test_an_old_format_is_read_and_a_record_without_a_timestamp_has_minus_one(
    magic: int, timestamps_ms: list[int], codec: int
) -> None:
    (batch,) = fetched(old_format(magic, codec))
    assert (batch.offsets, batch.timestamps_ms) == ([0, 1, 2], timestamps_ms)
    assert batch.values == [b"value 0", b"value 1", b"value 2"]
    assert batch.headers == [[], [], []]


@pytest.mark.parametrize("magic", [0, 1])
def test_a_damaged_block_of_an_old_format_is_told(magic: int) -> None:
    content = old_format(magic, 0)
    with pytest.raises(CorruptRecordException, match=r"events.*fails its CRC"):
        list(fetched(content[:-1] + b"?"))


class Latin(str):
    """A name that a client of another language has sent in its own encoding."""

    __slots__ = ()

    def encode(self, *_: str) -> bytes:
        return super().encode("latin-1")


@pytest.mark.parametrize("codec", [0, 1], ids=["plain", "gzip"])
def test_a_header_whose_name_is_no_utf8_costs_no_record(codec: int) -> None:
    blocks = b""
    for first in (0, 3):
        builder = _DefaultRecordBatchBuilderPy(2, codec, False, -1, -1, -1, 1 << 20)
        for offset in range(3):
            headers = [("id", b"%d" % offset), (Latin("caf\u00e9") if offset == 1 else "cafe", None)]
            builder.append(offset, 1000 + first + offset, b"key", b"value %d" % (first + offset) * 20, headers)
        content = builder.build()
        content[:8] = first.to_bytes(8, "big")  # as the broker does it
        blocks += bytes(content)
    batches = list(fetched(blocks))
    assert [batch.offsets for batch in batches] == [[0, 1, 2, 3], [4, 5]]
    assert batches[1].values == [b"value 4" * 20, b"value 5" * 20]
    assert batches[1].timestamps_ms == [1004, 1005]
    assert batches[0].headers[1] == [("id", b"1"), ("caf\\xe9", None)]
    assert batches[0].headers[2] == [("id", b"2"), ("cafe", None)]


@pytest.mark.usefixtures("no_collector")
def test_a_block_goes_with_its_last_record_and_waits_for_no_collector() -> None:
    blocks = fetched(block(0, 10))
    there = weakref.ref(blocks)
    assert sum(map(len, blocks)) == 10
    del blocks
    assert there() is None
