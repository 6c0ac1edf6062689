"""Rows for keys: which row of the arrays belongs to a card or a terminal."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from models.cells import Bytes, Cells, Ends
from models.fraud.blocks import Int, Int64, kernel

__all__ = ["NO_ROW", "Keys"]

NO_ROW = -1
SMALLEST = 64  # slots, rows and bytes at first
AHEAD = 64  # keys whose memory is fetched together
# Scalars: keys held, rows ever used, height of the stack of vacant rows, bytes of names, and of those nobody has.
HELD, USED, VACANT, NAMED, GARBAGE = range(5)
HASH, ROW = range(2)  # columns of a slot
UInt64 = NDArray[np.uint64]
U = np.uint64
D = TypeVar("D", bound=np.generic)


class Index(NamedTuple):
    """The arrays that the kernels work on."""

    slots: Int64  # [2^k, 2]: hash of a key and its row, or NO_ROW; open addressing, the next slot where one is taken
    names: Bytes  # the keys, one behind the other
    spans: Int64  # [rows, 3]: where a row's key begins and ends, and its hash; also of rows just dropped
    vacant: Int64  # [rows], a stack
    scalars: Int64
    secret: UInt64  # [2]


class Keys:
    """Key -> row; an unknown key gets a row when `rows` asks for it.

    A hash table of its own, since a dictionary costs a cache miss for the key's object, one for its row's, and the GIL.

    Hashes are SipHash-1-3 with a secret of this process, as Python's own: who chooses keys cannot make them collide.

    References:
        J.-P. Aumasson, D. J. Bernstein: SipHash: a fast short-input PRF. INDOCRYPT 2012.
    """

    def __init__(self) -> None:
        self._index = Index(
            slots=np.full((SMALLEST, 2), NO_ROW, np.int64),
            names=np.empty(SMALLEST, np.uint8),
            spans=np.empty((SMALLEST, 3), np.int64),
            vacant=np.empty(SMALLEST, np.int64),
            scalars=np.zeros(5, np.int64),
            secret=np.array([secrets.randbits(64), secrets.randbits(64)], np.uint64),
        )

    def __len__(self) -> int:
        return int(self._index.scalars[HELD])

    @property
    def rows_used(self) -> int:
        return int(self._index.scalars[USED])

    @property
    def nbytes(self) -> int:
        return sum(array.nbytes for array in self._index)

    def items(self) -> Iterator[tuple[bytes, int]]:
        """Every key with its row, in no order."""
        slots = self._index.slots
        for row in slots[slots[:, ROW] != NO_ROW, ROW].tolist():
            begin, end, _ = self._index.spans[row].tolist()
            yield self._index.names[begin:end].tobytes(), row

    def rows(self, keys: Sequence[bytes]) -> Int64:
        """Rows of `keys`; those that are unknown have got one.

        Raises:
            TypeError: one is not bytes; nothing has changed then.
        """
        cells = _cells(keys)
        rows = np.empty(len(cells), np.int64)
        done: Int = 0
        while (done := place(self._index, cells.blob, cells.ends, rows, done)) < len(rows):
            self._grow(int(cells.ends[done]) - (int(cells.ends[done - 1]) if done else 0))
        return rows

    def find(self, keys: Sequence[bytes]) -> Int64:
        """Rows of `keys`, `NO_ROW` for unknown ones.

        Raises:
            TypeError: one is not bytes.
        """
        cells = _cells(keys)
        rows = np.empty(len(cells), np.int64)
        find(self._index, cells.blob, cells.ends, rows)
        return rows

    def names(self, rows: Int64) -> Cells[bytes]:
        """The keys of these rows, also of rows that were forgotten and are not recycled yet."""
        return Cells(*name(self._index, rows))

    def forget(self, rows: Int64) -> None:
        """Drop the keys of these rows; nobody else gets the rows before they are recycled."""
        forget(self._index, rows)

    def recycle(self, rows: Int64) -> None:
        """Let new keys have these rows, which were forgotten."""
        recycle(self._index, rows)
        if 2 * self._index.scalars[GARBAGE] > self._index.scalars[NAMED]:
            self._index = self._index._replace(names=tidied(self._index))

    def _grow(self, name_bytes: int) -> None:
        """Make room for one more key, at least."""
        index = self._index
        if 2 * (index.scalars[HELD] + 1) > len(index.slots):
            slots = np.full((2 * len(index.slots), 2), NO_ROW, np.int64)
            rehash(index.slots, slots)
            index = index._replace(slots=slots)
        if index.scalars[VACANT] == 0 and index.scalars[USED] == len(index.spans):
            size = _grown(len(index.spans), len(index.spans) + 1)
            index = index._replace(spans=_resized(index.spans, size), vacant=_resized(index.vacant, size))
        if (needed := int(index.scalars[NAMED]) + name_bytes) > len(index.names):
            index = index._replace(names=_resized(index.names, _grown(len(index.names), needed)))
        self._index = index


def _cells(keys: Sequence[bytes]) -> Cells[bytes]:
    kinds = {bytes} if isinstance(keys, Cells) else set(map(type, keys))
    if all(issubclass(kind, bytes) for kind in kinds):
        cells = Cells.of(keys)
        if not len(cells) or cells.ends.min() >= 0:
            return cells
    wrong = next(key for key in keys if not isinstance(key, bytes))
    raise TypeError(f"a card or terminal key must be bytes, got {wrong!r}")


def _grown(size: int, needed: int) -> int:
    return max(needed, size + size // 2)


def _resized(array: NDArray[D], size: int) -> NDArray[D]:
    resized = np.empty((size, *array.shape[1:]), array.dtype)
    resized[: len(array)] = array
    return resized


@kernel
def mixed(a: U, b: U, c: U, d: U) -> tuple[U, U, U, U]:
    """One round of SipHash."""
    a += b
    b = ((b << U(13)) | (b >> U(51))) ^ a
    a = (a << U(32)) | (a >> U(32))
    c += d
    d = ((d << U(16)) | (d >> U(48))) ^ c
    a += d
    d = ((d << U(21)) | (d >> U(43))) ^ a
    c += b
    b = ((b << U(17)) | (b >> U(47))) ^ c
    c = (c << U(32)) | (c >> U(32))
    return a, b, c, d


@kernel
def siphash(text: Bytes, begin: Int, end: Int, low: U, high: U) -> np.int64:
    """SipHash-1-3 of some bytes, with a secret of two words."""
    a = low ^ U(0x736F6D6570736575)
    b = high ^ U(0x646F72616E646F6D)
    c = low ^ U(0x6C7967656E657261)
    d = high ^ U(0x7465646279746573)
    at = begin
    while at + 8 <= end:
        word = U(0)
        for byte in range(8):
            word |= U(text[at + byte]) << U(8 * byte)
        d ^= word
        a, b, c, d = mixed(a, b, c, d)
        a ^= word
        at += 8
    word = U(end - begin) << U(56)
    for byte in range(end - at):
        word |= U(text[at + byte]) << U(8 * byte)
    d ^= word
    a, b, c, d = mixed(a, b, c, d)
    a ^= word
    c ^= U(0xFF)
    for _ in range(3):
        a, b, c, d = mixed(a, b, c, d)
    return np.int64(a ^ b ^ c ^ d)


@kernel
def hashed(index: Index, text: Bytes, ends: Ends, first: Int, hashes: Int64) -> Int:
    """Hash keys from `first` on, and read their slots, so that the waits for memory overlap; returns nothing of use."""
    slots, spans, names, low, high = index.slots, index.spans, index.names, index.secret[0], index.secret[1]
    seen, mask = 0, len(slots) - 1
    begin = ends[first - 1] if first > 0 else 0
    for i in range(len(hashes)):
        end = ends[first + i]
        hashes[i] = siphash(text, begin, end, low, high)
        seen += slots[hashes[i] & mask, ROW]
        begin = end
    for i in range(len(hashes)):
        row = slots[hashes[i] & mask, ROW]
        if row != NO_ROW and spans[row, 0] < spans[row, 1]:
            seen += names[spans[row, 0]]
    return seen


@kernel
def slots_of(
    slots: Int64, spans: Int64, names: Bytes, hashes: Int64, text: Bytes, ends: Ends, first: Int, found: Int64
) -> None:
    """The slots of keys from `first` on; for unknown ones `~slot` of the empty one where they would be.

    For many at once, since numba counts references to each array in each call.
    """
    mask = len(slots) - 1
    begin = ends[first - 1] if first > 0 else 0
    for i in range(len(hashes)):
        size, slot = ends[first + i] - begin, hashes[i] & mask
        while slots[slot, ROW] != NO_ROW:
            if slots[slot, HASH] == hashes[i]:
                start = spans[slots[slot, ROW], 0]
                if spans[slots[slot, ROW], 1] - start == size:
                    differing = np.uint8(0)  # with no way out, the loop is compiled to a few instructions
                    for at in range(size):
                        differing |= names[start + at] ^ text[begin + at]
                    if differing == 0:
                        break
            slot = (slot + 1) & mask
        found[i] = slot if slots[slot, ROW] != NO_ROW else ~slot
        begin += size


@kernel
def find(index: Index, text: Bytes, ends: Ends, rows: Int64) -> Int:
    """The rows of keys, written; `NO_ROW` for unknown ones."""
    slots, spans, names = index.slots, index.spans, index.names
    seen: Int = 0
    hashes, found = np.empty(AHEAD, np.int64), np.empty(AHEAD, np.int64)
    for first in range(0, len(rows), AHEAD):
        count = min(AHEAD, len(rows) - first)
        seen += hashed(index, text, ends, first, hashes[:count])
        slots_of(slots, spans, names, hashes[:count], text, ends, first, found)
        for i in range(count):
            rows[first + i] = slots[found[i], ROW] if found[i] >= 0 else NO_ROW
    return seen


@kernel
def place(index: Index, text: Bytes, ends: Ends, rows: Int64, start: Int) -> Int:
    """Write the rows of keys from `start` on, new ones for unknown keys; return the first that there is no room for."""
    slots, spans, names, scalars = index.slots, index.spans, index.names, index.scalars
    hashes, found = np.empty(AHEAD, np.int64), np.empty(AHEAD, np.int64)
    for first in range(start, len(rows), AHEAD):
        count = min(AHEAD, len(rows) - first)
        hashed(index, text, ends, first, hashes[:count])
        slots_of(slots, spans, names, hashes[:count], text, ends, first, found)
        for i in range(first, first + count):
            at = i - first
            if found[at] < 0:  # one before it may have been the same key, or have taken the same slot
                slots_of(slots, spans, names, hashes[at : at + 1], text, ends, i, found[at:])
            if found[at] < 0:
                begin = ends[i - 1] if i > 0 else 0
                size = ends[i] - begin
                if (
                    2 * (scalars[HELD] + 1) > len(slots)
                    or (scalars[VACANT] == 0 and scalars[USED] == len(spans))
                    or scalars[NAMED] + size > len(names)
                ):
                    return i
                if scalars[VACANT] > 0:
                    scalars[VACANT] -= 1
                    row = index.vacant[scalars[VACANT]]
                else:
                    row = scalars[USED]
                    scalars[USED] += 1
                named = scalars[NAMED]
                for byte in range(size):
                    names[named + byte] = text[begin + byte]
                spans[row, 0], spans[row, 1], spans[row, 2] = named, named + size, hashes[at]
                scalars[NAMED] += size
                found[at] = ~found[at]
                slots[found[at], HASH], slots[found[at], ROW] = hashes[at], row
                scalars[HELD] += 1
            rows[i] = slots[found[at], ROW]
    return len(rows)


@kernel
def rehash(slots: Int64, larger: Int64) -> None:
    """Put what is in `slots` into `larger`, which is empty."""
    mask = len(larger) - 1
    for old in range(len(slots)):
        if slots[old, ROW] != NO_ROW:
            slot = slots[old, HASH] & mask
            while larger[slot, ROW] != NO_ROW:
                slot = (slot + 1) & mask
            larger[slot, HASH], larger[slot, ROW] = slots[old, HASH], slots[old, ROW]


@kernel
def forget(index: Index, rows: Int64) -> None:
    """Empty the slots of these rows; what stands behind one for want of room moves up."""
    slots, spans, mask = index.slots, index.spans, len(index.slots) - 1
    for row in rows:
        hole = spans[row, 2] & mask
        while slots[hole, ROW] != row:
            if slots[hole, ROW] == NO_ROW:
                raise KeyError("a row without a key")
            hole = (hole + 1) & mask
        slots[hole, ROW] = NO_ROW
        index.scalars[HELD] -= 1
        slot = (hole + 1) & mask
        while slots[slot, ROW] != NO_ROW:
            home = slots[slot, HASH] & mask
            if (slot - home) & mask >= (slot - hole) & mask:
                slots[hole, HASH], slots[hole, ROW] = slots[slot, HASH], slots[slot, ROW]
                slots[slot, ROW] = NO_ROW
                hole = slot
            slot = (slot + 1) & mask


@kernel
def recycle(index: Index, rows: Int64) -> None:
    """Put these rows on the stack of vacant ones."""
    scalars = index.scalars
    for row in rows:
        index.vacant[scalars[VACANT]] = row
        scalars[VACANT] += 1
        scalars[GARBAGE] += index.spans[row, 1] - index.spans[row, 0]
        index.spans[row, 0] = index.spans[row, 1] = 0


@kernel
def tidied(index: Index) -> Bytes:
    """The names without what nobody has."""
    spans, scalars = index.spans, index.scalars
    names = np.empty(scalars[NAMED] - scalars[GARBAGE], np.uint8)
    named = 0
    for row in range(scalars[USED]):
        begin, end = spans[row, 0], spans[row, 1]
        for at in range(end - begin):
            names[named + at] = index.names[begin + at]
        spans[row, 0], spans[row, 1] = named, named + end - begin
        named += end - begin
    scalars[NAMED], scalars[GARBAGE] = named, 0
    return names


@kernel
def name(index: Index, rows: Int64) -> tuple[Bytes, Ends]:
    """The keys of these rows, and where each ends."""
    ends = np.empty(len(rows), np.int64)
    size = 0
    for i in range(len(rows)):
        size += index.spans[rows[i], 1] - index.spans[rows[i], 0]
        ends[i] = size
    names = np.empty(size, np.uint8)
    for i in range(len(rows)):
        begin, end = index.spans[rows[i], 0], index.spans[rows[i], 1]
        for at in range(end - begin):
            names[ends[i] - (end - begin) + at] = index.names[begin + at]
    return names, ends
