from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest
from aiokafka.consumer.fetcher import PartitionRecords
from aiokafka.record.default_records import DefaultRecordBatchBuilder, _DefaultRecordBatchBuilderPy
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.structs import TopicPartition

from streams.fetching import _BatchedRecords

TP = TopicPartition("events", 3)


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def fetched(count: int) -> PartitionRecords:
    """A block of `count` records from offset 0, as aiokafka's fetcher makes it of a response."""
    builder = DefaultRecordBatchBuilder(2, 0, False, -1, -1, -1, 1 << 20)
    for offset in range(count):
        builder.append(offset, 1000 + offset, b"key %d" % offset, b"value %d" % offset, [])
    return PartitionRecords(TP, MemoryRecords(bytes(builder.build())), [], 0, None, None, True, 0)


def test_a_block_becomes_record_batches() -> None:
    batches = list(_BatchedRecords.of(fetched(10), 4, b""))
    assert [batch.offsets for batch in batches] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert (batches[0].topic, batches[0].partition) == ("events", 3)
    assert batches[2].values == [b"value 8", b"value 9"]
    assert batches[2].keys == [b"key 8", b"key 9"]
    assert batches[2].timestamps_ms == [1008, 1009]


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
        block = builder.build()
        block[:8] = first.to_bytes(8, "big")  # as the broker does it
        blocks += bytes(block)
    records = PartitionRecords(TP, MemoryRecords(blocks), [], 0, None, None, True, 0)
    batches = list(_BatchedRecords.of(records, 4, blocks))
    assert [batch.offsets for batch in batches] == [[0, 1, 2, 3], [4, 5]]
    assert batches[1].values == [b"value 4" * 20, b"value 5" * 20]
    assert batches[1].timestamps_ms == [1004, 1005]
    assert batches[0].headers[1] == [("id", b"1"), ("caf\\xe9", None)]
    assert batches[0].headers[2] == [("id", b"2"), ("cafe", None)]


@pytest.mark.usefixtures("no_collector")
def test_a_block_goes_with_its_last_record_and_waits_for_no_collector() -> None:
    records = fetched(10)
    block = weakref.ref(records)
    batches = _BatchedRecords.of(records, 4, b"")
    del records
    assert sum(map(len, batches)) == 10
    del batches
    assert block() is None
