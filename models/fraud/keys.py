"""Rows for keys: which row of the arrays belongs to a card or a terminal."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["Keys"]


class Keys(dict[bytes, int]):
    """Key -> row; an unknown key gets a row when it is looked up."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[bytes] = []  # row -> key, also of rows just dropped
        self._vacant: list[int] = []
        self._added: list[bytes] = []
        self._key_bytes = 0

    def __missing__(self, key: bytes) -> int:
        if not isinstance(key, bytes):
            raise TypeError(f"a card or terminal key must be bytes, got {key!r}")
        if self._vacant:
            row = self._vacant.pop()
            self.names[row] = key
        else:
            row = len(self.names)
            self.names.append(key)
        self[key] = row
        self._added.append(key)
        self._key_bytes += sys.getsizeof(key)
        return row

    @property
    def rows_used(self) -> int:
        return len(self.names)

    @property
    def nbytes(self) -> int:
        return sys.getsizeof(self) + sys.getsizeof(self.names) + self._key_bytes + 32 * len(self)

    def rows(self, keys: Sequence[bytes]) -> NDArray[np.int64]:
        """Rows of `keys`; on an error none of the new ones stays."""
        self._added = []
        try:
            return np.fromiter(map(self.__getitem__, keys), np.int64, len(keys))
        except TypeError:
            added = [self[key] for key in self._added]
            self.forget(added)
            self.recycle(added)
            raise

    def forget(self, rows: list[int]) -> None:
        for row in rows:
            self._key_bytes -= sys.getsizeof(self.names[row])
            del self[self.names[row]]

    def recycle(self, rows: list[int]) -> None:
        for row in rows:
            self.names[row] = b""
        self._vacant += rows
