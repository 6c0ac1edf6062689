"""Fetched blocks of records as record batches: columns, and no Python object for a record.

aiokafka makes one of every record, with a generator and a method call for each; that is half the cost of reading small
events. Here its compiled parser takes a block apart, and what it gives is put into columns at once. The bytes stay with
it: that parser gives up on a whole block where the name of one header is no UTF-8.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import Any

from aiokafka.consumer.fetcher import READ_COMMITTED, PartitionRecords
from aiokafka.errors import CorruptRecordException
from aiokafka.record.control_record import ABORT_MARKER, ControlRecord
from aiokafka.record.default_records import _DefaultRecordBatchPy
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.structs import TopicPartition

from streams.records import NO_HEADERS, RecordBatch

NO_TIMESTAMP = -1  # as newer formats have it
_BASE_AND_LENGTH = struct.Struct(">qi")  # how each block of records begins


class _Lenient(bytearray):
    """A buffer whose text may be no UTF-8: names of headers, which brokers and other clients do not look at."""

    def __getitem__(self, place: Any) -> Any:
        found = super().__getitem__(place)
        return _Lenient(found) if isinstance(place, slice) else found

    def decode(self, *_: Any) -> str:
        return super().decode("utf-8", "backslashreplace")


class Blocks(PartitionRecords):
    """What was fetched of a partition: an iterator over its record batches, which are made when their turn comes.

    Args:
        content: as it was fetched; the last block may be cut off.
        records: of the same bytes.
        offset: that was asked for; a block may begin before it.
        aborted: producers and the first offsets of their aborted transactions.
        max_records: of a record batch.

    Attributes:
        next_fetch_offset: stands behind each record batch when it is yielded.
    """

    next_fetch_offset: int

    def __init__(
        self,
        partition: TopicPartition,
        content: bytes,
        records: MemoryRecords,
        offset: int,
        aborted: Sequence[tuple[int, int]],
        isolation_level: int,
        max_records: int,
    ) -> None:
        super().__init__(partition, records, aborted, offset, None, None, True, isolation_level)
        self._max_records, self._content = max_records, content
        self._records_iterator = self._batches()

    def _batches(self) -> Iterator[RecordBatch]:
        rows: list[Any] = []
        after = self.next_fetch_offset
        for block_rows, next_offset in self._blocks():
            rows += block_rows
            while len(rows) > self._max_records:
                head, rows = rows[: self._max_records], rows[self._max_records :]
                self.next_fetch_offset = head[-1].offset + 1
                yield self._columns(head)
            after = next_offset
        self.next_fetch_offset = after
        if rows:
            yield self._columns(rows)

    def _columns(self, rows: list[Any]) -> RecordBatch:
        return RecordBatch(
            self._tp.topic,
            self._tp.partition,
            [row.offset for row in rows],
            [NO_TIMESTAMP if row.timestamp is None else row.timestamp for row in rows],
            [row.key for row in rows],
            [row.value for row in rows],
            [row.headers or NO_HEADERS for row in rows],
        )

    def _blocks(self) -> Iterator[tuple[list[Any], int]]:
        """The rows of each block that a reader may see, and the offset after it."""
        first_wanted = self.next_fetch_offset
        while self._records.has_next():
            block = self._records.next_batch()
            if self._check_crcs and not block.validate_crc():
                at = getattr(block, "base_offset", self.next_fetch_offset)  # formats before 2 do not give theirs
                raise CorruptRecordException(f"reading {self._tp}: a record batch at {at} fails its CRC")
            aborted = self._is_aborted(block)
            if block.is_control_batch or aborted:
                yield [], block.next_offset
                continue
            try:
                rows = list(block)
            except UnicodeDecodeError:
                rows = self._leniently(block.base_offset)
            if rows and rows[0].offset < first_wanted:
                rows = [row for row in rows if row.offset >= first_wanted]
            yield rows, block.next_offset

    def _leniently(self, base_offset: int) -> list[Any]:
        """The rows of a block in which the name of a header is no UTF-8: its text has `\\xe9` for such a byte."""
        start = 0
        while _BASE_AND_LENGTH.unpack_from(self._content, start)[0] != base_offset:
            start = self._end(start)
        block = _DefaultRecordBatchPy(self._content[start : self._end(start)])
        block._maybe_uncompress()
        block._buffer = _Lenient(block._buffer)
        return list(block)

    def _end(self, start: int) -> int:
        """Where a block ends among what was fetched."""
        length: int = _BASE_AND_LENGTH.unpack_from(self._content, start)[1]
        return start + _BASE_AND_LENGTH.size + length

    def _is_aborted(self, block: Any) -> bool:
        if self._isolation_level != READ_COMMITTED or block.producer_id is None:
            return False
        self._consume_aborted_up_to(block.base_offset)
        if block.is_control_batch and self._is_abort(block):
            self._aborted_producers.discard(block.producer_id)
        return block.is_transactional and block.producer_id in self._aborted_producers

    @staticmethod
    def _is_abort(block: Any) -> bool:
        """Whether a transaction ends there that was aborted; of a marker, compaction may leave a block without it."""
        return any(ControlRecord.parse(row.key) == ABORT_MARKER for row in block)
