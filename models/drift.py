"""Data drift: whether what comes in, and what the model says to it, still looks like its training sample."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from models import distances
from models.cells import Cells
from models.distances import Float32, Int64
from models.engine import ModelIncompatible
from models.reference import HOUR_MS, LEAST_ROWS, SPANS_H, Reference

CAPACITY = 8_192
ALPHA = 0.001  # of one report: the chance that it calls any feature drifting where none is
LEAST_KS = 0.08  # what matters; less is told, but no drift
LEAST_PSI = 0.1  # the field's rule of thumb: below, there is no shift to speak of
PARTS = 12  # of a span; all must have rows in them
REST = 64  # rows at least between two adjustments by time: one takes as long as some thousand rows
WITNESSES = 16  # rows that must have reached a time before the window does
TIME_LIMIT_MS = 1 << 60

UInt64 = NDArray[np.uint64]


@dataclass(frozen=True)
class FeatureDrift:
    """How one feature, or the score, differs from the training sample.

    Args:
        psi: population stability index.
        ks: Kolmogorov-Smirnov statistic.
        p_value: of `ks`, between independent rows of one distribution; of this feature alone.
        verdict: see `compare`.
    """

    name: str
    psi: float
    ks: float
    p_value: float
    verdict: Literal["quiet", "drifting"]


@dataclass(frozen=True)
class Report:
    """What a window showed.

    Args:
        rows: how many rows were compared.
        span_h: hours of event time that they are from, one of 6, 24, 72 and 168; 0 while there are less than 6.
        features: each feature and at the end the score; empty while there is no verdict.
        waiting_for: why there is no verdict yet; empty where there is one.
    """

    rows: int
    span_h: int
    features: tuple[FeatureDrift, ...]
    waiting_for: str = ""

    @property
    def drifting(self) -> tuple[str, ...]:
        return tuple(each.name for each in self.features if each.verdict == "drifting")


@dataclass(frozen=True, eq=False)
class Window:
    """Rows to compare: what a monitor has kept, as of one moment.

    Args:
        columns: float32 [k, n], features and the score.
        keys: int64 [n].
        span_h: hours of event time that they are from; 0 where those are less than the shortest span.
    """

    columns: Float32
    keys: Int64
    span_h: int


class DriftMonitor:
    """A sample of the last hours' rows, of bounded size, to compare with the training sample.

    Each row is kept with the same chance, 1 in 2^level. Four times a span, and where the buffer is full, what is older
    than the span goes. If the buffer is then more than three quarters full, the level rises and half of the rows go; if
    it is less than a quarter full, the level falls for the rows to come, and until the older ones have left the window,
    of the new ones only those are looked at that the higher level would have kept. Which rows are kept depends on their
    order, not on how they are cut into batches. Time is that of the events, so a replay at full speed is like the
    stream itself; it has come as far as the 16th largest event time.

    Not thread-safe: `update` and `window` from one thread at a time. `compare` may run in another one.

    Args:
        reference: the training sample.
        span_h: hours of event time to look back on: 6, 24, 72 or 168; as long as there are less, the next smaller
            that is covered. What goes by the hour or the day of the week must move far in a short one to count.
        capacity: rows held at most; between a quarter and three quarters of it are in the window of a steady stream.
    """

    def __init__(self, reference: Reference, *, span_h: int = 24, capacity: int = CAPACITY) -> None:
        if span_h not in SPANS_H or capacity < 4 * LEAST_ROWS:
            raise ValueError(
                f"watching for drift: expected a span of {', '.join(map(str, SPANS_H))} hours and room for "
                f"{4 * LEAST_ROWS} rows or more, got {span_h} and {capacity}"
            )
        self._reference = reference
        self._spans = [each for each in SPANS_H if each <= span_h]
        self._rows = np.empty((capacity, len(reference.names)), np.float32)
        self._times, self._keys = np.empty((2, capacity), np.int64)
        self._priorities = np.empty(capacity, np.uint64)
        self._levels = np.empty(capacity, np.uint8)
        self._count = self._seen = self._level = self._adjusted = 0
        self._due_ms = -TIME_LIMIT_MS

    @property
    def nbytes(self) -> int:
        """Memory held, in bytes; it never changes."""
        held = (self._rows, self._times, self._keys, self._priorities, self._levels)
        return sum(array.nbytes for array in held)

    def update(
        self,
        features: NDArray[np.floating],
        scores: NDArray[np.floating],
        event_time_ms: Int64,
        keys: Sequence[bytes],
    ) -> None:
        """Look at the next rows.

        Args:
            features: [n, d], as the network got them; cast to float32.
            scores: [n].
            event_time_ms: int64 [n], ms since the epoch; sixteen of them in the far future would be taken for now.
            keys: n keys, e.g. of cards: rows with equal keys are alike.

        Raises:
            ModelIncompatible: The shapes do not fit each other or the training sample. Nothing has been kept.
        """
        n = len(scores)
        got = [list(features.shape), list(scores.shape), list(event_time_ms.shape), [len(keys)]]
        if got != [[n, self._rows.shape[1] - 1], [n], [n], [n]]:
            raise ModelIncompatible(
                f"watching for drift: expected features [{n}, {self._rows.shape[1] - 1}] as in the training sample, a "
                f"score, an event time and a key for each, got {got}; these rows are not looked at"
            )
        base, cells = self._seen, Cells.of(keys)
        self._seen += n
        priorities = _mixed(np.arange(base, self._seen, dtype=np.uint64))
        start = 0
        while start < n:
            stop, due = self._until_due(event_time_ms, start, base)
            chosen = start + np.flatnonzero(priorities[start:stop] <= _bound(self._level))
            room = len(self._times) - self._count
            if len(chosen) >= room:
                chosen = chosen[:room]
                stop, due = int(chosen[-1]) + 1, True
            to = slice(self._count, self._count + len(chosen))
            with np.errstate(over="ignore"):  # what float32 cannot hold is infinite, which is told as drift
                self._rows[to, :-1], self._rows[to, -1] = features[chosen], scores[chosen]
            self._times[to] = np.clip(event_time_ms[chosen], -TIME_LIMIT_MS, TIME_LIMIT_MS)
            self._keys[to] = np.fromiter(map(crc32, cells.take(chosen)), np.int64, len(chosen))
            self._priorities[to], self._levels[to] = priorities[chosen], self._level
            self._count = to.stop
            if due:
                self._adjust()
                self._adjusted = base + stop
            start = stop

    def window(self) -> Window:
        """A copy of what is in the window now, each row of it with the same chance."""
        for span_h in reversed(self._spans):
            inside = self._inside(span_h)
            part_ms = span_h * HOUR_MS // PARTS
            if len(np.unique(self._times[: self._count][inside] // part_ms)) >= PARTS:
                break
        else:
            span_h = 0
        level = self._levels[: self._count][inside].max(initial=0)
        chosen = np.flatnonzero(inside & (self._priorities[: self._count] <= _bound(int(level))))
        return Window(np.ascontiguousarray(self._rows[chosen].T), self._keys[chosen], span_h)

    def report(self) -> Report:
        """`compare` with the training sample what is in the window now."""
        return compare(self._reference, self.window())

    def _now(self) -> int:
        """How far event time has come, in ms."""
        times = self._times[: self._count]
        last = min(WITNESSES, len(times))
        return int(np.partition(times, -last)[-last]) if last else 0

    def _inside(self, span_h: int) -> NDArray[np.bool_]:
        """bool [count]: whether a row is one of the last hours."""
        inside: NDArray[np.bool_] = self._times[: self._count] > self._now() - span_h * HOUR_MS
        return inside

    def _until_due(self, event_time_ms: Int64, start: int, base: int) -> tuple[int, bool]:
        """Where in the batch an adjustment is due by the time that has passed; its end and False where none is."""
        earliest = max(start, self._adjusted + REST - base)
        late = event_time_ms[earliest:] >= self._due_ms
        return (earliest + int(late.argmax()) + 1, True) if late.any() else (len(event_time_ms), False)

    def _adjust(self) -> None:
        """Drop what is too old, and keep fewer rows, or more."""
        kept = self._inside(self._spans[-1])
        count, capacity = np.count_nonzero(kept), len(self._times)
        if count < capacity // 4:
            self._level = max(self._level - 1, 0)
        while count > 3 * capacity // 4:
            self._level += 1
            kept &= self._priorities[: self._count] <= _bound(self._level)
            count = np.count_nonzero(kept)
        for held in (self._rows, self._times, self._keys, self._priorities, self._levels):
            held[:count] = held[: self._count][kept]
        self._count = int(count)
        self._due_ms = self._now() + self._spans[-1] * HOUR_MS // 4


def compare(reference: Reference, window: Window) -> Report:
    """Judge each feature and the score of a window.

    Drifting is what is further from the training sample than chance, custom and indifference explain. Custom: the
    training's own stretches of the window's length were that far away, by night or at the weekend; the distance
    beyond counts. Chance: that much has a probability of ALPHA / 2k or less between samples of one distribution (k
    quantities, two tests each: Bonferroni), which are worth fewer rows than they have, as rows of one key are alike.
    Indifference: a KS statistic of 0.08, or a PSI of 0.1 beyond its expectation. A mean that moves by a quarter of a
    standard deviation makes 0.1 of the former, a category with 3 % of the rows that vanishes 0.1 of the latter.

    There is no verdict on less than 200 rows or 6 hours.

    Measured by `headrace bench drift` on four simulated worlds: none of 4 362 reports on what had not changed called
    anything drifting, where 56 % had a feature with p < 0.05. With a span of 24 h, a mean that moved by half a standard
    deviation was found after 12 hours (median), by a quarter after 17, by a tenth in one feature of four.
    """
    rows = window.columns.shape[1]
    if rows < LEAST_ROWS:
        return Report(rows, window.span_h, (), f"no verdict yet: {rows} of {LEAST_ROWS} rows")
    if not window.span_h:
        return Report(rows, 0, (), f"no verdict yet: rows of less than {SPANS_H[0]} hours")
    ks, psi = reference.distances(window.columns)
    effective = distances.effective_rows(window.columns, window.keys)
    size = effective * reference.effective / (effective + reference.effective)
    span = SPANS_H.index(window.span_h)
    ks_beyond, psi_beyond = np.maximum(ks - reference.ks[span], 0.0), np.maximum(psi - reference.psi[span], 0.0)
    chance = distances.ks_p_value(ks, size)
    rare = ALPHA / (2 * len(ks))
    moved = (ks_beyond >= LEAST_KS) & (distances.ks_p_value(ks_beyond, size) <= rare)
    moved |= (psi_beyond - reference.expected_psi(effective) >= LEAST_PSI) & (
        distances.psi_p_value(psi_beyond, size, reference.bins_used) <= rare
    )
    figures = zip(reference.names, psi.tolist(), ks.tolist(), chance.tolist(), moved.tolist(), strict=True)
    features = tuple(
        FeatureDrift(name, index, distance, p_value, "drifting" if is_moved else "quiet")
        for name, index, distance, p_value, is_moved in figures
    )
    return Report(rows, window.span_h, features)


def metrics(report: Report) -> Mapping[str, Mapping[tuple[str, ...], float]]:
    """A report as metrics: name -> label values (the feature, or none) -> value; no features while no verdict."""
    each = {(found.name,): found for found in report.features}
    return {
        "headrace_drift_psi": {label: found.psi for label, found in each.items()},
        "headrace_drift_ks": {label: found.ks for label, found in each.items()},
        "headrace_drift_pvalue": {label: found.p_value for label, found in each.items()},
        "headrace_drifting": {label: float(found.verdict == "drifting") for label, found in each.items()},
        "headrace_drift_records": {(): float(report.rows)},
    }


def _bound(level: int) -> np.uint64:
    """The largest priority that is kept: at level 0 that of all, at 1 of half of them."""
    return np.uint64(2**64 - 1 >> level)


def _mixed(numbers: UInt64) -> UInt64:
    """Numbers as good as random, equal ones of equal ones.

    References: G. L. Steele, D. Lea, C. H. Flood: Fast Splittable Pseudorandom Number Generators. OOPSLA 2014 (the
    finalising steps of SplitMix64).
    """
    mixed = numbers * np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))
