"""Kafka record batches written in bulk: one compiled pass over columns, in place of one call a record.

aiokafka's builder costs a Python call, a header list and a metadata object a record. Here the keys and values of a
whole batch go into the wire format at once, outside the GIL; `EncodedBatch` then stands where `send_batch` expects a
builder.

References:
    Apache Kafka documentation, "Message Format": record batch, magic 2.
"""

from __future__ import annotations

import gzip
import struct
from collections.abc import Iterator
from functools import lru_cache

import numpy as np
from aiokafka.record.util import calc_crc32c
from numba import njit

from models.cells import Bytes, Cells, Ends
from streams.lz4 import compress
from streams.records import NO_HEADERS, Headers, Outgoing

# base offset, batch length, leader epoch, magic, crc | attributes, last offset delta, base timestamp,
# largest timestamp, producer id, producer epoch, base sequence, record count
_HEAD = struct.Struct(">qiibI")
_TAIL = struct.Struct(">hiqqqhii")
HEADER_BYTES = _HEAD.size + _TAIL.size  # 61
_LENGTH_FROM = 12  # the length counts what follows it
_CRC_FROM = _HEAD.size
_MAGIC = 2
_GZIP, _LZ4 = 1, 3
_TRANSACTIONAL = 0x10
# Smaller ones are sent as they are: what compressing saves grows with the bytes, what it costs has a constant part.
LZ4_FROM_BYTES = 16 << 10
FEW = 6  # so many records are written sooner than compiled code is called
# A record's own framing: length, attributes, two deltas, key and value length, and an `id` header's framing and
# decimals; each varint at its longest.
_FRAME_BYTES = 72


class EncodedBatch:
    """A finished record batch, with the methods of aiokafka's `BatchBuilder` that a producer calls.

    The producer id, epoch and sequence are known only when the client sends; they are written in then.

    Attributes:
        transactional: whether it is part of its producer's transaction; to be set before it is sent.
    """

    def __init__(self, buffer: bytearray, count: int, timestamp_ms: int, codec: int = 0) -> None:
        self._buffer = buffer
        self._count = count
        self._timestamp_ms = timestamp_ms
        self.transactional = False
        self._codec = codec
        self._producer = (-1, -1, -1)
        self._built = False

    def record_count(self) -> int:
        """Records inside."""
        return self._count

    def size(self) -> int:
        """Bytes on the wire."""
        return len(self._buffer)

    def closed(self) -> bool:
        """Always: nothing can be appended."""
        return True

    def close(self) -> None:
        """Nothing to do: it is closed."""

    def append(self, **_: object) -> None:
        """Full, as a closed builder answers."""
        return

    def _set_producer_state(self, producer_id: int, producer_epoch: int, base_sequence: int) -> None:
        self._producer = (producer_id, producer_epoch, base_sequence)
        self._built = False

    def _build(self) -> bytearray:
        if not self._built:
            buffer, time, last = self._buffer, self._timestamp_ms, self._count - 1
            attributes = self._codec | _TRANSACTIONAL * self.transactional
            _TAIL.pack_into(buffer, _CRC_FROM, attributes, last, time, time, *self._producer, self._count)
            crc = calc_crc32c(memoryview(buffer)[_CRC_FROM:])
            _HEAD.pack_into(buffer, 0, 0, len(buffer) - _LENGTH_FROM, -1, _MAGIC, crc)
            self._built = True
        return self._buffer


def encode(outgoing: Outgoing, timestamp_ms: int, max_bytes: int, lz4: bool = False) -> Iterator[EncodedBatch]:
    """The records of `outgoing`, in order, in as few batches of at most `max_bytes` as will do.

    A record that alone is longer gets a batch of its own; the broker decides.

    Args:
        timestamp_ms: every record's timestamp (create time).
        max_bytes: before compression.
        lz4: whether large batches are compressed: a broker spends less on them, mostly in writing fewer bytes.
    """
    if len(outgoing) <= FEW and not isinstance(outgoing.values, Cells):
        few = _few(outgoing)
        if len(few) <= max_bytes:
            if len(outgoing):
                yield _packed(few, len(outgoing), timestamp_ms, lz4)
            return
    keys, values = Cells.of(outgoing.keys), Cells.of(outgoing.values)
    own = [_headers(headers, len(headers)) for headers in outgoing.headers or ()]
    heads = Cells.of(own)
    offsets = np.array(outgoing.id_offsets, np.int64)
    id_prefix = np.frombuffer(outgoing.id_prefix, np.uint8)
    common = np.frombuffer(
        _headers(outgoing.common_headers, len(outgoing.common_headers) + bool(len(offsets))), np.uint8
    )
    longest = _FRAME_BYTES + len(common) + len(id_prefix) + max(map(len, own), default=0)
    start = 0
    while start < len(outgoing):
        buffer = bytearray(_room(keys.ends, values.ends, start, longest, max_bytes))
        size, stop = _write(
            np.frombuffer(buffer, np.uint8),
            keys.blob,
            keys.ends,
            values.blob,
            values.ends,
            heads.blob,
            heads.ends,
            common,
            id_prefix,
            offsets,
            start,
            max_bytes,
        )
        del buffer[size:]
        if outgoing.shrunk and size > max_bytes:
            packed = gzip.compress(memoryview(buffer)[HEADER_BYTES:], compresslevel=6)
            yield _smaller(buffer, packed, stop - start, timestamp_ms, _GZIP)
        else:
            yield _packed(buffer, stop - start, timestamp_ms, lz4)
        start = stop


def _packed(buffer: bytearray, count: int, timestamp_ms: int, lz4: bool) -> EncodedBatch:
    if not lz4 or len(buffer) < LZ4_FROM_BYTES:
        return EncodedBatch(buffer, count, timestamp_ms)
    return _smaller(buffer, compress(memoryview(buffer)[HEADER_BYTES:]), count, timestamp_ms, _LZ4)


def _smaller(buffer: bytearray, packed: bytes, count: int, timestamp_ms: int, codec: int) -> EncodedBatch:
    if HEADER_BYTES + len(packed) < len(buffer):
        return EncodedBatch(buffer[:HEADER_BYTES] + packed, count, timestamp_ms, codec)
    return EncodedBatch(buffer, count, timestamp_ms)


def _few(outgoing: Outgoing) -> bytearray:
    """All records in one batch, whatever its size."""
    out = bytearray(HEADER_BYTES)
    for row in range(len(outgoing)):
        headers = outgoing.headers_of(row)
        key, value = _cell(outgoing.keys[row]), _cell(outgoing.values[row])
        record = b"".join((b"\0\0", _varint(row), *key, *value, _headers(headers, len(headers))))
        out += _varint(len(record))
        out += record
    return out


def _cell(cell: bytes | None) -> tuple[bytes, bytes]:
    return (_varint(-1), b"") if cell is None else (_varint(len(cell)), cell)


def warm_up() -> None:
    """Compile the kernels, or load them from the cache, so that the first batch does not wait for it."""
    for headers in (None, [NO_HEADERS]):
        cells = Cells.of([b""])
        for _ in encode(Outgoing("", cells, cells, headers, id_offsets=[0]), 0, 1024):
            pass


def _room(key_ends: Ends, value_ends: Ends, start: int, longest: int, max_bytes: int) -> int:
    """Bytes that the next batch can need: all that is left, or the limit plus one record that alone exceeds it."""
    begin = 0 if start == 0 else _end(key_ends[start - 1]) + _end(value_ends[start - 1])
    left = _end(key_ends[-1]) + _end(value_ends[-1]) - begin + (len(key_ends) - start) * longest
    first = _end(key_ends[start]) + _end(value_ends[start]) - begin + longest
    return int(HEADER_BYTES + min(left, max(first, max_bytes)))


def _end(end: np.int64) -> int:
    return int(end if end >= 0 else ~end)


def _headers(headers: Headers, count: int) -> bytes:
    """`count`, then these headers, as they stand at the end of a record; the `id`, where there is one, goes last."""
    out = bytearray(_varint(count))
    for name, value in headers:
        text = name.encode()
        out += b"".join((_varint(len(text)), text, *_cell(value)))
    return bytes(out)


@lru_cache(1 << 12)
def _varint(number: int) -> bytes:
    left = (number << 1) ^ (number >> 63)
    out = bytearray()
    while left > 0x7F:
        out.append((left & 0x7F) | 0x80)
        left >>= 7
    out.append(left)
    return bytes(out)


@njit(nogil=True, cache=True)
def _put_varint(out: Bytes, at: int, number: int) -> int:
    left = (number << 1) ^ (number >> 63)
    while left > 0x7F:
        out[at] = (left & 0x7F) | 0x80
        left >>= 7
        at += 1
    out[at] = left
    return at + 1


@njit(nogil=True, cache=True)
def _varint_size(number: int) -> int:
    left = (number << 1) ^ (number >> 63)
    size = 1
    while left > 0x7F:
        left >>= 7
        size += 1
    return size


@njit(nogil=True, cache=True)
def _decimals(number: int) -> int:
    size = 1
    while number >= 10:
        number //= 10
        size += 1
    return size


@njit(nogil=True, cache=True)
def _put_bytes(out: Bytes, at: int, source: Bytes, begin: int, end: int) -> int:
    for place in range(begin, end):
        out[at + place - begin] = source[place]
    return at + end - begin


@njit(nogil=True, cache=True)
def _put_id(out: Bytes, at: int, prefix: Bytes, number: int, digits: int) -> int:
    out[at] = 4  # the zigzag length of "id"
    out[at + 1] = 105
    out[at + 2] = 100
    at = _put_varint(out, at + 3, len(prefix) + digits)
    at = _put_bytes(out, at, prefix, 0, len(prefix))
    for place in range(digits):
        out[at + digits - 1 - place] = 48 + number % 10
        number //= 10
    return at + digits


@njit(nogil=True, cache=True)
def _write(
    out: Bytes,
    keys: Bytes,
    key_ends: Ends,
    values: Bytes,
    value_ends: Ends,
    heads: Bytes,
    head_ends: Ends,
    common: Bytes,
    id_prefix: Bytes,
    id_offsets: Ends,
    start: int,
    max_bytes: int,
) -> tuple[int, int]:
    """Write records from `start` on behind the batch header. Returns bytes used and the first record not written.

    A record's headers are its own (`heads`), or else `common` and an `id` of prefix and decimal offset.
    """
    at = 61
    key_begin = value_begin = head_begin = 0
    if start > 0:
        key_begin = key_ends[start - 1] if key_ends[start - 1] >= 0 else ~key_ends[start - 1]
        value_begin = value_ends[start - 1] if value_ends[start - 1] >= 0 else ~value_ends[start - 1]
        head_begin = head_ends[start - 1] if len(head_ends) > 0 else 0
    row = start
    while row < len(key_ends):
        key_end = key_ends[row] if key_ends[row] >= 0 else ~key_ends[row]
        value_end = value_ends[row] if value_ends[row] >= 0 else ~value_ends[row]
        head_end = head_ends[row] if len(head_ends) > 0 else 0
        key_length = key_end - key_begin if key_ends[row] >= 0 else -1
        value_length = value_end - value_begin if value_ends[row] >= 0 else -1
        delta = row - start
        size = 2 + _varint_size(delta) + _varint_size(key_length) + _varint_size(value_length)
        size += key_end - key_begin + value_end - value_begin
        digits = 0
        if len(head_ends) > 0:
            size += head_end - head_begin
        else:
            size += len(common)
            if len(id_offsets) > 0:
                digits = _decimals(id_offsets[row])
                size += 3 + _varint_size(len(id_prefix) + digits) + len(id_prefix) + digits
        if row > start and at + _varint_size(size) + size > max_bytes:
            break
        at = _put_varint(out, at, size)
        out[at] = 0  # attributes
        out[at + 1] = 0  # timestamp delta
        at = _put_varint(out, at + 2, delta)
        at = _put_varint(out, at, key_length)
        at = _put_bytes(out, at, keys, key_begin, key_end)
        at = _put_varint(out, at, value_length)
        at = _put_bytes(out, at, values, value_begin, value_end)
        if len(head_ends) > 0:
            at = _put_bytes(out, at, heads, head_begin, head_end)
        else:
            at = _put_bytes(out, at, common, 0, len(common))
            if digits > 0:
                at = _put_id(out, at, id_prefix, id_offsets[row], digits)
        key_begin, value_begin, head_begin = key_end, value_end, head_end
        row += 1
    return at, row
