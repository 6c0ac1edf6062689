"""Record batches straight out of aiokafka's fetcher.

aiokafka makes a Python object of every record, with a generator and a method call for each; that is half the
cost of reading small events. Here a fetched block of records becomes columns (`RecordBatch`) at once. Each fetch
result, as the fetcher stores it, gets an iterator that yields record batches in place of records, so positions, seeks,
pauses and aborted transactions stay aiokafka's own business. The bytes that it came in are kept with it: aiokafka gives
up on a whole block where the name of one header is no UTF-8.
"""

from __future__ import annotations

import struct
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka.consumer.fetcher import READ_COMMITTED, FetchResult, PartitionRecords
from aiokafka.errors import CorruptRecordException
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.record.default_records import _DefaultRecordBatchPy

from streams.records import NO_HEADERS, RecordBatch

_BASE_AND_LENGTH = struct.Struct(">qi")  # how each block of records begins


def fetch_record_batches(consumer: AIOKafkaConsumer, max_records: int) -> None:
    """Make a started consumer's `getmany` return `{partition: [RecordBatch, ...]}`.

    Args:
        consumer: started; nothing may have been fetched yet (assign or subscribe afterwards, or at once).
        max_records: the longest record batch. `max_poll_records` now counts record batches.
    """
    results = consumer._fetcher._records = _FetchedResults(max_records)
    consumer._client.send = results.seeing(consumer._client.send)


class _FetchedResults(OrderedDict[Any, Any]):
    def __init__(self, max_records: int) -> None:
        super().__init__()
        self._max_records = max_records
        self._raw: dict[tuple[str, int], bytes] = {}  # of answers that are about to be stored

    def seeing(self, send: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        """The same, with the bytes of what is fetched kept until it is stored."""

        async def sending(node_id: Any, request: Any, **options: Any) -> Any:
            response = await send(node_id, request, **options)
            if isinstance(request, FetchRequest):
                self._raw = {
                    (topic, partition[0]): partition[-1] for topic, parts in response.topics for partition in parts
                }
            return response

        return sending

    def __setitem__(self, partition: Any, result: Any) -> None:
        if type(result) is FetchResult:
            raw = self._raw.pop(partition, b"")
            result._partition_records = _BatchedRecords.of(result._partition_records, self._max_records, raw)
        super().__setitem__(partition, result)


class _Lenient(bytearray):
    """A buffer whose text may be no UTF-8: names of headers, which brokers and other clients do not look at."""

    def __getitem__(self, place: Any) -> Any:
        found = super().__getitem__(place)
        return _Lenient(found) if isinstance(place, slice) else found

    def decode(self, *_: Any) -> str:
        return super().decode("utf-8", "backslashreplace")


class _BatchedRecords(PartitionRecords):
    next_fetch_offset: int

    @classmethod
    def of(cls, records: PartitionRecords, max_records: int, raw: bytes) -> _BatchedRecords:
        self = cls.__new__(cls)
        self.__dict__.update(records.__dict__)
        records._records_iterator = None  # a generator that refers back: the block would stay for the collector
        self._max_records, self._raw = max_records, raw
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
        while _BASE_AND_LENGTH.unpack_from(self._raw, start)[0] != base_offset:
            start = self._end(start)
        block = _DefaultRecordBatchPy(self._raw[start : self._end(start)])
        block._maybe_uncompress()
        block._buffer = _Lenient(block._buffer)
        return list(block)

    def _end(self, start: int) -> int:
        """Where a block ends among what was fetched."""
        length: int = _BASE_AND_LENGTH.unpack_from(self._raw, start)[1]
        return start + _BASE_AND_LENGTH.size + length

    def _is_aborted(self, block: Any) -> bool:
        if self._isolation_level != READ_COMMITTED or block.producer_id is None:
            return False
        self._consume_aborted_up_to(block.base_offset)
        if block.is_control_batch and self._contains_abort_marker(block):
            self._aborted_producers.discard(block.producer_id)
        return block.is_transactional and block.producer_id in self._aborted_producers
