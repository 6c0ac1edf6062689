"""What an operator sees of the label loop: what labels found, how old they are, how good the scores were."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from math import inf, nan

import numpy as np
from numpy.typing import NDArray

from models.fraud.blocks import DAY_MS
from models.fraud.label_quality import FIGURES, quality
from models.fraud.label_rows import Hashes
from models.fraud.label_store import FRAUD_SAID, GENUINE_SAID, LabelStore
from streams.clock import Clock
from streams.pipelines.labels.scores import ScoreTable
from streams.settings import Labels

REFRESH_S = 10.0
QUIET_S = 30.0
CHUNK = 65_536  # labels looked up at a time: so long do flags and labels that come meanwhile wait
COUNTS = ("matched", "waiting", "unknown", "superseded", "expired")


class LabelMetrics:
    """The gauges of the label loop, computed beside it at most every `REFRESH_S`, when labels or flags have come.

    They are about the partitions of this worker. A transaction is due when its event time is in
    (w - delay - window, w - delay], w the newest event time among all flags; one without a label is taken for genuine.

    A label is matched when its transaction has a flag that was not late, unknown when the flags of its partition have
    passed its event time by `labels.wait_days` without one, and waits otherwise: a function of what is held, so each
    label is counted once, also after a restart. One whose flag would be forgotten by now is not counted.

    A table is read as far as labels ask for, those of a restored store among them. When none has come for `QUIET_S`,
    the table is asked to follow the flags without them, unless the last label is older than the memory: then old labels
    are processed anew, and flags that they will need would be forgotten.

    Attributes:
        stores: partition -> its labels; replaced as a whole.
    """

    def __init__(self, table: ScoreTable, settings: Labels, clock: Clock) -> None:
        self.stores: Mapping[int, LabelStore] = {}
        self._table, self._clock = table, clock
        self._wait, self._delay, self._window, self._memory = (
            int(days * DAY_MS)
            for days in (settings.wait_days, settings.delay_days, settings.window_days, settings.memory_days)
        )
        self._labelled = 0  # labels so far
        self._ages: list[NDArray[np.float64]] = []
        self._lock = threading.Lock()
        self._values = dict.fromkeys([f"headrace_labels_{name}" for name in COUNTS], 0.0)
        self._values |= dict.fromkeys([f"headrace_fraud_{name}" for name in FIGURES], nan)
        self._values["headrace_fraud_due_transactions"] = 0.0
        self._seen: tuple[int, int] | None = (0, 0)
        self._looked_at = -REFRESH_S
        self._heard_at = clock.monotonic()
        self._thread: threading.Thread | None = None

    def assigned(self, stores: Mapping[int, LabelStore]) -> None:
        """Other partitions from now on: the values are computed anew at the next call, lest two workers tell the same.

        In the thread that calls `gauges`.
        """
        self.stores = dict(stores)
        self._seen = None
        self._looked_at = -inf

    def labelled(self, count: int, ages_s: NDArray[np.float64]) -> None:
        """Labels have come; of those that count from now on, how long after their transaction."""
        with self._lock:
            self._heard_at = self._clock.monotonic()
            self._labelled += count
            self._ages.append(ages_s)

    def gauges(self) -> Mapping[str, float]:
        """Metric -> value; cheap. Has them computed anew where it is time, which the next calls will show."""
        now = self._clock.monotonic()
        if now - self._looked_at >= REFRESH_S and (self._thread is None or not self._thread.is_alive()):
            self._looked_at = now
            self._thread = threading.Thread(target=self._look, name="label-metrics", daemon=True)
            self._thread.start()
        newest = self._newest_label()
        age_s = nan if newest is None else self._clock.time() - newest / 1000
        return self._values | {"headrace_labels_newest_age_seconds": age_s}

    def observations(self) -> Mapping[str, NDArray[np.float64]]:
        """Metric -> values for its histogram that have come since the last call."""
        with self._lock:
            ages, self._ages = self._ages, []
        return {"headrace_label_age_seconds": np.concatenate(ages)} if ages else {}

    def _look(self) -> None:
        newest, now_ms = self._newest_label(), int(self._clock.time() * 1000)
        quiet = self._clock.monotonic() - self._heard_at >= QUIET_S
        if quiet and (newest is None or newest >= now_ms - self._memory):
            self._table.reached(now_ms)
        elif newest is not None:
            self._table.reached(newest)
        if self._seen != (self._table.applied, self._labelled):
            self.refresh()

    def _newest_label(self) -> int | None:
        return max((ms for store in self.stores.values() if (ms := store.newest_ms) is not None), default=None)

    def refresh(self) -> None:
        """Compute everything now, in the thread that calls."""
        self._seen = (self._table.applied, self._labelled)
        stores = dict(self.stores)
        counts = dict.fromkeys(COUNTS, 0)
        counts["expired"] = sum(store.expired for store in stores.values())
        fraud = [np.empty(0, np.uint64)]
        labels = 0
        for partition, store in stores.items():
            hashes, rows = store.labels()
            labels += len(hashes)
            fraud.append(hashes[rows["fraud"]])
            matched = np.concatenate([np.empty(0, np.bool_), *self._matched(hashes)])
            newest_of_all = self._table.newest_ms  # after the look at it: what is forgotten by then is not counted
            if newest_of_all is not None:
                counting = rows["event_time_ms"] >= newest_of_all - self._memory
                matched, rows = matched[counting], rows[counting]
            newest = self._table.newest_of(partition)
            over = np.zeros(len(rows), np.bool_) if newest is None else rows["event_time_ms"] < newest - self._wait
            counts["superseded"] += int(np.count_nonzero(rows["said"] == FRAUD_SAID | GENUINE_SAID))
            counts["matched"] += int(np.count_nonzero(matched))
            counts["unknown"] += int(np.count_nonzero(~matched & over))
            counts["waiting"] += int(np.count_nonzero(~matched & ~over))
        values = {f"headrace_labels_{name}": float(count) for name, count in counts.items()}
        self._values = values | self._figures(np.concatenate(fraud), list(stores), any_labels=labels > 0)

    def _matched(self, hashes: Hashes) -> Iterator[NDArray[np.bool_]]:
        for start in range(0, len(hashes), CHUNK):
            found = self._table.find(hashes[start : start + CHUNK])
            yield found.held & ~found.rows["late"]

    def _figures(self, fraud: Hashes, partitions: list[int], *, any_labels: bool) -> dict[str, float]:
        newest = self._table.newest_ms
        figures, due = dict.fromkeys(FIGURES, nan), 0
        if newest is not None and any_labels:  # without any label, precision would be 0 for want of a feed
            until = newest - self._delay
            transactions, rows = self._table.between(until - self._window, until, partitions)
            due = len(transactions)
            figures = quality(rows["score"], rows["flagged"], np.isin(transactions, fraud))
        return {f"headrace_fraud_{name}": value for name, value in figures.items()} | {
            "headrace_fraud_due_transactions": float(due)
        }
