"""Rows that are found by a 64-bit hash, a few bytes each: for the scores of weeks, and the labels that come to them.

Rows lie in runs that are sorted by hash. New ones become a run of their own, and a run is merged with its neighbour
when it has grown to half of it: of n rows there are at most about log2(n) runs to look through, and each row is moved
about as often.

References: P. O'Neil, E. Cheng, D. Gawlick, E. O'Neil: The Log-Structured Merge-Tree. Acta Informatica 33, 1996.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

Hashes = NDArray[np.uint64]
Rows = NDArray[Any]
"""A structured array."""


class Run(NamedTuple):
    """Sorted, without repeats: uint64 [n], and the row of each."""

    hashes: Hashes
    rows: Rows


class HashedRows:
    """One row a hash, of a structured type. Not thread-safe.

    Args:
        dtype: of the rows.
    """

    def __init__(self, dtype: DTypeLike) -> None:
        self._dtype = np.dtype(dtype)
        self._runs: list[Run] = []  # each at least twice as long as the next

    def __len__(self) -> int:
        return sum(len(run.hashes) for run in self._runs)

    @property
    def nbytes(self) -> int:
        """Memory held, in bytes."""
        return sum(run.hashes.nbytes + run.rows.nbytes for run in self._runs)

    def find(self, hashes: Hashes) -> tuple[NDArray[np.bool_], Rows]:
        """Whether each of n hashes is held, bool [n], and its row [n]; zeros where it is not."""
        held, rows = np.zeros(len(hashes), np.bool_), np.zeros(len(hashes), self._dtype)
        for run in self._runs:
            at = np.searchsorted(run.hashes, hashes).clip(max=len(run.hashes) - 1)
            here = run.hashes[at] == hashes
            held |= here
            rows[here] = run.rows[at[here]]
        return held, rows

    def put(self, hashes: Hashes, rows: Rows) -> None:
        """Set the rows of n hashes, none of them twice; those that are not held yet are added."""
        new = np.ones(len(hashes), np.bool_)
        for run in self._runs:
            at = np.searchsorted(run.hashes, hashes).clip(max=len(run.hashes) - 1)
            here = run.hashes[at] == hashes
            run.rows[at[here]] = rows[here]
            new &= ~here
        if new.any():
            order = np.argsort(hashes[new])
            self._runs.append(Run(hashes[new][order], rows[new][order]))
            self._merge()

    def drop(self, keep: Callable[[Rows], NDArray[np.bool_]]) -> Hashes:
        """Drop the rows for which `keep` is False, and return their hashes."""
        dropped, runs = [np.empty(0, np.uint64)], []
        for run in self._runs:
            kept = keep(run.rows)
            if kept.all():
                runs.append(run)
                continue
            dropped.append(run.hashes[~kept])
            runs.append(Run(run.hashes[kept], run.rows[kept]))
        self._runs = []
        for run in sorted(runs, key=lambda run: -len(run.hashes)):
            if len(run.hashes):
                self._runs.append(run)
                self._merge()
        return np.concatenate(dropped)

    def runs(self) -> Iterator[Run]:
        """All rows; views, valid until the next call."""
        yield from self._runs

    def _merge(self) -> None:
        runs = self._runs
        while len(runs) > 1 and len(runs[-2].hashes) < 2 * len(runs[-1].hashes):
            newer, older = runs.pop(), runs.pop()
            hashes = np.concatenate((older.hashes, newer.hashes))
            order = np.argsort(hashes, kind="stable")  # finds the two sorted halves by itself
            runs.append(Run(hashes[order], np.concatenate((older.rows, newer.rows))[order]))
