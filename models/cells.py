"""Columns of bytes: the keys or values of many records in one buffer, as compiled code wants them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeVar, cast, overload

import numpy as np
from numba import njit
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Ends = NDArray[np.int64]

T = TypeVar("T", bound=bytes | None)


class Cells(Sequence[T]):
    """Cells of bytes, one behind the other, as in Arrow's binary arrays; read like a list of `bytes`.

    Attributes:
        blob: uint8, all bytes.
        ends: int64 [n], where each cell ends in them; `~end` where it is null.
    """

    __slots__ = ("blob", "ends")

    def __init__(self, blob: Bytes, ends: Ends) -> None:
        blob.setflags(write=False)  # as those made of bytes are: kernels are compiled for each kind of array
        self.blob, self.ends = blob, ends

    @classmethod
    def of(cls, cells: Sequence[T]) -> Cells[T]:
        """These cells, as they are or from a list.

        Raises:
            TypeError: one is neither bytes nor None.
        """
        if isinstance(cells, Cells):
            return cells
        try:
            blob = b"".join(cells)  # type: ignore[arg-type]
        except TypeError:
            blob = b"".join(cell for cell in cells if cell is not None)
            lengths = np.fromiter((0 if cell is None else len(cell) for cell in cells), np.int64, len(cells))
            ends = np.cumsum(lengths)
            null = np.fromiter((cell is None for cell in cells), np.bool_, len(cells))
            ends[null] = ~ends[null]
            return cls(np.frombuffer(blob, np.uint8), ends)
        return cls(np.frombuffer(blob, np.uint8), _ends(map(len, cells), len(cells)))  # type: ignore[arg-type]

    @classmethod
    def of_text(cls, texts: Sequence[str]) -> Cells[bytes]:
        """Texts in UTF-8."""
        joined = "".join(texts)
        if joined.isascii():
            return Cells(np.frombuffer(joined.encode(), np.uint8), _ends(map(len, texts), len(texts)))
        encoded = [text.encode() for text in texts]
        return Cells(np.frombuffer(b"".join(encoded), np.uint8), _ends(map(len, encoded), len(encoded)))

    @classmethod
    def joined(cls, parts: Sequence[Cells[bytes]]) -> Cells[bytes]:
        """Columns one behind the other, as one; without nulls."""
        before = np.cumsum([0, *(len(part.blob) for part in parts)]).tolist()
        ends = [part.ends + start for part, start in zip(parts, before, strict=False)]
        return Cells(np.concatenate([part.blob for part in parts]), np.concatenate(ends))

    def __len__(self) -> int:
        return len(self.ends)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """int64 [n], bytes of each cell; without nulls."""
        lengths: NDArray[np.int64] = np.diff(self.ends, prepend=0)
        return lengths

    def same_as(self, other: Cells[Any]) -> bool:
        """Whether every cell equals the other column's."""
        return np.array_equal(self.ends, other.ends) and np.array_equal(self.blob, other.blob)

    @overload
    def __getitem__(self, row: int) -> T: ...
    @overload
    def __getitem__(self, row: slice) -> list[T]: ...
    def __getitem__(self, row: int | slice) -> T | list[T]:
        if isinstance(row, slice):
            return [self[each] for each in range(*row.indices(len(self)))]
        row = range(len(self))[row]
        end = int(self.ends[row])
        begin = int(self.ends[row - 1]) if row else 0
        return cast(T, None if end < 0 else self.blob[begin if begin >= 0 else ~begin : end].tobytes())

    def __iter__(self) -> Iterator[T]:
        blob, begin = self.blob.tobytes(), 0
        for end in self.ends.tolist():
            yield cast(T, None if end < 0 else blob[begin:end])
            begin = end if end >= 0 else ~end

    def take(self, rows: NDArray[np.integer[Any]]) -> Cells[T]:
        """The same column, these rows only, in that order."""
        return Cells(*_take(self.blob, self.ends, rows.astype(np.int64, copy=False)))


def _ends(lengths: Iterator[int], count: int) -> Ends:
    ends: Ends = np.cumsum(np.fromiter(lengths, np.int64, count))
    return ends


@njit(nogil=True, cache=True)
def _span(ends: Ends, row: int) -> tuple[int, int, bool]:
    """Where a cell begins and ends, and whether it is null."""
    end = ends[row]
    begin = ends[row - 1] if row > 0 else 0
    return begin if begin >= 0 else ~begin, end if end >= 0 else ~end, end < 0


@njit(nogil=True, cache=True)
def _take(blob: Bytes, ends: Ends, rows: Ends) -> tuple[Bytes, Ends]:
    size = 0
    taken = np.empty(len(rows), np.int64)
    for place in range(len(rows)):
        begin, end, null = _span(ends, rows[place])
        size += end - begin
        taken[place] = ~size if null else size
    out = np.empty(size, np.uint8)
    at = 0
    for place in range(len(rows)):
        begin, end, _ = _span(ends, rows[place])
        for byte in range(begin, end):
            out[at + byte - begin] = blob[byte]
        at += end - begin
    return out, taken
