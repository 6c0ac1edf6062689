"""What a partition's owner has seen, packed: the log from which every worker rebuilds its terminals.

A value holds consecutive transactions of one source partition: a header (magic, version, how many), then columns, each
little endian: offsets and event times (int64), hashes of the transaction ids (uint32), lengths of the terminal ids
(uint16), and the terminal ids one behind the other.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.cells import Cells
from models.engine import ModelError
from models.fraud.blocks import Int64

HEADER = struct.Struct("<2sHI")
MAGIC, VERSION = b"tl", 1
COLUMN_TYPES = ("<i8", "<i8", "<u4", "<u2")
ENTRY_BYTES = sum(np.dtype(each).itemsize for each in COLUMN_TYPES)
LONGEST_ID = 65_535
VALUE_BYTES = 512 << 10  # about the most in one value: half of what brokers take by default


class LedgerCorrupt(ModelError, ValueError):
    """A ledger record cannot be what `encode` wrote."""


class Entries(NamedTuple):
    """Columns of n transactions of one source partition, in offset order."""

    offsets: Int64
    terminals: Sequence[bytes]
    event_time_ms: Int64
    transaction_hash: Int64


def encode(entries: Entries) -> list[bytes]:
    """Ledger values for these transactions, in order.

    Args:
        entries: hashes within uint32; terminal ids of at most 65 535 bytes.
    """
    terminals = Cells.of(entries.terminals)
    lengths = terminals.lengths
    if len(lengths) and lengths.max() > LONGEST_ID:
        raise ValueError(f"encoding a ledger: expected terminal ids of at most {LONGEST_ID} bytes, got {lengths.max()}")
    cuts = np.flatnonzero(np.diff(np.cumsum(lengths + ENTRY_BYTES) // VALUE_BYTES)) + 1
    return [
        _value(entries, terminals, lengths, start, end)
        for start, end in itertools.pairwise([0, *cuts.tolist(), len(lengths)])
    ]


def _value(entries: Entries, terminals: Cells[bytes], lengths: NDArray[np.int64], start: int, end: int) -> bytes:
    part = slice(start, end)
    columns = (entries.offsets[part], entries.event_time_ms[part], entries.transaction_hash[part], lengths[part])
    packed = (column.astype(kind).tobytes() for column, kind in zip(columns, COLUMN_TYPES, strict=True))
    borders = np.concatenate(([0], terminals.ends))
    names = terminals.blob[borders[start] : borders[end]].tobytes()
    return b"".join((HEADER.pack(MAGIC, VERSION, end - start), *packed, names))


def joined(parts: Sequence[Entries]) -> Entries:
    """Entries of one source partition that follow each other, as one: what takes them is faster with many."""
    if len(parts) == 1:
        return parts[0]
    offsets, terminals, times, hashes = zip(*parts, strict=True)
    return Entries(
        np.concatenate(offsets), Cells.joined([Cells.of(each) for each in terminals]), np.concatenate(times),
        np.concatenate(hashes),
    )  # fmt: skip


def decode(value: bytes | None) -> Entries:
    """The transactions of one ledger value.

    Raises:
        LedgerCorrupt: it is none of ours.
    """
    if value is None or len(value) < HEADER.size or value[:2] != MAGIC:
        raise LedgerCorrupt(f"decoding a ledger record: expected {MAGIC!r} and a header, got {value and value[:8]!r}")
    _, version, count = HEADER.unpack_from(value)
    if version != VERSION:
        raise LedgerCorrupt(f"decoding a ledger record: expected version {VERSION}, got {version}")
    names = HEADER.size + count * ENTRY_BYTES
    if len(value) < names:
        raise LedgerCorrupt(f"decoding a ledger record: expected {count} entries, got {len(value)} bytes")
    at, columns = HEADER.size, []
    for kind in COLUMN_TYPES:
        columns.append(np.frombuffer(value, kind, count, at).astype(np.int64))
        at += count * np.dtype(kind).itemsize
    offsets, times, hashes, lengths = columns
    ends = names + np.cumsum(lengths)
    if (ends[-1] if count else names) != len(value):
        raise LedgerCorrupt(
            f"decoding a ledger record: expected {ends[-1] if count else names} bytes, got {len(value)}"
        )
    return Entries(offsets, Cells(np.frombuffer(value, np.uint8, offset=names), ends - names), times, hashes)
