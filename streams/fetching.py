"""Record batches straight out of aiokafka's fetcher.

aiokafka makes a Python object of every record, with a generator and a method call for each; that is half the
cost of reading small events. Here a fetched block of records becomes columns (`RecordBatch`) at once. Nothing is
patched: each fetch result, as the fetcher stores it, gets an iterator that yields record batches in place of records,
so positions, seeks, pauses and aborted transactions stay aiokafka's own business.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka.consumer.fetcher import READ_COMMITTED, FetchResult, PartitionRecords
from aiokafka.errors import CorruptRecordException

from streams.records import NO_HEADERS, RecordBatch


def fetch_record_batches(consumer: AIOKafkaConsumer, max_records: int) -> None:
    """Make a started consumer's `getmany` return `{partition: [RecordBatch, ...]}`.

    Args:
        consumer: started; nothing may have been fetched yet (assign or subscribe afterwards, or at once).
        max_records: the longest record batch. `max_poll_records` now counts record batches.
    """
    consumer._fetcher._records = _FetchedResults(max_records)


class _FetchedResults(OrderedDict[Any, Any]):
    def __init__(self, max_records: int) -> None:
        super().__init__()
        self._max_records = max_records

    def __setitem__(self, partition: Any, result: Any) -> None:
        if type(result) is FetchResult:
            result._partition_records = _BatchedRecords.of(result._partition_records, self._max_records)
        super().__setitem__(partition, result)


class _BatchedRecords(PartitionRecords):
    next_fetch_offset: int

    @classmethod
    def of(cls, records: PartitionRecords, max_records: int) -> _BatchedRecords:
        self = cls.__new__(cls)
        self.__dict__.update(records.__dict__)
        records._records_iterator = None  # a generator that refers back: the block would stay for the collector
        self._max_records = max_records
        self._records_iterator = self._batches()
        return self

    def _batches(self) -> Iterator[RecordBatch]:
        """One fetched block as record batches; `next_fetch_offset` stands behind each when it is yielded."""
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
            [row.timestamp for row in rows],
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
                raise CorruptRecordException(f"reading {self._tp}: a record batch at {block.base_offset} fails its CRC")
            aborted = self._is_aborted(block)
            if block.is_control_batch or aborted:
                yield [], block.next_offset
                continue
            rows = list(block)
            if rows and rows[0].offset < first_wanted:
                rows = [row for row in rows if row.offset >= first_wanted]
            yield rows, block.next_offset

    def _is_aborted(self, block: Any) -> bool:
        if self._isolation_level != READ_COMMITTED or block.producer_id is None:
            return False
        self._consume_aborted_up_to(block.base_offset)
        if block.is_control_batch and self._contains_abort_marker(block):
            self._aborted_producers.discard(block.producer_id)
        return block.is_transactional and block.producer_id in self._aborted_producers
