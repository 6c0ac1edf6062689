"""The keyed state of the label loop: for every transaction of one partition the label that counts."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from models.engine import ModelError
from models.fraud.blocks import NEVER, TIME_LIMIT_MS, Int64
from models.fraud.label_rows import HashedRows, Hashes, Rows

GENUINE_SAID, FRAUD_SAID = 1, 2  # bits of `said`: which labels a transaction has had
LABEL = np.dtype([("event_time_ms", "<i8"), ("label_time_ms", "<i8"), ("fraud", "?"), ("said", "u1")])
VERSION = b"\x01"  # the first byte of a changelog value, before the row
VALUE_BYTES = len(VERSION) + LABEL.itemsize
KEY_BYTES = 8  # the hash, big endian
SWEEPS = 64  # a sweep each time the horizon has moved by so small a part of the memory


class LabelsCorrupt(ModelError, ValueError):
    """A changelog record cannot be what `LabelStore.changes` wrote."""


class LabelStore:
    """Of several labels of one transaction the one with the largest label time, fraud before genuine where equal.

    What is held is a function of the set of labels that have come, not of their order, nor of how often they came,
    nor of whether they came as labels or out of a restored changelog. A label counts as long as its transaction is
    at most `memory_ms` older than the newest label time so far, and is forgotten after that; one that comes later than
    that is not held at all.

    Thread-safe. A label takes 26 bytes.

    Args:
        memory_ms: how long labels are held.

    Attributes:
        expired: labels that came too late to be held.
    """

    def __init__(self, memory_ms: int) -> None:
        self.expired = 0
        self._memory = memory_ms
        self._labels = HashedRows(LABEL)
        self._newest = NEVER
        self._swept = NEVER  # the newest label time at the last sweep
        self._touched: list[Hashes] = []
        self._gone: list[Hashes] = []
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """Labels held, of one transaction each; a few may be too old to count."""
        with self._lock:
            return len(self._labels)

    @property
    def nbytes(self) -> int:
        """Memory held, in bytes."""
        with self._lock:
            return self._labels.nbytes

    @property
    def newest_ms(self) -> int | None:
        """The largest label time so far, in ms; None before the first label."""
        with self._lock:
            return None if self._newest == NEVER else self._newest

    def apply(
        self, hashes: Hashes, event_time_ms: Int64, fraud: NDArray[np.bool_], label_time_ms: Int64
    ) -> NDArray[np.bool_]:
        """Apply n labels.

        Args:
            hashes: uint64 [n], of the transaction.
            event_time_ms: int64 [n], of the transaction, ms since the epoch, as `label_time_ms`.
            fraud: bool [n].
            label_time_ms: int64 [n], since when it has been known.

        Returns:
            bool [n]: which of them count from now on, and did not before.

        Raises:
            ValueError: an argument is not of that form. Nothing has been applied then.
        """
        _check(hashes, event_time_ms=event_time_ms, fraud=fraud, label_time_ms=label_time_ms)
        if not len(hashes):
            return np.zeros(0, np.bool_)
        labels = np.empty(len(hashes), LABEL)
        labels["event_time_ms"], labels["label_time_ms"], labels["fraud"] = event_time_ms, label_time_ms, fraud
        labels["said"] = np.where(fraud, FRAUD_SAID, GENUINE_SAID)
        with self._lock:
            newest = np.maximum.accumulate(np.append(self._newest, label_time_ms))[1:]
            self._newest = int(newest[-1])
            kept = event_time_ms >= self._newest - self._memory
            # In its place among the labels, so that of a long batch the first ones are not late for the last ones.
            self.expired += int(np.count_nonzero(event_time_ms < newest - self._memory))
            touched, changed = self._join(hashes[kept], labels[kept])
            self._touched.append(touched)
        new = np.zeros(len(hashes), np.bool_)
        new[np.flatnonzero(kept)[changed]] = True
        return new

    def changes(self) -> tuple[list[bytes], list[bytes | None]]:
        """Report what was touched since the last call, as records for a compacted changelog.

        Key: the hash, 8 bytes, big endian. Value: a version byte and the label (event time and label time in ms, fraud,
        which labels there have been), little endian; None for one that is forgotten.
        """
        with self._lock:
            self._sweep()
            touched = np.unique(np.concatenate(self._touched)) if self._touched else np.empty(0, np.uint64)
            gone = np.concatenate(self._gone) if self._gone else np.empty(0, np.uint64)
            self._touched, self._gone = [], []
            held, labels = self._labels.find(touched)
        packed = labels[held].tobytes()
        values: list[bytes | None] = [
            VERSION + packed[at : at + LABEL.itemsize] for at in range(0, len(packed), LABEL.itemsize)
        ]
        return _keys(touched[held]) + _keys(gone), values + [None] * len(gone)

    def merge(self, keys: Sequence[bytes], values: Sequence[bytes | None]) -> None:
        """Restore from records that `changes` wrote, in log order; records may be stale, repeated, or compacted away.

        Raises:
            LabelsCorrupt: a record is none of ours. Nothing of this call has been applied then.
        """
        if len(keys) != len(values):
            raise ValueError(f"restoring labels: {len(keys)} keys do not match {len(values)} values")
        for key, value in zip(keys, values, strict=True):
            known = value is None or (len(value) == VALUE_BYTES and value[:1] == VERSION)
            if len(key) != KEY_BYTES or not known:
                raise LabelsCorrupt(
                    f"restoring labels: expected a key of {KEY_BYTES} bytes and a value of {VALUE_BYTES} that begins "
                    f"with {VERSION!r}, got {key!r} and {value!r}"
                )
        hashes = np.frombuffer(b"".join(keys), ">u8").astype(np.uint64)
        # A tombstone needs no deletion: what it stood for is too old, and the next sweep finds it.
        kept = np.array([value is not None for value in values], np.bool_)
        labels = np.frombuffer(b"".join(value[1:] for value in values if value is not None), LABEL)
        odd = (labels["fraud"].view(np.uint8) > 1) | ~np.isin(labels["said"], (1, 2, 3))
        if odd.any():
            raise LabelsCorrupt(f"restoring labels: expected flags of labels, got {labels[odd][0].tobytes()!r}")
        with self._lock:
            if len(labels):
                self._newest = max(self._newest, int(labels["label_time_ms"].max()))
            self._join(hashes[kept], labels)

    def labels(self) -> tuple[Hashes, Rows]:
        """All labels that count: uint64 [n], and rows of type `LABEL` [n]; a copy, in no order."""
        with self._lock:
            runs = list(self._labels.runs())
            hashes = np.concatenate([run.hashes for run in runs]) if runs else np.empty(0, np.uint64)
            labels = np.concatenate([run.rows for run in runs]) if runs else np.empty(0, LABEL)
            counting = labels["event_time_ms"] >= self._newest - self._memory
        return hashes[counting], labels[counting]

    def _join(self, hashes: Hashes, labels: Rows) -> tuple[Hashes, Int64]:
        """Join labels with those that are held; returns the hashes, each once, and the rows of labels that are new."""
        if not len(hashes):
            return hashes, np.empty(0, np.int64)
        unique = np.unique(hashes)
        held, known = self._labels.find(unique)
        hashes, labels = np.concatenate((unique[held], hashes)), np.concatenate((known[held], labels))
        # What is held goes last among equals: a repeat is nothing new.
        order = np.lexsort(
            (-np.arange(len(hashes)), labels["event_time_ms"], labels["fraud"], labels["label_time_ms"], hashes)
        )
        starts = np.flatnonzero(np.append(True, np.diff(hashes[order]) != 0))
        winners = order[np.append(starts[1:], len(hashes)) - 1]
        joined = labels[winners]
        joined["said"] = np.bitwise_or.reduceat(labels["said"][order], starts)
        self._labels.put(unique, joined)
        return unique, winners[winners >= np.count_nonzero(held)] - np.count_nonzero(held)

    def _sweep(self) -> None:
        """Forget what is too old; not at every call, since it looks at every label."""
        if self._swept == NEVER:
            self._swept = self._newest
        if self._newest < self._swept + self._memory // SWEEPS + 1:
            return
        self._swept = self._newest
        horizon = self._newest - self._memory
        self._gone.append(self._labels.drop(lambda labels: labels["event_time_ms"] >= horizon))


def _keys(hashes: Hashes) -> list[bytes]:
    packed = hashes.astype(">u8").tobytes()
    return [packed[at : at + KEY_BYTES] for at in range(0, len(packed), KEY_BYTES)]


def _check(hashes: Hashes, **columns: NDArray[np.int64] | NDArray[np.bool_]) -> None:
    n = len(hashes)
    if hashes.dtype != np.uint64 or hashes.shape != (n,):
        raise ValueError(f"applying labels: expected hashes as uint64 [n], got {hashes.dtype} {list(hashes.shape)}")
    for name, column in columns.items():
        dtype = np.dtype(np.bool_ if name == "fraud" else np.int64)
        if column.dtype != dtype or column.shape != (n,):
            raise ValueError(
                f"applying labels: expected {name} as {dtype} [{n}], got {column.dtype} {list(column.shape)}"
            )
        if name != "fraud" and n and (column.min() < -TIME_LIMIT_MS or column.max() > TIME_LIMIT_MS):
            raise ValueError(f"applying labels: {name} must be within ±{TIME_LIMIT_MS} ms, got {column!r}")
